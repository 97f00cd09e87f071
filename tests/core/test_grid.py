"""Visual prompting by inpainting a grid: against stock inpainting, and what must hold of the panels."""

from __future__ import annotations

import json

import diffusers
import numpy as np
import pytest
import torch

import showtell
from showtell import fitting, instruction, methods, models, networks, recipe, sampling, schedule, schedulers, starts
from showtell.errors import FileFormatError, ImageError, MethodError, ModelError
from showtell.methods import Grid
from tests.helpers import tiny

SCHEDULERS = ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]


def settled(**values):
    return methods.settle(Grid(**{"num_inference_steps": 4, **values}), given={}, card={})[0]


def contexts(pipe, pictures, method, *, words="", seeds=(0,), notes=None):
    """The context that an editor makes, for pictures that have the model's size."""
    generators = [starts.generator(seed) for seed in seeds]
    steps = schedule.SchedulerStep(
        schedulers.fresh_scheduler(method.scheduler, pipe.scheduler.config),
        num_inference_steps=method.num_inference_steps,
        device="cpu",
        generators=generators,
    )
    told, untold = (instruction.assemble(pipe, [instruction.Words(text=text)])[0] for text in (words, ""))
    return methods.Context(
        pipe=pipe,
        pixels=fitting.to_pixels(pictures),
        instructions=[()] * len(pictures),
        prompt_embeds=told.expand(len(pictures), -1, -1),
        negative_prompt_embeds=untold.expand(len(pictures), -1, -1),
        generators=generators,
        steps=steps,
        note=lambda b, text: None if notes is None else notes.append((b, text)),
    )


def run(context, plan):
    """Every step's latents."""
    seen = []
    denoise = sampling.GuidedDenoiser(
        network=networks.network(context.pipe),
        conditioning=plan.conditioning,
        guidance=plan.guidance,
        scale_input=context.steps.scale_input,
    )
    sampling.sample(
        denoise, plan.start, plan.schedule, context.steps.step, blend=plan.blend,
        observe=lambda i, x: seen.append(x.clone()),
    )  # fmt: skip
    return seen


