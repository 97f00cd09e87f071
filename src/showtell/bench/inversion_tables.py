"""How well a picture comes back: Tables 1 to 3 of Prompt Tuning Inversion, on held-out scenes.

The words are the picture's caption throughout, and what is tuned starts from it, as in the paper's tables. The measure is the
PSNR of the whole picture, 8-bit, in dB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell import fitting, inverting, metrics, models, scenes
from showtell.bench import kept
from showtell.bench.inversion import Say, as_published, by_ddim, claim, common, edited, whole
from showtell.bench.inversion_cases import pictures
from showtell.conditioning import SteppedConditioning
from showtell.errors import FileFormatError
from showtell.guidance import ClassifierFree
from showtell.methods.base import Context, Plan
from showtell.methods.described import followed, pair_of, tuned
from showtell.methods.reconstructions import DdimReconstruction, NullTextReconstruction, PromptTuningReconstruction

if TYPE_CHECKING:
    from PIL import Image

    from showtell.editor import Editor

BLOCK = 4
"""Pictures that are reconstructed, measured and kept together."""
OMEGAS = (0.0, 1.0, 2.5, 5.0, 7.5)
ITERATIONS = (1, 2, 3, 4, 5)
RATES = (0.01, 0.1)


@dataclass(frozen=True, kw_only=True)
class NullTextAtOneRate(NullTextReconstruction):
    """Null-Text Inversion with the same learning rate in every step and no early stop, as Table 2 and 3 tell of both methods."""

    def plan(self, context: Context) -> Plan:
        pair = pair_of(self, context)
        trajectory = followed(context, pair, guidance_scale=self.inversion_guidance_scale or 0.0)
        assert context.source_embeds is not None
        found = tuned(
            context, pair, trajectory, of="uncond", start=context.negative_prompt_embeds, constant=context.source_embeds,
            guidance_scale=self.guidance_scale or 0.0, inner_steps=self.inner_steps or 0,
            rate=lambda i: self.learning_rate or 0.0,
        )  # fmt: skip
        assert found.tuned is not None
        return Plan(
            start=found.start,
            schedule=pair.schedule,
            step=pair.step,
            conditioning=SteppedConditioning(prompt_embeds=context.source_embeds, negative_prompt_embeds=found.tuned),
            guidance=ClassifierFree(guidance_scale=self.guidance_scale or 0.0),
            inverted=found,
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to reconstruct: ``of`` and its settings; ``forward`` guides the inversion that it goes out from."""

    name: str
    of: str
    settings: dict[str, Any] = field(default_factory=dict)
    forward: float = 0.0

    def method(self) -> Any:
        """What runs it."""
        kinds = {"ddim": DdimReconstruction, "nti": NullTextAtOneRate, "nti-published": NullTextReconstruction}
        if self.of == "pti":
            return PromptTuningReconstruction(start="source", **common("pti"), **self.settings)
        return kinds[self.of](**{**common(self.of), **self.settings})


def ddim(forward: float, backward: float) -> Row:
    """A cell of Table 1."""
    return Row(name=f"ddim-{forward:g}-{backward:g}", of="ddim", settings={"guidance_scale": backward}, forward=forward)


def tuning(of: str, iterations: int, rate: float) -> Row:
    """A cell of Table 3."""
    settings = {"inner_steps": iterations, "learning_rate": rate}
    return Row(name=f"{of}-{iterations}-{rate:g}", of=of, settings=settings)


AUTOENCODER = Row(name="autoencoder", of="autoencoder")
PUBLISHED = Row(name="nti-published", of="nti-published")


def table_two() -> list[Row]:
    """Its rows, as the paper has them, and Null-Text Inversion with its own iterations and rates."""
    most = ITERATIONS[-1]
    return [AUTOENCODER, ddim(0, OMEGAS[-1]), tuning("nti", most, 0.01), tuning("pti", most, 0.01), PUBLISHED]


def iterations(table: Mapping[str, Any]) -> list[int]:
    """The numbers of iterations that a Table 3 has."""
    return [n for n in ITERATIONS if tuning("pti", n, RATES[0]).name in table]


