"""Validation while an editor is trained: edits of held-out rows and their figures, which leave the training as it was.

Every figure is of the same rows with the same draws each time: what changes from one validation to the next is the network.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import drawing, loading
from .errors import ShowtellError, ShowtellWarning
from .training.instruct import held_out

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from .data.rows import Row
    from .metrics.clip import Clip
    from .training.instruct.settings import Config

_BATCH = 8


def validator(
    config: Config, rows: Sequence[Row], *, clip: str | None = "auto"
) -> Callable[[Any, int], tuple[dict[str, float], Image.Image | None]]:
    """What a training calls every so many steps with its pipeline, whose UNet holds the weights to be judged, and the step.

    It edits the first ``validate.metrics_rows`` of the held-out ``rows`` (at least ``validate.rows``) by ``Editor.edit``, each
    with a seed of its own, and returns figures and a sheet of the first ``validate.rows``: before, result, after; None for 0.

    The figures: ``held_out_loss``, the training's loss on one fixed draw a row, noise levels spread evenly, nothing left out;
    ``l1_to_after``, the mean absolute difference to the true picture, [0, 1]; ``clip_image`` (CLIP-I of result and before) and,
    where there are captions, ``clip_directional`` (features of unit length); ``right``, the share of right edits of drawn
    scenes, and ``right_inside``. ``rows`` counts what they are of and ``failed`` what could not be edited. ``clip`` names the
    CLIP; "auto" is starter-clip for starters and drawn scenes, which it knows, else none.

    The network's mode, its gradients and every global generator are as they were afterwards.
    """
    return _Validator(config=config, rows=[row for row in rows if row.after is not None], clip_name=clip)


@dataclass(kw_only=True, eq=False)
class _Validator:
    """Remembers what does not change from one validation to the next: pictures, their latents, the CLIP and its features."""

    config: Config
    rows: list[Row]
    clip_name: str | None
    samples: list[held_out.Sample] | None = None
    clip: Clip | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, pipe: Any, step: int) -> tuple[dict[str, float], Image.Image | None]:
        wanted = self.config.validate
        rows = self.rows[: max(wanted.rows, wanted.metrics_rows)]
        if not rows:
            return {}, None
        with _as_it_was(pipe):
            if self.samples is None:
                self.samples = held_out.encoded(pipe, self.config, rows[: wanted.metrics_rows])
            figures = held_out.loss_of(pipe, self.samples)
            shown = self._edited(pipe, rows)
            figures |= self._figures(pipe, shown[: wanted.metrics_rows])
            sheet = _sheet(shown[: wanted.rows], step) if wanted.rows else None
        return figures, sheet

    def _edited(self, pipe: Any, rows: Sequence[Row]) -> list[_Shown]:
        from .editor import Editor
        from .training.instruct.card import guidance
        from .training.instruct.rows import words_of

        editor = Editor(pipe, model_id=self.config.model, card={"defaults": {"ip2p": guidance(self.config)}})
        editor._stored_scheduler = pipe.scheduler  # stored with the weights, as when the model is loaded
        shown = [_Shown(row=row) for row in rows]
        for one in shown:
            with _noted(one):
                one.before, one.after = one.row.before(), one.row.after() if one.row.after else None
        open_ = [one for one in shown if one.after is not None]
        if not open_:
            return shown
        edits = editor.edit(
            [one.before for one in open_],
            [words_of(one.row) for one in open_],
            method="ip2p",
            seed=[held_out.key(self.config, one.row.id) & 0x7FFFFFFF for one in open_],
            batch_size=_BATCH,
        )
        for one, edit in zip(open_, edits, strict=True):
            if isinstance(edit, ShowtellError):
                one.wrong = str(edit)
            else:
                one.result = edit.image.convert("RGB")
        return shown

    def _figures(self, pipe: Any, shown: Sequence[_Shown]) -> dict[str, float]:
        from . import scenes

        good = [one for one in shown if one.result is not None]
        found: dict[str, float] = {"rows": len(good), "failed": len(shown) - len(good)}
        if not good:
            return found
        found["l1_to_after"] = _mean([_l1(one) for one in good])
        found |= self._similarities(pipe, good)
        drawn = [(one.row.truth, one.result) for one in good]
        scored = [scenes.score(case, result) for case, result in drawn if case is not None and result is not None]
        if scored:
            found["right"] = _mean([float(score.success) for score in scored])
            found["right_inside"] = _mean([float(score.inside) for score in scored])
        return found

    def _similarities(self, pipe: Any, good: Sequence[_Shown]) -> dict[str, float]:
        """CLIP-I of all, CLIP-D of those with both captions."""
        import torch

        from .metrics.clip import clip_d, clip_i

        clip = self._clip(pipe)
        if clip is None:
            return {}
        for one in good:
            if one.row.id not in self.features:
                captions = [one.row.source_caption, one.row.target_caption]
                texts = clip.text_features(captions) if all(captions) else torch.zeros(0, 0)
                pictures = clip.image_features([one.opened])
                self.features[one.row.id] = torch.cat([pictures, texts.to(pictures)]) if len(texts) else pictures
        results = clip.image_features([one.result for one in good if one.result is not None])
        known = [self.features[one.row.id] for one in good]
        found = {"clip_image": float(clip_i(torch.stack([k[0] for k in known]), results).mean())}
        told = [i for i, k in enumerate(known) if len(k) == 3]
        if told:
            before, source, target = (torch.stack([known[i][n] for i in told]) for n in range(3))
            values = clip_d(before, results[told], source, target, unit=True)
            values = values[values.isfinite()]  # an edit that changed nothing has no direction
            found["clip_directional_rows"] = len(values)
            if len(values):
                found["clip_directional"] = float(values.mean())
        return found

    def _clip(self, pipe: Any) -> Clip | None:
        name = self.clip_name
        if name == "auto":
            drawn = any(row.truth is not None for row in self.rows)
            name = "starter-clip" if drawn or self.config.model in loading.STARTERS else None
        if name is not None and self.clip is None:
            from . import models
            from .metrics.clip import Clip

            self.clip = Clip.load(name, device=str(models.device_of(pipe)))
        return self.clip


@dataclass(kw_only=True, eq=False)
class _Shown:
    """A row, its pictures, what became of it, or what is wrong with it."""

    row: Row
    before: Image.Image | None = None
    after: Image.Image | None = None
    result: Image.Image | None = None
    wrong: str = ""

    @property
    def opened(self) -> Image.Image:
        assert self.before is not None
        return self.before


@contextlib.contextmanager
def _as_it_was(pipe: Any) -> Iterator[None]:
    """Nothing learns, nothing random is taken from the training, and the network's mode comes back."""
    import torch

    training = pipe.unet.training
    pipe.unet.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ShowtellWarning)
            yield
    finally:
        pipe.unet.train(training)


