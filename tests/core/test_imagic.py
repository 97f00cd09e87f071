"""Imagic: its three stages, and what must stay as it was."""

from __future__ import annotations

import copy

import pytest
import torch

import showtell
from showtell import models, networks
from showtell.errors import Cancelled, MethodError, ModelError, ShowtellError
from showtell.inversion import imagic
from showtell.inversion.denoising import Noising
from showtell.methods import Imagic
from tests.helpers import tiny

TARGET = "make the circle red"
QUICK = {
    "embedding_steps": 3, "model_steps": 3, "model_lr": 1e-3, "num_inference_steps": 2, "timesteps_per_step": 2, "seed": 5,
}  # fmt: skip


@pytest.fixture(params=["epsilon", "v_prediction"])
def base(request):
    return showtell.Editor(tiny.pipeline("base", prediction_type=request.param))


@pytest.fixture
def plain():
    return showtell.Editor(tiny.pipeline("base"))


def edit(editor, picture, **more):
    return editor.edit(picture, TARGET, method="imagic", **{**QUICK, **more})


def weights(pipe):
    parts = ("unet", "text_encoder", "vae")
    return {f"{part}.{k}": v.clone() for part in parts for k, v in getattr(pipe, part).state_dict().items()}


def gap(a, b):
    return float((a.latents - b.latents).abs().max())


def latents(pipe, picture):
    from showtell import fitting

    return models.scaled(pipe, models.encode_image(pipe, fitting.to_pixels([picture])))


def told(pipe):
    from showtell import instruction

    return instruction.assemble(pipe, [instruction.Words(text=TARGET)])[0][None]


@pytest.mark.filterwarnings("error")
def test_the_pipeline_stays_bit_identical_and_the_copy_is_what_draws(base, picture):
    before, wants = weights(base.pipe), [p.requires_grad for p in base.pipe.unet.parameters()]
    assert all(wants)
    tuned = edit(base, picture())
    after = weights(base.pipe)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None and p.requires_grad for p in base.pipe.unet.parameters())
    assert tuned.latents.isfinite().all()
    assert gap(tuned, edit(base, picture(), model_steps=0)) > 1e-3
    assert gap(tuned, edit(base, picture(), embedding_steps=0)) > 1e-5


def test_without_either_tuning_it_is_the_model_asked_for_the_words(base, picture):
    """The embedding stays the target's, whatever alpha; then this is stock text-to-image from the same noise."""
    asked = edit(
        base, picture(), embedding_steps=0, model_steps=0, alpha=0.3, guidance_scale=4.0, num_inference_steps=3
    )
    stock = base.pipe(
        TARGET, num_inference_steps=3, guidance_scale=4.0, generator=torch.Generator().manual_seed(5), output_type="latent",
        height=32, width=32,
    ).images  # fmt: skip
    assert (asked.latents - stock[0]).abs().max() < 1e-4


