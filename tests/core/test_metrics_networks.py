"""CLIP, DINO, PickScore and LPIPS as measures: tiny random networks from local folders, against what they are by definition."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from showtell import metrics, scenes
from showtell.errors import ModelError, UsageError
from tests.helpers import tiny

TEXTS = ["make the circle red", "add a blue star"]
PROCESSOR = {
    "do_resize": True, "size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32},
    "do_rescale": True, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
    "do_convert_rgb": True, "resample": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of a tiny CLIP, ViT and DINOv2, as the hub would have them."""
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    root = tmp_path_factory.mktemp("networks")
    state = torch.get_rng_state()
    torch.manual_seed(3)
    words = tiny.tokenizer()
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
    vit = ViTModel(ViTConfig(**small, intermediate_size=24), add_pooling_layer=False)
    models = {
        "clip": (tiny.clip(len(words), bos=words.bos_token_id, eos=words.eos_token_id), "CLIPImageProcessor"),
        "vit": (vit, "ViTImageProcessor"),
        "dinov2": (Dinov2Model(Dinov2Config(**small)), "BitImageProcessor"),
    }
    torch.set_rng_state(state)
    for name, (model, processor) in models.items():
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        model.save_pretrained(root / name)
        told = {**PROCESSOR, "image_processor_type": processor}
        if name == "vit":
            told |= {"size": {"height": 32, "width": 32}, "do_center_crop": False}
        (root / name / "preprocessor_config.json").write_text(json.dumps(told))
    words.save_pretrained(root / "clip")
    return root


@pytest.fixture(scope="module")
def clip(folders):
    return metrics.load_clip(folders / "clip")


@pytest.fixture
def pictures(picture):
    """Four pictures of one size."""
    return [picture(40, 48, seed=i) for i in range(4)]


def cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = x.double().numpy(), y.double().numpy()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def tensor(pictures) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.asarray(p).copy()).permute(2, 0, 1).float() / 255 for p in pictures])


def prepared(picture, mean, deviation, *, shorter: int, crop: int) -> torch.Tensor:
    """A picture by hand: shorter side scaled, the middle cut out, normalised; (1, 3, crop, crop)."""
    scale = shorter / min(picture.size)
    width, height = (int(side * scale) for side in picture.size)
    values = np.asarray(picture.resize((width, height), 3), dtype=np.float64) / 255
    top, left = (height - crop) // 2, (width - crop) // 2
    values = (values[top : top + crop, left : left + crop] - np.array(mean)) / np.array(deviation)
    return torch.from_numpy(values).permute(2, 0, 1)[None].float()


def test_clips_measures_are_cosines_of_its_features(clip, pictures):
    a, b, c, d = pictures

    def seen(one):
        pixels = prepared(one, PROCESSOR["image_mean"], PROCESSOR["image_std"], shorter=32, crop=32)
        return clip.model.get_image_features(pixel_values=pixels).pooler_output[0].detach()

    def read(text):
        ids = clip.tokenizer(text, return_tensors="pt").input_ids
        return clip.model.get_text_features(input_ids=ids).pooler_output[0].detach()

    def unit(x):
        return x / x.norm()

    fa, fb, fc, fd = (seen(one) for one in pictures)
    before, after = (read(text) for text in TEXTS)
    found = {
        "image": metrics.clip_image(clip, a, b),
        "directional": metrics.clip_directional(clip, a, b, *TEXTS),
        "of unit length": metrics.clip_directional(clip, a, b, *TEXTS, unit=True),
        "text": metrics.clip_text(clip, a, TEXTS[0]),
        "visual": metrics.clip_visual(clip, a, b, c, d),
    }
    wanted = {
        "image": cosine(fa, fb),
        "directional": cosine(fb - fa, after - before),
        "of unit length": cosine(unit(fb) - unit(fa), unit(after) - unit(before)),
        "text": cosine(fa, before),
        "visual": cosine(fb - fa, fd - fc),
    }
    for name, value in wanted.items():
        assert found[name].shape == (1,)
        assert float(found[name]) == pytest.approx(value, abs=1e-5), name
    score = metrics.clip_score(clip, pictures, TEXTS[0])
    assert torch.allclose(score, (100 * metrics.clip_text(clip, pictures, TEXTS[0])).clamp(min=0))
    assert (
        metrics.clip_text(clip, pictures, TEXTS[0]).min() < 0 or metrics.clip_text(clip, pictures, TEXTS[1]).min() < 0
    )


