"""`showtell learn`: the edit that before/after pairs show, as a small file that edits other pictures."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, options
from showtell.errors import Cancelled, ImageError, OutputError

if TYPE_CHECKING:
    from showtell.learning import Learnt
    from showtell.pairs import Pairs

EPILOG = "Example: showtell learn --before house.png --after blue.png -o look.safetensors --steps 200"
UNFINISHED = ".learning.safetensors"
"""What the name of an unfinished learning ends in; it lies beside the file that it will become."""


def register(app: typer.Typer) -> None:
    app.command("learn", epilog=EPILOG)(learn)


def learn(
    before: Annotated[list[Path], typer.Option("--before", help="A picture before the edit; once for each pair.")],
    after: Annotated[list[Path], typer.Option("--after", help="The same picture after it, in the same order.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors; its name is the edit's.")],
    init: Annotated[
        str | None, typer.Option("--init", help='Words to start from, or "caption" for one of the after picture.')
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of learning.")] = None,
    timesteps_per_step: Annotated[
        int | None, typer.Option("--timesteps-per-step", help="Noise levels that each step looks at.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    num_tokens: Annotated[
        int | None, typer.Option("--tokens", help="Tokens to learn where the start is a caption or nothing, 1 to 75.")
    ] = None,
    mse_weight: Annotated[float | None, typer.Option("--mse-weight", help="Weight of the denoising loss.")] = None,
    clip_weight: Annotated[
        float | None, typer.Option("--clip-weight", help="Weight of the direction loss; at 0 no CLIP is needed.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="Guidance on the instruction inside the loss; at least 1.")
    ] = None,
    image_guidance_scale: Annotated[
        float | None, typer.Option("--image-guidance-scale", help="Guidance on the picture inside the loss.")
    ] = None,
    check_every: Annotated[
        int | None, typer.Option("--check-every", help="Steps between two checks of what is the best so far.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Stop after so many checks without a better one; 0: never.")
    ] = None,
    mirror: Annotated[bool | None, typer.Option("--mirror/--no-mirror", help="Show every pair mirrored, too.")] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="VISII's published values instead of the model card's.")
    ] = False,
    clip: Annotated[
        str | None, typer.Option("--clip", help="The CLIP of the direction loss and the caption; a folder or a hub id.")
    ] = None,
    record_noise: Annotated[
        bool, typer.Option("--record-noise", help="Keep the noises in the file, for edit --noise recorded.")
    ] = False,
    strip: Annotated[Path | None, typer.Option("--strip", help="Write pictures of how the edit grows (PNG).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a learning that was stopped.")] = False,
    model: options.Model = "starter",
    fit: options.Fit = "fit",
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Random seed; fixed, so that --resume finds it again.")
    ] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    offload: options.Offload = "none",
    vae_tiling: options.VaeTiling = False,
    attention_slicing: options.AttentionSlicing = False,
    gradient_checkpointing: options.GradientCheckpointing = False,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Learn an edit from before/after pairs (VISII), as a file for `showtell edit --learned`.

    Options that are left out take the model card's tuned values, else the paper's. The learning is kept every few
    seconds in a file beside OUT whose name ends in .learning.safetensors, and is gone when it is done: stopped by Ctrl-C
    or kill -9, it goes on with --resume and the same options, and ends with the same result.
    """
    began = time.monotonic()
    chosen = {
        "steps": steps, "timesteps_per_step": timesteps_per_step, "learning_rate": learning_rate,
        "num_tokens": num_tokens, "mse_weight": mse_weight, "clip_weight": clip_weight,
        "guidance_scale": guidance_scale, "image_guidance_scale": image_guidance_scale,
        "check_every": check_every, "patience": patience, "mirror": mirror,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    lesson = _check(before, after, out, strip, init, given, paper=paper, resume=resume, force=force)

    import showtell
    from showtell import learned_file, learning

    editor = showtell.load(
        model, device=device, dtype=dtype, offload=offload, vae_tiling=vae_tiling,
        attention_slicing=attention_slicing,
    )  # fmt: skip
    if not resume:  # that an unfinished learning may go was said with --force
        lesson.kept.unlink(missing_ok=True)
    with stoppable(lesson.kept) as stop, console.progress("learning", as_json=as_json) as tick:
        found = learning.study(
            editor, lesson.pairs, init=init, name=learned_file.name_of(out), method=lesson.method, clip=clip, fit=fit,
            seed=seed, record_noise=record_noise, gradient_checkpointing=gradient_checkpointing,
            checkpoint=lesson.kept, resume=resume, cancel=stop.wanted,
            callback=stop.watching(lambda i, n, loss: tick(i, n, f"loss {loss:.4f}")), **given,
        )  # fmt: skip
    found.notes[:0] = lesson.notes
    learned_file.save(found.look, out, force=force)
    lesson.kept.unlink(missing_ok=True)
    if strip is not None:
        from showtell.cli import growth

        with console.progress("drawing", as_json=as_json) as tick:
            growth.write(strip, found, lesson.pairs, editor, fit=fit, seed=seed, tick=tick, force=force)
    _report(found, out, strip, seed, time.monotonic() - began, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Lesson:
    """What is known before a model is loaded; ``kept`` is the file of the unfinished learning."""

    pairs: Pairs
    method: Any
    kept: Path
    notes: list[str]


def _check(
    before: Sequence[Path],
    after: Sequence[Path],
    out: Path,
    strip: Path | None,
    init: str | None,
    given: dict[str, Any],
    *,
    paper: bool,
    resume: bool,
    force: bool,
) -> _Lesson:
    """Everything that can be wrong is found before a model is loaded."""
    from showtell import files, learned_file
    from showtell.inversion.visii import VisualInstructionInversion
    from showtell.pairs import Pairs

    if len(before) != len(after):
        raise ImageError(
            f"{len(before) + len(after)} pictures, {len(before)} with --before and {len(after)} with --after: every "
            "--before needs its --after"
        )
    options.check_text(init or "")
    learned_file.check_path(out, force=force)
    if out.name.lower().endswith(UNFINISHED):
        raise OutputError(f"{out}: names that end in {UNFINISHED} are for unfinished learnings; choose another")
    if strip is not None:
        if strip.suffix.lower() != ".png":
            raise OutputError(f"{strip}: the strip is a PNG; the name must end in .png")
        files.check_output(strip, force=force)
    VisualInstructionInversion(**given)
    kept = out.with_name(out.stem + UNFINISHED)
    files.check_output(kept, force=True)
    notes = []
    if kept.exists() and not resume and not force:
        raise OutputError(
            f"{kept}: holds an unfinished learning; go on with it by --resume, or start anew with --force"
        )
    if resume and not kept.exists():
        notes.append(f"{kept} is not there, so there was nothing to go on from: the learning began anew")
    pairs = Pairs.of(list(zip(before, after, strict=True)))
    method = VisualInstructionInversion(**VisualInstructionInversion.PAPER) if paper else None
    notes += [note for pair in pairs.items for picture in (pair.before, pair.after) for note in picture.notes]
    return _Lesson(pairs=pairs, method=method, kept=kept, notes=notes)


class Stop:
    """Ctrl-C ends a learning after the step at hand, which is then kept; a second one ends it at once."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self._before: Any = None

    def watching(self, callback: Callable[[int, int, float], None]) -> Callable[[int, int, float], None]:
        """The callback, from whose first call on there is something to keep."""

        def called(i: int, n: int, loss: float) -> None:
            if self._before is None and threading.current_thread() is threading.main_thread():
                self._before = signal.signal(signal.SIGINT, self._pressed)
            callback(i, n, loss)

        return called

    def restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _pressed(self, *_: object) -> None:
        if self.wanted.is_set():
            raise KeyboardInterrupt
        self.wanted.set()


@contextlib.contextmanager
def stoppable(kept: Path) -> Iterator[Stop]:
    """A learning that Ctrl-C may stop; ``kept`` is the file in which it is kept. Raises ``Cancelled``, which says so."""
    stop = Stop()
    try:
        yield stop
    except (Cancelled, KeyboardInterrupt) as error:
        if not kept.exists():
            raise Cancelled("interrupted before the first step; what was there before is unchanged") from error
        raise Cancelled(
            f"interrupted; {kept} keeps what was learned: give the same command with --resume to go on"
        ) from error
    finally:
        stop.restore()


def _report(found: Learnt, out: Path, strip: Path | None, seed: int, seconds: float, *, as_json: bool) -> None:
    how = found.look.how
    first = found.checks[0][1]
    summary = {
        "written": str(out), "strip": None if strip is None else str(strip), "name": found.look.name, "seed": seed,
        "tokens": len(found.look.token_ids), "steps_done": how["steps_done"], "kept_step": how["kept_step"],
        "kept_loss": how["kept_loss"], "first_loss": first, "checks": [list(check) for check in found.checks],
        "noise": found.look.noise is not None, "seconds": round(seconds, 1),
        "how": {name: value for name, value in how.items() if name != "checks"},
    }  # fmt: skip
    lines = [
        f"wrote {out} (seed {seed}): step {how['kept_step']} of {how['steps_done']} was the best, loss "
        f"{how['kept_loss']:.4f} ({first:.4f} at the start), {seconds:.0f} s",
        *([f"wrote {strip}"] if strip is not None else []),
    ]
    console.finish(summary, "\n".join(lines), as_json=as_json, notes=found.notes)
