"""Stage 1 of Prompt Tuning Inversion and Null-Text Inversion: it follows, it resumes, it does not mix pictures."""

from __future__ import annotations

import pytest
import torch

import showtell
from showtell import conditioning, instruction, networks, sampling, schedulers
from showtell.ddim import Ddim
from showtell.errors import Cancelled, FileFormatError, MethodError, OutputError, ShowtellError, TextError
from showtell.guidance import ClassifierFree
from showtell.inversion import ddim_inversion, tuned_file, tuning
from showtell.inversions import Inversion
from tests.helpers import tiny

STEPS = {"num_inference_steps": 5}


@pytest.fixture(scope="module")
def base():
    return showtell.Editor(tiny.pipeline("base", prediction_type="v_prediction"))


def task(pipe, of, *, pictures=1, iterations=3, rate=0.05, enough=lambda i: -1.0, ratio=1.0):
    sch = schedulers.fresh_scheduler("ddim", pipe.scheduler.config)
    sch.set_timesteps(5)
    pair, net = Ddim.of(sch, encoding_ratio=ratio), networks.network(pipe)
    words, nothing = (
        torch.stack([instruction.assemble(pipe, [instruction.Words(text=text)])[0]] * pictures)
        for text in ("a red star", "")
    )
    z = torch.randn(pictures, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    denoise = sampling.GuidedDenoiser(
        network=net,
        conditioning=conditioning.PromptConditioning(prompt_embeds=words, negative_prompt_embeds=nothing),
        guidance=ClassifierFree(guidance_scale=0.0),
        scale_input=lambda x, t: x,
    )
    way = ddim_inversion.trajectory(denoise, z, pair)
    start, constant = (words, nothing) if of == "cond" else (nothing, words)
    return tuning.Task(
        network=net, pair=pair, trajectory=way, of=of, start=start, constant=constant, guidance_scale=7.5,
        iterations=iterations, rate=lambda i: rate, enough=enough,
    )  # fmt: skip


@pytest.mark.parametrize("of", ["cond", "uncond"])
def test_more_iterations_end_nearer_to_the_picture(base, of):
    ends = []
    for n in (0, 1, 8):
        one = task(base.pipe, of, iterations=n)
        found = tuning.tune(one)
        ends.append(float((found.reconstruction[-1] - one.trajectory[0]).square().mean()))
        assert found.tuned.shape == (5, 1, 77, tiny.WIDTH) and found.losses.shape == (5, 1)
        assert found.tuned.dtype == found.losses.dtype == torch.float32
    assert ends[2] < ends[1] < ends[0]


def test_each_step_starts_from_the_embedding_of_the_one_before(base):
    one = task(base.pipe, "cond", iterations=1, rate=0.01)
    found = tuning.tune(one)
    # one step of Adam moves no number by more than its rate
    moves = [found.tuned[0] - one.start, *(found.tuned[1:] - found.tuned[:-1])]
    assert all(0 < float(move.abs().max()) <= 0.0101 for move in moves)
    assert float((found.tuned[-1] - one.start).abs().max()) > 0.0101


@pytest.mark.parametrize("of", ["cond", "uncond"])
def test_pictures_of_a_batch_do_not_feel_each_other(base, of):
    both = task(base.pipe, of, pictures=2, enough=lambda i: 1e-3)
    together = tuning.tune(both)
    for b in range(2):
        rows = slice(b, b + 1)
        alone = tuning.tune(
            tuning.Task(**{**both.__dict__, "trajectory": both.trajectory[:, rows], "start": both.start[rows],
                           "constant": both.constant[rows]})
        )  # fmt: skip
        assert torch.allclose(together.reconstruction[:, rows], alone.reconstruction, atol=1e-3)


def test_a_step_that_is_near_enough_is_over(base):
    seen = []

    class Counting(type(networks.network(base.pipe))):
        def __call__(self, x, t, embeds, beside=(None,)):
            seen.append(embeds.requires_grad)
            return super().__call__(x, t, embeds, beside)

    for enough, iterations in ((lambda i: 1e9, 1), (lambda i: -1.0, 4)):
        one = task(base.pipe, "uncond", iterations=4, enough=enough)
        seen.clear()
        tuning.tune(tuning.Task(**{**one.__dict__, "network": Counting(unet=base.pipe.unet)}))
        assert sum(seen) == 5 * iterations and len(seen) == 5 * (iterations + 2)


@pytest.mark.parametrize("of", ["cond", "uncond"])
def test_an_interrupted_tuning_goes_on_to_the_same_result(base, of, tmp_path):
    one = task(base.pipe, of)
    whole = tuning.tune(one)

    def stop(i, x):
        if i == 2:
            raise Cancelled("enough")

    progress = tuning.Tuned(trajectory=one.trajectory)
    with pytest.raises(Cancelled):
        tuning.tune(one, progress=progress, observe=stop)
    tuned_file.save(progress, tmp_path / "t.safetensors", what="this")
    again = tuned_file.load(tmp_path / "t.safetensors", what="this", device="cpu")
    assert len(again.embeds) == 3
    rest = tuning.tune(one, progress=again)
    for name in ("tuned", "reconstruction", "losses"):
        assert torch.equal(getattr(rest, name), getattr(whole, name))
    with pytest.raises(FileFormatError, match="belongs to another inversion"):
        tuned_file.load(tmp_path / "t.safetensors", what="that", device="cpu")


def test_the_good_steps_before_a_broken_one_are_kept(base, picture, tmp_path):
    kept = tmp_path / "kept.safetensors"
    with pytest.raises(ShowtellError, match=r"the tuning broke at step \d of 5"):
        base.invert(
            picture(), method="nti", source="a red star", learning_rate=1e30, early_stop=False, checkpoint=kept, **STEPS
        )
    assert kept.exists()


@pytest.mark.parametrize("method", ["nti", "pti"])
def test_an_inversion_resumes_from_its_checkpoint(base, picture, tmp_path, method):
    kept, told = tmp_path / "kept.safetensors", {"method": method, "source": "a red star", **STEPS}
    whole = base.invert(picture(), **told)
    done = []

    def stop():
        return len(done) > 2

    def seen(name, i, n):
        if name == "tuning":
            done.append(i)

    with pytest.raises(Cancelled, match="stopped while tuning"):
        base.invert(picture(), checkpoint=kept, cancel=stop, on_phase=seen, **told)
    with pytest.raises(OutputError, match="holds an unfinished inversion"):
        base.invert(picture(), checkpoint=kept, **told)
    with pytest.raises(FileFormatError, match="belongs to another inversion"):
        base.invert(picture(seed=9), checkpoint=kept, resume=True, **told)
    again = base.invert(picture(), checkpoint=kept, resume=True, **told)
    assert torch.equal(again.data.tuned, whole.data.tuned) and again.psnr == whole.psnr


def test_an_inversion_and_its_file_make_the_same_edit(base, picture, tmp_path):
    back = base.invert(picture(), method="pti", **STEPS)
    assert back.serves == "any target" and back.psnr > 0 and back.image.size == (32, 32)
    again = Inversion.load(back.save(tmp_path / "back.safetensors"))
    assert again.sha256 == back.sha256
    first = base.edit(back, "a blue [star]", eta=0.5)
    for other in (
        base.edit(again, "a blue [star]", eta=0.5),
        base.edit(picture(), "a blue [star]", eta=0.5, inversion=again),
    ):
        assert torch.equal(other.latents, first.latents)
    assert first.recipe.inversion.sha256 == back.sha256 and first.recipe.method.name == "pti"
    assert first.recipe.method.parameters["num_inference_steps"] == 5


def test_an_inversion_saves_the_inversion_and_the_tuning(base, picture):
    back = base.invert(picture(), "a blue [star]", method="pti", **STEPS)
    direct = base.edit(picture(), "a blue [star]", method="pti", **STEPS)
    phases = set()
    reused = base.edit(back, "a blue star", on_phase=lambda name, i, n: phases.add(name))
    assert not phases
    assert torch.allclose(base.edit(back, "a blue [star]").latents, direct.latents, atol=1e-5)
    assert reused.recipe.inversion.sha256 == back.sha256


def test_a_tuning_that_started_from_a_target_belongs_to_it(base, picture):
    back = base.invert(picture(), "a blue star", method="pti", **STEPS)
    assert back.target == "a blue star" and "only" in back.serves
    with pytest.raises(TextError, match="its tuning started from the target 'a blue star' and belongs to it"):
        base.edit(back, "a green tree")
    for told in ({}, {"source": "a red star"}):
        free = base.invert(picture(), method="pti", **told, **STEPS)
        assert free.target is None
        assert base.edit(free, "a green tree").image.size == (32, 32)
        assert base.edit(free, "a blue star").image.size == (32, 32)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"method": "edict"}, "inversion 'edict' is not known: choose one of ddim, nti, pti"),
        ({"method": "nti", "start": "empty"}, "start is for inversion 'pti'"),
        ({"method": "ddim", "target": "a star"}, "target is for inversion 'pti'"),
        ({"method": "pti", "start": "target"}, "start='target' needs a target"),
        ({"method": "pti", "start": "empty", "target": "a star"}, "serves any target: leave the target out"),
        ({"method": "pti", "start": "source"}, "needs source="),
        ({"method": "pti", "encoding_ratio": 0}, "encoding_ratio=0 is out of range"),
        ({"method": "pti", "eta": 0.5}, "'eta' is not a hyper-parameter"),
    ],
)
def test_an_inversion_that_cannot_be_is_one_clear_line(base, picture, told, message):
    with pytest.raises((MethodError, TextError), match=message):
        base.invert(picture(), **{**STEPS, **told})


