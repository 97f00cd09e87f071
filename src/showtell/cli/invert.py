"""`showtell invert`: what a picture came out of, as a file that edits go out from."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli import console, options
from showtell.cli.learn import Stop
from showtell.errors import Cancelled, OutputError, TextError, UsageError

if TYPE_CHECKING:
    from showtell.images import Picture
    from showtell.inversions import Inversion

EPILOG = 'Example: showtell invert house.png --source "a house" -o house.safetensors --steps 10'
UNFINISHED = ".inverting.safetensors"
"""What the name of an unfinished inversion ends in; it lies beside the file that it will become."""


def register(app: typer.Typer) -> None:
    app.command("invert", epilog=EPILOG)(invert)


def invert(
    picture: Annotated[Path, typer.Argument(metavar="IN", help="The picture to invert.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]", help="For pti: what the picture is to show; the file then serves this only."
        ),
    ] = None,
    method: Annotated[
        Literal["pti", "nti", "ddim"],
        typer.Option("--method", help="pti: words are tuned; nti: their absence is, for p2p; ddim: nothing is."),
    ] = "pti",
    source: Annotated[str | None, typer.Option("--source", help="What the picture shows.")] = None,
    start: Annotated[
        Literal["target", "source", "empty"] | None,
        typer.Option(
            "--start", help="For pti, where the tuning starts: by default TARGET, else --source, else no words."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of the whole schedule, 1 to 1000.")] = None,
    ratio: Annotated[
        float | None, typer.Option("--ratio", help="How far the picture is inverted, above 0, at most 1.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="Guidance of the reconstruction, and of edits from it.")
    ] = None,
    inversion_guidance_scale: Annotated[
        float | None, typer.Option("--inversion-guidance-scale", help="Guidance of the inversion itself.")
    ] = None,
    inner_steps: Annotated[
        int | None, typer.Option("--inner-steps", help="Iterations of the tuning in each step, 0 to 100.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Learning rate of the tuning.")] = None,
    shown: Annotated[Path | None, typer.Option("--picture", help="Write the reconstruction, too.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an inversion that was stopped.")] = False,
    token: Annotated[
        list[Path] | None, typer.Option("--token", help="A file of showtell token, whose word the model then knows.")
    ] = None,
    model: options.Model = "starter-base",
    fit: options.Fit = "fit",
    sequential: Annotated[bool, typer.Option("--sequential", help="Less memory, more time.")] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    offload: options.Offload = "none",
    vae_tiling: options.VaeTiling = False,
    attention_slicing: options.AttentionSlicing = False,
    gradient_checkpointing: options.GradientCheckpointing = False,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Find what a picture came out of, as a file for `showtell edit --inversion`.

    Method pti without a TARGET, nti and ddim serve any target; pti with one is the paper's way, and serves that one only.
    Options that are left out take the model card's tuned values, else the papers'. The tuning is kept every few seconds in
    a file beside OUT whose name ends in .inverting.safetensors, and is gone when it is done: stopped by Ctrl-C or kill -9,
    it goes on with --resume and the same options, and ends with the same result.
    """
    began = time.monotonic()
    given = {
        "num_inference_steps": steps, "encoding_ratio": ratio, "guidance_scale": guidance_scale,
        "inversion_guidance_scale": inversion_guidance_scale, "inner_steps": inner_steps,
        "learning_rate": learning_rate,
    }  # fmt: skip
    told = {"method": method, "source": source, "start": start}
    ready = _check(picture, target, out, shown, told, given, token or [], resume=resume, force=force)

    import showtell
    from showtell import tokens
    from showtell.inversion.tuning import NotFinite

    editor = showtell.load(
        model, device=device, dtype=dtype, offload=offload, vae_tiling=vae_tiling,
        attention_slicing=attention_slicing,
    )  # fmt: skip
    tokens.installed(editor, token or [])
    if not resume:  # that an unfinished inversion may go was said with --force
        ready.kept.unlink(missing_ok=True)
    with _stoppable(ready.kept) as stop, console.progress("inverting", as_json=as_json) as tick:
        watched = stop.watching(lambda i, n, name: tick(i, n, title=name))
        try:
            found = editor.invert(
                ready.picture, target, **told, fit=fit, sequential=sequential, checkpoint=ready.kept, resume=resume,
                gradient_checkpointing=gradient_checkpointing,
                on_phase=lambda name, i, n: watched(i, n, name), cancel=stop.wanted,
                callback=lambda i, n, _: tick(i + 1, n, title="reconstructing"), **given,
            )  # fmt: skip
        except NotFinite as error:
            raise UsageError(
                f"{error}; {ready.kept} keeps the steps before it: go on with --resume and a smaller --lr"
            ) from error
    found.save(out, force=force)
    ready.kept.unlink(missing_ok=True)
    if shown is not None:
        _save(found, shown, force=force)
    _report(found, out, shown, time.monotonic() - began, ready.notes, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """What is known before a model is loaded; ``kept`` is the file of the unfinished inversion."""

    picture: Picture
    kept: Path
    notes: list[str]


def _check(
    picture: Path,
    target: str | None,
    out: Path,
    shown: Path | None,
    told: dict[str, Any],
    given: dict[str, Any],
    token: Sequence[Path],
    *,
    resume: bool,
    force: bool,
) -> _Ready:
    """Everything that can be wrong is found before a model is loaded."""
    from showtell import edits, files, images, inversion_file, inverting, methods
    from showtell.tokens import LearnedToken

    for name, text in (("the target", target), ("--source", told["source"])):
        options.check_text(text or "")
        if text is not None and not text.strip():
            raise TextError(f"{name} is empty: say what the picture is to show, or leave it out")
    value = inverting.resolved(told["method"], target=target, source=told["source"], start=told["start"], given=given)
    if value.name == "pti" and value.start == "source" and told["source"] is None:
        raise TextError("--start source needs --source, what the picture shows")
    methods.settle(value, given=given, card={})
    inversion_file.check_path(out, force=force)
    if out.name.lower().endswith(UNFINISHED):
        raise OutputError(f"{out}: names that end in {UNFINISHED} are for unfinished inversions; choose another")
    if shown is not None:
        edits.check_picture_path(shown, force=force)
    kept = out.with_name(out.stem + UNFINISHED)
    files.check_output(kept, force=True)
    notes = []
    if kept.exists() and not resume and not force:
        raise OutputError(
            f"{kept}: holds an unfinished inversion; go on with it by --resume, or start anew with --force"
        )
    if resume and not kept.exists():
        notes.append(f"{kept} is not there, so there was nothing to go on from: the inversion began anew")
    for path in token:
        LearnedToken.load(path)
    opened = images.open_picture(picture)
    if shown is not None:
        edits.check_picture_path(shown, size=opened.size, force=force)
    return _Ready(picture=opened, kept=kept, notes=notes)


@contextlib.contextmanager
def _stoppable(kept: Path) -> Iterator[Stop]:
    """An inversion that Ctrl-C may stop; ``kept`` is the file in which it is kept. Raises ``Cancelled``, which says so."""
    stop = Stop()
    try:
        yield stop
    except (Cancelled, KeyboardInterrupt) as error:
        if not kept.exists():
            raise Cancelled(
                "interrupted before there was anything to keep; what was there before is unchanged"
            ) from error
        raise Cancelled(
            f"interrupted; {kept} keeps what was found: give the same command with --resume to go on"
        ) from error
    finally:
        stop.restore()


def _save(found: Inversion, shown: Path, *, force: bool) -> None:
    from showtell import edits, files

    files.write_atomic(shown, edits.encoded(found.image.convert("RGB"), shown), force=force)


def _report(
    found: Inversion, out: Path, shown: Path | None, seconds: float, notes: list[str], *, as_json: bool
) -> None:
    summary = {
        "written": str(out), "picture": None if shown is None else str(shown), "method": found.method, "psnr": found.psnr,
        "target": found.target, "source": found.source, "serves": found.serves, "settings": found.settings,
        "model": found.model.id, "size": list(found.image.size), "seconds": round(seconds, 1),
    }  # fmt: skip
    lines = [
        f"wrote {out}: {found.method}, reconstructed to {found.psnr:.1f} dB, serves {found.serves}, {seconds:.0f} s",
        *([f"wrote {shown}"] if shown is not None else []),
    ]
    console.finish(summary, "\n".join(lines), as_json=as_json, notes=[*notes, *found.notes])
