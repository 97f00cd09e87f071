"""What saves memory changes no result; and what is said to fit is what the programs really hold."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from PIL import Image

import showtell
from showtell import conditioning, fitting, lessons, loading, memory, models, networks, scenes, tiling
from showtell.errors import ModelError, ShowtellError, UsageError
from showtell.inversion import gradients, visii
from showtell.memory import counting, estimating, shapes, working
from showtell.methods.reconstructions import PromptTuningReconstruction
from showtell.pairs import Pairs
from tests.helpers import tiny

FEW = {"num_inference_steps": 3, "seed": 0}
LEARN = {"steps": 3, "clip_weight": 0.0, "num_tokens": 2, "check_every": 2, "check_timesteps": 2}
SIDE = 96  # of a picture beside which a text is small, as it is beside those of real models
SHIPPED = (loading.starters_dir() / "unet-instruct").is_dir()


def flags(pipe) -> list[tuple[bool, object]]:
    """Of every block, whether it computes again in a backward, and by what."""
    blocks = [module for module in pipe.unet.modules() if "gradient_checkpointing" in vars(module)]
    return [(block.gradient_checkpointing, vars(block).get("_gradient_checkpointing_func")) for block in blocks]


# Gradient checkpointing


@pytest.fixture
def base():
    return showtell.Editor(tiny.pipeline("base"))


def test_checkpointing_learns_the_same(editor, picture) -> None:
    pair = [(picture(seed=1), picture(seed=2))]
    before = flags(editor.pipe)
    plain, less = (editor.learn(pair, gradient_checkpointing=on, **LEARN) for on in (False, True))
    torch.testing.assert_close(less.embeds, plain.embeds, rtol=0, atol=1e-5)
    assert flags(editor.pipe) == before and not any(on for on, _ in before)


@pytest.mark.parametrize("method", ["pti", "nti"])
def test_checkpointing_inverts_the_same(base, picture, method) -> None:
    told = {"method": method, "source": "a house", "num_inference_steps": 4, "inner_steps": 2}
    plain, less = (base.invert(picture(), gradient_checkpointing=on, **told) for on in (False, True))
    assert plain.data.tuned is not None
    torch.testing.assert_close(less.data.tuned, plain.data.tuned, rtol=0, atol=1e-4)
    (many,) = showtell.inverting.invert_many(
        base, [picture()], **told | {"source": ["a house"]}, gradient_checkpointing=True
    )
    torch.testing.assert_close(many.data.tuned, less.data.tuned, rtol=0, atol=1e-4)


def test_checkpointing_edits_and_teaches_the_same(base, picture) -> None:
    told = {"method": "pti", "source": "a house", "num_inference_steps": 3, "seed": 0}
    plain, less = (base.edit(picture(), "a tree", gradient_checkpointing=on, **told) for on in (False, True))
    torch.testing.assert_close(less.latents, plain.latents, rtol=0, atol=1e-4)
    words = (base.learn_token(picture(), "<toy>", steps=2, gradient_checkpointing=on) for on in (False, True))
    one, other = (word.vectors for word in words)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_networks_are_as_they_were_whatever_happens(editor, picture) -> None:
    block = next(module for module in editor.pipe.unet.modules() if "gradient_checkpointing" in vars(module))
    block.gradient_checkpointing = True  # somebody's choice
    before = flags(editor.pipe)
    seen = []

    def stop(i, n, loss):
        seen.append(all(on for on, _ in flags(editor.pipe)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.learn([(picture(), picture(seed=3))], gradient_checkpointing=True, callback=stop, **LEARN)
    assert seen == [True] and flags(editor.pipe) == before


# What is counted is what is held


def counted(editor, *, side: int = SIDE, dtype: torch.dtype = torch.float32) -> working.Work:
    return working.count(_whole(editor), side=side, dtype=dtype)


def lesson(editor, picture) -> visii.Lesson:
    settings = visii.VisualInstructionInversion(**visii.VisualInstructionInversion.PAPER | LEARN)
    shown = Pairs.of([(picture(), picture(seed=1))])
    with gradients.kept(editor.pipe.unet):
        small = lessons.prepare(editor, shown, settings, words="", clip=None, fit="fit")[0]
    after, before = torch.randn(2, 1, 4, SIDE // 4, SIDE // 4)

    def condition(embeds, negative):
        return conditioning.InstructConditioning(
            prompt_embeds=embeds, negative_prompt_embeds=negative, image_latents=before
        )

    return dataclasses.replace(small, shown=[visii.Shown(after=after, condition=condition)])


def test_a_forward_and_the_autoencoder_hold_what_was_counted(editor) -> None:
    pipe, work, rows = editor.pipe, counted(editor), 3
    net = networks.network(pipe)
    x, beside = torch.randn(2, rows, 4, SIDE // 4, SIDE // 4)
    words = torch.randn(rows, 77, tiny.WIDTH)
    with torch.no_grad(), counting.Peak(pipe.unet) as held:
        net(x, torch.tensor(5), words, (beside,))
    assert held.most == pytest.approx(rows * work.forward, rel=0.05)
    with torch.no_grad(), counting.Peak(pipe.vae) as held:
        tiling.decode(pipe.vae, x[:1])
    assert held.most == pytest.approx(work.decoding, rel=0.05)
    with torch.no_grad(), counting.Peak(pipe.vae) as held:
        tiling.encode(pipe.vae, torch.randn(1, 3, SIDE, SIDE))
    assert held.most == pytest.approx(work.encoding, rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_learning_holds_what_was_counted(editor, picture, checkpointing) -> None:
    taught = lesson(editor, picture)
    (way,) = [
        way for way in memory.estimate(_whole(editor), device="cpu", resolution=SIDE).ways
        if way.task == "learn" and way.options == ("gradient_checkpointing=True" if checkpointing else "")
    ]  # fmt: skip
    tokens = taught.tokens.clone().requires_grad_()
    noise = torch.randn_like(taught.shown[0].after)
    peak, checkpointed = counting.Peak(editor.pipe.unet), gradients.checkpointed(editor.pipe, enabled=checkpointing)
    with gradients.kept(editor.pipe.unet), checkpointed, peak as held:
        visii.loss_at(taught, tokens, taught.shown[0], torch.tensor([500]), noise).backward()
    kept = 2 * estimating.TIMESTEPS * 4 * (SIDE // 4) ** 2  # the noises, which are made before
    assert held.most == pytest.approx(way.network[1] - kept, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_tuning_holds_what_was_counted(base, picture, checkpointing) -> None:
    peak = counting.Peak(base.pipe.unet)
    value = PromptTuningReconstruction(start="source", num_inference_steps=3)
    told = {"seed": 0, "resolution": SIDE, "gradient_checkpointing": checkpointing}

    def phase(name: str, i: int, n: int) -> None:
        if (name, i) == ("tuning", 1):
            peak.most = peak.live  # of what comes from now on

    with peak:
        base.edit(picture(SIDE, SIDE), "a house", source="a house", method=value, on_phase=phase, **told)
    ways = memory.estimate(_whole(base), device="cpu", resolution=SIDE).ways
    plain, less = (way for way in ways if way.task.startswith("invert"))
    way = less if checkpointing else plain
    assert less.network[1] < 0.8 * plain.network[1]
    assert peak.most == pytest.approx(max(way.network[1], way.autoencoder[1]), rel=0.15)


def _whole(editor) -> shapes.Shapes:
    pipe = editor.pipe
    parts = {"unet": pipe.unet, "vae": pipe.vae, "text_encoder": pipe.text_encoder}
    return shapes.Shapes(
        unet=dict(pipe.unet.config), vae=dict(pipe.vae.config), text_width=tiny.WIDTH, largest=1000,
        counts={name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
    )  # fmt: skip


def test_an_edit_holds_what_was_counted_whatever_its_steps_and_pictures(editor, picture) -> None:
    def most(pictures: int, steps: int) -> int:
        peak = counting.Peak(editor.pipe.unet, editor.pipe.vae, editor.pipe.text_encoder)
        with peak:
            editor.edit([picture(SIDE, SIDE, i) for i in range(pictures)], ["red"] * pictures, seed=list(range(pictures)),
                        num_inference_steps=steps, batch_size=2, resolution=SIDE)  # fmt: skip
        return peak.most

    way = memory.estimate(_whole(editor), device="cpu", batch_size=2, resolution=SIDE).ways[0]
    held = most(2, 3)
    # Beside an autoencoder of 8 channels a picture's own 3 are not small.
    assert held == pytest.approx(max(way.network[1], way.autoencoder[1]), rel=0.25)
    assert most(6, 3) < 1.1 * held and most(2, 12) < 1.1 * held


def test_half_precision_needs_half_and_tiles_less(editor) -> None:
    whole, half = counted(editor), counted(editor, dtype=torch.bfloat16)
    assert half.forward == pytest.approx(whole.forward / 2, rel=0.1)
    assert whole.decoding_tiled < whole.decoding / 2 and whole.encoding_tiled < whole.encoding / 4


# The table


def test_the_table_counts_the_weights_of_the_model_and_says_what_fits(starters) -> None:
    pipe = loading.load_pipeline("starter", device="cpu").pipe
    found = memory.estimate("starter", resolution=SIDE + 7, batch_size=3, free=10**6)
    assert (found.kind, found.dtype, found.side) == ("instruct", "float32", SIDE)
    assert found.parts["UNet"] == sum(p.numel() for p in pipe.unet.parameters()) * 4
    assert found.parts["text encoder"] == sum(p.numel() for p in pipe.text_encoder.parameters()) * 4
    ways = {(way.task, way.options): way for way in found.ways}
    plain, alone = ways["edit", ""], ways["edit", "sequential=True"]
    assert plain.network[1] == 3 * alone.network[1] and plain.network[0] == sum(found.parts.values())
    assert ways["learn", "gradient_checkpointing=True"].total < ways["learn", ""].total
    offloaded = [way for (_, options), way in ways.items() if "offload" in options]
    assert offloaded and all(way.network[0] < plain.network[0] for way in offloaded if way.task == "edit")
    assert [found.fits(way) for way in found.ways] == [way.needed <= 10**6 for way in found.ways]
    told = json.loads(json.dumps(found.as_dict()))
    assert told["ways"][0]["needed"] == plain.needed and told["weights"] == dict(found.parts)
    assert "should be free" in found.table() and len(found.table().splitlines()) == 3 + len(found.ways)
    here = memory.estimate("starter-base", device="cpu", resolution=SIDE)
    assert here.free and here.kind == "base" and not any("offload" in way.options for way in here.ways)


def test_a_safety_checker_and_a_controlnet_count(tiny_instruct_folder, tmp_path) -> None:
    import shutil

    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    side = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=side, vision_config=side, projection_dim=8))
    folder = shutil.copytree(tiny_instruct_folder, tmp_path / "checked")
    checker.save_pretrained(folder / "safety_checker")
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    numbers = sum(p.numel() for p in checker.parameters())
    assert (
        memory.estimate(str(folder), dtype="bfloat16", device="cpu", resolution=SIDE).parts["safety checker"]
        == 2 * numbers
    )
    tiny.pipeline("control").save_pretrained(tmp_path / "control")
    control = memory.estimate(str(tmp_path / "control"), device="cpu")
    assert (
        control.kind == "control" and control.parts["ControlNet"] > 0 and any(w.task == "learn" for w in control.ways)
    )


def test_what_cannot_be_estimated_is_one_line(starters) -> None:
    with pytest.raises(ModelError, match="no such model"):
        memory.estimate("../nowhere")
    with pytest.raises(ModelError, match="starter-clip is a CLIP"):
        memory.estimate("starter-clip")
    with pytest.raises(ShowtellError, match="resolution"):
        memory.estimate("starter", resolution=5)


# Loading


def test_offloading_without_a_gpu_is_one_line(starters) -> None:
    with pytest.raises(UsageError, match=r"the device is cpu: leave it out$"):
        showtell.load("starter", device="cpu", offload="model")
    with pytest.raises(UsageError, match="choose one of none, model, sequential"):
        showtell.load("starter", device="cpu", offload="everything")


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_edits_the_same(starters, picture, offload) -> None:
    plain = showtell.load("starter", device="cuda").edit(picture(), "make it red", **FEW)
    editor = showtell.load("starter", device="cuda", offload=offload)
    torch.testing.assert_close(editor.edit(picture(), "make it red", **FEW).latents, plain.latents, rtol=0, atol=1e-4)
    assert not any(p.is_cuda for p in editor.pipe.unet.parameters())


@pytest.mark.parametrize("method", ["ip2p", "foi"])
def test_sliced_attention_edits_the_same(starters, picture, method) -> None:
    editors = [showtell.load("starter", device="cpu", attention_slicing=on) for on in (False, True)]
    plain, sliced = (each.edit(picture(), ["make it [red]", "add a [star]"], method=method, **FEW) for each in editors)
    assert {type(p).__name__ for p in editors[1].pipe.unet.attn_processors.values()} == {"SlicedAttnProcessor"}
    torch.testing.assert_close(sliced.latents, plain.latents, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["pti", "p2p"])
def test_sliced_attention_describes_the_same(starters, picture, method) -> None:
    told = {"source": "a house", "num_inference_steps": 3, "seed": 0, "method": method}
    editors = (showtell.load("starter-base", device="cpu", attention_slicing=on) for on in (False, True))
    plain, sliced = (each.edit(picture(), "a tree", **told) for each in editors)
    torch.testing.assert_close(sliced.latents, plain.latents, rtol=0, atol=1e-3)


def test_tiles_are_recorded_and_made_again(starters, picture, tmp_path) -> None:
    editor = showtell.load("starter", device="cpu", vae_tiling=True)
    edit = editor.edit(picture(96, 64), "make it red", resolution=96, **FEW)
    assert edit.recipe.vae_tiling and models.tiled(editor.pipe)
    edit.source.save(tmp_path / "in.png")
    edit = editor.edit(tmp_path / "in.png", "make it red", resolution=96, **FEW)
    edit.save(tmp_path / "out.png")
    again = showtell.replay(tmp_path / "out.png", device="cpu")
    assert again.image.tobytes() == edit.image.tobytes()
    other = showtell.replay(tmp_path / "out.png", editor=showtell.load("starter", device="cpu"))
    assert any("vae_tiling" in note for note in other.notes)


def test_a_small_picture_has_no_tiles(starters, picture) -> None:
    plain, tiled = (
        showtell.load("starter", device="cpu", vae_tiling=on).edit(picture(), "make it red", **FEW)
        for on in (False, True)
    )
    assert torch.equal(plain.latents, tiled.latents) and plain.image.tobytes() == tiled.image.tobytes()


def test_many_pictures_go_through_the_autoencoder_a_few_at_a_time(editor, monkeypatch) -> None:
    pipe, pixels = editor.pipe, torch.rand(5, 3, 32, 32) * 2 - 1
    z = models.encode_image(pipe, pixels)
    together = models.decode(pipe, z)
    monkeypatch.setattr(models, "_AT_ONCE", 2 * 32 * 32)
    assert [models.at_once(32, 32, n) for n in (1, 5)] == [1, 2] and models.at_once(4096, 4096, 3) == 1
    torch.testing.assert_close(models.encode_image(pipe, pixels), z, rtol=0, atol=1e-5)
    torch.testing.assert_close(models.decode(pipe, z), together, rtol=0, atol=1e-5)


@pytest.mark.skipif(not SHIPPED, reason="the starters are not in this checkout")
def test_tiles_leave_no_seams_and_lose_little() -> None:
    pipe = loading.load_pipeline("starter", device="cpu").pipe
    pictures = [scenes.sample(seed=seed).before.resize((160, 96), Image.Resampling.BICUBIC) for seed in (1, 2)]
    pixels = fitting.to_pixels(pictures)
    z = models.encode_image(pipe, pixels)
    plain = models.decode(pipe, models.scaled(pipe, z))
    pipe.vae.enable_tiling()
    z_tiled = models.encode_image(pipe, pixels)
    tiled = models.decode(pipe, models.scaled(pipe, z_tiled))

    def distance(one, other):
        return float((one - other).abs().mean()) / 2

    assert 0 < distance(tiled, plain) < 0.03  # of a range of 1
    assert distance(tiled, pixels) < 1.5 * distance(plain, pixels)  # the autoencoder's own loss is of that size

    def steps(images):  # how much neighbouring columns differ
        return (images[..., 1:] - images[..., :-1]).abs().mean((0, 1, 2)) / 2

    assert (steps(tiled) - steps(plain)).max() < 0.02
    with torch.no_grad():  # what diffusers does by itself
        alone = torch.cat([pipe.vae.decode(one, return_dict=False)[0] for one in z.split(1)])
    assert distance(alone, plain) > 1.5 * distance(models.decode(pipe, models.scaled(pipe, z)), plain)
