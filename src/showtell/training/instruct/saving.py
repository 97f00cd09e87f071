"""The trained editor as a folder that diffusers and showtell load."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import files, loading
from showtell.errors import OutputError
from showtell.schedulers import fresh_scheduler

from . import card, lora

if TYPE_CHECKING:
    import torch

    from .settings import Config

README = "README.md"


def save_model(
    pipe: Any,
    unet_state: Mapping[str, torch.Tensor],
    folder: str | os.PathLike[str],
    config: Config,
    figures: Mapping[str, Any],
    *,
    widened: bool = False,
    force: bool = False,
) -> Path:
    """Write the model as a folder, whole or not at all, and return its path.

    ``unet_state`` holds the learned tensors of ``pipe.unet`` (the averaged ones, where there are), by the names of its
    parameters, on any device; the others are taken from it, and the pipeline itself is left as it is. ``widened`` says that the
    training started from a 4-channel model; ``figures`` is what was measured, for the card.

    The folder has the whole pipeline (safetensors; autoencoder, text encoder, tokenizer and scheduler as they were loaded),
    ``showtell_card.json`` and ``README.md``. With ``config.lora`` it has the adapters, ``pytorch_lora_weights.safetensors``,
    and the pipeline *without* them only where no one else has it: a widened start, whose ``conv_in`` learned too, or a start
    from this disk. Raises ``OutputError``: exit code 1 where the disk is at fault.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    whole = config.lora is None or widened or not loading.has_public_name(config.model)
    told = card.Told(
        config=config,
        figures=figures,
        widened=widened,
        whole=whole,
        learned=sum(t.numel() for t in unet_state.values()),
    )
    try:
        with loading.silent(), files.folder_atomic(folder, marker=loading.CARD, force=force) as new:
            if whole:
                _save_pipeline(pipe, unet_state, new, config)
            if config.lora is not None:
                lora.save(pipe.unet, new, pipe, state=unet_state)
            _write(new / loading.CARD, json.dumps(card.as_json(told), indent=1, ensure_ascii=False) + "\n")
            _write(new / README, card.readme(told, name=_title(folder)))
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OutputError(
            f"{folder}: cannot be written ({error}); free some space and try again", exit_code=1
        ) from error
    return folder


def _title(folder: Path) -> str:
    """The folder's name; that of the run, where it is called model as in every run."""
    place = folder.absolute()
    return place.parent.name if place.name == "model" and place.parent.name else place.name


def _save_pipeline(pipe: Any, unet_state: Mapping[str, torch.Tensor], folder: Path, config: Config) -> None:
    """All of a pipeline, with other tensors in its UNet and no adapters; nothing is copied and the pipeline stays as it is."""
    parts = dict(pipe.components) | {"unet": _plain_unet(pipe.unet, unet_state)}
    if (few := card.guidance(config).get("scheduler")) is not None and config.distill is not None:
        parts["scheduler"] = fresh_scheduler(few, pipe.scheduler.config)
    if "safety_checker" in parts:
        parts["requires_safety_checker"] = parts["safety_checker"] is not None
    type(pipe)(**parts).save_pretrained(folder, safe_serialization=True)
    for path in sorted(folder.rglob("*.json")):
        _forget_place(path)


def _plain_unet(unet: Any, unet_state: Mapping[str, torch.Tensor]) -> Any:
    """The network as diffusers has it, around these tensors."""
    import torch

    with torch.device("meta"):
        plain = type(unet).from_config(dict(unet.config))
    held = {name: tensor.detach() for name, tensor in (dict(unet.state_dict()) | dict(unet_state)).items()}
    plain.load_state_dict(lora.without(held), assign=True)
    return plain.eval()


def _forget_place(path: Path) -> None:
    """Where a part lay when it was loaded is nobody's business."""
    told = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(told, dict) and told.pop("_name_or_path", None) is not None:
        _write(path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
