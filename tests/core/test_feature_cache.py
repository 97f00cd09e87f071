"""Feature caching: whole steps are the network's own, the steps between run the shallowest level alone, nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import showtell
from showtell.attention import BranchContext
from showtell.errors import MethodError
from showtell.feature_cache import FeatureCache, whole_steps
from tests.helpers import tiny

STEPS = {"seed": 0, "num_inference_steps": 6}
NAMES = ("full", "image", "none")


@pytest.fixture(scope="module")
def editor():
    """An editor around a random instruct pipeline, which every test leaves as it was."""
    return showtell.Editor(tiny.pipeline("instruct"))


def deep_unet(levels: int = 4, channels: int = 8):
    """A random UNet in the shape of Stable Diffusion's: two layers a block, no attention in the deepest."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16, in_channels=channels, out_channels=4, block_out_channels=(8, 16, 16, 16)[:levels],
        layers_per_block=2, norm_num_groups=4, attention_head_dim=4, cross_attention_dim=tiny.WIDTH,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
    ).eval()  # fmt: skip


def call(unet, cache, step, branches=NAMES, batch=2, side=(16, 16), seed=0, residuals=None):
    """One call of the network in a step, as the denoiser makes it; every input differs from step to step."""
    g = torch.Generator().manual_seed(100 * step + seed)
    x, told = torch.randn(batch, 8, *side, generator=g), torch.randn(batch, 77, tiny.WIDTH, generator=g)
    n = len(branches)
    shift = torch.cat([torch.full((batch, 1, 1), float(NAMES.index(name))) for name in branches])
    cache(BranchContext(step=step, timestep=900 - 100 * step, branches=tuple(branches), batch=batch))
    rows = unet.conv_in.in_channels
    return unet(
        x.repeat(n, 1, 1, 1)[:, :rows], 900 - 100 * step, encoder_hidden_states=told.repeat(n, 1, 1) + shift,
        return_dict=False, **(residuals or {}),
    )[0].detach()  # fmt: skip


def counted(*modules):
    """How often each module's forward is entered."""
    counts = dict.fromkeys(modules, 0)
    for module in modules:
        module.register_forward_pre_hook(lambda module, args: counts.__setitem__(module, counts[module] + 1))
    return counts


@given(st.lists(st.sampled_from([("full",), ("full", "image"), NAMES]), min_size=1, max_size=30), st.integers(1, 8))
def test_whole_steps(branches, every):
    whole = whole_steps(branches, every=every)
    assert whole[0] and (every > 1 or all(whole))
    last = 0
    for i, is_whole in enumerate(whole):
        last = i if is_whole else last
        assert i - last < every and set(branches[i]) <= set(branches[last])
    same = whole_steps([NAMES] * len(branches), every=every)
    assert same == tuple(i % every == 0 for i in range(len(branches)))


@pytest.mark.parametrize(
    ("levels", "depth", "side"),
    [(2, 1, (16, 16)), (2, 3, (18, 12)), (3, 2, (16, 16)), (4, 1, (18, 12)), (4, 3, (16, 16))],
)
@torch.no_grad()
def test_whole_steps_are_whole_and_the_others_shallow(levels, depth, side):
    unet = deep_unet(levels)
    cache = FeatureCache(unet, [True, False, False, True, False], depth=depth)
    alone = [call(unet, cache, i, side=side) for i in range(5)]
    down, up = unet.down_blocks[0], unet.up_blocks[-1]
    convolutions = [m for m in unet.modules() if isinstance(m, torch.nn.Conv2d)]
    shallow = [unet.conv_in, unet.conv_out]
    for block in (
        *down.resnets[: depth - 1],
        *down.attentions[: depth - 1],
        *up.resnets[-depth:],
        *up.attentions[-depth:],
    ):
        shallow += [m for m in block.modules() if isinstance(m, torch.nn.Conv2d)]
    calls = counted(*convolutions)
    with cache.installed():
        found = [call(unet, cache, i, side=side) for i in range(5)]
    assert torch.equal(found[0], alone[0]) and torch.equal(found[3], alone[3])
    for i in (1, 2, 4):
        assert found[i].shape == alone[i].shape and not torch.allclose(found[i], alone[i], atol=1e-4)
        assert not torch.equal(found[i], found[i - 1])
    assert all(count == (5 if layer in shallow else 2) for layer, count in calls.items())