def test_an_inversion_is_used_as_it_was_made(base, picture):
    back = base.invert(picture(), method="pti", **STEPS)
    for told in ({"num_inference_steps": 7}, {"encoding_ratio": 0.4}):
        with pytest.raises(MethodError, match=f"was made with {next(iter(told))}="):
            base.edit(back, "a blue star", **told)
    with pytest.raises(MethodError, match="was made with fit 'fit'"):
        base.edit(base.invert(picture(64, 30), **STEPS), "a blue star", fit="crop")
    with pytest.raises(showtell.errors.ImageError, match="is of another picture"):
        base.edit(picture(seed=5), "a blue star", inversion=back)
    with pytest.raises(MethodError, match="some of the pictures have an inversion and others do not"):
        base.edit([back, picture()], ["a star", "a star"], method="pti")
    other = showtell.Editor(tiny.pipeline("base", prediction_type="v_prediction"))
    with torch.no_grad():
        next(iter(other.pipe.unet.parameters())).add_(1.0)
    with pytest.raises(showtell.errors.ModelError, match="was made with other weights"):
        other.edit(back, "a blue star")


@pytest.mark.parametrize("method", ["ddim-edit", "diffedit", "pti"])
def test_methods_share_an_inversion_as_far_as_they_can(base, picture, method):
    back = base.invert(picture(), method="ddim", **STEPS)
    assert base.edit(back, "a blue star").recipe.method.name == "ddim-edit"
    few = {"maps": 2} if method == "diffedit" else {}
    phases = set()
    reused = base.edit(back, "a blue [star]", method=method, seed=0, on_phase=lambda n, i, k: phases.add(n), **few)
    assert "inverting" not in phases and ("tuning" in phases) == (method == "pti")
    direct = base.edit(picture(), "a blue [star]", method=method, seed=0, **few, **STEPS)
    assert torch.allclose(reused.latents, direct.latents, atol=1e-4)


