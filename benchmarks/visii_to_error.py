"""Learning an instruction: the time to the same held-out edit error, the published recipe against the card's settings.

python benchmarks/visii_to_error.py [--lessons 6] [--others 4] [--first 95000]
    [-o benchmarks/results/visii_to_error.json]

A lesson is one held-out edit, learned from one pair and applied to other scenes that it fits, on which the error is measured
(squared error inside the edited region over that of no edit: 0 is perfect, 1 nothing done; the same seeds for all). *Published*:
`published_visii.py`, 1000 steps from a caption of the after picture (PEZ, whose time is told apart and not counted), its
tokens applied after some numbers of steps and as it keeps them. *Ours*: `Editor.learn` with the card's settings and nothing
to start from, a learning of its own for each number of steps, since the rate falls to zero over all of them. Time is that of
the processor, one thread, of the whole learning (encoding and checks included), not of the applying; within a lesson both
are learned in turn.

The aim is the published recipe's mean error after all its steps (of its last and its kept tokens the better); the time is that
of the least number of our steps whose mean error is at or below it. Results are kept lesson by lesson in a folder beside the
JSON (`visii_to_error.parts`), so that the same command goes on after a kill, and more lessons add to it. The file has what
each took and how far each came; the plot (`--plot`) is error over time. `--redraw` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import common
import published_visii

PUBLISHED = (50, 100, 200, 300, 500, 700, 1000)
OURS = (10, 25, 50, 100, 200)
LEAST = 8.0
"""How many times less time than the published steps it is to take."""
KEPT = "kept"
"""Beside the numbers of steps: the tokens that the published recipe keeps, those of its least single loss."""


@dataclass(frozen=True)
class Lesson:
    """One edit: a pair to learn from, and ``others`` scenes to apply it to."""

    seed: int
    pair: Any
    others: Sequence[Any]

    @classmethod
    def of(cls, seed: int, others: int) -> Lesson:
        from showtell import scenes

        shown = scenes.sample(seed, split="heldout")
        return cls(seed, shown, [scenes.apply(shown, to=1_000 * seed + j) for j in range(1, others + 1)])


class Bench:
    """What all lessons share: the editor, CLIP, and the folder of what is done."""

    def __init__(self, args: argparse.Namespace, machine: dict[str, Any]) -> None:
        import showtell
        from showtell import models
        from showtell.bench import kept
        from showtell.metrics.clip import Clip

        self.args, self.kept, self.folder = args, kept, args.out.with_suffix(".parts")
        self.editor = showtell.load("starter", device="cpu", dtype="float32")
        self.clip = Clip.load("starter-clip")
        asked = {name: getattr(args, name) for name in ("others", "start", "caption_steps", "published_steps")}
        own = {"weights": models.weights_hash(self.editor.pipe), "card": self.editor.card.get("defaults", {}), **asked}
        kept.claim(self.folder, own | {"versions": machine["versions"]})

    def unit(self, name: str, lesson: Lesson, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What is kept under that name, made if it is not there yet."""
        path = self.folder / name / f"{lesson.seed}.json"
        if not path.exists():
            self.kept.write(path, make())
        return self.kept.read(path)

    def errors(self, lesson: Lesson, told: Any) -> list[dict[str, Any]]:
        """Each other scene's edit error and success under an instruction."""
        from showtell import scenes

        seeds = [10 * lesson.seed + j for j in range(len(lesson.others))]
        edits = self.editor.edit([case.before for case in lesson.others], [told] * len(seeds), seed=seeds)
        found = []
        for case, edit in zip(lesson.others, edits, strict=True):
            score = scenes.score(case, edit.image)
            found.append({"edit_error": round(score.edit_error, 5), "success": score.success})
        return found

    def published(self, lesson: Lesson) -> dict[str, Any]:
        """The published recipe on a lesson: seconds, and what its tokens do after each number of steps."""
        from showtell import learning, lessons
        from showtell.inversion import pez
        from showtell.inversion.visii import VisualInstructionInversion
        from showtell.pairs import Pairs

        start = time.process_time()
        words = {"words": lesson.pair.instructions[0], "nothing": ""}.get(self.args.start)
        if words is None:
            found = pez.caption(
                lesson.pair.after, clip=self.clip, num_tokens=published_visii.NUM_TOKENS, seed=lesson.seed,
                steps=self.args.caption_steps,
            )  # fmt: skip
            words = found.text
        captioned = time.process_time()
        pairs = Pairs.of([(lesson.pair.before, lesson.pair.after)])
        paper = VisualInstructionInversion(**VisualInstructionInversion.PAPER)
        settings = learning._settings(self.editor, paper, {})
        ours, ids = lessons.prepare(self.editor, pairs, settings, words=words, clip=self.clip, fit="fit")
        packing = lessons.Packing.of(self.editor, pairs, ours, ids, {}, name="published")
        wanted = sorted({n for n in PUBLISHED if n < self.args.published_steps} | {self.args.published_steps})
        at: dict[int, tuple[float, Any]] = {}

        def observe(done: int, embeds: Any) -> None:
            if done in wanted:
                at[done] = time.process_time() - captioned, embeds.clone()

        best, _ = published_visii.learn(
            published_visii.Lesson.of(ours), seed=lesson.seed, steps=self.args.published_steps, observe=observe
        )
        seconds = time.process_time() - captioned
        points = {str(n): (spent, embeds) for n, (spent, embeds) in at.items()} | {KEPT: (seconds, best)}
        first, last = ours.span
        return {
            "words": words, "caption_seconds": captioned - start,
            "points": {
                n: {"seconds": spent, "tests": self.errors(lesson, packing.look(embeds[first:last], {}))}
                for n, (spent, embeds) in points.items()
            },
        }  # fmt: skip

    def ours(self, lesson: Lesson, steps: int) -> dict[str, Any]:
        """A learning with the card's settings and so many steps."""
        start = time.process_time()
        look = self.editor.learn([(lesson.pair.before, lesson.pair.after)], steps=steps, seed=lesson.seed)
        return {"seconds": time.process_time() - start, "tests": self.errors(lesson, look)}

    def lesson(self, lesson: Lesson) -> dict[str, Any]:
        """All that is measured of a lesson."""
        made = {
            "seed": lesson.seed, "action": lesson.pair.edits[0].action,
            "told": self.unit("told", lesson, lambda: {"tests": self.errors(lesson, lesson.pair.instructions[0])}),
            "published": self.unit("published", lesson, lambda: self.published(lesson)), "ours": {},
        }  # fmt: skip
        for steps in self.args.ours_steps:
            made["ours"][str(steps)] = self.unit(f"ours-{steps}", lesson, lambda n=steps: self.ours(lesson, n))
        return made


