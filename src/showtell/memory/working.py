"""What a model's networks hold while they work, besides their weights: counted, and nothing is loaded."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from showtell import loading, networks, tiling
from showtell.memory import counting
from showtell.memory.shapes import Shapes

#: Tokens of a text.
_WORDS = 77


@dataclass(frozen=True, kw_only=True)
class Work:
    """Bytes at the most, for each row or picture. ``forward``: of the denoising network without gradients. ``kept``: after a
    forward with gradients, and ``learning``: at any time of it and its backward; the same two with gradient checkpointing.
    ``encoding`` and ``decoding``: of the autoencoder, and in tiles.
    """

    forward: int
    kept: int
    learning: int
    kept_checkpointing: int
    learning_checkpointing: int
    encoding: int
    decoding: int
    encoding_tiled: int
    decoding_tiled: int


def vae_dtype(shapes: Shapes, dtype: torch.dtype) -> torch.dtype:
    """What the autoencoder computes in, where its pipeline is in ``dtype``: float32, if it says that float16 overflows."""
    return torch.float32 if dtype == torch.float16 and shapes.vae.get("force_upcast", False) else dtype


def count(shapes: Shapes, *, side: int, dtype: torch.dtype) -> Work:
    """Of one row or picture, ``side`` pixels square, by networks in ``dtype``; all of it grows with their number."""
    told = {
        part: None if config is None else {key: value for key, value in config.items() if not key.startswith("_")}
        for part, config in (("unet", shapes.unet), ("vae", shapes.vae), ("controlnet", shapes.controlnet))
    }
    return _count(json.dumps(told, sort_keys=True), side, _counted(dtype), _counted(vae_dtype(shapes, dtype)))


def _counted(dtype: torch.dtype) -> torch.dtype:
    """Both half-precision formats have two bytes, and a CPU has every kernel for one of them only."""
    return torch.bfloat16 if dtype == torch.float16 else dtype


@functools.lru_cache(maxsize=32)
def _count(configs: str, side: int, dtype: torch.dtype, own: torch.dtype) -> Work:
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from torch._subclasses.fake_tensor import FakeTensorMode

    told = json.loads(configs)
    with loading.silent(), torch.device("meta"):
        unet, vae = UNet2DConditionModel.from_config(told["unet"]), AutoencoderKL.from_config(told["vae"])
        control = None if told["controlnet"] is None else ControlNetModel.from_config(told["controlnet"])
    for network in (unet, vae, control):
        if network is not None:
            network.eval().requires_grad_(False)
    net = networks.Network(unet=unet, controlnet=control)
    with FakeTensorMode():  # on a CPU attention is memory-efficient, whatever its size
        for network, its in ((unet, dtype), (control, dtype), (vae, own)):
            if network is not None:
                counting.place(network, its)
        row = _Row.of(net, vae, side)
        kept, learning = row.learning(checkpointing=False)
        less, learning_less = row.learning(checkpointing=True)
        encoding, decoding = tiled = _pictures(vae, side)
        if side > vae.tile_sample_min_size:
            tiled = _in_tiles(vae, side)
        return Work(
            forward=row.forward(), kept=kept, learning=learning, kept_checkpointing=less,
            learning_checkpointing=learning_less, encoding=encoding, decoding=decoding, encoding_tiled=tiled[0],
            decoding_tiled=tiled[1],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of the denoising network's: what it is given."""

    net: Any
    x: Tensor
    words: Tensor
    beside: Tensor | None

    @classmethod
    def of(cls, net: Any, vae: Any, side: int) -> _Row:
        factor, channels = 2 ** (len(vae.config.block_out_channels) - 1), vae.config.latent_channels
        small = side // factor
        more = net.unet.config.in_channels - channels
        beside = torch.empty(1, more, small, small) if more else None
        if net.controlnet is not None:
            beside = torch.empty(1, 3, side, side)
        words = torch.empty(1, _WORDS, net.unet.config.cross_attention_dim)
        return cls(net=net, x=torch.empty(1, channels, small, small), words=words, beside=beside)

    def __call__(self, words: Tensor) -> Tensor:
        return self.net(self.x, torch.zeros(1, dtype=torch.long), words, (self.beside,))

    def _peak(self) -> counting.Peak:
        return counting.Peak(*(network for network in (self.net.unet, self.net.controlnet) if network is not None))

    def forward(self) -> int:
        with torch.no_grad(), self._peak() as peak:
            self(self.words)
        return peak.most

    def learning(self, *, checkpointing: bool) -> tuple[int, int]:
        """What a forward leaves for its backward by the words, and the most at any time of both."""
        for network in (self.net.unet, self.net.controlnet):
            if network is not None:
                network.enable_gradient_checkpointing() if checkpointing else network.disable_gradient_checkpointing()
        words = self.words.clone().requires_grad_()
        with torch.enable_grad(), self._peak() as peak:
            loss = self(words).square().mean()
            kept = peak.live
            torch.autograd.grad(loss, words)
        return kept, peak.most


def _in_tiles(vae: Any, side: int) -> tuple[int, int]:
    """The same in tiles: one of them at work, beside the tiles before it, which overlap, and what they are put together to."""
    encoding, decoding = _pictures(vae, vae.tile_sample_min_size)
    results = 1 + 1 / (1 - vae.tile_overlap_factor) ** 2
    numbers = vae.config.latent_channels * (side // 2 ** (len(vae.config.block_out_channels) - 1)) ** 2, 3 * side**2
    size = vae.dtype.itemsize * results
    return encoding + int(2 * size * numbers[0]), decoding + int(size * numbers[1])


def _pictures(vae: Any, side: int) -> tuple[int, int]:
    """A picture's encoding and decoding."""
    small, dtype = side // 2 ** (len(vae.config.block_out_channels) - 1), vae.dtype
    with torch.no_grad():
        with counting.Peak(vae) as encoding:
            tiling.encode(vae, torch.empty(1, 3, side, side, dtype=dtype))
        with counting.Peak(vae) as decoding:
            tiling.decode(vae, torch.empty(1, vae.config.latent_channels, small, small, dtype=dtype))
    return encoding.most, decoding.most