def test_steps_are_those_of_the_paper(base, picture):
    """Written out: Adam on the embedding, then Adam on the network under it, both on the training loss."""
    pipe, z, target = base.pipe, latents(base.pipe, picture()), told(base.pipe)
    noising = Noising.of(pipe, device="cpu")
    seen = []
    draws = {"timesteps_per_step": 2, "generator": torch.Generator().manual_seed(7)}
    ours = imagic.tune_embedding(
        networks.network(pipe),
        noising,
        z,
        target,
        steps=4,
        learning_rate=1e-2,
        observe=lambda i, x: seen.append(i),
        **draws,
    )
    unet = imagic.copied(pipe.unet, "it")
    imagic.fine_tune(unet, noising, z, ours, steps=3, learning_rate=1e-3, observe=lambda i, x: seen.append(i), **draws)
    assert seen == [0, 1, 2, 3, 0, 1, 2]

    generator, alphas = torch.Generator().manual_seed(7), pipe.scheduler.alphas_cumprod

    def loss(network, e):
        t = torch.randint(1000, (2,), generator=generator)
        noise = torch.randn((2, *z.shape[1:]), generator=generator)
        a = alphas[t].view(-1, 1, 1, 1)
        out = network((a.sqrt() * z + (1 - a).sqrt() * noise), t, encoder_hidden_states=e.expand(2, -1, -1)).sample
        wanted = noise if pipe.scheduler.config.prediction_type == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * z
        return (out - wanted).square().mean()

    e = target.clone().requires_grad_()
    optimiser = torch.optim.Adam([e], lr=1e-2)
    for _ in range(4):
        optimiser.zero_grad()
        loss(pipe.unet, e).backward()
        optimiser.step()
    assert (ours - e).abs().max() < 1e-4 < (ours - target).abs().max()
    theirs = copy.deepcopy(pipe.unet)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        loss(theirs, e.detach()).backward()
        optimiser.step()
    # Adam turns gradients of nothing but rounding into whole steps, so the networks are compared by what they say.
    x, t = torch.randn(1, 4, 8, 8, generator=generator), torch.tensor([500])
    with torch.no_grad():
        a, b, untuned = (net(x, t, encoder_hidden_states=ours).sample for net in (unet, theirs, pipe.unet))
    assert (a - b).abs().max() < 1e-3 < (a - untuned).abs().max()


def test_both_tunings_lower_the_loss(base, picture):
    pipe, z, target = base.pipe, latents(base.pipe, picture()), told(base.pipe)
    noising = Noising.of(pipe, device="cpu")

    def judged(network, e):
        fixed = noising.draw((64, *z.shape[1:]), torch.Generator().manual_seed(1))
        with torch.no_grad():
            return float(noising.loss(network, z, e, *fixed))

    draws = {"timesteps_per_step": 4, "generator": torch.Generator().manual_seed(0), "observe": lambda i, x: None}
    network = networks.network(pipe)
    tuned = imagic.tune_embedding(network, noising, z, target, steps=30, learning_rate=3e-2, **draws)
    assert judged(network, tuned) < judged(network, target)
    unet = imagic.copied(pipe.unet, "it")
    imagic.fine_tune(unet, noising, z, tuned, steps=30, learning_rate=1e-3, **draws)
    assert judged(networks.Network(unet=unet), tuned) < judged(network, tuned)


def test_alpha_goes_from_what_was_tuned_to_the_words(plain, picture):
    common = {"model_steps": 0, "embedding_lr": 0.5}
    words = edit(plain, picture(), **{**common, "embedding_steps": 0})
    assert gap(edit(plain, picture(), alpha=1.0, **common), words) < 1e-5
    gaps = [gap(edit(plain, picture(), alpha=alpha, **common), words) for alpha in (0.9, 0.5, 0.0)]
    assert gaps == sorted(gaps) and gaps[0] > 1e-4


def test_the_seed_decides_all_and_a_list_is_its_single_edits(plain, picture):
    pictures = [picture(seed=1), picture(seed=2)]
    both = plain.edit(pictures, [TARGET, "a blue star"], method="imagic", **{**QUICK, "seed": [3, 4]})
    alone = plain.edit(pictures[1], "a blue star", method="imagic", **{**QUICK, "seed": 4})
    assert torch.equal(both[1].latents, alone.latents)
    # Also where only the tuning could differ: no noise is drawn anew between the two.
    again = plain.edit(
        pictures[1], "a blue star", method="imagic", generator=torch.Generator().manual_seed(4),
        **{k: v for k, v in QUICK.items() if k != "seed"},
    )  # fmt: skip
    assert torch.equal(again.latents, alone.latents)
    assert gap(alone, plain.edit(pictures[1], "a blue star", method="imagic", **{**QUICK, "seed": 5})) > 1e-3


def test_it_works_in_the_callers_inference_mode(plain, picture):
    expected = edit(plain, picture())
    with torch.inference_mode():
        assert torch.equal(edit(plain, picture()).latents, expected.latents)


