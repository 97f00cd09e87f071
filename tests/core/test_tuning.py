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
