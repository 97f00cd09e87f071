"""The systems behind the paper's Figures 4, 6 and 7, and what is added to them; and what is made of their entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from showtell.bench.inversion import OMEGA, RATIO, STEPS, Bench, System, by_ddim, common, stage_one
from showtell.bench.inversion_cases import real
from showtell.methods.checks import STARTS
from showtell.metrics import frechet

THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7)
"""Of the masks: the share of an attention map's maximum, or of DiffEdit's difference."""
ETAS = (1.0, 0.95, 0.9, 0.8, 0.6, 0.4, 0.0)
BETAS = (0.1, 0.05, 0.01)
USUAL = 0.3
"""The threshold of a mask by attention where nothing else is told; DiffEdit's own is 0.5."""
MISSED = 0.05
"""Below this IoU a mask lies beside what is to change."""
_RESAMPLES = 30


def ddim_global() -> System:
    """DDIM-Edit without a mask."""
    return System(name="ddim-global", method="ddim-edit", settings={"guidance_scale": OMEGA, "blend": "none"},
                  inverts=by_ddim())  # fmt: skip


def ddim_edit(threshold: float = USUAL, *, marked: bool = True) -> System:
    """DDIM-Edit within what the changed word looks at."""
    settings = {"guidance_scale": OMEGA, "blend": "attention", "blend_threshold": threshold}
    name = f"ddim-edit-{threshold:g}{'' if marked else '-automatic'}"
    return System(name=name, method="ddim-edit", settings=settings, inverts=by_ddim(), marked=marked)


def diffedit(threshold: float = 0.5, *, source: bool = False) -> System:
    """DiffEdit, with a source prompt or without one."""
    settings = {"guidance_scale": OMEGA, "mask_threshold": threshold}
    name = f"diffedit{'-source' if source else ''}-{threshold:g}"
    return System(name=name, method="diffedit", settings=settings, inverts=by_ddim(), source=source)


def pti(
    threshold: float | None = USUAL,
    *,
    eta: float = 0.9,
    beta: float = 0.1,
    start: str = "target",
    marked: bool = True,
    inverted: bool = False,
) -> System:
    """PTI within what the changed word looks at; without a threshold, everywhere. Outside it keeps the run that stage 1 tuned,
    or with ``inverted`` the inverted latents, as DDIM-Edit and DiffEdit do.
    """
    settings: dict[str, Any] = {"guidance_scale": OMEGA, "eta": eta}
    settings |= {"blend": "none"} if threshold is None else {"blend": "attention", "blend_threshold": threshold}
    name = f"pti-{'none' if threshold is None else f'{threshold:g}'}-eta-{eta:g}-beta-{beta:g}-{start}"
    if inverted:
        settings, name = settings | {"outside": "inverted"}, f"{name}-inverted"
    return System(
        name=name if marked else f"{name}-automatic", method="pti", settings=settings, marked=marked,
        inverts=stage_one(learning_rate=beta, start=start),
    )  # fmt: skip


def curves(thresholds: Sequence[float] = ()) -> dict[str, list[System]]:
    """Figure 4: each method over its mask's threshold, all of ``THRESHOLDS`` unless told otherwise."""
    thresholds = thresholds or THRESHOLDS
    return {
        "DDIM-Global": [ddim_global()],
        "DiffEdit, no source": [diffedit(threshold) for threshold in thresholds],
        "DiffEdit, source": [diffedit(threshold, source=True) for threshold in thresholds],
        "DDIM-Edit": [ddim_edit(threshold) for threshold in thresholds],
        "PTI": [pti(threshold) for threshold in thresholds],
        "PTI, inverted": [pti(threshold, inverted=True) for threshold in thresholds],
    }


def ablation() -> dict[str, list[System]]:
    """Figure 6: eta at beta = 0.1, and beta at eta = 0.9."""
    return {"eta": [pti(eta=eta) for eta in ETAS], "beta": [pti(beta=beta) for beta in BETAS]}


def begun() -> list[System]:
    """What the tuning starts from."""
    return [pti(start=start) for start in STARTS]


def bounds() -> list[System]:
    """The picture as it was, and the true result."""
    return [System(name="input", method="input"), System(name="truth", method="truth")]


def others() -> list[System]:
    """SDEdit, PTI without a mask, and the words that matter chosen by the methods themselves."""
    sdedit = System(name="sdedit", method="sdedit", settings=common("sdedit"))
    return [sdedit, pti(None), ddim_edit(marked=False), pti(marked=False)]


