"""The endpoints for programs: ``/edit``, ``/learn``, ``/invert`` and ``/attend``, for ``gradio_client`` and for curl.

Their parameters are hidden components, which give each its type, its default and its place in the documentation. While a
work runs, the last output tells how far it is.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from .. import attending, fitting
from ..editor import RESOLUTIONS
from ..errors import ImageError, ShowtellError
from . import asked, running, showing, telling
from .page.doing import unexpected
from .page.widgets import drop
from .workshop import BASE, INSTRUCT

if TYPE_CHECKING:
    from .sessions import Session
    from .studio import Studio

_QUEUED: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1}
_INVERSIONS = ("pti", "nti", "ddim")
#: Seconds between two words of how far a work is.
_PACE = 0.5


def endpoints(studio: Studio) -> None:
    """Open the endpoints. Called inside the page's ``gr.Blocks``."""
    with gr.Column(visible=False):
        if studio.workshop.has(INSTRUCT):
            _learn(studio)
            _attend(studio)
        if studio.workshop.has(BASE):
            _invert(studio)
        _edit(studio)


def _edit(studio: Studio) -> None:
    methods = [*studio.workshop.methods(INSTRUCT), *studio.workshop.methods(BASE)]
    inputs = [
        drop("The picture to edit"),
        gr.Textbox(
            label="What to change, one instruction a line; or what the result shows, for the methods that take that"
        ),
        gr.Dropdown(methods, value=methods[0], label="The method"),
        gr.Number(label="Random seed; drawn if it is left out", precision=0),
        gr.Number(label=f"Denoising steps, 1 to {studio.limits.steps}; by default the model's own", precision=0),
        gr.Number(label="How closely to follow the words (guidance_scale)"),
        gr.Number(label="How closely to follow the picture (image_guidance_scale)"),
        gr.Textbox("", label="What the result should not be"),
        gr.JSON(label="Of foi: a list of one weight for each instruction"),
        drop("White where the edit may happen; the picture's size"),
        gr.Dropdown(list(fitting.FITS), value="fit", label="How the picture is brought to the model's size"),
        gr.Number(label="The longer side at which the model sees the picture; by default its own", precision=0),
        gr.Textbox("", label="What the picture shows, for methods that use it"),
        gr.Number(label="Of pti: 0 is the picture, 1 the words"),
        gr.File(
            label="A file of /invert, to edit without inverting again", file_types=[".safetensors"], type="filepath"
        ),
    ]

    def edit(
        request: gr.Request, image, instruction, method="ip2p", seed=None, steps=None, guidance_scale=None,
        image_guidance_scale=None,
        negative_prompt="", weights=None, mask=None, fit="fit", size=None, source="", eta=None, inversion=None,
    ):  # fmt: skip
        """Edit a picture by words: the edited PNG, which carries its recipe, and what was done."""
        session, limits = _session(studio, request), studio.limits
        held = asked.inversion(limits, inversion)
        if image is None and held is not None:  # which has its picture inside
            picture = held.picture
        else:
            picture = studio.picture(session, asked.picture("image", image), "image")
        lines, over = asked.lines(limits, instruction), asked.file("mask", mask)
        wish = telling.Wish(
            lines=lines, method=method, seed=asked.seed(limits, seed),
            num_inference_steps=asked.whole(limits, "steps", steps, 1, limits.steps),
            guidance_scale=guidance_scale, image_guidance_scale=image_guidance_scale,
            negative_prompt=asked.text(limits, "negative_prompt", negative_prompt),
            fit=asked.choice("fit", fit, fitting.FITS),
            resolution=asked.whole(limits, "size", size, *RESOLUTIONS), source=asked.text(limits, "source", source),
            weights=asked.weights(limits, weights, len(lines)), more={} if eta is None else {"eta": eta},
            mask=None if over is None else telling.mask(studio.picture(session, over, "mask"), picture.size),
        )  # fmt: skip
        wish.check(limits)
        own = studio.workshop.defaults(telling.kind_of(studio.workshop, method), method)
        asked.only_of(method, getattr(own, "regions", False), weights=wish.weights)
        asked.only_of(method, hasattr(own, "eta"), eta=eta)
        library, options = studio.library(session.user), {} if held is None else {"inversion": held}
        found, seconds = yield from _told(
            session, lambda run: telling.tell(run, studio.workshop, library, picture, wish, **options), nothing=(None,)
        )
        made = session.keep(found, caption=wish.caption, seconds=seconds, room="api")
        # as text: clients take every object with a path in it for a file to be fetched
        info = {
            "seed": made.seed,
            "seconds": seconds,
            "keywords": found.keywords,
            "notes": list(made.notes),
            "recipe": found.recipe.to_json(),
        }
        yield str(made.path), info

    outputs = [
        gr.Image(label="The edited picture", format="png", type="filepath"),
        gr.JSON(label="Seed, notes and recipe"),
    ]
    _open("edit", edit, inputs, outputs)


