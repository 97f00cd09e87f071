"""The starters' held-out figures: what their model cards and the README report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from showtell import fitting, models, scenes
from showtell.bench import editing, grounding

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

    from showtell.editor import Editor

Say = Callable[[str], None]
AMONG = 32
"""How many captions a picture is matched against."""
GUIDANCE_GRID = ((1.5, 1.0), (1.5, 1.5), (2.0, 1.5), (3.0, 1.5), (1.5, 2.0), (2.0, 2.0), (3.0, 2.0))
"""Pairs of s_T and s_I that are tried."""
TUNING_SEEDS = 10_000_000
"""First seed, in the training split, of the cases that hyper-parameters are tuned on; no training draws it."""


def autoencoder(pipe: Any, cases: Sequence[tuple[int, scenes.Case]], *, batch_size: int = 50) -> dict[str, Any]:
    """Mean PSNR (dB, 8-bit pictures) of encoding and decoding the before pictures."""
    values: list[float] = []
    for first in range(0, len(cases), batch_size):
        pictures = [c.before for _, c in cases[first : first + batch_size]]
        latents = models.scaled(pipe, models.encode_image(pipe, fitting.to_pixels(pictures)))
        for picture, back in zip(pictures, fitting.to_images(models.decode(pipe, latents)), strict=True):
            error = np.square(np.asarray(picture, np.float64) - np.asarray(back, np.float64)).mean() / 255**2
            values.append(-10 * math.log10(error))
    return {"count": len(values), "psnr": round(float(np.mean(values)), 2)}


def matching(
    clip: CLIPModel, tokenizer: CLIPTokenizer, processor: Any, cases: Sequence[tuple[int, scenes.Case]]
) -> dict[str, Any]:
    """How often a before picture's nearest caption among 32 is its own (an equal text counts as its own)."""
    import torch

    right: list[bool] = []
    for first in range(0, len(cases) - AMONG + 1, AMONG):
        part = [c for _, c in cases[first : first + AMONG]]
        texts = [c.captions[0] for c in part]
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        pixels = processor(images=[c.before for c in part], return_tensors="pt").pixel_values
        with torch.no_grad():
            logits = clip(input_ids=ids, pixel_values=pixels).logits_per_image
        right += [texts[int(best)] == text for best, text in zip(logits.argmax(1), texts, strict=True)]
    return {"count": len(right), "among": AMONG, "accuracy": round(float(np.mean(right)), 4)}


def tune_guidance(editor: Editor, *, count: int, say: Say) -> dict[str, Any]:
    """Guidance scales of the greatest success on training-split seeds (never on held-out ones), at 20 steps."""
    cases = editing.heldout(count, first=TUNING_SEEDS, split="train")
    found: list[tuple[tuple[float, float], dict[str, Any]]] = []
    for s_t, s_i in GUIDANCE_GRID:
        choice: dict[str, Any] = {"guidance_scale": s_t, "image_guidance_scale": s_i, "num_inference_steps": 20}
        figures = editing.summary(editing.run(editor, cases, **choice))
        say(f"s_T {s_t} s_I {s_i}: {figures['success']:.3f} (inside {figures['inside']:.3f})")
        found.append(((figures["success"], -figures["median_edit_error"]), choice))
    return max(found, key=lambda pair: pair[0])[1]


def instruct_figures(editor: Editor, *, count: int, say: Say) -> dict[str, Any]:
    """Success of single and joined instructions, at the card's settings."""
    result: dict[str, Any] = {}
    for edits, share in ((1, 1.0), (2, 0.4), (3, 0.2), (4, 0.2)):
        cases = editing.heldout(max(1, int(count * share)), edits=edits)
        result[f"edits_{edits}"] = editing.summary(editing.run(editor, cases))
        say(f"{edits} instruction(s): {result[f'edits_{edits}']['success']:.3f} of {len(cases)}")
    return result


def grounding_figures(editor: Editor, *, count: int, say: Say) -> dict[str, Any]:
    """Attention figures for one and for joined instructions; γ and τ are tuned on training-split seeds.

    Styles are left out: their mask is the whole picture, where every map is right.
    """
    local = [a for a in scenes.ACTIONS if a != "style"]
    training: dict[str, Any] = {"actions": local, "first": TUNING_SEEDS, "split": "train"}
    tuned = grounding.looks(editor, editing.heldout(count // 2, **training))
    tuned += grounding.looks(editor, editing.heldout(count // 2, edits=2, **training))
    gamma, tau = grounding.tune(tuned)
    result: dict[str, Any] = {"gamma": gamma, "tau": tau}
    for name, edits in (("one", 1), ("joined", 2)):
        found = grounding.looks(editor, editing.heldout(count, edits=edits, actions=local))
        result[name] = grounding.figures(found) | {
            "iou": grounding.mask_iou(found, gamma=gamma, tau=tau),
            "iou_paper": grounding.mask_iou(found, gamma=3, tau=0.5),
        }
        say(f"grounding, {name}: {result[name]}")
    return result
