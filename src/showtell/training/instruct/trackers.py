"""TensorBoard and Weights & Biases beside the training's own log."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from showtell import files
from showtell.errors import ShowtellError, UsageError
from showtell.training.instruct import card

if TYPE_CHECKING:
    from PIL import Image

    from showtell.training.instruct.settings import Config

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


def check(names: Sequence[str]) -> None:
    """Raise ``UsageError`` before a training for a tracker that is unknown or not installed."""
    import importlib.util

    for name in names:
        if name not in _PACKAGES:
            raise UsageError(f"save.trackers: {name!r} is not known: choose of {', '.join(_PACKAGES)}")
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise UsageError(f"save.trackers: {name} is not installed: pip install {_PACKAGES[name]}, or leave it out")


class Tracker(Protocol):
    """Where figures and pictures of steps go."""

    def log(self, step: int, figures: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        """Keep them."""

    def close(self) -> None:
        """Write what is not written yet."""


class Trackers:
    """The trackers of a run, kept in ``folder``; made by the first process only.

    ``step`` is the one that a resumed run goes on from: what a killed run had told of later steps is not shown twice. Raises
    ``UsageError`` for a tracker that is unknown or not installed, ``ShowtellError`` where one cannot be started.
    """

    def __init__(self, names: Sequence[str], folder: str | os.PathLike[str], config: Config, *, step: int = 0) -> None:
        check(names)
        makers = {"tensorboard": _TensorBoard, "wandb": _Wandb}
        place = files.make_folder(folder)
        self.each: list[Tracker] = [makers[name](place, config, step) for name in dict.fromkeys(names)]

    def log(self, step: int, figures: Mapping[str, float], pictures: Mapping[str, Image.Image] | None = None) -> None:
        """Keep figures, and pictures by name, of a step. Raises ``OutputError`` where the disk is full."""
        for tracker in self.each:
            tracker.log(step, figures, pictures or {})

    def close(self) -> None:
        """Write what is not written yet."""
        for tracker in self.each:
            tracker.close()


class _TensorBoard:
    """Event files: a run that is resumed opens another one in the same folder, which hides the old one's later steps."""

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder / "tensorboard"
        with _disk(self.folder):
            # Without a purge a first start over a killed run's events would double them too.
            self.writer = SummaryWriter(os.fspath(self.folder), purge_step=step + 1)
            if step == 0:
                self.writer.add_text("configuration", _as_text(config), global_step=1)

    def log(self, step: int, figures: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        import numpy as np

        with _disk(self.folder):
            for name, value in figures.items():
                if isinstance(value, (int, float)):
                    self.writer.add_scalar(name, value, step)
            for name, picture in pictures.items():
                self.writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
            if pictures:
                self.writer.flush()

    def close(self) -> None:
        with _disk(self.folder):
            self.writer.close()


class _Wandb:
    """A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it on this disk. The same folder goes on with the same run."""

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        import wandb  # ty: ignore[import-not-found]

        self.wandb = wandb
        known = folder / "wandb-run.txt"
        self.name = known.read_text(encoding="utf-8").strip() if known.is_file() else uuid.uuid4().hex[:12]
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "showtell"), id=self.name, resume="allow", dir=os.fspath(folder),
                config=card.published(config),
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  (its client raises many kinds, also of its transport)
            raise ShowtellError(f"Weights & Biases cannot be started ({error}): try WANDB_MODE=offline") from error
        files.write_atomic(known, self.name.encode(), force=True)

    def log(self, step: int, figures: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        shown: dict[str, Any] = {name: self.wandb.Image(picture) for name, picture in pictures.items()}
        self.run.log({**figures, **shown}, step=step)  # a step that it has had already is left out by itself

    def close(self) -> None:
        self.run.finish()


def _as_text(config: Config) -> str:
    """The configuration, indented: Markdown shows it as it is."""
    import yaml

    text = yaml.safe_dump(card.published(config), sort_keys=False, allow_unicode=True)
    return "\n".join(f"    {line}" for line in text.splitlines())


@contextlib.contextmanager
def _disk(folder: Path) -> Any:
    try:
        yield
    except OSError as error:
        raise files.output_error(folder, error) from error