def _learn(studio: Studio) -> None:
    inputs = [
        gr.File(label="Pictures before the edit", file_count="multiple", type="filepath"),
        gr.File(label="The same pictures after it, in the same order", file_count="multiple", type="filepath"),
        gr.Textbox("", label="A name; in words it is called <name>"),
        gr.Textbox("", label="Words to start from"),
        gr.Number(
            label=f"Steps of learning, 1 to {studio.limits.learn_steps}; by default the model's own", precision=0
        ),
        gr.Number(0, label="Random seed", precision=0),
    ]

    def learn(request: gr.Request, before, after, name="", init="", steps=None, seed=0):
        """Learn an edit from before/after pairs: its file, and how it went. It is then in the library, for <name> in words."""
        session, limits = _session(studio, request), studio.limits
        given = {"before": asked.files("before", before), "after": asked.files("after", after)}
        if len(given["before"]) != len(given["after"]) or not given["before"]:
            raise ImageError(
                f"{len(given['before'])} pictures before the edit and {len(given['after'])} after it: "
                "give as many of each, at least one"
            )
        for side, paths in given.items():
            for number, path in enumerate(paths, start=1):
                studio.picture(session, (path, ""), f"{side} {number}")
        options: dict[str, Any] = {"seed": asked.seed(limits, seed) or 0}
        if steps is not None:
            options["steps"] = asked.whole(limits, "steps", steps, 1, limits.learn_steps)
        if words := asked.text(limits, "init", init).strip():
            options["init"] = words
        library, unfinished = studio.library(session.user), studio.unfinished(session.user)
        free = showing.free_name(library, asked.text(limits, "name", name))
        pairs = list(zip(given["before"], given["after"], strict=True))
        lesson = unfinished.begin(free, pairs, options, studio.workshop.names[INSTRUCT])
        try:
            entry, notes = yield from _told(
                session, lambda run: showing.learn(run, studio.workshop, library, unfinished, lesson), nothing=(None,)
            )
        except ShowtellError:
            if not lesson.checkpoint.exists():  # nothing was learned yet, so there is nothing to go on with
                unfinished.discard(lesson.id)
            raise
        info = {"name": entry.name, "steps": entry.steps, "loss": entry.loss, "notes": notes}
        yield str(session.copy(library.export(entry.name))), info

    _open(
        "learn",
        learn,
        inputs,
        [gr.File(label="The learned edit, .safetensors"), gr.JSON(label="Name, steps, loss and notes")],
    )


