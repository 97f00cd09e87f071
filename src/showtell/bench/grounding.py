"""Where the words look: do the cross-attention maps of a model lie on what its words name?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from showtell import attention, fitting, focus, instruction, models, scenes, starts

if TYPE_CHECKING:
    import torch

    from showtell.editor import Editor

    Cases = Sequence[tuple[int, scenes.Case]]

STRENGTH = 0.8
"""The noise level at which Focus on Your Instruction reads its masks: its first step."""
BASE_STRENGTH = 0.5
"""The noise level at which the base model's maps are read: half-way, since it sees no picture beside the noise."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The map of one word (h, w), and the share of each of its cells that the true region covers."""

    map: torch.Tensor
    truth: torch.Tensor


def looks(editor: Editor, cases: Cases, *, batch_size: int = 25) -> list[Look]:
    """An instruct model's maps of every instruction's keyword, against that edit's mask."""
    found: list[Look] = []
    for first in range(0, len(cases), batch_size):
        part = cases[first : first + batch_size]
        maps = _maps(editor.pipe, part, [", ".join(c.instructions) for _, c in part], STRENGTH)
        for own, (_, case) in zip(maps, part, strict=True):
            for token, mask in zip(_keyword_tokens(case), case.masks, strict=True):
                found.append(_look(own[token], mask))
    return found


def caption_looks(editor: Editor, cases: Cases, *, batch_size: int = 25) -> list[Look]:
    """A base model's maps of every thing's noun in the caption of the before picture, against that thing's silhouette."""
    found: list[Look] = []
    for first in range(0, len(cases), batch_size):
        part = cases[first : first + batch_size]
        maps = _maps(editor.pipe, part, [c.captions[0] for _, c in part], BASE_STRENGTH)
        for own, (_, case) in zip(maps, part, strict=True):
            things = {str(t.key): t for t in case.plan.before.things}
            for word, region in case.plan.captions[0].marks:
                if region in things:
                    cover = scenes.silhouettes([things[region]])[0]
                    found.append(_look(own[word + 1], (cover > 0.5).numpy()))
    return found


def _maps(pipe: Any, cases: Cases, texts: list[str], strength: float) -> torch.Tensor:
    """The maps of one call of the UNet on the noised before picture, with its text: (B, 77, h, w) on the CPU."""
    import torch

    image = models.encode_image(pipe, fitting.to_pixels([c.before for _, c in cases]))
    z = models.scaled(pipe, image)
    noise = starts.noise((z.shape[1], z.shape[2], z.shape[3]), [starts.generator(s) for s, _ in cases], device=z.device)
    t = int(strength * pipe.scheduler.config.num_train_timesteps) - 1
    alpha_bar = pipe.scheduler.alphas_cumprod[t].to(z.device)
    z_t = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise
    embeds = torch.stack([instruction.assemble(pipe, [instruction.Words(text=text)])[0] for text in texts])
    dtype = models.dtype_of(pipe.unet)
    told = torch.cat((z_t, image), 1) if models.kind(pipe) == "instruct" else z_t
    with torch.no_grad(), attention.captured(pipe.unet, (z.shape[-2], z.shape[-1])) as maps:
        pipe.unet(told.to(dtype), t, encoder_hidden_states=embeds.to(dtype))
    return maps.mean().cpu()


def _look(own: torch.Tensor, mask: np.ndarray) -> Look:
    import torch

    cover = torch.from_numpy(mask).float()[None, None]
    return Look(map=own, truth=torch.nn.functional.interpolate(cover, size=own.shape, mode="area")[0, 0])


def _keyword_tokens(case: scenes.Case) -> list[int]:
    """The token of each instruction's keyword in the joined sentence: every word of the world is one token."""
    joined = scenes.join(list(case.plan.phrases))
    first: dict[str, int] = {}
    for word, region in joined.marks:
        first.setdefault(region, word + 1)
    return [first[f"edit{i}"] for i in range(len(case.edits))]


def figures(found: Sequence[Look]) -> dict[str, Any]:
    """Mean attention inside the region over outside (the median over maps), and how often the maximum falls inside.

    Inside is where at least half of a cell is covered (the fullest cells, where none is); outside, where nothing is.
    """
    ratios, hits = [], []
    for look in found:
        within, without = look.truth >= min(0.5, float(look.truth.max())), look.truth <= 0
        if without.any():
            ratios.append(float(look.map[within].mean() / look.map[without].mean()))
        hits.append(bool(within.flatten()[look.map.argmax()]))
    return {
        "count": len(found),
        "median_inside_over_outside": round(float(np.median(ratios)), 2),
        "maximum_inside": round(float(np.mean(hits)), 4),
    }


def mask_iou(found: Sequence[Look], *, gamma: int, tau: float) -> float:
    """Mean IoU of FoI's masks (its section 4.1) with the truth, both on the grid of the maps."""
    values = []
    for look in found:
        mask, truth = focus.focus_mask(look.map, gamma=gamma, tau=tau), look.truth >= 0.5
        union = (mask | truth).sum()
        values.append(float((mask & truth).sum() / union) if union else 1.0)
    return round(float(np.mean(values)), 4)


def tune(found: Sequence[Look]) -> tuple[int, float]:
    """γ and τ of the greatest IoU over a small grid. Give it looks of the training split."""
    grid = [(gamma, tau) for gamma in (0, 1, 2, 3) for tau in (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)]
    return max(grid, key=lambda pair: mask_iou(found, gamma=pair[0], tau=pair[1]))