class Reconstructions:
    """The measurement of rows in ``folder``."""

    def __init__(self, editor: Editor, folder: Path, *, say: Say = lambda line: None) -> None:
        self.editor, self.say = as_published(editor), say
        dtype = str(models.dtype_of(editor.pipe.unet)).removeprefix("torch.")
        self.folder = folder / f"tables-{dtype}"
        kept.claim(self.folder, claim(editor))

    def run(self, rows: Sequence[Row], count: int) -> dict[str, list[float]]:
        """The PSNR of each of the first ``count`` pictures, by row; measured where missing."""
        found: dict[str, list[float]] = {row.name: [] for row in rows}
        for first in range(0, count, BLOCK):
            size = min(BLOCK, count - first)
            cases: list[tuple[int, scenes.Case]] = []
            inversions: dict[float, Any] = {}
            for row in rows:
                path = self.folder / row.name / f"{first}-{size}.json"
                settings = json.loads(json.dumps({**row.__dict__, "name": None}))
                if not path.exists():
                    cases = cases or pictures(first + size)[first:]
                    values = self.measured(row, cases, inversions)
                    kept.write(path, {"settings": settings, "psnr": [round(value, 4) for value in values]})
                    self.say(f"{row.name}: {first + size} of {count}")
                block = json.loads(path.read_text())
                if block["settings"] != settings:
                    raise FileFormatError(
                        f"{path}: was measured with other settings: remove it, or name another folder"
                    )
                found[row.name] += block["psnr"]
        return found

    def measured(self, row: Row, cases: Any, inversions: dict[float, Any]) -> list[float]:
        """dB of each picture."""
        befores = [case.before for _, case in cases]
        back = self.reconstructed(row, cases, inversions)
        return [float(metrics.psnr(first, second)) for first, second in zip(befores, back, strict=True)]

    def reconstructed(self, row: Row, cases: Any, inversions: dict[float, Any]) -> list[Image.Image]:
        """The pictures as they come back; ``inversions`` keeps those by DDIM, by their guidance, for other rows."""
        befores, captions = [case.before for _, case in cases], [case.captions[0] for _, case in cases]
        if row.of == "autoencoder":
            pipe = self.editor.pipe
            latents = models.scaled(pipe, models.encode_image(pipe, fitting.to_pixels(befores)))
            return fitting.to_images(models.decode(pipe, latents))
        if row.forward not in inversions:
            settings: dict[str, Any] = {**by_ddim(), "inversion_guidance_scale": row.forward, "guidance_scale": 0.0}
            inversions[row.forward] = whole(
                inverting.invert_many(self.editor, befores, source=captions, batch_size=BLOCK, **settings)
            )
        edits = edited(
            self.editor, inversions[row.forward], captions, method=row.method(), source=captions, seed=0,
            batch_size=BLOCK,
        )  # fmt: skip
        return [edit.image for edit in edits]


def measure(editor: Editor, folder: Path, counts: Any, *, say: Say) -> dict[str, Any]:
    """Tables 1 to 3 in the editor's precision: each row's mean PSNR with its standard error, and every picture's."""
    bench = Reconstructions(editor, folder, say=say)
    found: dict[str, Any] = {}
    if counts.table2:
        found["table2"] = summary(bench.run(table_two(), counts.table2))
    if counts.table3:
        rows = [tuning(of, n, rate) for of in ("nti", "pti") for rate in RATES for n in counts.iterations or ITERATIONS]
        found["table3"] = summary(bench.run([AUTOENCODER, *rows], counts.table3))
    if counts.table1:
        found["table1"] = summary(bench.run([ddim(f, b) for f in OMEGAS for b in OMEGAS], counts.table1))
    return found


def precision(exact: Editor, editor: Editor, folder: Path, count: int, *, say: Say) -> dict[str, Any]:
    """How far ``editor``'s precision moves Table 2's values from those of ``exact``: dB, the mean over pictures of each row."""
    rows = [row for row in table_two() if row is not PUBLISHED]
    first, second = (Reconstructions(one, folder, say=say).run(rows, count) for one in (exact, editor))
    return {
        "count": count,
        "dtype": str(models.dtype_of(editor.pipe.unet)).removeprefix("torch."),
        "moved": {
            row.name: round(_mean([b - a for a, b in zip(first[row.name], second[row.name], strict=True)]), 3)
            for row in rows
        },
    }


def summary(found: dict[str, list[float]]) -> dict[str, Any]:
    """Means, standard errors and counts."""
    return {
        name: {"psnr": round(_mean(values), 3), "standard_error": round(standard_error(values), 3), "count": len(values),
               "values": values}
        for name, values in found.items()
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def standard_error(values: Sequence[float]) -> float:
    """Of a mean."""
    mean, n = _mean(values), len(values)
    return (sum((v - mean) ** 2 for v in values) / max(1, n - 1) / n) ** 0.5