def test_an_edit_keeps_its_own_guidance_and_takes_the_tunings_where_it_has_none(base, picture, tmp_path):
    back = base.invert(picture(), method="pti", guidance_scale=3.0, **STEPS)
    assert base.edit(back, "a blue star").recipe.method.parameters["guidance_scale"] == 3.0
    edit = base.edit(back, "a blue star", guidance_scale=2.0)
    assert edit.recipe.method.parameters["guidance_scale"] == 2.0
    assert edit.recipe.method.origin["num_inference_steps"] == "inversion"
    value = showtell.methods.PromptTuningInversion(guidance_scale=2.0)
    assert torch.equal(base.edit(back, "a blue star", method=value).latents, edit.latents)
    with pytest.raises(MethodError, match="was made with num_inference_steps=5, not as num_inference_steps=3 says"):
        base.edit(back, "a blue star", method=showtell.methods.PromptTuningInversion(num_inference_steps=3))


def test_a_pipeline_that_samples_otherwise_still_inverts_by_ddim(picture):
    import diffusers

    pipe = tiny.pipeline("base")
    pipe.scheduler = diffusers.PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    editor = showtell.Editor(pipe)
    back = editor.invert(picture(), method="pti", **STEPS)
    edit = editor.edit(back, "a blue star", method="pti")
    assert edit.recipe.scheduler["_class_name"] == "DDIMScheduler"
    direct = editor.edit(picture(), "a blue star", method="ddim-edit", **STEPS)
    assert direct.recipe.scheduler["_class_name"] == "DDIMScheduler"
    assert (
        editor.edit(picture(), "a blue star", method="sdedit", seed=0, **STEPS).recipe.scheduler["_class_name"]
        == "PNDMScheduler"
    )


