"""Visual prompting: the edit that a pair shows, by filling in the fourth panel of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .. import fitting, models
from ..blending import Mask, keep_outside
from ..conditioning import PromptConditioning
from ..errors import MethodError
from ..guidance import ClassifierFree, check_scale
from ..pairs import Pair, Pairs
from ..sampling import keep
from .base import Context, Plan, check_steps

if TYPE_CHECKING:
    import torch

    from ..types import Latents, Pixels

_HOW = "method 'grid' needs pairs=[(before, after)]"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Visual prompting by inpainting (Bar et al. 2022), the baseline of VISII (its section 4.1).

    A 2x2 grid of the model's size holds before, after, the new picture, and a panel to be painted; that panel is the
    result. An inpainting model is told the mask and the masked grid; under a base model the three known panels follow
    their latents, noised to the level of each step, and are exact at the end. The instruction is optional: without
    one the prompt is "".

    ``pairs`` one pair, as ``Pairs.of`` takes it; ``guidance_scale`` >= 0, 7.5 (see ``ClassifierFree``);
    ``num_inference_steps`` 1 to 1000, 50; ``scheduler`` anything that ``fresh_scheduler`` takes, DDIM. These are
    Stable Diffusion's usual values, where the others' are their papers': Bar et al. paint with a masked autoencoder,
    which has none of them. Raises ``MethodError`` for a value out of range or another number of pairs, and
    ``ImageError`` as ``Pairs.of`` does.
    """

    name: ClassVar[str] = "grid"
    kinds: ClassVar[tuple[str, ...]] = ("base", "inpaint")
    words: ClassVar[str] = "optional"
    PAPER: ClassVar[Mapping[str, Any]] = {
        "pairs": None,
        "guidance_scale": 7.5,
        "num_inference_steps": 50,
        "scheduler": "ddim",
    }

    pairs: Any = None
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        check_steps(self.num_inference_steps)
        if self.guidance_scale is not None:
            check_scale("guidance_scale", self.guidance_scale, least=0.0)
        if self.pairs is not None:
            pairs = Pairs.of(self.pairs)
            if len(pairs) != 1:
                raise MethodError(f"{_HOW}: exactly one pair, and {len(pairs)} were given")
            object.__setattr__(self, "pairs", pairs)

    def plan(self, context: Context) -> Plan:
        if self.pairs is None:
            raise MethodError(_HOW)
        if self.guidance_scale is None:
            raise MethodError("method 'grid' is not settled: fill its hyper-parameters with methods.settle first")
        pipe, steps = context.pipe, context.steps
        for b in range(len(context.pixels)):
            for note in (*self.pairs.notes(), *_stretched(self.pairs.items[0], context.pixels)):
                context.note(b, note)
        canvas = _canvas(self.pairs.items[0], context)
        z = models.scaled(pipe, models.encode_image(pipe, canvas))
        mask = _fourth(z)
        noise = context.noise(z.shape[1:], device=z.device)
        inpaints = models.kind(pipe) == "inpaint"
        blend = keep
        if not inpaints:
            blend = keep_outside(mask, lambda i: steps.noised(z, noise, steps.schedule[i][1]))
        return Plan(
            start=noise * steps.init_noise_sigma,
            schedule=steps.schedule,
            conditioning=PromptConditioning(
                prompt_embeds=context.prompt_embeds,
                negative_prompt_embeds=context.negative_prompt_embeds,
                beside=_beside(mask, z) if inpaints else None,
            ),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale),
            blend=blend,
            picture=_last_panel,
        )


def _canvas(pair: Pair, context: Context) -> Pixels:
    """The grid at the model's size, (B, 3, H, W) in [-1, 1]: before, after / new, grey."""
    import torch

    height, width = context.pixels.shape[-2:]
    channels, h, w = models.latent_shape(context.pipe, context.pixels)
    if h % 2 or w % 2:
        raise MethodError(
            f"method 'grid' halves the model's picture, and its latents ({w}x{h}) have an odd side: use another fit"
        )
    new = _resized(context.pixels, height // 2, width // 2)
    shown = [_resized(fitting.to_pixels([side.rgb]), height // 2, width // 2) for side in (pair.before, pair.after)]
    before, after = (side.to(new).expand_as(new) for side in shown)
    rows = [torch.cat([before, after], dim=-1), torch.cat([new, torch.zeros_like(new)], dim=-1)]
    return torch.cat(rows, dim=-2)


def _stretched(pair: Pair, pixels: Pixels) -> list[str]:
    """What a user should know of a pair whose proportions are not those of the picture."""
    (wide, high), (height, width) = pair.before.size, pixels.shape[-2:]
    if max(wide * height, high * width) <= 1.1 * min(wide * height, high * width):
        return []
    return [f"the pair ({wide}x{high}) was stretched to the proportions of the picture in the grid"]


def _fourth(z: Latents) -> Mask:
    """The mask of the panel to be painted, for latents (B, 4, h, w)."""
    values = z.new_zeros(len(z), 1, *z.shape[-2:])
    values[..., z.shape[-2] // 2 :, z.shape[-1] // 2 :] = 1
    return Mask(values=values)


def _beside(mask: Mask, z: Latents) -> torch.Tensor:
    """What an inpainting model sees, (B, 5, h, w). The canvas is grey, 0, where it is masked: it needs no masking."""
    import torch

    return torch.cat([mask.values, z], dim=1)


def _last_panel(pixels: Pixels) -> Pixels:
    """The bottom-right quarter of the decoded grid, at the grid's own size."""
    height, width = pixels.shape[-2:]
    return _resized(pixels[..., height // 2 :, width // 2 :], height, width)


def _resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Bicubic, antialiased where it shrinks, kept within [-1, 1]."""
    import torch.nn.functional as F

    return F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True).clamp(-1, 1)
