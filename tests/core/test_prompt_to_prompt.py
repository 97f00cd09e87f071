"""Attention watched, re-weighted and exchanged, through the layers of a real UNet; local blending by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from showtell import attention
from showtell.attention import BranchContext
from showtell.errors import MethodError
from showtell.local_blend import LocalBlend, PairedBlend, word_mask
from showtell.prompt_to_prompt import Exchange, PromptControl
from tests.helpers import tiny

SIDE = (8, 12)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    net = tiny.unet(4)
    with torch.no_grad():  # so that attention matters, and differs from place to place
        for name, weight in net.named_parameters():
            if "attn" in name and "to_" in name:
                weight.mul_(2)
    return net


def inputs(rows, seed=1):
    draw = torch.Generator().manual_seed(seed)
    x, told = torch.randn(rows, 4, *SIDE, generator=draw), torch.randn(rows, 77, tiny.WIDTH, generator=draw)
    return x, told


def predicted(unet, control, x, told, *, step=0, branches=("cond", "uncond"), sequential=False):
    """The UNet's prediction for the rows of each branch, as the denoiser asks for it."""
    batch = len(x) // len(branches)
    with torch.no_grad():
        if not sequential:
            control(BranchContext(step=step, timestep=torch.tensor(500), branches=branches, batch=batch))
            return unet(x, torch.tensor(500), encoder_hidden_states=told, return_dict=False)[0]
        parts = []
        for n, name in enumerate(branches):
            control(BranchContext(step=step, timestep=torch.tensor(500), branches=(name,), batch=batch))
            rows = slice(n * batch, (n + 1) * batch)
            parts.append(unet(x[rows], torch.tensor(500), encoder_hidden_states=told[rows], return_dict=False)[0])
        return torch.cat(parts)


def plain(unet, x, told):
    with torch.no_grad():
        return unet(x, torch.tensor(500), encoder_hidden_states=told, return_dict=False)[0]


def test_maps_are_averaged_over_layers_and_steps_of_the_rows_with_words(unet):
    steps = [inputs(4, seed) for seed in (1, 2, 3)]
    expected = []
    for x, told in steps:
        with attention.captured(unet, SIDE) as maps:
            plain(unet, x[:2], told[:2])
        expected.append(maps.mean())
    for sequential in (False, True):
        control = PromptControl(unet, SIDE)
        with control.installed():
            for step, (x, told) in enumerate(steps):
                out = predicted(unet, control, x, told, step=step, sequential=sequential)
                assert torch.allclose(out, plain(unet, x, told), atol=1e-5)
                mean = torch.stack(expected[: step + 1]).mean(0)
                assert control.maps.mean().shape == (2, 77, *SIDE)
                assert torch.allclose(control.maps.mean(), mean, atol=2e-5)


def test_nothing_captured_is_an_error(unet):
    control = PromptControl(unet, SIDE)
    with pytest.raises(MethodError, match="no cross-attention layer of 8x12 was captured"):
        control.maps.mean()
    x, told = inputs(2)
    with control.installed():
        predicted(unet, control, x, told, branches=("uncond",))
    with pytest.raises(MethodError, match="no cross-attention layer"):
        control.maps.mean()


def test_weights_of_one_change_nothing_and_others_only_the_rows_with_words(unet):
    x, told = inputs(4)
    before = plain(unet, x, told)
    weights = torch.ones(2, 77)
    with (control := PromptControl(unet, SIDE, reweight=weights)).installed():
        assert torch.allclose(predicted(unet, control, x, told), before, atol=1e-5)
    weights[1, 4] = -2.0
    with (control := PromptControl(unet, SIDE, reweight=weights)).installed():
        changed = predicted(unet, control, x, told)
        assert torch.allclose(changed[[0, 2, 3]], before[[0, 2, 3]], atol=1e-5)
        assert (changed[1] - before[1]).abs().max() > 1e-3
        apart = predicted(unet, control, x, told, sequential=True)
    assert torch.allclose(apart, changed, atol=1e-4)


# One layer, against the paper in plain loops.


def layer(unet):
    attn = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.double()
    return attn, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor"


def shares_of(attn, hidden, told):
    """softmax(Q K^T / sqrt(d)) and V of one row, head by head, NumPy."""
    with torch.no_grad():
        q, k, v = (
            rows.unflatten(-1, (attn.heads, -1)).transpose(0, 1).numpy()
            for rows in (attn.to_q(hidden), attn.to_k(told), attn.to_v(told))
        )
    scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]))
    return scores / scores.sum(-1, keepdims=True), v


