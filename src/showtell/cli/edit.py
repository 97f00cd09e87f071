"""`showtell edit`: change a picture by words, by a learned instruction, or by both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from showtell.cli import asked, console, describing, options, parts
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.edits import Edit
    from showtell.images import Picture

EPILOG = 'Example: showtell edit house.png "make the house blue" "remove the tree" -o blue.png --seed 1'


SHOWING = "Showing the edit"


def register(app: typer.Typer) -> None:
    app.command("edit", epilog=EPILOG)(edit)


def edit(
    picture: Annotated[Path, typer.Argument(metavar="IN", help="The picture to edit.")],
    out: options.Out,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORDS]...",
            help="What to change, or what the result shows; several are joined. <name> calls a learned file.",
        ),
    ] = None,
    learned: Annotated[
        list[Path] | None,
        typer.Option(
            "--learned",
            rich_help_panel=SHOWING,
            help="A file of showtell learn; in words it has its name: <name>, or <name:0.5>.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            rich_help_panel=SHOWING,
            help="How strong the learned instructions are, -10 to 10; 1 as learned.",
        ),
    ] = None,
    noise: Annotated[
        Literal["random", "recorded"],
        typer.Option(
            "--noise", rich_help_panel=SHOWING, help="recorded: that of the learning, which keeps more of the picture."
        ),
    ] = "random",
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="ip2p, the default; foi: each instruction in its place; pti, p2p, ddim-edit, diffedit, sdedit, imagic: the "
            "words describe the result; instructdiffusion; grid: by a pair.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option("--compare", help="Methods side by side, such as ip2p,foi or pti,diffedit; OUT is a sheet."),
    ] = None,
    weights: parts.Weights = None,
    mask_for: parts.MaskFor = None,
    before: Annotated[
        Path | None,
        typer.Option("--before", rich_help_panel=SHOWING, help="For method grid: a picture before the edit."),
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option("--after", rich_help_panel=SHOWING, help="For method grid: the same picture after it."),
    ] = None,
    source: describing.Source = None,
    inversion: describing.InversionFile = None,
    token: describing.Token = None,
    strip: describing.Strip = None,
    etas: describing.Etas = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A hub id, a diffusers folder, or a single .safetensors file; by default the starter that the method takes.",
        ),
    ] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="White where the edit may happen; same size.")] = None,
    negative: Annotated[str | None, typer.Option("--negative", help="What the result should not be.")] = None,
    steps: options.Steps = None,
    guidance_scale: options.GuidanceScale = None,
    image_guidance_scale: options.ImageGuidanceScale = None,
    scheduler: options.Scheduler = None,
    also: parts.Set = None,
    fit: options.Fit = "fit",
    resolution: options.Resolution = None,
    sequential: Annotated[bool, typer.Option("--sequential", help="Less memory, more time.")] = False,
    save_masks: Annotated[
        bool, typer.Option("--save-masks", help="Write the regions, and who they went to, beside OUT.")
    ] = False,
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    offload: options.Offload = "none",
    vae_tiling: options.VaeTiling = False,
    attention_slicing: options.AttentionSlicing = False,
    gradient_checkpointing: options.GradientCheckpointing = False,
    compile_: options.Compile = False,
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Edit a picture by words, by a learned instruction, by both, or by describing the result.

    A learned file is called by its name in the words, as in "<look> a squirrel"; alone, it is the instruction. Method foi
    keeps each quoted instruction in its own place, found by its keyword: a word that you put in brackets, else one that is
    chosen. Method pti and its kin are not told what to change, but what the result shows: "a red house at night". Options
    that are left out take the model card's tuned values, else the paper's. The result has the input's size; a PNG carries
    its recipe, from which `showtell replay` makes it again. With --compare, OUT shows the methods side by side, and each
    result is beside it: OUT.ip2p.png and so on.
    """
    from showtell.cli import compare as comparison

    held = describing.opened(inversion)
    methods = comparison.methods(method, compare, held)
    describing.check(methods, source=source, held=held, tokens=token or [])
    slider = describing.strip_of(strip, etas, methods, together=compare is not None, learned=bool(learned), force=force)
    settings: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "image_guidance_scale": image_guidance_scale,
        "scheduler": scheduler,
        "pairs": asked.pairs(list(methods.values()), before, after),
        **parts.settings(also or []),
    }
    options.check_text(negative or "")
    request = asked.read(words or [], learned or [], strength, methods=list(methods.values()), noise=noise)
    opened = _open(picture, out, mask, force=force)
    if held is not None:
        describing.check_held(held, methods, opened, request.instruction, source, settings)
    comparison.check(methods, settings, together=compare is not None)
    instructions = parts.count(request.instruction)
    apart = any(getattr(value, "regions", False) for value in methods.values())
    own = parts.read(weights, mask_for or [], instructions=instructions, size=opened.size, regions=apart)
    found = any(getattr(value, "describes", False) for value in methods.values())
    result_masks = instructions if apart else int(found or mask is not None)
    comparison.check_files(
        out, methods if compare is not None else {}, masks=result_masks if save_masks else 0, force=force
    )

    import showtell
    from showtell import compiling

    if compile_ and all(name in compiling.UNCOMPILED for name in methods):
        raise UsageError(
            f"--compile: {', '.join(methods)} needs the network's layers and runs uncompiled: leave it out"
        )
    editor = showtell.load(
        model or describing.model_for(list(methods.values())), device=device, dtype=dtype, offload=offload, vae_tiling=vae_tiling,
        attention_slicing=attention_slicing,
    )  # fmt: skip
    request.notes.extend(describing.give_words(editor, token or []))
    if compile_:
        seconds = editor.compile(
            size=opened.size, fit=fit, resolution=resolution, sequential=sequential, guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
        )  # fmt: skip
        request.notes.append(f"compiled in {seconds:.1f} s")
    told: dict[str, Any] = {
        "learned": request.looks,
        "noise": noise,
        "seed": options.draw_seed(seed),
        "negative_prompt": negative,
        "mask": mask,
        "weights": own.weights,
        "masks": own.masks,
        "source": source,
        "inversion": held,
        "fit": fit,
        "resolution": resolution,
        "sequential": sequential,
        "gradient_checkpointing": gradient_checkpointing,
        **settings,
    }
    with console.progress("editing", as_json=as_json) as tick:
        told["callback"] = lambda i, n, _: tick(i + 1, n)
        told["on_phase"] = lambda name, i, n: tick(i, n, title=name)
        if compare is not None:
            edits = editor.compare(opened, request.instruction, methods=list(methods), **told)
            comparison.finish(edits, out, notes=request.notes, save_masks=save_masks, as_json=as_json, force=force)
            return
        if slider is not None:
            slid = describing.slid(editor, opened, request.instruction, slider, told)
            result = slid.chosen
        else:
            slid, result = None, editor.edit(opened, request.instruction, method=next(iter(methods)), **told)
    result.notes[:0] = request.notes
    masks = _save(result, out, save_masks=save_masks, force=force)
    report(result, out, masks=masks, as_json=as_json, strip=None if slid is None else slid.write(force=force))


