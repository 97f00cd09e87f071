"""Masks out of maps and modulated attention, against what the paper writes down, transcribed in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell import focus
from showtell.attention import BranchContext, map_side
from showtell.errors import MethodError
from tests.helpers import tiny


def literal_mask(values, gamma, tau):
    """Section 4.1, cell by cell."""
    high, wide = values.shape
    weight = {-1: math.exp(-2), 0: 1.0, 1: math.exp(-2)}
    total = sum(weight.values()) ** 2
    soft = np.zeros((high, wide))
    for i in range(high):
        for j in range(wide):
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    near = values[min(max(i + a, 0), high - 1), min(max(j + b, 0), wide - 1)]
                    soft[i, j] += weight[a] * weight[b] / total * near

    def norm(x):
        return (x - x.min()) / (x.max() - x.min())

    if gamma == 0:
        soft = norm(soft)
    for _ in range(gamma):
        soft = norm(soft**2)
    return soft, soft >= tau


@pytest.mark.parametrize("side", [(16, 16), (12, 20), (1, 5)])
@pytest.mark.parametrize("gamma", [0, 1, 3])
def test_a_mask_is_what_section_4_1_says(gamma, side):
    # As softmax leaves them: far from zero, and not far from each other.
    values = 0.01 + 0.01 * torch.rand(side, generator=torch.Generator().manual_seed(gamma))
    for tau in (0.1, 0.4, 0.55, 0.7):
        sharp, expected = literal_mask(values.double().numpy(), gamma, tau)
        found = focus.focus_mask(values, gamma=gamma, tau=tau).numpy()
        sure = np.abs(sharp - tau) > 1e-4
        assert sure.mean() > 0.9 and 0 < expected.sum() < expected.size
        assert (found == expected)[sure].all()


maps = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000)).map(
    lambda drawn: torch.rand(drawn[:2], generator=torch.Generator().manual_seed(drawn[2]))
)


@given(maps, st.integers(0, 5), st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(-20, 20))
def test_masks_shrink_with_tau_and_do_not_depend_on_the_scale(values, gamma, one, other, exponent):
    low, high = (focus.focus_mask(values, gamma=gamma, tau=tau) for tau in sorted((one, other)))
    assert low.dtype == torch.bool and low.shape == values.shape
    assert bool((high <= low).all())
    assert bool(high.any()) or values.numel() == 1  # the greatest value is always in
    scaled = focus.focus_mask(values * 2.0 ** round(exponent), gamma=gamma, tau=one)
    assert torch.equal(scaled, focus.focus_mask(values, gamma=gamma, tau=one))


@pytest.mark.parametrize("value", [0.0, 1e-25, 3e-5, 1 / 77, 0.7])
@pytest.mark.parametrize("side", [(1, 1), (1, 5), (16, 16), (7, 13), (64, 64)])
def test_a_map_that_is_the_same_everywhere_gives_an_empty_mask(side, value):
    for gamma in (0, 1, 3):
        assert not focus.focus_mask(torch.full(side, value), gamma=gamma, tau=0.1).any()
    rounded = torch.full(side, value) * (1 + 1e-7 * torch.randn(side, generator=torch.Generator().manual_seed(0)))
    assert not focus.focus_mask(rounded, gamma=3, tau=0.5).any()


def test_a_map_that_is_not_finite_gives_an_empty_mask():
    assert not focus.focus_mask(torch.full((4, 4), math.nan), gamma=2, tau=0.5).any()


def test_xi_is_a_twentieth_of_the_fourth_power():
    assert focus.xi(1.0) == pytest.approx(0.05) and focus.xi(0.0) == 0
    assert focus.xi(0.5) == pytest.approx(0.05 / 16) and focus.xi(0.5, 0.2) == pytest.approx(0.2 / 16)


def test_the_layers_that_count_as_sixteen_by_sixteen():
    unet = tiny.unet(4)
    for size, latents, expected in (
        (64, (64, 64), (16, 16)), (64, (96, 96), (24, 24)), (64, (64, 40), (16, 10)), (96, (96, 96), (24, 24)),
        (16, (16, 16), (16, 16)), (8, (8, 12), (8, 12)), (32, (32, 32), (16, 16)), ([64, 48], (64, 48), (16, 12)),
    ):  # fmt: skip
        unet.register_to_config(sample_size=size)
        assert map_side(unet, latents) == expected


@pytest.mark.parametrize(
    ("latents", "queries", "side"),
    [((64, 64), 4096, (64, 64)), ((64, 64), 256, (16, 16)), ((64, 40), 640, (32, 20)), ((9, 5), 15, (5, 3)),
     ((64, 64), 1, (1, 1))],
)  # fmt: skip
def test_the_side_of_a_layer(latents, queries, side):
    assert focus.layer_side(latents, queries) == side


def test_queries_that_fit_no_layer_are_refused():
    with pytest.raises(MethodError, match="layer of 250 queries does not fit"):
        focus.layer_side((64, 64), 250)


# Attention, through the layers of a real UNet.

SIDE = (4, 6)


def setting(level=0, batch=2, heads=None):
    """A cross-attention layer of a UNet, its name, and hidden states and texts of three branches."""
    torch.manual_seed(0)
    unet = tiny.unet(8).double()
    attn = unet.down_blocks[level].attentions[0].transformer_blocks[0].attn2
    assert attn.heads > 1 or heads is None
    side = tuple(-(-edge // 2**level) for edge in SIDE)
    hidden = torch.randn(3 * batch, side[0] * side[1], attn.to_q.in_features, dtype=torch.float64) * 2
    told = torch.randn(3 * batch, 77, tiny.WIDTH, dtype=torch.float64) * 2
    return unet, attn, f"down_blocks.{level}.attentions.0.transformer_blocks.0.attn2.processor", side, hidden, told


def through(unet, attn, rule, hidden, told, batch, *, sequential=False):
    """What the control makes of the layer: the rows of full, image and none."""
    control = focus.CrossCondition(unet, SIDE)
    control.rule = rule
    names = ("full", "image", "none")
    with control.installed(), torch.no_grad():
        if not sequential:
            control(BranchContext(step=1, timestep=torch.tensor(1), branches=names, batch=batch))
            return attn(hidden, encoder_hidden_states=told)
        rows = {}
        for name in ("image", "full", "none"):
            at = slice(names.index(name) * batch, (names.index(name) + 1) * batch)
            control(BranchContext(step=1, timestep=torch.tensor(1), branches=(name,), batch=batch))
            rows[name] = attn(hidden[at], encoder_hidden_states=told[at])
        return torch.cat([rows[name] for name in names])


def parts(attn, hidden, told):
    """Queries, keys and values of one row, head by head: (heads, n, c) and (heads, 77, c), float64 NumPy."""
    with torch.no_grad():
        return [
            rows.unflatten(-1, (attn.heads, -1)).transpose(0, 1).numpy()
            for rows in (attn.to_q(hidden), attn.to_k(told), attn.to_v(told))
        ]


def softmax(rows):
    shares = np.exp(rows - rows.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def closed(attn, heads):
    """The layer's output from the results of its heads, (heads, n, c)."""
    with torch.no_grad():
        return attn.to_out[0](torch.from_numpy(np.concatenate(list(heads), axis=-1)))