def test_a_layer_exchanges_and_weighs_as_the_paper_says():
    torch.manual_seed(0)
    net = tiny.unet(4).double()
    attn, _ = layer(net)
    hidden = torch.randn(4, SIDE[0] * SIDE[1], attn.to_q.in_features, dtype=torch.float64) * 2
    told = torch.randn(4, 77, tiny.WIDTH, dtype=torch.float64) * 2
    columns, shared, weights = torch.eye(77).repeat(2, 1, 1), torch.ones(2, 77), torch.ones(4, 77)
    columns[0, 3, 3], columns[0, 3, 5], columns[0, 4, 5] = 0, 0.5, 0.5  # several tokens for one
    columns[1, :, 6], shared[1, 6] = 0, 0  # a new token
    weights[2, 5] = 4.0
    exchange = Exchange(columns=columns, shared=shared, cross_until=2, self_until=(0, 0))
    control = PromptControl(net, SIDE, reweight=weights, exchange=exchange)
    with control.installed(), torch.no_grad():
        control(BranchContext(step=1, timestep=torch.tensor(1), branches=("cond",), batch=4))
        found = attn(hidden, encoder_hidden_states=told).numpy()
        control(BranchContext(step=2, timestep=torch.tensor(1), branches=("cond",), batch=4))
        later = attn(hidden, encoder_hidden_states=told).numpy()
    for row in range(4):
        own, v = shares_of(attn, hidden[row], told[row])
        for step, out in ((1, found), (2, later)):
            shares = own.copy()
            if row >= 2 and step < 2:
                source, _ = shares_of(attn, hidden[row - 2], told[row - 2])
                for j in range(77):
                    if shared[row - 2, j]:
                        shares[..., j] = sum(source[..., i] * float(columns[row - 2, i, j]) for i in range(77))
            heads = torch.from_numpy((shares * weights[row].double().numpy()) @ v)
            with torch.no_grad():
                expected = attn.to_out[0](heads.transpose(0, 1).flatten(1)).numpy()
            assert np.allclose(out[row], expected, atol=1e-5)


def test_identical_prompts_give_identical_rows_and_an_exchange_of_none_is_plain(unet):
    x, told = inputs(4)
    eye = {"columns": torch.eye(77)[None], "shared": torch.ones(1, 77)}
    same = [0, 0, 2, 2]
    with (control := PromptControl(unet, SIDE, exchange=Exchange(**eye, cross_until=1, self_until=(1,)))).installed():
        out = predicted(unet, control, x[same], told[same])
        assert torch.allclose(out[0], out[1], atol=1e-6) and torch.allclose(
            out, plain(unet, x[same], told[same]), atol=1e-5
        )
        assert torch.allclose(predicted(unet, control, x, told, step=1), plain(unet, x, told), atol=1e-6)
        # With shared attention a target depends on its source, and no source on its target.
        both = predicted(unet, control, x, told)
        apart = predicted(unet, control, x, told, sequential=True)
    assert torch.allclose(both, apart, atol=1e-4)
    assert (both - plain(unet, x, told)).abs().amax((1, 2, 3)).gt(1e-3).tolist() == [False, True, False, False]


def test_self_attention_is_shared_pair_by_pair(unet):
    x, told = inputs(8)
    settings = {"columns": torch.eye(77).repeat(2, 1, 1), "shared": torch.zeros(2, 77), "cross_until": 0}
    with (control := PromptControl(unet, SIDE, exchange=Exchange(**settings, self_until=(0, 2)))).installed():
        out = predicted(unet, control, x, told, step=1)
        assert torch.allclose(predicted(unet, control, x, told, step=2), plain(unet, x, told), atol=1e-6)
    changed = (out - plain(unet, x, told)).abs().amax((1, 2, 3)) > 1e-4
    assert changed.tolist() == [False, False, False, True, False, False, False, False]


