"""The loss against InstructPix2Pix's, written out; what does not change it; what the network and its average are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from showtell import loading, models
from showtell.training.instruct import configuring, draws, latents, loss, network, rows, stepping
from showtell.training.instruct.buckets import Order
from tests.training import making


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return making.pairs(tmp_path_factory.mktemp("loss") / "pairs", 6, sizes=((32, 32), (48, 24)))


def material(pairs, pipe, cache=None, **sections) -> stepping.Material:
    config = configuring.configure(making.told(pairs, **sections))
    found = rows.gather(
        config, pipe, rows.read(config), resolution=models.resolution(pipe), multiple=models.size_multiple(pipe)
    )
    alphas, kind = loss.schedule_of(pipe)
    order = Order(bucket=tuple(one.frame for one in found.train), batch_size=config.train.batch_size, seed=config.seed)
    words = latents.Words(pipe, found.train, tick=lambda done, total: None)
    return stepping.Material(
        config=config,
        pipe=pipe,
        examples=found,
        order=order,
        words=words,
        cache=cache,
        alphas=alphas,
        prediction_type=kind,
    )


def written_out(made: stepping.Material, pipe, example: rows.Example, draw: draws.Draw) -> float:
    """One sample, as the paper and its training code have it."""
    from diffusers import DDPMScheduler

    width, height = made.examples.frames[example.frame]
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)

    def latent(image: Image.Image):
        scale = max(width / image.width, height / image.height)
        large = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        left, top = (large.width - width) // 2, (large.height - height) // 2
        array = np.asarray(large.crop((left, top, left + width, top + height)), np.float32)
        return pipe.vae.encode(torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1)[None]).latent_dist

    after = latent(example.after())
    z = (after.mean + after.std * draw.posterior) * pipe.vae.config.scaling_factor
    image = latent(example.before()).mode() if draw.image else torch.zeros_like(z)
    prompt = example.words if draw.text else ""
    ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    context = pipe.text_encoder(ids)[0]
    t = torch.tensor([int(1000 * draw.level)])
    noise = draw.noise[None]
    targets = {"epsilon": noise, "v_prediction": scheduler.get_velocity(z, noise, t), "sample": z}
    said = pipe.unet(torch.cat([scheduler.add_noise(z, noise, t), image], dim=1), t, context).sample
    return float((said - targets[scheduler.config.prediction_type]).square().mean())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@torch.no_grad()
def test_the_loss_is_the_papers_written_out(pairs, kind: str) -> None:
    from tests.helpers import tiny

    pipe = tiny.pipeline("instruct", prediction_type=kind)
    pipe.text_encoder.eval()
    made = material(pairs, pipe, train={"drop_text": 0.3, "drop_image": 0.3, "batch_size": 3})
    dropped = set()
    for step in range(4):
        batch = made.read(stepping.chunks(made.config, step)[0])
        expected = [
            written_out(made, pipe, made.examples.train[row], draw)
            for row, draw in zip(batch.rows, batch.drawn, strict=True)
        ]
        assert made.losses(pipe.unet, batch).tolist() == pytest.approx(expected, rel=2e-3)
        dropped |= {(draw.text, draw.image) for draw in batch.drawn}
    assert {(True, True), (False, True), (True, False)} <= dropped


def test_min_snr_weights() -> None:
    alpha_bar = torch.tensor([0.999, 0.5, 0.0])
    snr = [999.0, 1.0, 0.0]
    assert loss.weight(alpha_bar, "epsilon", 5.0).tolist() == pytest.approx([5 / 999, 1, 1], rel=1e-3)
    v = [min(s, 5) / (s + 1) for s in snr]
    assert loss.weight(alpha_bar, "v_prediction", 5.0).tolist() == pytest.approx(v, rel=1e-3)
    assert loss.weight(alpha_bar, "sample", 5.0).tolist() == pytest.approx([5, 1, 0], rel=1e-3)
    assert loss.weight(alpha_bar, "epsilon", None).tolist() == [1, 1, 1]


def test_noise_levels_cover_the_schedule_and_an_exponent_below_one_prefers_the_high_ones() -> None:
    u = torch.linspace(0, 1, 2001)
    assert sorted(set(loss.levels(u, 1000, 1.0).tolist())) == list(range(1000))
    assert loss.levels(u, 1000, 0.5).float().mean() == pytest.approx(666, abs=2)


@torch.no_grad()
def test_kept_latents_are_the_encoded_ones(pairs, tmp_path, starters, monkeypatch) -> None:
    pipe = network.load(configuring.configure({"model": "starter"}), device="cpu").pipe
    plain = material(pairs, pipe, data={"flip": True})
    cache = latents.Cache(tmp_path, pipe, plain.examples, flip=True, half=False)
    with monkeypatch.context() as patch:
        patch.setattr(latents, "ENCODED_PIXELS", 3 * 32 * 32)  # three pictures at a time
        for rank in (1, 0):  # the work of two processes
            cache.fill(pipe, rank=rank, world=2, tick=lambda done, total: None)
    kept = material(pairs, pipe, cache=cache, data={"flip": True})
    flips = set()
    for step in range(3):
        chunk = stepping.chunks(plain.config, step)[0]
        a, b = plain.read(chunk), kept.read(chunk)
        assert torch.allclose(plain.losses(pipe.unet, a), kept.losses(pipe.unet, b), atol=1e-5)
        flips |= {draw.flip for draw in a.drawn}
    assert flips == {True, False}
    files = sorted(cache.folder.iterdir())
    files[0].unlink()
    stamps = [path.stat().st_mtime_ns for path in files[1:]]
    cache.fill(pipe, rank=0, world=1, tick=lambda done, total: None)
    assert sorted(cache.folder.iterdir()) == files and [path.stat().st_mtime_ns for path in files[1:]] == stamps
    other = latents.Cache(
        tmp_path,
        loading.load_pipeline("starter", device="cpu", dtype="float16").pipe,
        plain.examples,
        flip=True,
        half=False,
    )
    with torch.random.fork_rng():
        next(pipe.vae.parameters()).mul_(1.5)
    assert latents.Cache(tmp_path, pipe, plain.examples, flip=True, half=False).folder != cache.folder != other.folder


def test_words_of_many_texts_are_encoded_as_they_come(pairs, starters, monkeypatch) -> None:
    pipe = network.load(configuring.configure({"model": "starter"}), device="cpu").pipe
    made = material(pairs, pipe)
    monkeypatch.setattr(latents, "_MOST_WORDS", 0)
    fresh = latents.Words(pipe, made.examples.train, tick=lambda done, total: None)
    assert made.words.place and not fresh.place
    keep = [True, False, True]
    assert torch.allclose(
        made.words.of(made.examples.train[:3], keep), fresh.of(made.examples.train[:3], keep), atol=1e-6
    )
    assert torch.equal(fresh.of(made.examples.train[:3], keep)[1], fresh.none[0])


def test_a_text_to_image_network_is_widened_and_begins_by_computing_what_it_did(starters) -> None:
    base = loading.load_pipeline("starter-base", device="cpu").pipe.unet
    found = network.load(configuring.configure({"model": "starter-base"}), device="cpu")
    assert found.widened and models.kind(found.pipe) == "instruct"
    x, c, t = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 16), torch.tensor([3, 900])
    with torch.no_grad():
        said = found.pipe.unet(torch.cat((x, torch.randn(2, 4, 8, 8)), 1), t, c).sample
        assert torch.allclose(said, base(x, t, c).sample, atol=1e-6)
    assert set(found.learned) == {name for name, _ in found.pipe.unet.named_parameters()}
    frozen = [*found.pipe.vae.parameters(), *found.pipe.text_encoder.parameters()]
    assert not any(parameter.requires_grad for parameter in frozen)


def test_the_average_follows_its_rule_and_lends_its_weights(starters) -> None:
    found = network.load(configuring.configure({"model": "starter"}), device="cpu")
    name, parameter = next(iter(found.learned.items()))
    average = network.Average(found.learned, 0.9)
    start = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(1)
    average.update(0)
    assert torch.allclose(average.state()[name], start + 1 - 0.1, atol=1e-6)  # decay (1 + 0)/(10 + 0)
    with average.inside(found.pipe.unet):
        assert torch.equal(parameter, average.state()[name]) and not found.pipe.unet.training
    assert torch.allclose(parameter, start + 1) and found.pipe.unet.training