@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.no_grad()
def test_what_is_reused_is_what_the_layers_below_said(depth):
    """With the latents, the timestep and the text of the whole step, a shallow step says what the whole step said."""
    unet = deep_unet()
    cache = FeatureCache(unet, [True, False], depth=depth)
    with cache.installed():
        whole = call(unet, cache, 0)
        told = BranchContext(step=1, timestep=900, branches=NAMES, batch=2)
        again = call(unet, lambda _: cache(told), 0)
    assert torch.equal(whole, again)


@torch.no_grad()
def test_branches_one_by_one_and_batches():
    unet = deep_unet(3)
    whole = [True, False, True, False]
    cache = FeatureCache(unet, whole)
    with cache.installed():
        together = [call(unet, cache, i) for i in range(4)]
    cache = FeatureCache(unet, whole)
    with cache.installed():
        apart = [{name: call(unet, cache, i, (name,)) for name in ("image", "full", "none")} for i in range(4)]
    for rows, each in zip(together, apart, strict=True):
        assert torch.allclose(rows, torch.cat([each[name] for name in NAMES]), atol=1e-5)


@torch.no_grad()
def test_a_branch_that_was_not_kept_is_computed_whole():
    unet = deep_unet(3)
    cache = FeatureCache(unet, [True, False, False])
    alone = call(unet, cache, 1, NAMES)
    with cache.installed():
        call(unet, cache, 0, ("full",))
        assert torch.equal(call(unet, cache, 1, NAMES), alone)
        deep = counted(unet.mid_block.resnets[0])
        call(unet, cache, 2, NAMES)
        assert list(deep.values()) == [0]


@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.no_grad()
def test_with_a_controlnets_residuals(depth):
    unet = deep_unet(3, channels=4)
    n = 2 * len(NAMES)
    skips: list[tuple[int, int]] = []
    for i, block in enumerate(unet.down_blocks):
        skips += [(block.resnets[0].out_channels, 16 >> i)] * 2
        skips += [(block.resnets[0].out_channels, 8 >> i)] if block.downsamplers else []
    told = {
        "down_block_additional_residuals": tuple(torch.randn(n, c, s, s) for c, s in [(8, 16), *skips]),
        "mid_block_additional_residual": torch.randn(n, 16, 4, 4),
    }
    cache = FeatureCache(unet, [True, False], depth=depth)
    alone = call(unet, cache, 0, residuals=told)
    with cache.installed():
        assert torch.equal(call(unet, cache, 0, residuals=told), alone)
        with_, without = (call(unet, cache, 1, residuals=each) for each in (told, None))
    assert torch.isfinite(with_).all() and not torch.allclose(with_, without, atol=1e-4)


@torch.no_grad()
def test_nothing_is_left_behind():
    unet = deep_unet()
    before = {name: dict(module.__dict__) for name, module in unet.named_modules()}
    alone = call(unet, lambda _: None, 1)
    cache = FeatureCache(unet, [True, False])
    with pytest.raises(RuntimeError, match="stop"), cache.installed():
        call(unet, cache, 0)
        assert cache._kept
        raise RuntimeError("stop")
    assert not cache._kept
    after = {name: dict(module.__dict__) for name, module in unet.named_modules()}
    assert before.keys() == after.keys()
    for name, own in before.items():
        assert own.keys() == after[name].keys() and all(own[key] is after[name][key] for key in own), name
    assert torch.equal(call(unet, lambda _: None, 1), alone)


@torch.no_grad()
def test_a_forward_that_a_hook_has_put_in_comes_back():
    unet = deep_unet(3)
    called = []
    forward = unet.mid_block.forward
    unet.mid_block.forward = hooked = lambda *args, **kwargs: called.append(1) or forward(*args, **kwargs)
    cache = FeatureCache(unet, [True, False])
    with cache.installed():
        for i in range(2):
            call(unet, cache, i)
    assert called == [1] and unet.mid_block.forward is hooked