def test_self_attention_is_shared_in_layers_up_to_twice_the_maps(unet):
    unet.register_to_config(sample_size=64)  # the maps are a quarter of the latents, then
    try:
        x, told = inputs(4)
        eye = {"columns": torch.eye(77)[None], "shared": torch.zeros(1, 77)}
        control = PromptControl(unet, SIDE, exchange=Exchange(**eye, cross_until=0, self_until=(1,)))
        seen = {}

        def looked(name, inner):
            processor = control._processor(name, inner)

            def process(attn, hidden_states, encoder_hidden_states=None, **kwargs):
                before = inner(attn, hidden_states, encoder_hidden_states, **kwargs)
                after = processor(attn, hidden_states, encoder_hidden_states, **kwargs)
                if encoder_hidden_states is None:
                    seen.setdefault(hidden_states.shape[1], []).append(not torch.allclose(before, after, atol=1e-6))
                return after

            return process

        with attention.installed(unet, looked, where=lambda name: True):
            predicted(unet, control, x, told)
    finally:
        unet.register_to_config(sample_size=tiny.SAMPLE)
    assert seen and all(not any(seen[n]) if n == 96 else all(seen[n]) for n in seen) and set(seen) == {96, 24}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_processors_are_the_very_same_afterwards(dtype):
    net = tiny.unet(4).to(dtype)
    before = dict(net.attn_processors)
    x, told = (values.to(dtype) for values in inputs(4))
    exchange = Exchange(columns=torch.eye(77)[None], shared=torch.ones(1, 77), cross_until=1, self_until=(1,))
    control = PromptControl(net, SIDE, reweight=torch.ones(2, 77), exchange=exchange)
    with control.installed():
        assert predicted(net, control, x, told).dtype == dtype
        assert control.maps.mean().dtype == torch.float32
    with pytest.raises(ZeroDivisionError), control.installed():
        raise ZeroDivisionError
    assert all(net.attn_processors[name] is processor for name, processor in before.items())


def test_changed_attention_is_refused():
    class Adapter:
        def __call__(self, attn, *args, **kwargs): ...

    net = tiny.unet(4)
    with (
        attention.installed(net, lambda name, inner: Adapter()),
        pytest.raises(MethodError, match="method 'p2p' changes attention.*Adapter.*set_default_attn_processor"),
        PromptControl(net, SIDE).installed(),
    ):
        pass


# Local blending.


def watched(unet, rows=2):
    control = PromptControl(unet, SIDE)
    x, told = inputs(rows)
    with control.installed():
        predicted(unet, control, x, told, branches=("cond",))
    return control, x


def test_a_mask_is_pooled_divided_by_its_maximum_and_cut():
    values = torch.zeros(4, 6)
    values[1, 1], values[3, 5] = 2.0, 0.5
    found = word_mask(values, threshold=0.3, side=(8, 12))
    wide = torch.zeros(4, 6)
    wide[0:3, 0:3] = 1
    assert torch.equal(found, wide.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert word_mask(values, threshold=0.2, side=(4, 6))[3, 5] == 1
    assert (
        word_mask(values, threshold=0.0, side=(4, 6)).all() and not word_mask(values, threshold=1.0, side=(4, 6)).any()
    )
    assert not word_mask(torch.zeros(4, 6), threshold=0.3, side=(4, 6)).any()


def test_masks_of_one_and_zero_return_exactly_one_input(unet):
    control, x = watched(unet)
    other = torch.randn_like(x)
    words = [[[1], [2, 3]], [[4]]]
    settings = {"latent_side": SIDE, "outside": lambda i: other}
    assert torch.equal(LocalBlend(control, words, threshold=0, **settings)(x, 0), x)
    assert torch.equal(LocalBlend(control, words, threshold=1, **settings)(x, 0), other)
    assert torch.equal(LocalBlend(control, [[], []], **settings)(x, 0), other)
    late = LocalBlend(control, words, threshold=1, start=2, **settings)
    assert torch.equal(late(x, 1), x) and late.mask is None and torch.equal(late(x, 2), other)


def test_a_mask_is_the_union_of_its_words_and_they_are_chosen_once(unet):
    control, x = watched(unet)
    other, asked = torch.randn_like(x), []
    maps = control.maps.mean()

    def chosen(found):
        asked.append(found)
        return [[[1], range(2, 4)], [[5]]]

    blend = LocalBlend(control, chosen, latent_side=SIDE, outside=lambda i: other, threshold=0.9)
    out = blend(x, 0)
    assert torch.equal(blend(x, 1), out) and len(asked) == 1 and torch.equal(asked[0], maps)
    one, two = (word_mask(m, threshold=0.9, side=SIDE) for m in (maps[0, 1], maps[0, 2:4].mean(0)))
    union = ((one + two) > 0).float()
    assert torch.equal(blend.mask[0], union) and 0 < union.sum() < union.numel() and not torch.equal(one, union)
    assert torch.equal(out[0], torch.where(union > 0, x[0], other[0]))


def test_a_pair_is_blended_by_both_of_its_masks(unet):
    control, x = watched(unet, rows=2)
    maps = control.maps.mean()
    blend = PairedBlend(control, [[[1]], [[2]]], latent_side=SIDE, threshold=0.9)
    out = blend(x, 0)
    one, two = (word_mask(m, threshold=0.9, side=SIDE) for m in (maps[0, 1], maps[1, 2]))
    union = ((one + two) > 0).float()
    assert blend.mask.shape == (1, *SIDE) and torch.equal(blend.mask[0], union)
    assert torch.equal(out[0], x[0]) and torch.equal(out[1], torch.where(union > 0, x[1], x[0]))
