"""Large pictures through an autoencoder in tiles, as diffusers cuts and blends them, but normalised as a whole.

A tile by itself would be normalised by its own mean and variance, and come out in other colours than its neighbours. So the
picture goes through once as small as one tile, and all tiles are normalised as that one was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .types import Latents, Pixels


def tiles(vae: Any) -> bool:
    """Whether an autoencoder is to work in tiles."""
    return bool(getattr(vae, "use_tiling", False))


def encode(vae: Any, pixels: Pixels) -> Latents:
    """The mode (B, 4, h, w) of ``pixels`` (B, 3, H, W) in its own dtype; of one picture, or of several where it does not tile."""
    limit = getattr(vae, "tile_sample_min_size", None)
    return _whole(vae, pixels, limit, lambda x: vae.encode(x).latent_dist.mode(), multiple=_factor(vae))


def decode(vae: Any, latents: Latents) -> Pixels:
    """The picture (B, 3, H, W) of unscaled latents (B, 4, h, w) in its own dtype; one, or several where it does not tile."""
    limit = getattr(vae, "tile_latent_min_size", None)
    return _whole(vae, latents, limit, lambda x: vae.decode(x, return_dict=False)[0], multiple=1)


def _factor(vae: Any) -> int:
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _whole(vae: Any, x: torch.Tensor, limit: Any, call: Any, *, multiple: int) -> torch.Tensor:
    import torch

    longer = max(x.shape[-2:])
    if not tiles(vae) or limit is None or longer <= limit:
        return call(x)
    small = tuple(max(multiple, round(side * limit / longer / multiple) * multiple) for side in x.shape[-2:])
    norms = _norms()
    with norms:
        call(torch.nn.functional.interpolate(x, size=small, mode="area"))
        norms.fixed = True
        return call(x)


def _norms() -> Any:
    """What notes the means and variances of the group normalisations that are called, and then, ``fixed``, has later calls use
    them, in the same order again and again.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Norms(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.fixed, self.calls, self.kept = False, 0, list[tuple[torch.Tensor, torch.Tensor]]()

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is not torch.nn.functional.group_norm:
                return func(*args, **(kwargs or {}))
            return self._normalised(*args, **(kwargs or {}))

        def _normalised(
            self, x: torch.Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
        ) -> torch.Tensor:
            if not self.fixed:
                groups = x.float().unflatten(1, (num_groups, -1)).flatten(2)
                self.kept.append((groups.mean(-1), groups.var(-1, unbiased=False)))
                return torch.nn.functional.group_norm(x, num_groups, weight, bias, eps)
            mean, variance = (
                each.repeat_interleave(x.shape[1] // num_groups, 1) for each in self.kept[self.calls % len(self.kept)]
            )
            self.calls += 1
            scale = torch.rsqrt(variance + eps) * (1 if weight is None else weight.float())
            shift = (0 if bias is None else bias.float()) - mean * scale
            shape = (*scale.shape, *(1,) * (x.ndim - 2))
            return torch.addcmul(shift.to(x.dtype).view(shape), x, scale.to(x.dtype).view(shape))

    return Norms()