def points(lessons: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each number of steps: its mean seconds, mean and median edit error, and success over all lessons' other scenes."""
    found = []
    for steps in of(lessons[0]):
        each = [of(lesson)[steps] for lesson in lessons]
        tests = [test for part in each for test in part["tests"]]
        means = [statistics.fmean(test["edit_error"] for test in part["tests"]) for part in each]
        spread = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
        found.append({
            "steps": steps, "seconds": round(statistics.fmean(part.get("seconds", 0.0) for part in each), 2),
            "mean_error": round(statistics.fmean(test["edit_error"] for test in tests), 4),
            "standard_error": None if spread is None else round(spread, 4),
            "median_error": round(statistics.median(test["edit_error"] for test in tests), 4),
            "success": round(statistics.fmean(test["success"] for test in tests), 4),
        })  # fmt: skip
    return found


def summary(lessons: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How far each came in what time, and the ratio of the times to the published recipe's own error."""
    published, ours = points(lessons, lambda one: one["published"]["points"]), points(lessons, lambda one: one["ours"])
    found: dict[str, Any] = {
        "told_in_words": points(lessons, lambda one: {"told": one["told"]})[0], "published": published, "ours": ours,
        "caption_seconds": round(statistics.fmean(one["published"]["caption_seconds"] for one in lessons), 2),
    }  # fmt: skip
    for figure in ("mean_error", "median_error"):
        # The last number of steps, and what was kept after it: both took the whole time.
        aim = min(point[figure] for point in published[-2:])
        reached = next((point for point in ours if point[figure] <= aim), None)
        sooner = next(point for point in published if point[figure] <= aim)
        whole = published[-1]["seconds"]
        found[f"to_{figure}"] = {
            "aim": aim, "published_seconds": whole,
            "published_first_there": {"steps": sooner["steps"], "seconds": sooner["seconds"]},
            "ours": None if reached is None else {"steps": reached["steps"], "seconds": reached["seconds"]},
            "ratio": None if reached is None else round(whole / reached["seconds"], 2),
        }  # fmt: skip
    ratio = found["to_mean_error"]["ratio"] or 0.0  # 0: never there
    found["aims"] = [common.aim("VISII to the same held-out edit error", ratio, least=LEAST)]
    return found


def table(found: dict[str, Any]) -> str:
    """The growth of both as a Markdown table, and the ratio below."""
    lines = [
        "| recipe | steps | seconds | mean edit error | median | success |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows = [("told in words", found["told_in_words"])]
    rows += [(name, point) for name in ("published", "ours") for point in found[name]]
    for name, point in rows:
        spread = "" if point["standard_error"] is None else f" ± {point['standard_error']:.3f}"
        steps, seconds = ("", "") if name == "told in words" else (point["steps"], f"{point['seconds']:.1f}")
        lines.append(
            f"| {name} | {steps} | {seconds} | {point['mean_error']:.3f}{spread} | {point['median_error']:.3f} | "
            f"{point['success']:.0%} |"
        )
    to = found["to_mean_error"]
    if to["ours"] is None:
        end = "none of our numbers of steps reaches it"
    else:
        end = f"ours is there after {to['ours']['steps']} steps, {to['ours']['seconds']:.1f} s: {to['ratio']} times faster"
    lines.append(
        f"\nThe published recipe ends at a mean error of {to['aim']:.3f} after {to['published_seconds']:.1f} s; {end}."
    )
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Any]) -> Any:
    """Mean edit error over the seconds of learning."""
    from showtell.bench.plots import Series, curves

    series = []
    for name in ("published", "ours"):
        known = [point for point in found[name] if point["steps"] != KEPT]
        errors = [point["standard_error"] or 0.0 for point in known]
        series.append(Series(name=name, points=[(p["seconds"], p["mean_error"]) for p in known], errors=errors))
    title = f"Learning from one pair ({found['lessons']} edits, {found['others']} other scenes each)"
    return curves(title, series, x_label="processor seconds of learning", y_label="mean edit error")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what is not there yet, lesson by lesson, and write the JSON after each."""
    import torch
    from machine import described

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    machine = described()
    bench, done, result = Bench(args, machine), [], {}
    for seed in range(args.first, args.first + args.lessons):
        done.append(bench.lesson(Lesson.of(seed, args.others)))
        asked = {name: getattr(args, name) for name in ("others", "start", "caption_steps", "published_steps")}
        settings = bench.editor.card.get("defaults", {}).get("visii", {})
        result = {
            "lessons": len(done),
            "seeds": [args.first, seed],
            **asked,
            "card": settings,
            **common.about("visii_to_error", args.told),
            **machine,
            **summary(done),
        }
        args.out.write_text(json.dumps({**result, "each": done}, indent=1) + "\n")
        print(f"{len(done)} of {args.lessons} lessons", flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time learning to the published recipe's held-out error.")
    parser.add_argument("--lessons", type=int, default=6)
    parser.add_argument("--others", type=int, default=4, help="scenes that each edit is applied to")
    parser.add_argument("--first", type=int, default=95_000, help="first seed")
    parser.add_argument(
        "--start", choices=("caption", "words", "nothing"), default="caption", help="of the published recipe"
    )
    parser.add_argument("--caption-steps", type=int, default=300)
    parser.add_argument("--published-steps", type=int, default=published_visii.STEPS)
    parser.add_argument("--ours-steps", type=int, nargs="+", default=list(OURS))
    parser.add_argument("-o", "--out", type=Path, default=common.RESULTS / "visii_to_error.json")
    common.drawing(parser)
    args = parser.parse_args(argv)
    args.told = list(sys.argv[1:] if argv is None else argv)

    found = json.loads(args.out.read_text()) if args.redraw else measure(args)
    common.show(args, table(found), lambda: plot(found))


if __name__ == "__main__":
    main()
