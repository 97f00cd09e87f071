"""How far a tuning has come, as a file from which it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import FileFormatError
from .tuning import Tuned

if TYPE_CHECKING:
    import torch

_KEY = "showtell-tuning"
_MAX_BYTES = 2**31


def save(tuned: Tuned, path: Path, *, what: str) -> None:
    """Write it whole, over an older one; ``what`` names the tuning that it belongs to. Raises ``OutputError``."""
    import torch
    from safetensors.torch import save as encode

    assert tuned.trajectory is not None
    # Whatever stopped it may have stopped it between two of them.
    steps = min(len(tuned.embeds), len(tuned.losses), len(tuned.latents) - 1)
    tensors: dict[str, torch.Tensor] = {"trajectory": tuned.trajectory}
    if steps > 0:
        tensors |= {
            "embeds": torch.stack(tuned.embeds[:steps]),
            "losses": torch.stack(tuned.losses[:steps]),
            "latents": torch.stack(tuned.latents[: steps + 1]),
        }
    header = json.dumps({"what": what, "steps": max(steps, 0), "how": tuned.how})
    data = encode({k: v.float().cpu().contiguous() for k, v in tensors.items()}, metadata={_KEY: header})
    files.write_atomic(path, data, force=True)


def load(path: Path, *, what: str, device: Any) -> Tuned:
    """Read it back. Raises ``FileFormatError`` if it is damaged or belongs to another tuning."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            t = {key: file.get_tensor(key).to(device) for key in file.keys()}  # noqa: SIM118 - not a dict
        own, steps = header["what"], int(header["steps"])
        if not all(bool(value.isfinite().all()) for value in t.values()):
            raise ValueError("its numbers are not finite")
        found = Tuned(trajectory=t["trajectory"], how=dict(header["how"]))
        if steps:
            found.embeds, found.losses, found.latents = (list(t[name]) for name in ("embeds", "losses", "latents"))
            if (len(found.embeds), len(found.latents)) != (steps, steps + 1):
                raise ValueError("its steps are incomplete")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: cannot be gone on from ({error!s:.100}); remove it and start again without --resume"
        ) from error
    if own != what:
        raise FileFormatError(
            f"{path}: belongs to another inversion (another picture, model, prompt or setting); give the same ones again, or "
            "start again without --resume"
        )
    return found