def test_tensors_and_pictures_are_measured_alike(clip, pictures):
    a, b = pictures[:2], pictures[2:]
    assert torch.equal(metrics.clip_image(clip, a, b), metrics.clip_image(clip, tensor(a), tensor(b)))
    told = metrics.clip_directional(clip, a, b, TEXTS, TEXTS[::-1])
    assert torch.equal(told, metrics.clip_directional(clip, tensor(a), b, TEXTS, TEXTS[::-1]))
    assert torch.allclose(told[1:], metrics.clip_directional(clip, a[1], b[1], TEXTS[1], TEXTS[0]), atol=1e-5)


def test_no_change_has_no_direction(clip, pictures):
    a, b, c, _ = pictures
    assert metrics.clip_directional(clip, [a, a], [a, b], TEXTS[0], TEXTS[1]).isnan().tolist() == [True, False]
    assert metrics.clip_directional(clip, a, b, TEXTS[0], TEXTS[0]).isnan().all()
    assert metrics.clip_visual(clip, a, b, c, c).isnan().all()


def test_counts_and_ranges_that_do_not_fit_are_said(clip, pictures):
    with pytest.raises(UsageError, match="3 pictures before, 4 pictures after: give as many of each"):
        metrics.clip_directional(clip, pictures[:3], pictures, *TEXTS)
    with pytest.raises(UsageError, match="4 pictures and 2 texts"):
        metrics.clip_text(clip, pictures, TEXTS)
    for bad in (None, [None] * 4, "half a \ud800"):
        with pytest.raises(UsageError, match="give a string, or a list|is no text that can be read"):
            metrics.clip_text(clip, pictures, bad)
    with pytest.raises(UsageError, match=r"add 1 and halve what is in \[-1, 1\]"):
        metrics.clip_image(clip, tensor(pictures) * 2 - 1, pictures)


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_dino_is_the_cosine_of_class_tokens(folders, pictures, name):
    dino = metrics.load_dino(folders / name, resize=40, crop=32)
    own = [prepared(one, PROCESSOR["image_mean"], PROCESSOR["image_std"], shorter=40, crop=32) for one in pictures[:2]]
    tokens = [dino.model(pixel_values=one).last_hidden_state[0, 0].detach() for one in own]
    assert float(metrics.dino_image(dino, *pictures[:2])) == pytest.approx(cosine(*tokens), abs=1e-5)
    assert torch.allclose(metrics.dino_image(dino, pictures, pictures), torch.ones(4))
    plain = metrics.load_dino(folders / name)  # its own processor
    pixels = plain.processor(images=pictures[:2], return_tensors="pt").pixel_values
    tokens = plain.model(pixel_values=pixels).last_hidden_state[:, 0].detach()
    assert float(metrics.dino_image(plain, *pictures[:2])) == pytest.approx(cosine(*tokens), abs=1e-5)


