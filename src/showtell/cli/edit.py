"""`showtell edit`: change a picture by words, by a learned instruction, or by both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli import asked, console, options

if TYPE_CHECKING:
    from showtell.edits import Edit

EPILOG = 'Example: showtell edit house.png "make the house blue" "remove the tree" -o blue.png --seed 1'


def register(app: typer.Typer) -> None:
    app.command("edit", epilog=EPILOG)(edit)


def edit(
    picture: Annotated[Path, typer.Argument(metavar="IN", help="The picture to edit.")],
    out: options.Out,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="What to change; several are joined. <name> calls a learned file."),
    ] = None,
    learned: Annotated[
        list[Path] | None,
        typer.Option("--learned", help="A file of showtell learn; in words it has its name: <name>, or <name:0.5>."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="How strong the learned instructions are, -10 to 10; 1 as learned."),
    ] = None,
    noise: Annotated[
        Literal["random", "recorded"],
        typer.Option("--noise", help="recorded: that of the learning, which keeps more of the picture."),
    ] = "random",
    method: Annotated[
        str, typer.Option("--method", help="ip2p; instructdiffusion for its weights; grid, with --before and --after.")
    ] = "ip2p",
    before: Annotated[Path | None, typer.Option("--before", help="For method grid: a picture before the edit.")] = None,
    after: Annotated[Path | None, typer.Option("--after", help="For method grid: the same picture after it.")] = None,
    model: options.Model = "starter",
    mask: Annotated[Path | None, typer.Option("--mask", help="White where the edit may happen; same size.")] = None,
    negative: Annotated[str | None, typer.Option("--negative", help="What the result should not be.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps, 1 to 1000.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="How closely to follow the words; at least 1.")
    ] = None,
    image_guidance_scale: Annotated[
        float | None, typer.Option("--image-guidance-scale", help="How closely to follow the picture.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="euler-ancestral, ddim, dpm++, ..., or a diffusers class.")
    ] = None,
    fit: options.Fit = "fit",
    sequential: Annotated[bool, typer.Option("--sequential", help="Less memory, more time.")] = False,
    save_masks: Annotated[bool, typer.Option("--save-masks", help="Write the edited regions beside OUT.")] = False,
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Edit a picture by words, by a learned instruction, or by both.

    A learned file is called by its name in the words, as in "<look> a squirrel"; alone, it is the instruction. Options
    that are left out take the model card's tuned values, else the paper's. The result has the input's size; a PNG
    carries its recipe, from which `showtell replay` makes it again.
    """
    chosen: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "image_guidance_scale": image_guidance_scale,
        "scheduler": scheduler,
        "pairs": asked.pairs(method, before, after),
    }
    options.check_text(negative or "")
    request = asked.read(words or [], learned or [], strength, method=method, noise=noise)
    opened = _check(picture, out, method, chosen, mask, save_masks=save_masks, force=force)

    import showtell

    editor = showtell.load(model, device=device, dtype=dtype)
    with console.progress("editing", as_json=as_json) as tick:
        result = editor.edit(
            opened,
            request.instruction,
            learned=request.looks,
            noise=noise,
            method=method,
            seed=options.draw_seed(seed),
            negative_prompt=negative,
            mask=mask,
            fit=fit,
            sequential=sequential,
            callback=lambda i, n, _: tick(i + 1, n),
            **chosen,
        )
    result.notes[:0] = request.notes
    report(result, out, masks=_save(result, out, save_masks=save_masks, force=force), as_json=as_json)


def _check(
    picture: Path,
    out: Path,
    method: str,
    chosen: dict[str, Any],
    mask: Path | None,
    *,
    save_masks: bool,
    force: bool,
) -> Any:
    """Everything that can be wrong is found before a model is loaded. Returns the opened picture."""
    from showtell import edits, files, images, methods

    edits.check_picture_path(out, force=force)
    if save_masks and mask is not None:
        files.check_output(f"{out.with_suffix('')}.mask1.png", force=force)
    methods.settle(methods.resolve(method), given=chosen, card={})
    opened = images.open_picture(picture)
    if mask is not None:
        images.open_mask(mask, size=opened.size)
    edits.check_picture_path(out, size=opened.size, force=force)
    return opened


def _save(result: Edit, out: Path, *, save_masks: bool, force: bool) -> list[str]:
    result.save(out, force=force)
    if not save_masks:
        return []
    if not result.masks:
        result.notes.append("no mask was saved: this method edits everywhere unless --mask limits it")
    return [str(path) for path in result.save_masks(out.with_suffix(""), force=force)]


def report(result: Edit, out: Path, *, masks: list[str], as_json: bool) -> None:
    """Say what was written, with which seed."""
    recipe = result.recipe.to_dict()
    written = {"written": str(out), "masks": masks, "seed": result.seed, "size": list(result.image.size)}
    lines = [f"wrote {out} (seed {result.seed})", *(f"wrote {path}" for path in masks)]
    console.finish({**written, "recipe": recipe}, "\n".join(lines), as_json=as_json, notes=result.notes)
