"""What `showtell edit` adds for methods that are told what the result shows: a source, an inversion, and eta as a strip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.errors import MethodError, OutputError, TextError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from showtell.editor import Editor
    from showtell.edits import Edit
    from showtell.images import Picture
    from showtell.inversions import Inversion

PANEL = "Describing the result"
Source = Annotated[
    str | None, typer.Option("--source", rich_help_panel=PANEL, help="What the picture shows; p2p needs it.")
]
InversionFile = Annotated[
    Path | None,
    typer.Option(
        "--inversion", rich_help_panel=PANEL, help="A file of showtell invert, to edit without inverting again."
    ),
]
Token = Annotated[
    list[Path] | None,
    typer.Option("--token", rich_help_panel=PANEL, help="A file of showtell token, whose word the model then knows."),
]
Strip = Annotated[
    Path | None,
    typer.Option(
        "--strip", rich_help_panel=PANEL, help="For pti: one picture for each of --etas, from one inversion (PNG)."
    ),
]
Etas = Annotated[
    str | None,
    typer.Option("--etas", rich_help_panel=PANEL, help="For --strip: 0 is the picture, 1 the words, such as 0,0.5,1."),
]
#: What a strip shows unless told otherwise.
ETAS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
_MOST_ETAS, _COLUMNS = 20, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slider:
    """A strip that was asked for: its file, and the etas that it shows."""

    path: Path
    etas: tuple[float, ...]


def opened(inversion: Path | None) -> Inversion | None:
    """The inversion of a file. Raises ``FileFormatError``."""
    from showtell.inversions import Inversion

    return None if inversion is None else Inversion.load(inversion)


def model_for(methods: Sequence[Any]) -> str:
    """The starter that all of these methods take. Raises ``MethodError`` where there is none."""
    for kind, name in (("instruct", "starter"), ("base", "starter-base")):
        if all(kind in value.kinds for value in methods):
            return name
    one, other = (next(m.name for m in methods if m.kinds[0] == kind) for kind in ("instruct", "base"))
    raise MethodError(
        f"{one!r} takes an instruct model and {other!r} a base model: compare them in two calls, each with its own"
    )


def check(methods: Mapping[str, Any], *, source: str | None, held: Inversion | None, tokens: Sequence[Path]) -> None:
    """What is said of the picture fits the methods. Raises ``MethodError``, ``TextError``, ``FileFormatError``."""
    from showtell.tokens import LearnedToken

    options.check_text(source or "")
    describes = any(getattr(value, "describes", False) for value in methods.values())
    for name, told in (("--source", source), ("--inversion", held)):
        if told is not None and not describes:
            raise MethodError(
                f"{name} is for methods that are told what the result shows, such as pti: {', '.join(methods)} takes none"
            )
    if source is not None and not source.strip():
        raise TextError("--source is empty: say what the picture shows, or leave it out")
    if "p2p" in methods and source is None and (held is None or held.source is None):
        raise MethodError("method 'p2p' needs --source, what the picture shows, beside the target")
    for path in tokens:
        LearnedToken.load(path)


def check_held(
    held: Inversion,
    methods: Mapping[str, Any],
    picture: Picture,
    told: str | list[str] | None,
    source: str | None,
    settings: Mapping[str, Any],
) -> None:
    """The inversion serves this picture, these words and these settings. Raises as ``Inversion.check`` does."""
    from showtell import comparing, instruction, inversions

    texts = [told] if isinstance(told, str) else told or []
    words = instruction.join([instruction.parse(text) for text in texts]).text
    held.check_request(picture=picture, told=words, source=source)
    for value in methods.values():
        if getattr(value, "describes", False):
            own = {name: given for name, given in settings.items() if comparing.takes(value, name)}
            inversions.followed([held], own, value)


def strip_of(
    path: Path | None, etas: str | None, methods: Mapping[str, Any], *, together: bool, learned: bool, force: bool
) -> Slider | None:
    """The strip that was asked for, if it can be written. Raises ``UsageError``, ``MethodError``, ``OutputError``."""
    from showtell import files

    if path is None:
        if etas is not None:
            raise UsageError("--etas are those of a strip: say with --strip where it is to be written")
        return None
    if together or list(methods) != ["pti"]:
        raise UsageError("--strip shows the eta of method pti: give --method pti")
    if learned:
        raise UsageError("--strip goes out from an inversion for words: leave --learned out")
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: the strip is a PNG; the name must end in .png")
    files.check_output(path, force=force)
    return Slider(path=path, etas=ETAS if etas is None else _numbers(etas))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(item) for item in text.split(","))
    except ValueError:
        raise MethodError(f"--etas {text!r:.60}: write numbers with commas between them, such as 0,0.5,1") from None
    if not all(0 <= eta <= 1 for eta in found) or len(found) > _MOST_ETAS:
        raise MethodError(f"--etas {text!r:.60} is out of range: at most {_MOST_ETAS} numbers from 0 to 1")
    return found


def give_words(editor: Editor, tokens: Sequence[Path]) -> list[str]:
    """The editor's model knows these learned words from now on; returns what the user should know of it."""
    from showtell import tokens as learned

    if not tokens:
        return []
    words = ", ".join(token.said for token in learned.installed(editor, tokens))
    given = " ".join(f"--token {path}" for path in tokens)
    return [f"the recipe does not hold the learned {words}: replay this edit with {given}"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slid:
    """What came of a strip: the one ``inversion`` that all go out from, the ``edits``, and the one that was ``chosen``."""

    slider: Slider
    inversion: Inversion
    edits: list[Edit]
    chosen: Edit

    def write(self, *, force: bool) -> dict[str, Any]:
        """Write the strip, and say so as JSON tells it."""
        from showtell import edits, files

        files.write_atomic(self.slider.path, edits.encoded(self._drawn(), self.slider.path), force=force)
        return {"strip": str(self.slider.path), "etas": list(self.slider.etas), "psnr": self.inversion.psnr}

    def _drawn(self) -> Image.Image:
        """The picture, its reconstruction, and an edit for each eta."""
        from showtell import drawing

        back, chosen = self.inversion, _eta(self.chosen)
        tiles = [
            drawing.Tile(picture=back.picture.rgb, caption="the picture"),
            drawing.Tile(picture=back.image, caption="its reconstruction", note=f"{back.psnr:.1f} dB to the picture"),
        ]
        for edit in self.edits:
            own = _eta(edit) == chosen
            tiles.append(drawing.Tile(picture=edit.image, caption=f"eta {_eta(edit):g}", marked=own))
        heading = ", ".join(self.chosen.recipe.instructions)
        subtitle = "one inversion; eta 0 is the picture, eta 1 the words"
        return drawing.page(heading, [("", tiles)], subtitle=subtitle, columns=_COLUMNS)


def slid(editor: Editor, picture: Picture, target: Any, slider: Slider, told: dict[str, Any]) -> Slid:
    """The edit that was asked for, and one for each eta of the strip."""
    from showtell import inverting

    back = told["inversion"] or _inverted(editor, picture, target, told)
    options = {name: value for name, value in told.items() if name not in ("eta", "inversion")}
    shown = inverting.etas(editor, back, target, slider.etas, **options)
    eta = _settled(editor, told).eta
    chosen = next((edit for edit in shown if _eta(edit) == eta), None)
    if chosen is None:
        chosen = editor.edit(back, target, method="pti", eta=eta, **options)
    return Slid(slider=slider, inversion=back, edits=shown, chosen=chosen)


def _eta(edit: Edit) -> float:
    return edit.recipe.method.parameters["eta"]


def _settled(editor: Editor, told: Mapping[str, Any]) -> Any:
    """Method pti as an edit by itself would have it."""
    from showtell.methods import PromptTuningInversion

    given = {field.name: told.get(field.name) for field in dataclasses.fields(PromptTuningInversion)}
    return editor._settle("pti", given)[0]


def _inverted(editor: Editor, picture: Picture, target: Any, told: dict[str, Any]) -> Inversion:
    """The inversion that an edit by itself would make."""
    from showtell.methods.reconstructions import PromptTuningReconstruction

    settled = _settled(editor, told)
    own = {field.name: getattr(settled, field.name) for field in dataclasses.fields(PromptTuningReconstruction)}
    words = target if isinstance(target, str) else ", ".join(target)
    return editor.invert(
        picture, words if settled.start == "target" else None, method="pti", source=told["source"], fit=told["fit"],
        negative_prompt=told["negative_prompt"], sequential=told["sequential"],
        gradient_checkpointing=told["gradient_checkpointing"], on_phase=told["on_phase"], **own,
    )  # fmt: skip