@pytest.mark.parametrize("side", [32, 48])  # 48: positions are interpolated
def test_structure_is_the_similarity_of_keys(folders, pictures, side):
    dino = metrics.load_dino(folders / "vit")
    layer = dino.model.layers[1]
    similarities = []
    for picture in pictures[:2]:
        values = np.asarray(picture.resize((side, side), 3), dtype=np.float64) / 255
        values = (values - np.array(PROCESSOR["image_mean"])) / np.array(PROCESSOR["image_std"])
        pixels = torch.from_numpy(values).permute(2, 0, 1)[None].float()
        given = dino.model(pixels, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[1]
        x = given[0].detach().double().numpy()
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + dino.model.config.layer_norm_eps)
        norm, keys = layer.layernorm_before, layer.attention.k_proj
        x = x * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()
        k = x @ keys.weight.detach().double().numpy().T + keys.bias.detach().double().numpy()
        k = k / np.linalg.norm(k, axis=1, keepdims=True)
        similarities.append(k @ k.T)
    assert similarities[0].shape == ((side // 8) ** 2 + 1,) * 2
    wanted = ((similarities[0] - similarities[1]) ** 2).mean()
    found = metrics.structure_distance(dino, *pictures[:2], side=side)
    assert float(found) == pytest.approx(wanted, abs=1e-5) and wanted > 1e-4
    assert metrics.structure_distance(dino, pictures, pictures, side=side).tolist() == [0] * 4
    assert not keys._forward_hooks  # what was caught is let go


def test_structure_of_dinov2_and_of_a_layer_that_is_not_there(folders, pictures):
    dino = metrics.load_dino(folders / "dinov2")
    many = metrics.structure_distance(dino, pictures[:2], pictures[2:], side=32)
    assert torch.allclose(many[1:], metrics.structure_distance(dino, pictures[1], pictures[3], side=32), atol=1e-6)
    assert not torch.allclose(many, metrics.structure_distance(dino, pictures[:2], pictures[2:], side=32, layer=0))
    with pytest.raises(ModelError, match="has 2 layers with keys of attention: there is no layer 2"):
        metrics.structure_distance(dino, *pictures[:2], side=32, layer=2)


def test_what_is_no_dino_is_said(folders, tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        metrics.load_dino(tmp_path / "nothing")
    with pytest.raises(ModelError, match="without a class token"):
        metrics.load_dino(folders / "clip")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (folders / "vit").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    from safetensors.torch import load_file

    tensors = load_file(broken / "model.safetensors")
    gone = next(key for key in tensors if key.endswith("k_proj.weight") or key.endswith("key.weight"))
    save_file({k: v for k, v in tensors.items() if k != gone}, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="weights are incomplete"):
        metrics.load_dino(broken)


def test_pick_score_is_a_scaled_cosine_and_preference_its_softmax(folders, clip, pictures):
    model = metrics.load_pick_score(folders / "clip")
    scores = metrics.pick_score(model, pictures, TEXTS[0])
    scale = float(np.exp(model.clip.model.logit_scale.item()))
    assert torch.allclose(scores, scale * metrics.clip_text(clip, pictures, TEXTS[0]), atol=1e-5)
    powers = np.exp(scores.double().numpy())
    shares = metrics.pick_preference(model, pictures, TEXTS[0])
    assert np.abs(shares.numpy() - powers / powers.sum()).max() < 1e-5
    assert float(shares.sum()) == pytest.approx(1) and shares.argmax() == scores.argmax()
    with pytest.raises(UsageError, match="two pictures at least"):
        metrics.pick_preference(model, pictures[:1], TEXTS[0])


def test_pick_score_takes_its_processor_from_elsewhere(folders, tmp_path, pictures):
    bare = tmp_path / "weights"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((folders / "clip" / name).read_bytes())
    with pytest.raises(ModelError, match="weights: cannot be loaded"):
        metrics.load_pick_score(bare)
    both = metrics.load_pick_score(bare, processor=str(folders / "clip"))
    assert torch.equal(
        metrics.pick_score(both, pictures, TEXTS[0]),
        metrics.pick_score(metrics.load_pick_score(folders / "clip"), pictures, TEXTS[0]),
    )


# LPIPS by hand: (kind, weights' number, stride, padding); a "tap" takes what was last.
LAYERS = {
    "alex": [("conv", 0, 4, 2), "tap", ("pool", 3, False), ("conv", 3, 1, 2), "tap", ("pool", 3, False), ("conv", 6, 1, 1), "tap",
             ("conv", 8, 1, 1), "tap", ("conv", 10, 1, 1), "tap"],
    "vgg": [("conv", 0, 1, 1), ("conv", 2, 1, 1), "tap", ("pool", 2, False), ("conv", 5, 1, 1), ("conv", 7, 1, 1), "tap",
            ("pool", 2, False), *[("conv", i, 1, 1) for i in (10, 12, 14)], "tap",
            ("pool", 2, False), *[("conv", i, 1, 1) for i in (17, 19, 21)], "tap",
            ("pool", 2, False), *[("conv", i, 1, 1) for i in (24, 26, 28)], "tap"],
    "squeeze": [("conv", 0, 2, 0), "tap", ("pool", 3, True), ("fire", 3), ("fire", 4), "tap", ("pool", 3, True), ("fire", 6),
                ("fire", 7), "tap", ("pool", 3, True), ("fire", 9), "tap", ("fire", 10), "tap", ("fire", 11), "tap", ("fire", 12),
                "tap"],
}  # fmt: skip
ALEX = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
VGG = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256), 17: (512, 256),
    19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
FIRES = {
    3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128), 9: (256, 48, 192), 10: (384, 48, 192),
    11: (384, 64, 256), 12: (512, 64, 256),
}  # fmt: skip
CHANNELS = {
    "alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512), "squeeze": (64, 128, 256, 384, 384, 512, 512),
}  # fmt: skip


def weights(network: str) -> dict[str, torch.Tensor]:
    """A file's tensors, random, under the names that torchvision's and LPIPS's files have."""
    make = torch.Generator().manual_seed(len(network))
    shapes: dict[str, tuple[int, ...]] = {}
    if network == "alex":
        shapes = {f"features.{i}": shape for i, shape in ALEX.items()}
    elif network == "vgg":
        shapes = {f"features.{i}": (*shape, 3, 3) for i, shape in VGG.items()}
    else:
        shapes = {"features.0": (64, 3, 3, 3)}
        for i, (given, few, each) in FIRES.items():
            shapes[f"features.{i}.squeeze"] = (few, given, 1, 1)
            shapes[f"features.{i}.expand1x1"] = (each, few, 1, 1)
            shapes[f"features.{i}.expand3x3"] = (each, few, 3, 3)
    found = {}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = torch.randn(shape, generator=make) * (2 / np.prod(shape[1:])) ** 0.5
        found[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=make)
    for i, channels in enumerate(CHANNELS[network]):
        found[f"lin{i}.model.1.weight"] = torch.rand(1, channels, 1, 1, generator=make)
    return found


def convolved(x, w, bias, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.maximum(np.tensordot(w, windows, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None], 0)


def pooled(x, size, ceil):
    if ceil:  # windows may hang over the edge
        x = np.pad(x, ((0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::2, ::2].max((-1, -2))


def tapped(network, tensors, picture):
    x = np.asarray(picture, dtype=np.float64).transpose(2, 0, 1) / 255 * 2 - 1
    x = (x - np.array([-0.030, -0.088, -0.188])[:, None, None]) / np.array([0.458, 0.448, 0.450])[:, None, None]
    w = {name: value.double().numpy() for name, value in tensors.items()}
    found = []
    for step in LAYERS[network]:
        if step == "tap":
            found.append(x / np.sqrt((x**2).sum(0)))
        elif step[0] == "pool":
            x = pooled(x, step[1], step[2])
        elif step[0] == "conv":
            x = convolved(x, w[f"features.{step[1]}.weight"], w[f"features.{step[1]}.bias"], step[2], step[3])
        else:
            layer = f"features.{step[1]}"
            x = convolved(x, w[f"{layer}.squeeze.weight"], w[f"{layer}.squeeze.bias"], 1, 0)
            wide = ("expand1x1", 0), ("expand3x3", 1)
            x = np.concatenate([convolved(x, w[f"{layer}.{n}.weight"], w[f"{layer}.{n}.bias"], 1, p) for n, p in wide])
    return found


@pytest.mark.parametrize("network", ["alex", "vgg", "squeeze"])
def test_lpips_is_its_definition(tmp_path, picture, network):
    tensors = weights(network)
    save_file(tensors, tmp_path / "lpips.safetensors")
    model = metrics.load_lpips(tmp_path / "lpips.safetensors", network=network)
    side = {"alex": (68, 65), "vgg": (20, 17), "squeeze": (37, 34)}[network]
    pictures = [picture(*side, seed=i) for i in range(2)]
    heads = [tensors[f"lin{i}.model.1.weight"].flatten().double().numpy() for i in range(len(CHANNELS[network]))]
    maps = [
        ((x - y) ** 2 * w[:, None, None]).sum(0)
        for x, y, w in zip(*(tapped(network, tensors, one) for one in pictures), heads, strict=True)
    ]
    found = metrics.lpips(model, *pictures)
    assert float(found) == pytest.approx(sum(m.mean() for m in maps), abs=1e-5) and float(found) > 0.01
    assert metrics.lpips(model, pictures, pictures).tolist() == [0, 0]
    assert torch.allclose(metrics.lpips(model, tensor(pictures), tensor(pictures[::-1])), found.expand(2), atol=1e-5)


@pytest.fixture(scope="module")
def squeeze(tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "squeeze.safetensors"
    save_file(weights("squeeze"), path)
    return path


def test_lpips_with_a_mask(squeeze, picture):
    model = metrics.load_lpips(squeeze, network="squeeze")
    a, b = tensor([picture(40, 40, seed=1)]), tensor([picture(40, 40, seed=2)])
    left = torch.zeros(40, 40, dtype=torch.bool)
    left[:, :20] = True
    whole = metrics.lpips(model, a, b)
    assert torch.allclose(metrics.lpips(model, a, b, torch.ones(40, 40)), whole, atol=1e-6)
    assert metrics.lpips(model, a, b, torch.zeros(40, 40)).isnan().all()
    assert metrics.lpips(model, a, torch.where(left, a, b), left).tolist() == [0]
    assert torch.equal(metrics.lpips(model, a, b, left), metrics.lpips(model, a, torch.where(left, b, 0 * b), left))
    assert float(metrics.lpips(model, a, torch.where(left, b, a), left)) > float(
        metrics.lpips(model, a, torch.where(left, b, a))
    )


def test_what_is_no_lpips_file_is_said(squeeze, tmp_path, picture):
    with pytest.raises(
        ModelError, match=r"has no features.3.weight .* not LPIPS with the network 'alex'|another shape"
    ):
        metrics.load_lpips(squeeze, network="alex")
    with pytest.raises(UsageError, match="no network 'resnet': choose one of alex, vgg, squeeze"):
        metrics.load_lpips(squeeze, network="resnet")
    with pytest.raises(ModelError, match="no such file"):
        metrics.load_lpips(tmp_path / "alex.safetensors")
    (tmp_path / "alex.pth").write_bytes(b"pickled")
    with pytest.raises(ModelError, match="pickles .* can run code"):
        metrics.load_lpips(tmp_path / "alex.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"pickled")
    with pytest.raises(ModelError, match="cannot be loaded"):
        metrics.load_lpips(tmp_path / "broken.safetensors")
    model = metrics.load_lpips(squeeze, network="squeeze")
    with pytest.raises(UsageError, match="16x20 are too small for LPIPS with squeeze: 17 pixels"):
        metrics.lpips(model, picture(16, 20), picture(16, 20))
    assert metrics.lpips(model, picture(17, 17, seed=1), picture(17, 17, seed=2)).isfinite().all()


def test_scenes_are_measured_against_their_truth():
    cases = [scenes.sample(seed, edits=2, split="train") for seed in (1, 2)]
    style = scenes.sample(3, actions=["style"], split="train")
    perfect = [case.after for case in cases]
    assert metrics.edit_success(cases, perfect).tolist() == metrics.edit_parts(cases, perfect).tolist() == [1, 1]
    assert metrics.edit_error(cases, [case.before for case in cases]).tolist() == pytest.approx([1, 1])
    assert metrics.edit_inside(cases[0], cases[0].before).tolist() == [0]
    assert metrics.outside_psnr(cases, perfect).isinf().all()
    assert metrics.outside_psnr(style, style.after).isnan().all()
    one = np.asarray(cases[0].before).copy()
    one[cases[0].masks[0]] = np.asarray(cases[0].after)[cases[0].masks[0]]
    if not (cases[0].masks[0] & cases[0].masks[1]).any():
        from PIL import Image

        assert metrics.edit_parts(cases[0], Image.fromarray(one)).tolist() == [0.5]
    with pytest.raises(UsageError, match="2 cases, 1 pictures"):
        metrics.edit_success(cases, perfect[:1])
