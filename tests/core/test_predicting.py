"""What each guidance branch predicts, against diffusers' own schedulers and the rules written out."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import showtell
from showtell import fitting, loading, models, predicting
from showtell.errors import ImageError, MethodError, ModelError, ShowtellError, ShowtellWarning, TextError
from tests.helpers import looks, tiny

WORDS = "make the circle red"
INSTRUCT = ["full", "image", "text", "none", "guided"]
TYPES = ["epsilon", "v_prediction", "sample"]
SCHEDULERS = ["DDIMScheduler", "DDPMScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler"]


@pytest.fixture
def decoded(monkeypatch):
    """The latents that were decoded: of the noised picture, of every branch, of the guidance."""
    seen, decode = [], models.decode
    monkeypatch.setattr(models, "decode", lambda pipe, latents: seen.append(latents) or decode(pipe, latents))
    return seen


def embedded(pipe, words):
    ids = pipe.tokenizer(words, padding="max_length", max_length=77, return_tensors="pt").input_ids
    return pipe.text_encoder(ids)[0]


class Reference:
    """What diffusers makes of a picture at strength 0.5 of 10 steps, seed 3: x_0 by each branch, and eps."""

    @torch.no_grad()
    def __init__(self, pipe, image, name="DDIMScheduler"):
        self.pipe, self.words, self.none = pipe, embedded(pipe, WORDS), embedded(pipe, "")
        self.pixels = fitting.to_pixels([image])
        self.c_I = pipe.vae.encode(self.pixels).latent_dist.mode()
        self.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
        self.scheduler.set_timesteps(10)
        self.t = self.scheduler.timesteps[5]
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        self.x = self.scheduler.add_noise(self.c_I * pipe.vae.config.scaling_factor, noise, self.t.reshape(1))
        self.scaled = self.scheduler.scale_model_input(self.x, self.t)

    @torch.no_grad()
    def x_0(self, embeds, *channels, **residuals):
        told = torch.cat([self.scaled, *channels], dim=1)
        output = self.pipe.unet(told, self.t, encoder_hidden_states=embeds, **residuals).sample
        self.scheduler._step_index = None
        return self.scheduler.step(output, self.t, self.x).pred_original_sample

    def eps(self, x_0):
        """At the noise level of a scheduler that keeps the variance."""
        alpha_bar = self.scheduler.alphas_cumprod[int(self.t)]
        return (self.x - alpha_bar**0.5 * x_0) / (1 - alpha_bar) ** 0.5


OPTIONS = {"strength": 0.5, "num_inference_steps": 10, "seed": 3}


def close(a, b, atol=1e-5):
    assert torch.allclose(a, b, atol=atol, rtol=1e-5), (a - b).abs().max()


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_branch_is_what_the_scheduler_takes_for_the_clean_latents(name, prediction_type, picture, decoded):
    if (name, prediction_type) == ("EulerAncestralDiscreteScheduler", "sample"):
        pytest.skip("diffusers' own does not know the sample type")
    pipe = tiny.pipeline("instruct", prediction_type=prediction_type)
    expected = Reference(pipe, picture(), name)
    found = predicting.predict(showtell.Editor(pipe), picture(), WORDS, scheduler=name, **OPTIONS)
    assert [each.name for each in found.predictions] == INSTRUCT and len(decoded) == 6
    close(decoded[0], expected.scaled)
    nothing = torch.zeros_like(expected.c_I)
    told = [(expected.words, expected.c_I), (expected.none, expected.c_I), (expected.words, nothing)]
    for latents, (embeds, channels) in zip(decoded[1:], [*told, (expected.none, nothing)], strict=False):
        close(latents, expected.x_0(embeds, channels), 2e-5)


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("scales", [(7.5, 1.5), (1.0, 1.0), (2.0, 2.0), (3.0, 0.5)])
def test_the_guided_one_is_the_rule_over_the_branches_noise(scales, prediction_type, picture, decoded):
    pipe = tiny.pipeline("instruct", prediction_type=prediction_type)
    s_T, s_I = scales
    told = {"guidance_scale": s_T, "image_guidance_scale": s_I, "scheduler": "ddim"}
    found = predicting.predict(showtell.Editor(pipe), picture(), WORDS, **told, **OPTIONS)
    assert [each.name for each in found.predictions] == INSTRUCT  # also those that the rule leaves out
    assert (found.guidance_scale, found.image_guidance_scale) == scales
    full, image, _, none, guided = map(Reference(pipe, picture()).eps, decoded[1:])
    close(guided, none + s_I * (image - none) + s_T * (full - image))


def test_it_says_what_each_was_told(editor, picture):
    found = predicting.predict(editor, picture(), WORDS)
    assert [each.told for each in found.predictions] == [
        "picture and words", "picture alone", "words alone", "nothing", "full, image and none, guided"
    ]  # fmt: skip
    assert (found.strength, found.seed, found.instructions, found.notes) == (0.8, 0, (WORDS,), [])
    assert (found.guidance_scale, found.image_guidance_scale) == (7.5, 1.5)
    alone = predicting.predict(editor, picture(), WORDS, guidance_scale=1, image_guidance_scale=1)
    assert alone.predictions[-1].told == "full, guided"
    assert np.array_equal(alone.predictions[-1].image, alone.predictions[0].image)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_a_base_model_has_two(prediction_type, picture, decoded):
    pipe = tiny.pipeline("base", prediction_type=prediction_type)
    expected = Reference(pipe, picture())
    found = predicting.predict(showtell.Editor(pipe), picture(), WORDS, guidance_scale=4, **OPTIONS)
    assert [(each.name, each.told) for each in found.predictions] == [
        ("cond", "the words"), ("uncond", "no words"), ("guided", "cond and uncond, guided")
    ]  # fmt: skip
    assert (found.guidance_scale, found.image_guidance_scale) == (4, None)
    noised, cond, uncond, guided = decoded
    close(noised, expected.x)
    close(cond, expected.x_0(expected.words))
    close(uncond, expected.x_0(expected.none))
    cond, uncond, guided = map(expected.eps, (cond, uncond, guided))
    close(guided, uncond + 4 * (cond - uncond))
    assert found.sheet().width > 800


def test_a_controlnet_is_asked_where_there_is_a_picture(picture, decoded):
    pipe = tiny.pipeline("control")
    expected = Reference(pipe, picture())
    found = predicting.predict(showtell.Editor(pipe), picture(), WORDS, scheduler="ddim", **OPTIONS)
    assert [each.name for each in found.predictions] == INSTRUCT
    assert (found.image_guidance_scale, found.predictions[-1].told) == (1, "full and image, guided")
    _, full, image, text, none, guided = decoded
    close(text, expected.x_0(expected.words))
    close(none, expected.x_0(expected.none))
    for latents, embeds in ((full, expected.words), (image, expected.none)):
        with torch.no_grad():
            down, middle = pipe.controlnet(
                expected.x, expected.t, embeds, expected.pixels / 2 + 0.5, return_dict=False
            )  # fmt: skip
        told = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        close(latents, expected.x_0(embeds, **told))
    full, image, guided = map(expected.eps, (full, image, guided))
    close(guided, image + 7.5 * (full - image))


def test_the_seed_says_all(editor, picture):
    def shown(**options):
        found = predicting.predict(editor, picture(), WORDS, **options)
        return [np.asarray(each) for each in (found.noised, *(each.image for each in found.predictions))]

    once, again, other = shown(seed=5), shown(seed=5), shown(seed=6)
    assert all(map(np.array_equal, once, again))
    assert not any(map(np.array_equal, once, other))
    assert not np.array_equal(once[0], shown(seed=5, strength=0.3)[0])


@pytest.mark.parametrize("size", [(40, 32), (17, 50), (200, 9)])
@pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")
def test_every_picture_has_the_pictures_own_size(size, editor, picture):
    found = predicting.predict(editor, picture(*size), WORDS)
    shown = [found.picture, found.noised, *(each.image for each in found.predictions)]
    assert {each.size for each in shown} == {size} and {each.mode for each in shown} == {"RGB"}
    assert found.sheet().width > 1000


def test_several_instructions_and_learned_ones_are_joined(editor, picture, decoded):
    predicting.predict(editor, picture(), ["make the [circle] red", "add a star"], **OPTIONS)
    predicting.predict(editor, picture(), "make the circle red, add a star", **OPTIONS)
    assert all(map(torch.equal, decoded[:6], decoded[6:]))
    look = looks.made(editor.pipe, tokens=4)
    found = predicting.predict(editor, picture(), learned=look, **OPTIONS)
    assert found.instructions == ("<night>",) and found.sheet().width > 1000


def test_less_noise_is_nearer_to_the_picture(editor, picture, decoded):
    for strength in (0.05, 0.5, 1):
        predicting.predict(editor, picture(), WORDS, strength=strength, num_inference_steps=100)
    z = models.scaled(editor.pipe, models.encode_image(editor.pipe, fitting.to_pixels([picture()])))
    less, more, most = ((x - z).square().mean() for x in decoded[::6])
    assert less < 0.1 < more < most and torch.nn.functional.mse_loss(decoded[-6], torch.zeros_like(z)) > 0.5


@pytest.mark.parametrize("kind", ["instruct", "base", "control"])
def test_nothing_is_left_behind(kind, picture, monkeypatch):
    pipe, freed = tiny.pipeline(kind), []
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(True))
    before = dict(pipe.unet.attn_processors), models.weights_hash(pipe), pipe.scheduler, dict(pipe.scheduler.config)
    editor, state = showtell.Editor(pipe), torch.get_rng_state()
    predicting.predict(editor, picture(), WORDS)
    assert before == (pipe.unet.attn_processors, models.weights_hash(pipe), pipe.scheduler, dict(pipe.scheduler.config))
    assert pipe.scheduler.num_inference_steps is None and torch.equal(state, torch.get_rng_state())
    monkeypatch.setattr(pipe.unet, "forward", lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(ShowtellError, match="out of memory: use dtype float16"):
        predicting.predict(editor, picture(), WORDS)
    assert len(freed) == 2


def test_the_schedulers_choice_follows_the_editors_rules(editor, picture, decoded):
    predicting.predict(editor, picture(), WORDS)  # the scheduler that was put into the pipeline
    predicting.predict(editor, picture(), WORDS, scheduler=editor.pipe.scheduler)
    assert all(map(torch.equal, decoded[:6], decoded[6:]))
    editor.card = {"defaults": {"ip2p": {"guidance_scale": 3.0, "image_guidance_scale": 1.25}}}
    found = predicting.predict(editor, picture(), WORDS, guidance_scale=2)
    assert (found.guidance_scale, found.image_guidance_scale) == (2, 1.25)


WRONG = {
    "strength=0 is out of range": (WORDS, {"strength": 0}, MethodError),
    "strength=1.1 is out of range": (WORDS, {"strength": 1.1}, MethodError),
    "strength=nan is out of range": (WORDS, {"strength": float("nan")}, MethodError),
    "strength=half is out of range": (WORDS, {"strength": "half"}, MethodError),
    "strength=0.1 of 5 steps is none": (WORDS, {"strength": 0.1, "num_inference_steps": 5}, MethodError),
    "'gamma' is not a hyper-parameter of method 'ip2p'": (WORDS, {"gamma": 2}, MethodError),
    "guidance_scale=0.5 is out of range": (WORDS, {"guidance_scale": 0.5}, MethodError),
    "scheduler 'nonsense' is not known": (WORDS, {"scheduler": "nonsense"}, MethodError),
    "scheduler EDMEulerScheduler reads predictions in": (WORDS, {"scheduler": "EDMEuler", "strength": 1}, MethodError),
    "seed=-1 is out of range": (WORDS, {"seed": -1}, MethodError),
    "the instruction is missing": (None, {}, TextError),
    "the instruction is empty": (" ", {}, TextError),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said_in_one_line(said, editor, picture):
    words, options, error = WRONG[said]
    with pytest.raises(error, match=said) as caught:
        predicting.predict(editor, picture(), words, **options)
    assert "\n" not in str(caught.value)


def test_pictures_and_models_that_do_not_do(editor, picture):
    with pytest.raises(MethodError, match="one picture is looked at at a time"):
        predicting.predict(editor, [picture()], [WORDS])
    with pytest.raises(ImageError):
        predicting.predict(editor, "none.png", WORDS)
    inpainting = showtell.Editor(tiny.pipeline("inpaint"), model_id="mine")
    with pytest.raises(ModelError, match="mine is an inpainting model, .* use an instruct or a base model"):
        predicting.predict(inpainting, picture(), WORDS)


def test_behind_pure_noise_there_is_no_picture(editor, picture):
    scheduler = tiny.scheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(MethodError, match="begins in pure noise, .*: strength < 1"):
        predicting.predict(editor, picture(), WORDS, strength=1, scheduler=scheduler)
    predicting.predict(editor, picture(), WORDS, strength=0.9, scheduler=scheduler)


def test_what_is_not_finite_is_no_picture(editor, picture):
    torch.nn.init.constant_(editor.pipe.unet.conv_out.bias, float("inf"))
    with pytest.raises(ShowtellError, match="not finite"):
        predicting.predict(editor, picture(), WORDS)


def test_a_safety_checker_is_heard(editor, picture, monkeypatch):
    monkeypatch.setattr(models, "flagged", lambda pipe, pixels: [True])
    with pytest.warns(ShowtellWarning, match="blacked out"):
        found = predicting.predict(editor, picture(), WORDS)
    assert len(found.notes) == 1 and not np.asarray(found.predictions[0].image).any()


def test_transparency_and_grey_are_taken_for_what_they_show(editor):
    for mode in ("RGBA", "L"):
        found = predicting.predict(editor, Image.new(mode, (32, 32)), WORDS)
        assert found.picture.mode == found.predictions[0].image.mode == "RGB"


@pytest.mark.skipif(not loading.starters_dir().is_dir(), reason="the starter models are not here")
def test_on_the_starter_only_what_was_told_the_words_follows_them():
    """What was told picture and words is nearest to the edited scene, what was told the picture alone to the scene itself."""
    editor, hits = showtell.load("starter", device="cpu"), 0
    for seed in range(5):
        case = showtell.scenes.sample(seed, actions=["remove"])
        found = predicting.predict(editor, case.before, case.instructions[0], seed=seed)
        full, image = (np.asarray(each.image, float)[case.masks[0]] for each in found.predictions[:2])
        before, after = (np.asarray(each, float)[case.masks[0]] for each in (case.before, case.after))
        nearer = np.abs(full - after).mean() < np.abs(image - after).mean()
        hits += bool(nearer and np.abs(image - before).mean() < np.abs(full - before).mean())
    assert hits >= 4
