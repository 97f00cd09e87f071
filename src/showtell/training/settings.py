"""What a training run is told: sizes of the starter networks, steps of each stage, presets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from showtell.errors import UsageError

STAGES = ("data", "clip", "autoencoder", "base", "instruct")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One optimisation: AdamW, a short warm-up, a constant rate, and a linear fall to zero over the last `fall` of the steps."""

    steps: int
    batch: int
    lr: float
    warmup: int = 200
    fall: float = 0.35
    weight_decay: float = 0.01
    ema: float = 0.999
    clip_norm: float = 1.0

    def rate(self, step: int) -> float:
        """The learning rate at a step (0-based)."""
        start = self.steps * (1 - self.fall)
        down = min(1.0, (self.steps - step) / max(1.0, self.steps - start))
        return self.lr * min(1.0, (step + 1) / self.warmup) * down


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A whole training of the starters. `unet_channels` and `batch` are what a CPU evening and a GPU half-hour differ in."""

    name: str
    cases: int
    clip: Fit
    autoencoder: Fit
    base: Fit
    instruct: Fit
    unet_channels: tuple[int, int] = (96, 192)
    edit_counts: tuple[float, ...] = (0.72, 0.16, 0.07, 0.05)
    """Shares of cases with 1, 2, 3 and 4 joined instructions."""
    grounding: float = 0.01
    """Weight of the grounding loss beside the denoising loss."""
    inside: float = 3.0
    """Extra weight of the denoising loss inside the edited region, where the text and the picture are both given."""
    instruct_noise: float = 0.5
    """The instruct stage draws t = 1000·u^this: below 1, more of the high noise levels at which an edit is decided."""
    autocast: bool = True
    tune: int = 40
    """Cases of the training split that each pair of guidance scales is tried on in the end."""
    heldout: int = 500
    """Held-out single edits that are measured for the cards."""


CPU = Preset(
    name="cpu",
    cases=32_000,
    clip=Fit(steps=700, batch=64, lr=1e-3),
    autoencoder=Fit(steps=1600, batch=24, lr=2e-3),
    base=Fit(steps=2500, batch=32, lr=5e-4),
    instruct=Fit(steps=7700, batch=32, lr=8e-4, fall=0.5),
)

PRESETS: dict[str, Preset] = {
    "cpu": CPU,
    "gpu": replace(
        CPU,
        name="gpu",
        cases=200_000,
        clip=Fit(steps=4000, batch=512, lr=1e-3, warmup=500),
        autoencoder=Fit(steps=8000, batch=128, lr=2e-3, warmup=500),
        base=Fit(steps=12_000, batch=256, lr=8e-4, warmup=1000, ema=0.9995),
        instruct=Fit(steps=20_000, batch=256, lr=8e-4, warmup=1000, ema=0.9995),
    ),
    "cpu-single": replace(
        CPU,
        name="cpu-single",
        cases=16_000,
        edit_counts=(1.0,),
        instruct=Fit(steps=3000, batch=32, lr=8e-4, fall=0.5),
    ),
    "cpu-base": replace(
        CPU,
        name="cpu-base",
        cases=16_000,
        edit_counts=(1.0,),
        base=Fit(steps=3000, batch=32, lr=6e-4, fall=0.6),
    ),
    "smoke": Preset(
        name="smoke",
        cases=64,
        clip=Fit(steps=3, batch=8, lr=1e-3, warmup=1),
        autoencoder=Fit(steps=3, batch=4, lr=1e-3, warmup=1),
        base=Fit(steps=3, batch=4, lr=1e-3, warmup=1),
        instruct=Fit(steps=3, batch=4, lr=1e-3, warmup=1),
        tune=2,
        heldout=4,
    ),
}


def preset(name: str) -> Preset:
    """A preset by name. Raises UsageError for an unknown one."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
