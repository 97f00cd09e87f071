"""Stable Diffusion 1.5 by its configuration, drawn at random, and one step of ``showtell train instruct`` on it, measured.

    python full_size_step.py make FOLDER
    python full_size_step.py step FOLDER OUT [--side 256] [--device cpu] [--precision no] [--checkpointing]

The last line of what a step prints is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from tests.helpers import tiny
from tests.training import making

UNET = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2, "cross_attention_dim": 768, "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
TEXT = {
    "vocab_size": 49_408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 768,
}  # fmt: skip


def make(folder: Path) -> None:
    """A text-to-image pipeline in float16, 2 GB, with a tokenizer of a few words."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)  # drawn at once as it is stored
    parts = {
        "unet": diffusers.UNet2DConditionModel(**UNET),
        "vae": diffusers.AutoencoderKL(**VAE),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
    }
    torch.set_default_dtype(torch.float32)
    pipe = diffusers.StableDiffusionPipeline(
        **parts, tokenizer=tiny.tokenizer(), scheduler=tiny.scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    making.pairs(folder / "pairs", 1, sizes=((512, 512),))


class Watch:
    """The process's memory, or the GPU's, and when the step began: what was held after loading and before, and at the most."""

    def __init__(self, device: str) -> None:
        self.cuda, self.seen, self.marks = device == "cuda", [(time.monotonic(), held())], list[tuple[float, str]]()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.seen.append((time.monotonic(), held()))
            time.sleep(0.01)

    def report(self, stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if self.cuda and stage == "words":
            torch.cuda.reset_peak_memory_stats()
        self.marks.append((time.monotonic(), stage))

    def peaks(self) -> dict[str, int]:
        begun, ended = (max(t for t, stage in self.marks if stage == name) for name in ("words", "training"))
        step = max(size for t, size in self.seen if begun <= t <= ended)
        if self.cuda:
            step = torch.cuda.max_memory_allocated()
        base = self.seen[0][1]
        return {
            "measured": step - (0 if self.cuda else base),
            "libraries": base,
            "process": max(size for _, size in self.seen),
            "seconds": round(ended - begun),
        }


def held() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def step(told: argparse.Namespace) -> dict[str, Any]:
    """One step, from the folder to the saved model."""
    from safetensors import safe_open

    from showtell import loading
    from showtell.training.instruct import preflight, run
    from showtell.training.instruct.configuring import configure

    train = {
        "steps": 1, "batch_size": 1, "learning_rate": 1e-4, "ema": 0.999, "precision": told.precision,
        "gradient_checkpointing": told.checkpointing,
    }  # fmt: skip
    config = configure(
        {
            "model": str(told.folder), "train": train, "lora": {"rank": 4, "alpha": 4},
            "data": {"path": str(told.folder / "pairs"), "resolution": told.side, "held_out": 0.0},
        }
    )  # fmt: skip
    fit = preflight.estimate(config, device=told.device)
    print(fit.table())  # noqa: T201
    watch = Watch(told.device)
    result = run.train(config, told.out, device=told.device, report=watch.report)
    with safe_open(result.model / loading.ADAPTERS, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    with safe_open(result.model / "unet" / "diffusion_pytorch_model.safetensors", "pt") as file:
        conv_in = file.get_tensor("conv_in.weight")
    moved = [key for key, tensor in tensors.items() if key.endswith("lora_B.weight") and tensor.abs().max() > 0]
    return {
        "side": told.side,
        "numbers": fit.numbers,
        "learned": fit.learned,
        "adapters": sum(tensor.numel() for tensor in tensors.values()),
        "layers": len(tensors) // 2,
        "moved": len(moved),
        "first convolution": list(conv_in.shape),
        "new channels moved": bool(conv_in[:, 4:].abs().max() > 0),
        "loss": result.figures["loss"],
        "estimate": fit.total,
        **watch.peaks(),
    }


def main() -> None:
    """What the file's first lines say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("make", "step"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="no")
    parser.add_argument("--checkpointing", action="store_true")
    told = parser.parse_args()
    if told.what == "make":
        make(told.folder)
    else:
        print(json.dumps(step(told)))  # noqa: T201


if __name__ == "__main__":
    main()