def _invert(studio: Studio) -> None:
    inputs = [
        drop("The picture to invert"),
        gr.Dropdown(list(_INVERSIONS), value="pti", label="The inversion"),
        gr.Textbox("", label="What the picture shows"),
        gr.Textbox("", label="Of pti: the target that the tuning starts from; the inversion then serves that one only"),
        gr.Number(label=f"Steps, 1 to {studio.limits.steps}; by default the model's own", precision=0),
    ]

    def invert(request: gr.Request, image, method="pti", source="", target="", steps=None):
        """Invert a picture: its reconstruction, a file for /edit, and its distance in dB."""
        session, limits = _session(studio, request), studio.limits
        picture = studio.picture(session, asked.picture("image", image), "image")
        texts = {name: asked.text(limits, name, value) for name, value in (("source", source), ("target", target))}
        told = asked.whole(limits, "steps", steps, 1, limits.steps)
        how: dict[str, Any] = {"method": asked.choice("method", method, _INVERSIONS)}
        how |= {} if told is None else {"num_inference_steps": told}

        def work(run: running.Run) -> Any:
            with studio.workshop.at_work(BASE) as editor:
                run.begin()
                return editor.invert(
                    picture, texts["target"].strip() or None, source=texts["source"].strip() or None, on_phase=run.phase,
                    callback=run.steps(editor), cancel=run.cancelled, **how,
                )  # fmt: skip

        found = yield from _told(session, work, nothing=(None, None))
        kept = session.file("inversion.safetensors")
        found.save(kept)
        info = {"psnr": found.psnr, "method": found.method, "serves": found.serves, "notes": found.notes}
        yield str(session.remember_image(found.image.convert("RGB"))), str(kept), info

    outputs = [
        gr.Image(label="The reconstruction", format="png", type="filepath"),
        gr.File(label="The inversion"),
        gr.JSON(label="Distance and notes"),
    ]
    _open("invert", invert, inputs, outputs)


def _attend(studio: Studio) -> None:
    inputs = [
        drop("The picture"),
        gr.Textbox(label="Instructions, one a line"),
        gr.Number(0, label="Random seed", precision=0),
        gr.Number(label="Strength of the noise, 0 to 1; by default the model's own"),
    ]

    def attend(request: gr.Request, image, instruction, seed=0, strength=None):
        """Where each word looks: a sheet of attention maps, and figures of each word."""
        session, limits = _session(studio, request), studio.limits
        picture = studio.picture(session, asked.picture("image", image), "image")
        wish, drawn = telling.Wish(lines=asked.lines(limits, instruction)), asked.seed(limits, seed) or 0
        wish.check(limits)
        looks = telling.called(studio.library(session.user), wish.lines) or None
        how = {} if strength is None else {"strength": strength}

        def work(run: running.Run) -> attending.Attention:
            with studio.workshop.at_work(INSTRUCT) as editor:
                run.begin()
                return attending.attend(editor, picture, wish.words, seed=drawn, learned=looks, **how)

        found = yield from _told(session, work, nothing=(None,))
        told = [
            {
                "word": w.text,
                "instruction": w.part + 1,
                "concentration": w.concentration,
                "peak": list(w.peak),
                "keyword": w.keyword,
            }
            for w in found.words
        ]
        yield (
            str(session.remember_image(found.sheet())),
            {"words": told, "seed": found.seed, "strength": found.strength, "notes": found.notes},
        )

    _open(
        "attend",
        attend,
        inputs,
        [gr.Image(label="The sheet", format="png", type="filepath"), gr.JSON(label="Figures of each word")],
    )


def _open(name: str, fn: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
    gr.Button(name, visible=False).click(_answered(fn), inputs, outputs, api_name=name, preprocess=False, **_QUEUED)


def _answered(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Errors as the client is to see them: one line."""
    import functools

    @functools.wraps(fn)
    def answered(*args: Any) -> Iterator[Any]:
        try:
            yield from fn(*args)
        except ShowtellError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:  # noqa: BLE001 - a client never meets a traceback
            raise gr.Error(unexpected(error), print_exception=False) from None

    return answered


def _told(session: Session, work: Callable[[running.Run], Any], *, nothing: tuple[None, ...]) -> Any:
    """Run ``work``; yields how far it is, and returns what came of it."""
    run, told_at = session.begin(), 0.0
    try:
        for told in running.stream(run, work):
            if isinstance(told, running.Ended):
                return told.value
            if time.monotonic() - told_at > _PACE:
                told_at = time.monotonic()
                yield (*nothing, {"phase": told.phase, "done": told.done, "total": told.total})
    finally:
        session.end(run)


def _session(studio: Studio, request: gr.Request) -> Session:
    return studio.session(request.session_hash or secrets.token_hex(16), request.username)
