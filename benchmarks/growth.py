"""How the cost of an edit grows with the work: with pictures, steps and pixels; straight lines through it, and a plot.

python benchmarks/growth.py [--repeats 3] [-o benchmarks/results/growth.json] [--plot docs/results/speed/growth.png]

All points of an axis are measured in turn; the line is that of least squares through their medians, told with R^2 and the
greatest deviation of a point, as a share of what the line says. On a GPU a batch costs less than its pictures one by one, until
the GPU is full. Attention between pixels grows with their square, so that the line of pixels bends where that is much of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import full_size

COUNTS, STEPS = (1, 2, 4, 8, 12, 16), (5, 10, 20, 30, 40, 50)
SIDES = {False: (64, 96, 128, 192, 256), True: (256, 384, 512, 640, 768)}
SHORT = {"pictures": (1, 2, 3), "steps": (1, 2, 3)}
LEAST = 0.99


def line(points: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Least squares: slope, intercept, R^2 and the greatest relative deviation from the line."""
    n = len(points)
    mean_x, mean_y = (sum(p[axis] for p in points) / n for axis in (0, 1))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    intercept = mean_y - slope * mean_x
    left = [y - (intercept + slope * x) for x, y in points]
    total = sum((y - mean_y) ** 2 for _, y in points)
    return {
        "slope": slope,
        "intercept": intercept,
        "r2": 1 - sum(e * e for e in left) / total if total else 1.0,
        "worst": max(abs(e) / abs(intercept + slope * x) for e, (x, _) in zip(left, points, strict=True)),
    }


def axes(editor: Any, args: Any) -> dict[str, dict[float, Callable[[], Any]]]:
    """What is run at each point of each axis; the points are pictures, steps and pixels."""
    quick = args.quick
    few = 1 if quick else 5
    base = full_size.pictures(editor, 1)[0].size[0]
    sides = (base, 2 * base) if quick else SIDES[args.full_size]

    def edit(pictures: list[Any], steps: int, **options: Any) -> Any:
        found = editor.edit(
            pictures, ["make it night"] * len(pictures), method="ip2p", seed=list(range(len(pictures))),
            num_inference_steps=steps, guidance_scale=7.5, image_guidance_scale=1.5, **options,
        )  # fmt: skip
        for each in found:
            if isinstance(each, Exception):
                raise each
        return found

    several = full_size.pictures(editor, max(SHORT["pictures"] if quick else COUNTS))
    one = several[:1]
    return {
        "pictures": {n: lambda n=n: edit(several[:n], few) for n in (SHORT["pictures"] if quick else COUNTS)},
        "steps": {n: lambda n=n: edit(one, n) for n in (SHORT["steps"] if quick else STEPS)},
        "pixels": {side**2: lambda side=side: edit(one, few, resolution=side) for side in sides},
    }


def plot(found: dict[str, Any], path: Path) -> None:
    """Seconds over the work, each axis as a share of its largest point; the JSON is all that is needed."""
    from showtell.bench.plots import Series, curves

    series = []
    for name, axis in found["axes"].items():
        most, longest = axis["points"][-1]["at"], axis["points"][-1]["seconds"]["median"]
        points = [(p["at"] / most, p["seconds"]["median"] / longest) for p in axis["points"]]
        series.append(Series(name=f"{name} (1 = {most:,})", points=points))
    path.parent.mkdir(parents=True, exist_ok=True)
    page = curves(
        "Time of an edit as the work grows", series, x_label="work, of the most", y_label="time, of the longest"
    )
    page.save(path, optimize=True)


def main(argv: list[str] | None = None) -> None:
    parser = common.options(__doc__, repeats=3)
    parser.add_argument("--plot", type=Path)
    args = common.ready(parser, argv)
    editor, now = full_size.editor(args), common.clock(args.device)
    found, aims = {}, []
    for name, runs in axes(editor, args).items():
        seconds = common.in_turn(runs, repeats=args.repeats, now=now)  # ty: ignore[invalid-argument-type]
        points = [{"at": at, "seconds": common.spread(values)} for at, values in seconds.items()]
        fit = line([(p["at"], p["seconds"]["median"]) for p in points])
        found[name] = {"points": points, "line": {key: float(f"{value:.4g}") for key, value in fit.items()}}
        aims.append(
            common.aim(f"a straight line through time over {name}, R²", round(fit["r2"], 4), least=LEAST, unit="")
        )
    common.record("growth", args, aims=aims, model=editor.model_id, dtype=args.dtype, axes=found)
    if args.plot:
        plot({"axes": found}, args.plot)


if __name__ == "__main__":
    main()