def test_half_precision_tunes_in_float32(plain, picture):
    plain.pipe.to(torch.bfloat16)
    kept = weights(plain.pipe)
    done = edit(plain, picture())
    assert done.latents.isfinite().all() and done.latents.dtype == torch.float32
    assert gap(done, edit(plain, picture(), model_steps=0)) > 1e-3
    assert all(torch.equal(kept[name], value) for name, value in weights(plain.pipe).items())
    copied = imagic.copied(plain.pipe.unet, "it")
    assert all(p.dtype == torch.float32 for p in copied.parameters())


def test_outside_the_mask_the_picture_stays(plain, picture):
    import numpy as np

    mask = np.zeros((32, 32), dtype=bool)
    mask[:, 16:] = True
    done = edit(plain, picture(), mask=mask)
    kept, was = np.asarray(done.image), np.asarray(picture())
    assert np.array_equal(kept[:, :16], was[:, :16]) and not np.array_equal(kept[:, 16:], was[:, 16:])
    assert (done.latents[:, :, :4] - latents(plain.pipe, picture())[0, :, :, :4]).abs().max() < 1e-5


def test_progress_is_told_and_it_can_be_stopped_in_either_tuning(plain, picture):
    heard = []
    edit(plain, picture(), on_phase=lambda name, i, n: heard.append((name, i, n)))
    assert heard == [(name, i, 3) for name in ("tuning the embedding", "fine-tuning the model") for i in (1, 2, 3)]
    for at, name in ((2, "tuning the embedding"), (5, "fine-tuning the model")):
        asked = []
        with pytest.raises(Cancelled, match=name):
            edit(plain, picture(), cancel=lambda asked=asked, at=at: asked.append(1) or len(asked) == at)
        assert all(p.requires_grad for p in plain.pipe.unet.parameters())


def test_a_break_says_at_which_step(plain, picture):
    with pytest.raises(ShowtellError, match=r"fine-tuning the model broke at step \d+ of 9.*model_lr") as caught:
        edit(plain, picture(), model_lr=1e3, model_steps=9)
    assert "\n" not in str(caught.value)
    with torch.no_grad():
        plain.pipe.unet.conv_out.bias.fill_(float("inf"))
    with pytest.raises(ShowtellError, match="tuning the embedding broke at step 1 of 3"):
        edit(plain, picture())


def test_what_it_records_is_what_was_settled(plain, picture):
    done = edit(plain, picture())
    assert done.recipe.method.name == "imagic"
    told, origin = done.recipe.method.parameters, done.recipe.method.origin
    assert (told["embedding_steps"], origin["embedding_steps"]) == (3, "given")
    assert (told["alpha"], origin["alpha"]) == (1.2, "paper") and told["guidance_scale"] == 7.5


def test_a_source_is_not_used_and_that_is_said(plain, picture):
    with pytest.warns(showtell.errors.ShowtellWarning, match="source was not used"):
        done = edit(plain, picture(), source="a red star")
    assert torch.equal(done.latents, edit(plain, picture()).latents)


@pytest.mark.parametrize(
    "name, value",
    [
        ("embedding_steps", -1), ("embedding_steps", 1.5), ("model_steps", True), ("timesteps_per_step", 0),
        ("embedding_lr", -1e-3), ("model_lr", float("nan")), ("alpha", -0.1), ("alpha", 11), ("guidance_scale", -1),
        ("num_inference_steps", 0), ("model_lr", "fast"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(MethodError, match=f"^{name}="):
        Imagic(**{name: value})


def test_an_instruct_model_is_refused(editor, picture):
    with pytest.raises(ModelError, match="needs a base model"):
        edit(editor, picture())


def test_an_offloaded_model_is_refused(plain, picture):
    from accelerate import cpu_offload

    cpu_offload(plain.pipe.unet, execution_device="cpu")
    with pytest.raises(ModelError, match="is offloaded, and Imagic fine-tunes a copy"):
        edit(plain, picture())