def test_networks_that_are_not_known():
    class Transformer(torch.nn.Module):
        pass

    one = tiny.unet(8)
    del one.down_blocks[1], one.up_blocks[1]
    strange = tiny.unet(8)
    strange.down_blocks[0] = Transformer()
    compiled = tiny.unet(8)
    compiled.compile()
    for unet, words in (
        (Transformer(), "Transformer with 0 levels"), (one, "1 levels"), (strange, "blocks of Transformer"),
        (compiled, "compiled as a whole"),
    ):  # fmt: skip
        with pytest.raises(MethodError, match=words) as caught:
            FeatureCache(unet, [True])
        assert "\n" not in str(caught.value) and "leave it at 1" in str(caught.value)


def tall_pipe():
    pipe = tiny.pipeline("instruct")
    pipe.register_modules(unet=deep_unet())
    return pipe


@pytest.mark.parametrize(
    ("make", "sequential"),
    [(lambda: tiny.pipeline("instruct"), True), (lambda: tiny.pipeline("control"), False), (tall_pipe, False)],
    ids=["instruct", "control", "four levels"],
)
def test_editing_with_it(make, sequential, picture):
    editor = showtell.Editor(make())
    rows = counted(editor.pipe.unet.mid_block.resnets[0], editor.pipe.unet.up_blocks[-1].resnets[-1])
    edits = {
        n: editor.edit(picture(), "red", cache_interval=n, sequential=sequential, **STEPS) for n in (None, 1, 2, 6)
    }
    assert torch.equal(edits[None].latents, edits[1].latents)
    assert not torch.equal(edits[1].latents, edits[2].latents)
    each = (2 if editor.kind == "control" else 3) if sequential else 1
    assert list(rows.values()) == [each * (6 + 6 + 3 + 1), each * 6 * 4]
    assert "forward" not in editor.pipe.unet.mid_block.__dict__


def test_with_an_interval_of_guidance(editor, picture):
    options = {"cache_interval": 3, "guidance_interval": (0.3, 0.8), **STEPS}
    deep = counted(editor.pipe.unet.mid_block.resnets[0])
    together = editor.edit(picture(), "red", **options)
    assert list(deep.values()) == [3]  # steps 0, 2 (guided from there on), 5
    apart = editor.edit(picture(), "red", sequential=True, **options)
    assert torch.allclose(together.latents, apart.latents, atol=1e-4, rtol=0)
    both = editor.edit([picture(seed=1), picture()], ["a star", "red"], **options)
    assert torch.allclose(together.latents, both[1].latents, atol=1e-4, rtol=0)


def test_after_a_cancelled_edit_the_network_is_as_it_was(editor, picture):
    plain = editor.edit(picture(), "red", **STEPS)
    with pytest.raises(showtell.errors.Cancelled):
        editor.edit(picture(), "red", cache_interval=3, cancel=lambda: True, **STEPS)
    assert "forward" not in editor.pipe.unet.mid_block.__dict__
    assert torch.equal(editor.edit(picture(), "red", **STEPS).latents, plain.latents)


def test_values_that_are_none(editor, picture):
    for value in (0, -1, 101, 1.5, "2", True):
        for name in ("cache_interval", "cache_depth"):
            with pytest.raises(MethodError, match=f"{name}="):
                editor.edit(picture(), "red", **{name: value}, **STEPS)
    with pytest.raises(MethodError, match="cache_depth=3 is out of range: this network has 1 to 2 layers"):
        editor.edit(picture(), "red", cache_interval=2, cache_depth=3, **STEPS)


@pytest.mark.parametrize("scheduler", ["dpm++", "unipc", "ddim", "lcm"])
def test_fewer_steps_with_a_mask_and_both_options(editor, picture, scheduler):
    """Every solver that saves steps takes a mask, and keeps the picture outside it."""
    import numpy as np

    source, mask = picture(), np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    for options in ({}, {"cache_interval": 2, "guidance_interval": (0, 0.5)}):
        edit = editor.edit(source, "red", mask=mask, scheduler=scheduler, seed=0, num_inference_steps=4, **options)
        assert edit.recipe.method.parameters["num_inference_steps"] == 4
        same = (np.asarray(edit.image) == np.asarray(source)).all(-1)
        assert same[~mask].all() and not same[mask].all()