@contextlib.contextmanager
def _noted(one: _Shown) -> Iterator[None]:
    """What is wrong with a row is its own affair."""
    try:
        yield
    except ShowtellError as error:
        one.wrong = str(error)


def _l1(one: _Shown) -> float:
    import numpy as np

    assert one.result is not None and one.after is not None
    after = one.after if one.after.size == one.result.size else one.after.resize(one.result.size)
    return float(np.abs(_values(one.result) - _values(after)).mean())


def _values(picture: Image.Image) -> np.ndarray:
    import numpy as np

    return np.asarray(picture.convert("RGB"), np.float64) / 255


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _sheet(shown: Sequence[_Shown], step: int) -> Image.Image:
    """A row of the sheet for each row: before, result, after, under its words."""
    from PIL import Image

    from .training.instruct.rows import words_of

    sections = []
    for one in shown:
        blank = Image.new("RGB", one.before.size if one.before else (64, 64), drawing.PAPER)
        pictures = (("before", one.before), ("result", one.result), ("after", one.after))
        tiles = [
            drawing.Tile(picture=picture or blank, caption=name, note="" if picture else one.wrong)
            for name, picture in pictures
        ]
        sections.append((words_of(one.row), tiles))
    return drawing.page(f"Step {step}", sections, subtitle="Held-out rows, with the averaged weights", columns=3)