def by_card() -> list[System]:
    """The methods at the settings of the model's card."""
    return [
        System(name="sdedit-card", method="sdedit", card=True),
        System(name="ddim-edit-card", method="ddim-edit", card=True),
        System(name="diffedit-card", method="diffedit", source=True, card=True),
        System(name="pti-card", method="pti", card=True),
    ]


def slow() -> list[System]:
    """Null-Text Inversion with Prompt-to-Prompt, as published."""
    settings = {"num_inference_steps": STEPS, "guidance_scale": OMEGA, "encoding_ratio": 1.0}
    also = {**settings, "encoding_ratio": RATIO, "inversion_guidance_scale": 0.0}
    return [
        System(name="nti-p2p", method="p2p", settings=settings, source=True),
        System(name="nti-p2p-0.8", method="p2p", settings=also, source=True),
    ]


def also(names: Sequence[str]) -> list[System]:
    """Methods of any name, at the settings of the card: told what both pictures show, or the instructions."""
    return [System(name=f"also-{name}", method=name, source=True, card=True) for name in names]


class Real:
    """Features of real pictures of each class, made when they are asked for."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self._found = bench, None

    def __call__(self) -> Any:
        import torch
        from PIL import Image

        from showtell import scenes

        if self._found is None:
            rendered, names = real(scenes.KINDS)
            pictures = [
                Image.fromarray((one * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()) for one in rendered
            ]
            self._found = (self.bench.clip.image_features(pictures), names)
        return self._found


def summary(entries: Sequence[dict[str, Any]], among: Real) -> dict[str, Any]:
    """Shares and means with their standard errors, medians, and the Fréchet distance of the cases that replace a thing."""
    n = len(entries)
    outside = sorted(math.inf if e["psnr"] is None else e["psnr"] for e in entries)
    found: dict[str, Any] = {"count": n}
    for key in ("success", "inside", "outside", "perceptual", "iou", "reconstruction"):
        values = [float(e[key]) for e in entries if key in e]
        if len(values) == n:
            mean = sum(values) / n
            found[key] = round(mean, 4)
            found[f"{key}_error"] = round(_error(values, mean), 4)
    if "iou" in found:
        found["missed"] = round(sum(e["iou"] < MISSED for e in entries) / n, 4)
    found["edit_error"] = round(_median([e["edit_error"] for e in entries]), 4)
    middle = _median(outside)
    found["outside_psnr"] = round(middle, 2) if math.isfinite(middle) else None
    for action in ("replace", "recolour"):
        own = [e["success"] for e in entries if e["action"] == action]
        if own:
            found[action] = round(sum(own) / len(own), 4)
    if "each" in entries[0]:
        things = [right for e in entries for right in e["each"]]
        found |= {"things": len(things), "changed": round(sum(things) / len(things), 4)}
        found["all_changed"] = round(sum(all(e["each"]) for e in entries) / n, 4)
    else:
        found |= _frechet([e for e in entries if e["action"] == "replace"], among)
    return found


def _frechet(entries: Sequence[dict[str, Any]], among: Real) -> dict[str, Any]:
    """Over all cases, and its standard error: cases are drawn again within each class."""
    import torch

    features = torch.tensor([e["features"] for e in entries])
    names = [e["kind"] for e in entries]
    groups = {name: [i for i, one in enumerate(names) if one == name] for name in dict.fromkeys(names)}
    if not groups or min(len(group) for group in groups.values()) < 2:  # too few of a class
        return {"frechet": None, "frechet_error": None}
    value = frechet.class_distance(features, names, *among())
    rng, again = Random("showtell-bench-inversion"), []
    for _ in range(_RESAMPLES):
        rows = [i for group in groups.values() for i in rng.choices(group, k=len(group))]
        again.append(frechet.class_distance(features[rows], [names[i] for i in rows], *among()))
    mean = sum(again) / len(again)
    return {"frechet": round(value, 2), "frechet_error": round(_error(again, mean) * math.sqrt(len(again)), 2)}


def paired(rows: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], key: str) -> dict[str, float]:
    """How much more of ``key`` the same cases have than under another system, with the standard error of that difference."""
    gaps = [float(a[key]) - float(b[key]) for a, b in zip(rows, other, strict=True)]
    mean = sum(gaps) / len(gaps)
    return {"difference": round(mean, 4), "standard_error": round(_error(gaps, mean), 4)}


def _error(values: Sequence[float], mean: float) -> float:
    return math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1) / len(values))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