def cells(mask, side):
    """A mask (h, w) at a layer's side, the mean of what each cell covers: (n,)."""
    across, down = mask.shape[0] // side[0], mask.shape[1] // side[1]
    return np.array([
        mask[i * across : (i + 1) * across, j * down : (j + 1) * down].mean()
        for i in range(side[0]) for j in range(side[1])
    ])  # fmt: skip


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("sequential", [False, True])
def test_columns_are_equations_3_to_7(level, sequential):
    batch, t = 2, 0.7
    unet, attn, _, side, hidden, told = setting(level, batch)
    masks = (torch.rand(batch, 77, *SIDE) > 0.5).double()
    alpha = torch.zeros(batch, 77, dtype=torch.float64)
    alpha[:, 1:6], alpha[:, 7:20], alpha[1, 7:20] = 1.0, 2.5, 0.25
    rule = focus.Columns(masks=masks, boost=alpha).boosted(focus.xi(t))
    found = through(unet, attn, rule, hidden, told, batch, sequential=sequential)
    with torch.no_grad():
        plain = attn(hidden, encoder_hidden_states=told)
    assert torch.allclose(found[batch:], plain[batch:], atol=1e-6)  # the other branches are left as they are
    for b in range(batch):
        Q, K, V = parts(attn, hidden[b], told[b])
        Q_null, K_null, _ = parts(attn, hidden[batch + b], told[batch + b])
        M = np.stack([cells(masks[b, column].numpy(), side) for column in range(77)], axis=1)
        heads = []
        for h in range(attn.heads):
            X, Y = Q[h] @ K[h].T, Q_null[h] @ K_null[h].T
            dX = alpha[b].numpy() * 0.05 * t**4 * (X.max(axis=1, keepdims=True) - X)
            heads.append(softmax(((X + dX) * M + Y * (1 - M)) / math.sqrt(Q.shape[-1])) @ V[h])
        assert torch.allclose(found[b], closed(attn, heads), atol=1e-5)
        assert (found[b] - plain[b]).abs().max() > 1e-2  # it matters


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("sequential", [False, True])
def test_regions_hear_their_own_words_and_share_where_they_overlap(level, sequential):
    batch, k, xi = 2, 3, 0.3
    unet, attn, _, side, hidden, told = setting(level, batch)
    embeds = torch.randn(batch, k, 77, tiny.WIDTH, dtype=torch.float64)
    masks = (torch.rand(batch, k, *SIDE) > 0.5).double()
    masks[1, 2] = 0  # as of a picture with fewer instructions
    alpha = torch.rand(batch, k, 77, dtype=torch.float64) * 2
    rule = focus.Regional(embeds=embeds, masks=masks, boost=alpha).boosted(xi)
    found = through(unet, attn, rule, hidden, told, batch, sequential=sequential)
    for b in range(batch):
        own = np.stack([cells(masks[b, part].numpy(), side) for part in range(k)])
        Q_null, K_null, V_null = parts(attn, hidden[batch + b], told[batch + b])
        heads = []
        for h in range(attn.heads):
            null = softmax(Q_null[h] @ K_null[h].T / math.sqrt(Q_null.shape[-1])) @ V_null[h]
            rows = []
            for n in range(side[0] * side[1]):
                shares = own[:, n] / max(own[:, n].sum(), 1.0)
                row = (1 - shares.sum()) * null[n]
                for part in range(k):
                    Q, K, V = parts(attn, hidden[b], embeds[b, part])
                    x = Q[h, n] @ K[h].T / math.sqrt(Q.shape[-1])
                    x = x + alpha[b, part].numpy() * xi * (x.max() - x)
                    row = row + shares[part] * (softmax(x) @ V[h])
                rows.append(row)
            heads.append(np.stack(rows))
        assert torch.allclose(found[b], closed(attn, heads), atol=1e-5)


