"""All of the starters' training, from nothing to the folder that the package carries.

    data → clip → autoencoder → base → instruct

Each stage keeps a checkpoint in `OUT/run/<stage>` and is resumed from it; a finished stage is loaded, not trained again.
The folder's parts are those of `showtell/starters`: each component once, float16 safetensors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from showtell.errors import UsageError
from showtell.files import folder_atomic, write_atomic
from showtell.loading import starters_dir
from showtell.training.autoencoder import train_autoencoder
from showtell.training.cache import Words, cache_latents, embed
from showtell.training.clip import MEAN, STD, train_clip
from showtell.training.corpus import Corpus, Text, make_corpus
from showtell.training.curves import draw_curve
from showtell.training.denoiser import (
    SCHEDULER,
    Material,
    base_loss,
    instruct_loss,
    narrow,
    new_unet,
    train_denoiser,
    widen,
)
from showtell.training.loop import LossAt, Report, quiet, read_log
from showtell.training.settings import Preset, preset
from showtell.training.tokenizer import save_tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTokenizer


class _Run:
    """One training run: where things are, and what is already done."""

    def __init__(self, out: Path, settings: Preset, seed: int, device: str, report: Report) -> None:
        self.out, self.settings, self.seed, self.device, self.report = out, settings, seed, device, report

    def folder(self, stage: str) -> Path:
        return self.out / "run" / stage

    def check(self) -> None:
        """Refuse to go on with a run of other settings in the same folder."""
        told = json.loads(json.dumps({"preset": asdict(self.settings), "seed": self.seed}))
        path = self.out / "run" / "settings.json"
        if path.exists():
            kept = json.loads(path.read_text())
            differs = [k for k in told["preset"] if told["preset"][k] != kept["preset"].get(k)]
            if differs or kept["seed"] != self.seed:
                what = ", ".join([*differs, *(["seed"] if kept["seed"] != self.seed else [])])
                raise UsageError(f"{self.out}: holds a run of another {what}; choose an empty folder with --out")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(told, indent=1).encode(), force=True)

    def adopt(self, starters: Path, *, but: str) -> None:
        """Take every part from a folder of starters, as if it had been trained here, but the network of the stage ``but``."""
        parts = (
            ("clip", "clip"), ("vae", "autoencoder"), ("unet-base", "base"), ("unet-instruct", "instruct"), ("tokenizer", None),
        )  # fmt: skip
        for part, stage in parts:
            if stage == but or (self.out / part).exists():
                continue
            copied = self.out / f".{part}.part"
            shutil.rmtree(copied, ignore_errors=True)
            shutil.copytree(starters / part, copied)
            if stage is not None:
                self.folder(stage).mkdir(parents=True, exist_ok=True)
                told = {"seconds": 0, "device": "taken from the installed starters"}
                write_atomic(self.folder(stage) / "done.json", json.dumps(told).encode(), force=True)
            copied.replace(self.out / part)
        if not (self.out / "cards").exists():
            self._adopt_settings(starters / "cards")

    def _adopt_settings(self, cards: Path) -> None:
        """The settings of those starters, until a measurement writes cards of this run's own; none of their figures."""
        for path in cards.glob("*.json"):
            card = json.loads(path.read_text())
            card |= {
                "note": "Trained anew and not measured yet; its settings are those of other starters.",
                "figures": {},
            }
            (self.out / "cards").mkdir(exist_ok=True)
            write_atomic(self.out / "cards" / path.name, (json.dumps(card, indent=1) + "\n").encode(), force=True)

    def once(self, part: str, stage: str, load: Callable[[Path], Any], train: Callable[[], Any]) -> Any:
        """The trained component: from its folder when the stage is done, else trained and written there."""
        folder, done = self.out / part, self.folder(stage) / "done.json"
        if done.exists() and folder.exists():
            return load(folder)
        model, log = train(), self.folder(stage) / "log.jsonl"
        _save_half(model, folder)
        draw_curve(log, self.folder(stage) / "loss.png", title=stage)
        seconds = [line["seconds"] for line in read_log(log)] or [0.0]
        write_atomic(done, json.dumps({"seconds": round(seconds[-1]), "device": self.device}).encode(), force=True)
        return load(folder)