def _open(picture: Path, out: Path, mask: Path | None, *, force: bool) -> Picture:
    """The opened picture. What is wrong with the files is found before a model is loaded."""
    from showtell import edits, images

    edits.check_picture_path(out, force=force)
    opened = images.open_picture(picture)
    if mask is not None:
        images.open_mask(mask, size=opened.size)
    edits.check_picture_path(out, size=opened.size, force=force)
    return opened


def _save(result: Edit, out: Path, *, save_masks: bool, force: bool) -> list[str]:
    result.save(out, force=force)
    return saved_masks(result, out, force=force) if save_masks else []


def saved_masks(result: Edit, out: Path, *, force: bool) -> list[str]:
    """Write the masks and their overlay beside ``out``; a note says so where there are none."""
    if not result.masks:
        result.notes.append("no mask was saved: this method edits everywhere unless --mask limits it")
    return [str(path) for path in result.save_masks(out.with_suffix(""), force=force)]


def report(result: Edit, out: Path, *, masks: list[str], as_json: bool, strip: dict[str, Any] | None = None) -> None:
    """Say what was written, with which seed. ``masks``: files of the masks, the overlay's last; ``strip``: what a strip of
    other results tells of itself.
    """
    lines = [f"wrote {out} (seed {result.seed})", *(f"wrote {path}" for path in masks)]
    if strip is not None:
        lines.append(f"wrote {strip['strip']}")
    told = {**described(result, out, masks), **(strip or {})}
    console.finish(told, "\n".join(lines), as_json=as_json, notes=result.notes)


def described(result: Edit, out: Path, masks: list[str]) -> dict[str, Any]:
    """A result as JSON tells it."""
    return {
        "written": str(out),
        "masks": masks[:-1],
        "overlay": masks[-1] if masks else None,
        "keywords": result.keywords,
        "seed": result.seed,
        "size": list(result.image.size),
        "recipe": result.recipe.to_dict(),
    }