def test_masks_of_ones_without_boost_are_plain_attention():
    unet, attn, _, _, hidden, told = setting()
    with torch.no_grad():
        plain = attn(hidden, encoder_hidden_states=told)
    ones = torch.ones(2, 77, *SIDE)
    found = through(unet, attn, focus.Columns(masks=ones, boost=torch.zeros(2, 77)), hidden, told, 2)
    assert torch.allclose(found, plain, atol=1e-5)
    whole = focus.Regional(embeds=told[:2, None], masks=ones[:, :1], boost=torch.zeros(2, 1, 77))
    assert torch.allclose(through(unet, attn, whole, hidden, told, 2), plain, atol=1e-5)
    # A mask of zeros is the image branch's scores on the text's values, or that branch's attention.
    none = focus.Regional(embeds=told[:2, None], masks=ones[:, :1] * 0, boost=torch.zeros(2, 1, 77))
    assert torch.allclose(through(unet, attn, none, hidden, told, 2)[:2], plain[2:4], atol=1e-5)
    # Heard everywhere, two equal instructions are plain attention, wherever their regions are.
    twice = focus.Regional(
        embeds=told[:2, None].expand(-1, 2, -1, -1),
        masks=(torch.rand(2, 2, *SIDE) > 0.5).to(ones),
        boost=torch.zeros(2, 2, 77),
        everywhere=torch.full((2, 2), 0.5),
    )
    assert torch.allclose(through(unet, attn, twice, hidden, told, 2), plain, atol=1e-5)
