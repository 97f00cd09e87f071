"""`showtell token`: a word for what a few pictures show, as a small file that every diffusers pipeline can load."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import console, options
from showtell.cli.learn import UNFINISHED, stoppable
from showtell.errors import OutputError

if TYPE_CHECKING:
    from showtell.tokens import LearnedToken

EPILOG = 'Example: showtell token house.png before.png --word "<toy>" --init "house" -o toy.safetensors --steps 30'


def register(app: typer.Typer) -> None:
    app.command("token", epilog=EPILOG)(token)


def token(
    pictures: Annotated[list[Path], typer.Argument(metavar="IN...", help="Pictures of one thing; three to five.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .safetensors.")],
    word: Annotated[str, typer.Option("--word", help="The new word, as prompts will have it.")] = "<toy>",
    init: Annotated[str, typer.Option("--init", help="Words that come near it, where the learning begins.")] = "thing",
    num_vectors: Annotated[int | None, typer.Option("--vectors", help="Vectors that the word has, 1 to 75.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of learning.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Pictures in each step.")] = None,
    style: Annotated[bool, typer.Option("--style", help="The word is for a style, not for a thing.")] = False,
    template: Annotated[
        list[str] | None,
        typer.Option(
            "--template", help='A sentence with {} where the word goes, such as "a picture of {}"; repeatable.'
        ),
    ] = None,
    mirror: Annotated[
        bool | None, typer.Option("--mirror/--no-mirror", help="Show the pictures mirrored, too, which is the default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a learning that was stopped.")] = False,
    model: options.Model = "starter-base",
    fit: options.Fit = "fit",
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Random seed; fixed, so that --resume finds it again.")
    ] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    vae_tiling: options.VaeTiling = False,
    attention_slicing: options.AttentionSlicing = False,
    gradient_checkpointing: options.GradientCheckpointing = False,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Learn a word for what pictures show (textual inversion), as a file for any pipeline of the same text encoder.

    The file is in the format that diffusers' load_textual_inversion reads. Options that are left out take the model card's
    values, else the published ones. The learning is kept every few seconds in a file beside OUT whose name ends in
    .learning.safetensors, and is gone when it is done: stopped by Ctrl-C or kill -9, it goes on with --resume and the
    same options, and ends with the same result.
    """
    began = time.monotonic()
    chosen = {
        "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size, "num_vectors": num_vectors,
        "mirror": mirror, "templates": template or ("style" if style else None),
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    opened, kept, notes = _check(pictures, out, word, init, given, resume=resume, force=force)

    import showtell
    from showtell import teaching

    editor = showtell.load(
        model, device=device, dtype=dtype, vae_tiling=vae_tiling, attention_slicing=attention_slicing
    )
    if not resume:  # that an unfinished learning may go was said with --force
        kept.unlink(missing_ok=True)
    with stoppable(kept) as stop, console.progress("learning", as_json=as_json) as tick:
        found, said = teaching.teach(
            editor, opened, word, init=init, fit=fit, seed=seed, gradient_checkpointing=gradient_checkpointing,
            checkpoint=kept, resume=resume, cancel=stop.wanted,
            callback=stop.watching(lambda i, n, loss: tick(i, n, f"loss {loss:.4f}")), **given,
        )  # fmt: skip
    found.save(out, force=force)
    kept.unlink(missing_ok=True)
    _report(found, out, seed, time.monotonic() - began, [*notes, *said], as_json=as_json)


def _check(
    pictures: list[Path], out: Path, word: str, init: str, given: dict[str, Any], *, resume: bool, force: bool
) -> tuple[list[Any], Path, list[str]]:
    """Everything that can be wrong is found before a model is loaded. Returns the pictures opened, the file of the
    unfinished learning, and notes.
    """
    from showtell import files, images, tokens
    from showtell.inversion.textual import TextualInversion

    for text in (word, init, *(given.get("templates", ()) if isinstance(given.get("templates"), list) else ())):
        options.check_text(text)
    tokens.check_word(word)
    tokens.check_path(out, force=force)
    if out.name.lower().endswith(UNFINISHED):
        raise OutputError(f"{out}: names that end in {UNFINISHED} are for unfinished learnings; choose another")
    TextualInversion(**given)
    kept = out.with_name(out.stem + UNFINISHED)
    files.check_output(kept, force=True)
    if kept.exists() and not resume and not force:
        raise OutputError(
            f"{kept}: holds an unfinished learning; go on with it by --resume, or start anew with --force"
        )
    notes = []
    if resume and not kept.exists():
        notes.append(f"{kept} is not there, so there was nothing to go on from: the learning began anew")
    return [images.open_picture(picture) for picture in pictures], kept, notes


def _report(found: LearnedToken, out: Path, seed: int, seconds: float, notes: list[str], *, as_json: bool) -> None:
    how = found.how
    (_, first), (_, last) = how["checks"][0], how["checks"][-1]
    summary = {
        "written": str(out), "word": found.word, "vectors": len(found.vectors), "seed": seed,
        "steps_done": how["steps_done"], "first_loss": first, "last_loss": last, "seconds": round(seconds, 1), "how": how,
    }  # fmt: skip
    line = (
        f"wrote {out} (seed {seed}): {found.word} after {how['steps_done']} steps, loss {last:.4f} ({first:.4f} at the "
        f"start), {seconds:.0f} s"
    )
    console.finish(summary, line, as_json=as_json, notes=notes)