def _save_half(model: Any, folder: Path) -> None:
    """float16 safetensors, written beside and moved into place; the configuration says float32, which is how they are used."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.half().save_pretrained(part)
    path = part / "config.json"
    config = json.loads(path.read_text().replace('"float16"', '"float32"'))
    config.pop("_name_or_path", None)  # where it lay while it was trained is nobody's business
    path.write_text(json.dumps(config, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _tokenizer(out: Path) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    if not (out / "tokenizer").exists():
        with folder_atomic(out / "tokenizer", marker="tokenizer.json") as folder:
            save_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(out / "tokenizer")


def _clip(run: _Run, corpus: Corpus, tokenizer: CLIPTokenizer) -> CLIPModel:
    from transformers import CLIPImageProcessorPil, CLIPModel

    def train() -> CLIPModel:
        return train_clip(
            corpus, tokenizer, run.settings, run.folder("clip"), seed=run.seed, device=run.device, report=run.report
        )

    def load(folder: Path) -> CLIPModel:
        CLIPImageProcessorPil(
            size={"shortest_edge": 64},
            crop_size={"height": 64, "width": 64},
            image_mean=list(MEAN),
            image_std=list(STD),
        ).save_pretrained(folder)
        return CLIPModel.from_pretrained(folder, dtype=torch.float32).to(run.device).eval().requires_grad_(False)

    return run.once("clip", "clip", load, train)


def _autoencoder(run: _Run, corpus: Corpus) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    def train() -> AutoencoderKL:
        folder = run.folder("autoencoder")
        return train_autoencoder(corpus, run.settings, folder, seed=run.seed, device=run.device, report=run.report)

    return run.once("vae", "autoencoder", lambda f: AutoencoderKL.from_pretrained(f).to(run.device).eval(), train)


def _load_unet(folder: Path) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder)


def _denoisers(run: _Run, material: Material, embed_texts: Callable[[list[Text]], Words], stages: int) -> None:
    entries, settings = material.corpus.entries, run.settings

    def train(name: str, unet: UNet2DConditionModel, loss: Callable[..., LossAt], texts: list[Text]) -> Any:
        return train_denoiser(
            name,
            unet,
            loss,
            material,
            embed_texts(texts),
            settings,
            getattr(settings, name),
            run.folder(name),
            seed=run.seed,
            device=run.device,
            report=run.report,
        )

    def train_base() -> UNet2DConditionModel:
        captions = [e.captions[side] for side in (0, 1) for e in entries]
        # An instruct network that is there already knows how everything looks: a base model begins better from it.
        known = run.out / "unet-instruct"
        start = narrow(_load_unet(known)) if known.exists() else new_unet(settings.unet_channels)
        return train("base", start, base_loss, captions)

    torch.manual_seed(run.seed)
    base = run.once("unet-base", "base", _load_unet, train_base)
    if stages < 5:
        return

    def train_instruct() -> UNet2DConditionModel:
        return train("instruct", widen(base), instruct_loss, [e.instruction for e in entries])

    run.once("unet-instruct", "instruct", _load_unet, train_instruct)


def train_starter(
    *,
    out: str | Path,
    preset_name: str = "cpu",
    seed: int = 0,
    device: str = "cpu",
    stages: int = 5,
    only: str | None = None,
    report: Report = quiet,
) -> Path:
    """Train the starters from nothing into `out`, or go on with the run that is there, and return the folder.

    preset_name: "cpu" (two cores, about two hours), "gpu" (one large GPU, half an hour) or "smoke" (a handful of steps).
    stages: how many of data, clip, autoencoder, base, instruct to do. only: "instruct" or "base", to take everything else from
    the starters that are installed; a base model then grows out of their instruct network, with the picture's input left out.
    Raises UsageError for an unknown preset, another ``only``, or a folder that holds a run of other settings.
    """
    run = _Run(Path(out), preset(preset_name), seed, device, report)
    run.check()
    if only is not None:
        if only not in ("instruct", "base"):
            raise UsageError(f"only={only!r} is not known: choose instruct or base")
        run.adopt(starters_dir(), but=only)
    corpus = make_corpus(run.folder("data"), cases=run.settings.cases, counts=run.settings.edit_counts, report=report)
    tokenizer = _tokenizer(run.out)
    from diffusers import EulerAncestralDiscreteScheduler

    EulerAncestralDiscreteScheduler(**SCHEDULER).save_pretrained(run.out / "scheduler")
    if stages < 2:
        return run.out
    clip = _clip(run, corpus, tokenizer)
    if stages < 3:
        return run.out
    vae = _autoencoder(run, corpus)
    if stages < 4:
        return run.out
    latents = cache_latents(vae, corpus, run.folder("autoencoder") / "latents.npy", device=device, report=report)

    def embed_texts(texts: list[Text]) -> Words:
        return embed(clip, tokenizer, texts, device=device, report=report)

    empty = embed(clip, tokenizer, [Text("", ())], device=device, report=quiet).embeds[0].float()
    _denoisers(run, Material(corpus, latents, vae.config.scaling_factor, empty), embed_texts, stages)
    return run.out