def test_an_inversion_knows_its_schedule(base, picture, tmp_path):
    config = tiny.scheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    back = base.invert(picture(), method="pti", scheduler=config, **STEPS)
    again = Inversion.load(back.save(tmp_path / "back.safetensors"))
    for one in (back, again):
        still = base.edit(one, "a blue star", eta=0.0, blend="none")
        assert torch.allclose(still.latents, back.data.reconstruction[-1, 0], atol=1e-4)
    with pytest.raises(MethodError, match="was made with another scheduler"):
        base.edit(back, "a blue star", scheduler="ddim")


def test_an_inversion_keeps_its_negative_prompt(base, picture):
    back = base.invert(picture(), method="pti", negative_prompt="a green house", **STEPS)
    still = base.edit(back, "a blue star", eta=0.0, blend="none")
    assert torch.allclose(still.latents, back.data.reconstruction[-1, 0], atol=1e-4)
    assert still.recipe.negative_prompt == "a green house"
    with pytest.raises(TextError, match="was tuned beside the negative prompt 'a green house'"):
        base.edit(back, "a blue star", negative_prompt="a tree")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_tuning_works_whatever_the_callers_mode(base, picture, mode):
    plain = base.edit(picture(), "a blue star", method="pti", **STEPS)
    with mode():
        edit = base.edit(picture(), "a blue star", method="pti", **STEPS)
    assert torch.equal(edit.latents, plain.latents)
    assert all(p.requires_grad for p in base.pipe.unet.parameters())


def test_inverting_an_inversion_begins_anew(base, picture):
    back = base.invert(picture(), method="pti", **STEPS)
    other = base.invert(back, method="pti", inner_steps=2, **STEPS)
    assert not torch.equal(other.data.tuned, back.data.tuned)
    assert torch.equal(other.data.tuned, base.invert(picture(), method="pti", inner_steps=2, **STEPS).data.tuned)


def test_what_is_wrong_with_one_picture_is_local(base, picture):
    found = base.edit(
        [picture(), picture(seed=2)], ["a red star", "a blue star"], method="pti", reweight={"red": 2}, **STEPS
    )
    assert isinstance(found[0], showtell.Edit) and isinstance(found[1], TextError)
    found = base.edit([picture(), picture(seed=2)], ["a star", "!!!"], method="pti", **STEPS)
    assert isinstance(found[0], showtell.Edit) and "has no word" in str(found[1])
    with pytest.raises(MethodError, match="guidance_scale=0 hears no words"):
        base.edit([picture(), picture(seed=2)], ["a star", "a tree"], method="pti", guidance_scale=0, **STEPS)


def test_a_tuning_that_broke_goes_on_with_a_smaller_rate(base, picture, tmp_path):
    kept, told = tmp_path / "kept.safetensors", {"method": "pti", "inner_steps": 2, **STEPS}
    done = []
    with pytest.raises(Cancelled):
        base.invert(
            picture(),
            checkpoint=kept,
            cancel=lambda: len(done) > 1,
            on_phase=lambda n, i, k: done.append(i) if n == "tuning" else None,
            learning_rate=0.2,
            **told,
        )
    again = base.invert(picture(), checkpoint=kept, resume=True, learning_rate=0.05, **told)
    assert any("first 2 steps were tuned with" in note and "0.2" in note for note in again.notes)


def test_a_file_that_was_interrupted_between_two_parts_of_a_step_is_whole(base, tmp_path):
    one = task(base.pipe, "cond", iterations=1)
    progress = tuning.Tuned(trajectory=one.trajectory)

    def stop(i, x):
        if i == 1:
            progress.embeds.append(progress.embeds[-1])
            progress.losses.append(progress.losses[-1])
            raise Cancelled("between")

    with pytest.raises(Cancelled):
        tuning.tune(one, progress=progress, observe=stop)
    tuned_file.save(progress, tmp_path / "t.safetensors", what="this")
    again = tuned_file.load(tmp_path / "t.safetensors", what="this", device="cpu")
    assert len(again.embeds) == 2
    whole = tuning.tune(one)
    assert torch.equal(tuning.tune(one, progress=again).tuned, whole.tuned)
    assert torch.equal(tuning.tune(one, progress=progress).tuned, whole.tuned)


def test_words_may_be_weighed_by_any_number(base, picture, tmp_path):
    import numpy as np

    edit = base.edit(
        picture(), "a red star", method="pti", reweight={"red": np.float32(2), "star": np.int64(1)}, **STEPS
    )
    assert edit.save(tmp_path / "a.png").exists()
    assert edit.recipe.method.parameters["reweight"] == {"red": 2.0, "star": 1}