def canvas_of(pictures):
    """The grid as a picture, put together with another library: before, after / new, grey."""
    half = (pictures[0].width // 2, pictures[0].height // 2)
    before, after, new = (
        torch.nn.functional.interpolate(
            fitting.to_pixels([p]), size=half[::-1], mode="bicubic", antialias=True
        ).clamp(-1, 1)
        for p in pictures
    )  # fmt: skip
    grid = torch.zeros(1, 3, half[1] * 2, half[0] * 2)
    grid[..., : half[1], : half[0]], grid[..., : half[1], half[0] :], grid[..., half[1] :, : half[0]] = (
        before, after, new,
    )  # fmt: skip
    return grid


@pytest.mark.parametrize("kind", ["base", "inpaint"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("size", "scale"), [((32, 32), 7.5), ((64, 32), 3.0), ((32, 48), 1.0)])
def test_every_step_equals_stock_inpainting(kind, name, size, scale, picture):
    pipe = tiny.pipeline(kind)
    before, after, new = (picture(*size, seed=s) for s in range(3))
    method = settled(pairs=[(before, after)], guidance_scale=scale, scheduler=name)
    context = contexts(pipe, [new], method, words="make the circle red", seeds=(3,))
    found = run(context, method.plan(context))

    canvas = canvas_of([before, after, new])
    z = models.scaled(pipe, models.encode_image(pipe, canvas))
    mask = torch.zeros(1, 1, size[1], size[0])
    mask[..., size[1] // 2 :, size[0] // 2 :] = 1
    masked = models.scaled(pipe, models.encode_image(pipe, canvas * (mask < 0.5)))
    stock = diffusers.StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    expected = []
    stock(
        "make the circle red", image=z, mask_image=mask, masked_image_latents=masked, width=size[0], height=size[1],
        latents=starts.noise(z.shape[1:], [starts.generator(3)], device="cpu"), guidance_scale=scale,
        num_inference_steps=4, output_type="latent",
        callback_on_step_end=lambda p, i, t, kw: expected.append(kw["latents"].clone()) or kw,
    )  # fmt: skip
    assert len(found) == len(expected) == 4
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=0), (a - b).abs().max()


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (32, 64)])
def test_the_known_panels_are_the_canvas_at_the_end_and_the_fourth_is_painted(size, picture):
    pipe = tiny.pipeline("base")
    before, after, new = (picture(*size, seed=s) for s in range(3))
    method = settled(pairs=[(before, after)])
    context = contexts(pipe, [new], method)
    latents = run(context, method.plan(context))[-1]
    z = models.scaled(pipe, models.encode_image(pipe, canvas_of([before, after, new])))
    same = (latents == z).all(dim=1)[0]
    h, w = latents.shape[-2:]
    assert same[: h // 2].all() and same[:, : w // 2].all() and not same[h // 2 :, w // 2 :].any()


def test_the_result_is_the_fourth_panel_at_the_pictures_size(picture):
    pipe = tiny.pipeline("base")
    method = settled(pairs=[(picture(), picture(seed=1))])
    plan = method.plan(contexts(pipe, [picture(seed=2)], method))
    grid = torch.full((2, 3, 32, 64), -1.0)
    grid[..., 16:, 32:] = torch.linspace(-0.5, 0.5, 32)
    result = plan.picture(grid)
    assert result.shape == grid.shape and result.min() > -0.6  # nothing of its neighbours
    shrunk = torch.nn.functional.interpolate(result, size=(16, 32), mode="area")
    assert torch.allclose(shrunk, grid[..., 16:, 32:], atol=0.02)


@pytest.mark.parametrize("kind", ["base", "inpaint"])
def test_a_batch_equals_single_runs(kind, picture):
    pipe = tiny.pipeline(kind)
    method = settled(pairs=[(picture(), picture(seed=1))])
    pictures = [picture(seed=2), picture(seed=3)]
    context = contexts(pipe, pictures, method, seeds=(5, 6))
    together = run(context, method.plan(context))[-1]
    for i in range(2):
        context = contexts(pipe, pictures[i : i + 1], method, seeds=(5 + i,))
        alone = run(context, method.plan(context))[-1]
        assert torch.allclose(together[i : i + 1], alone, atol=1e-4, rtol=0)


def test_an_inpainting_model_sees_the_mask_and_the_masked_grid(picture):
    pipe = tiny.pipeline("inpaint")
    method = settled(pairs=[(picture(), picture(seed=1))])
    plan = method.plan(contexts(pipe, [picture(seed=2)], method))
    for branch in ("cond", "uncond"):
        _, beside = plan.conditioning.told(branch, 0)
        assert beside.shape == (1, 5, 8, 8)
        assert beside[0, 0, 4:, 4:].all() and beside[0, 0].sum() == 16


def test_a_pair_of_other_proportions_is_stretched_and_said(picture):
    pipe = tiny.pipeline("base")
    notes = []
    method = settled(pairs=[(picture(90, 30), picture(90, 30, seed=1))])
    method.plan(contexts(pipe, [picture(), picture()], method, seeds=(0, 1), notes=notes))
    assert [b for b, _ in notes] == [0, 1] and all("90x30" in text and "stretched" in text for _, text in notes)
    notes.clear()
    method = settled(pairs=[(picture(90, 90), picture(90, 90, seed=1))])
    method.plan(contexts(pipe, [picture()], method, notes=notes))
    assert notes == []
    method = settled(pairs=[(picture(), picture(40, 40, seed=1))])
    method.plan(contexts(pipe, [picture()], method, notes=notes))
    assert len(notes) == 1 and "after is 40x40" in notes[0][1]


def test_exactly_one_pair(picture):
    pipe = tiny.pipeline("base")
    with pytest.raises(MethodError, match=r"needs pairs=\[\(before, after\)\]"):
        settled().plan(contexts(pipe, [picture()], settled()))
    two = [(picture(), picture(seed=1)), (picture(seed=2), picture(seed=3))]
    with pytest.raises(MethodError, match="exactly one pair, and 2 were given"):
        Grid(pairs=two)
    with pytest.raises(ImageError):
        Grid(pairs=[])
    with pytest.raises(MethodError, match="guidance_scale=-1"):
        Grid(guidance_scale=-1)
    with pytest.raises(MethodError, match="num_inference_steps=0"):
        Grid(num_inference_steps=0)


def test_latents_that_cannot_be_halved(picture):
    pipe = tiny.pipeline("base")
    method = settled(pairs=[(picture(), picture(seed=1))])
    with pytest.raises(MethodError, match=r"latents \(9x8\) have an odd side"):
        method.plan(contexts(pipe, [picture(36, 32)], method))


def test_the_wrong_kind_says_which_are_needed(editor, picture):
    with pytest.raises(ModelError, match=r"'grid' needs a base model .* or an inpainting model .*'starter-base'"):
        editor.edit(picture(), "red", method="grid", pairs=[(picture(), picture(seed=1))])


@pytest.mark.parametrize("kind", ["base", "inpaint"])
@pytest.mark.parametrize("size", [(32, 32), (50, 20)])
def test_an_edit_has_the_inputs_size_and_a_recipe(kind, size, picture):
    editor = showtell.Editor(tiny.pipeline(kind))
    pair = (picture(*size), picture(*size, seed=1))
    edit = editor.edit(picture(*size, seed=2), pairs=[pair], method="grid", seed=0, num_inference_steps=2)
    told = editor.edit(picture(*size, seed=2), "red", pairs=[pair], method="grid", seed=0, num_inference_steps=2)
    assert edit.image.size == size and edit.recipe.method.name == "grid"
    assert edit.recipe.method.parameters["guidance_scale"] == 7.5
    assert not torch.allclose(edit.latents, told.latents, atol=1e-3)


def test_a_folder_of_an_inpainting_model_edits_and_replays(picture, tmp_path):
    tiny.pipeline("inpaint").save_pretrained(tmp_path / "model")
    editor = showtell.load(tmp_path / "model", device="cpu")
    assert editor.kind == "inpaint"
    names = [tmp_path / f"{name}.png" for name in ("before", "after", "new")]
    for seed, name in enumerate(names):
        picture(seed=seed).save(name)
    edit = editor.edit(names[2], pairs=[names[:2]], method="grid", seed=0, num_inference_steps=2)
    edit.save(tmp_path / "out.png")
    recorded = recipe.read(tmp_path / "out.png").method.parameters["pairs"]
    assert [recorded[0][side]["path"] for side in ("before", "after")] == [str(name) for name in names[:2]]
    again = showtell.replay(tmp_path / "out.png")
    assert np.array_equal(np.asarray(again.image), np.asarray(edit.image))


@pytest.fixture
def shown(picture, tmp_path):
    """(editor, edit, its file) of a pair that lies in a folder of its own."""
    editor = showtell.Editor(tiny.pipeline("base"))
    (tmp_path / "pair").mkdir()
    pair = tmp_path / "pair" / "a.png", tmp_path / "pair" / "b.png"
    for seed, path in enumerate([*pair, tmp_path / "new.png"]):
        picture(seed=seed).save(path)
    edit = editor.edit(tmp_path / "new.png", pairs=[pair], method="grid", seed=0, num_inference_steps=1)
    return editor, edit, edit.save(tmp_path / "out.png")


def test_a_pair_that_moved_is_found_beside_the_edit_or_where_one_says(shown, tmp_path):
    editor, edit, out = shown
    before, after = ((tmp_path / "pair" / name).rename(tmp_path / name) for name in ("a.png", "b.png"))
    assert showtell.replay(out, editor=editor).image.tobytes() == edit.image.tobytes()
    after = after.rename(tmp_path / "elsewhere.png")
    with pytest.raises(ImageError, match=r"b.png: the after of .*out.png is not there any more: give it with --before"):
        showtell.replay(out, editor=editor)
    again = showtell.replay(out, editor=editor, pairs=[(before, after)])
    assert again.image.tobytes() == edit.image.tobytes() and not any("shown" in note for note in again.notes)
    after.rename(tmp_path / "b.png")
    notes = showtell.replay(out, editor=editor, pairs=[(tmp_path / "b.png", before)]).notes
    assert [note.split(": ")[1] for note in notes if "shown" in note] == [
        "is not the picture that was shown (its pixels differ)"
    ] * 2


def test_a_pair_in_memory_must_be_given_again(picture, tmp_path):
    editor = showtell.Editor(tiny.pipeline("base"))
    pair = (picture(), picture(seed=1))
    picture(seed=2).save(tmp_path / "new.png")
    edit = editor.edit(tmp_path / "new.png", pairs=[pair], method="grid", seed=0, num_inference_steps=1)
    out = edit.save(tmp_path / "out.png")
    with pytest.raises(ImageError, match=r"before was a picture in memory: give it with --before and --after"):
        showtell.replay(out, editor=editor)
    assert showtell.replay(out, editor=editor, pairs=pair).image.tobytes() == edit.image.tobytes()
    with pytest.raises(ImageError, match="was shown 1 pairs, and 2 were given"):
        showtell.replay(out, editor=editor, pairs=[pair, (pair[1], pair[0])])


@pytest.mark.parametrize(
    "pairs",
    [
        ["pair/a.png", "pair/b.png"], [["pair/a.png", "pair/b.png"]], [{"before": {"path": "pair/a.png"}}], [3], 3, {}, [],
        [{"before": {"path": "pair/a.png"}, "after": {"path": "pair/b.png"}}], "pair", None,
    ],
)  # fmt: skip
def test_a_recipe_whose_pairs_are_no_files(shown, tmp_path, pairs):
    from tests.core.test_recipes import with_chunk

    editor, edit, _ = shown
    data = edit.recipe.to_dict()
    data["method"]["parameters"]["pairs"] = pairs
    bad = with_chunk(tmp_path / "bad.png", json.dumps(data))
    with pytest.raises(FileFormatError, match="bad.png: its recipe is damaged .*pairs"):
        showtell.replay(bad, editor=editor)
