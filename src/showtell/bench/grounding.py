"""Where the words look: do the cross-attention maps of an instruct model lie on what the instruction edits?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from showtell import attention, fitting, instruction, models, scenes, starts

if TYPE_CHECKING:
    import torch

    from showtell.editor import Editor

STRENGTH = 0.8
"""The noise level at which Focus on Your Instruction reads its masks: its first step."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The map of one instruction's keyword (h, w), and the share of each of its cells that the edit's true mask covers."""

    map: torch.Tensor
    truth: torch.Tensor


def looks(editor: Editor, cases: Sequence[tuple[int, scenes.Case]], *, batch_size: int = 25) -> list[Look]:
    """The keyword maps of every instruction of every case, from the picture-and-text branch at 80 % noise."""
    found: list[Look] = []
    for first in range(0, len(cases), batch_size):
        found += _looks(editor.pipe, cases[first : first + batch_size])
    return found


def _looks(pipe: Any, cases: Sequence[tuple[int, scenes.Case]]) -> list[Look]:
    import torch

    before, after = (fitting.to_pixels([getattr(c, side) for _, c in cases]) for side in ("before", "after"))
    image = models.encode_image(pipe, before)
    z = models.scaled(pipe, image)
    noise = starts.noise(tuple(z.shape[1:]), [starts.generator(seed) for seed, _ in cases], device=z.device)
    t = int(STRENGTH * pipe.scheduler.config.num_train_timesteps) - 1
    alpha_bar = pipe.scheduler.alphas_cumprod[t]
    z_t = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise
    texts = [", ".join(c.instructions) for _, c in cases]
    embeds = torch.stack([instruction.assemble(pipe, [instruction.Words(text=text)])[0] for text in texts])
    with torch.no_grad(), attention.captured(pipe.unet, (z.shape[-2], z.shape[-1])) as maps:
        pipe.unet(torch.cat((z_t, image), 1), t, encoder_hidden_states=embeds)
    mean = maps.mean()
    found = []
    for b, (_, case) in enumerate(cases):
        for token, mask in zip(_keyword_tokens(case), case.masks, strict=True):
            cover = torch.from_numpy(mask).float()[None, None]
            truth = torch.nn.functional.interpolate(cover, size=mean.shape[-2:], mode="area")[0, 0]
            found.append(Look(map=mean[b, token], truth=truth))
    return found


def _keyword_tokens(case: scenes.Case) -> list[int]:
    """The token of each instruction's keyword in the joined sentence: every word of the world is one token."""
    joined = scenes.join(list(case.plan.phrases))
    first: dict[str, int] = {}
    for word, region in joined.marks:
        first.setdefault(region, word + 1)
    return [first[f"edit{i}"] for i in range(len(case.edits))]


def figures(found: Sequence[Look]) -> dict[str, Any]:
    """Mean attention inside the mask over outside (median over maps), and how often the maximum falls inside."""
    ratios, inside = [], []
    for look in found:
        within, without = look.truth >= 0.5, look.truth <= 0
        if not within.any():
            within = look.truth >= look.truth.max()
        if without.any():
            ratios.append(float(look.map[within].mean() / look.map[without].mean()))
        inside.append(float(look.truth.flatten()[look.map.argmax()]) > 0)
    return {
        "count": len(found),
        "inside_over_outside": round(float(np.median(ratios)), 2),
        "maximum_inside": round(float(np.mean(inside)), 4),
    }


def mask_iou(found: Sequence[Look], *, gamma: int, tau: float) -> float:
    """Mean IoU of FoI's masks (methods.md §4) with the truth, both on the grid of the maps."""
    values = []
    for look in found:
        mask, truth = attention.focus_mask(look.map, gamma=gamma, tau=tau), look.truth >= 0.5
        union = (mask | truth).sum()
        values.append(float((mask & truth).sum() / union) if union else 1.0)
    return round(float(np.mean(values)), 4)


def tune(found: Sequence[Look]) -> tuple[int, float]:
    """γ and τ of the greatest IoU over a small grid. Give it looks of the training split."""
    grid = [(gamma, tau) for gamma in (0, 1, 2, 3) for tau in (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)]
    return max(grid, key=lambda pair: mask_iou(found, gamma=pair[0], tau=pair[1]))
