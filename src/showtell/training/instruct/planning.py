"""What a training would do, told before it does it: rows, buckets, passes, epochs, memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from showtell import loading, models
from showtell.data import Dataset
from showtell.training.instruct import beginning, network, preflight, rows
from showtell.training.instruct.network import Network
from showtell.training.instruct.rows import Examples
from showtell.training.instruct.settings import Config
from showtell.training.loop import Report, quiet


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training would do: its rows, buckets and held-out rows, epochs, passes a step, and memory."""

    config: Config
    examples: Examples
    widened: bool
    learned: int
    fit: preflight.Fit
    world: int = 1

    @property
    def epochs(self) -> float:
        """How often each row is seen."""
        return self.config.train.steps * self.config.train.batch_size / len(self.examples.train)

    @property
    def passes(self) -> int:
        """Passes through the network in a step, of one process."""
        return -(-self.config.train.batch_size // (self.config.micro_batch(self.world) * self.world))


def plan(config: Config, *, device: str = "auto", report: Report = quiet) -> Plan:
    """What a training would do. Nothing is written. Raises what ``run.train`` raises before its first step."""
    beginning.check(config)
    fit = preflight.estimate(config, device=loading.pick_device(device))
    source = rows.read(config)  # before the model, which takes longer
    net = network.load(config, device="cpu")  # where it would not fit the device that is to be told, not met
    found = examples_of(config, net, source, report)
    learned = sum(p.numel() for p in net.learned.values())
    return Plan(config=config, examples=found, widened=net.widened, learned=learned, fit=fit)


def examples_of(config: Config, net: Network, source: Dataset, report: Report) -> Examples:
    """The rows of a data set that can be trained on, in frames that the model takes."""
    resolution = config.data.resolution or models.resolution(net.pipe)
    return rows.gather(
        config,
        net.pipe,
        source,
        resolution=resolution,
        multiple=models.size_multiple(net.pipe),
        tick=lambda done, total: report("pictures", done, total, {}),
    )


def described(found: Plan) -> list[str]:
    """A plan as lines of text."""
    told, examples = found.config, found.examples
    kinds: dict[str, int] = {}
    for problem in examples.problems:
        kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
    lines = [
        f"model: {told.model}, {'widened from 4 input channels' if found.widened else '8 input channels'}; "
        f"{found.learned:,} parameters learn" + (" (LoRA)" if told.lora else ""),
        f"rows: {len(examples.train)} to train on, {len(examples.held_out)} held out, {len(examples.problems)} left out"
        + (f" ({', '.join(f'{count} {kind}' for kind, count in kinds.items())})" if kinds else ""),
        "buckets: " + ", ".join(f"{size} {count}" for size, count in examples.buckets.items()),
        f"steps: {told.train.steps} of {told.train.batch_size} rows, in {found.passes} passes each; {found.epochs:.1f} epochs",
    ]
    if examples.cut:
        lines.append(f"words: {examples.cut} cut at the end, which the text encoder has no room for")
    return lines


def as_json(found: Plan) -> dict[str, Any]:
    """A plan as JSON can hold it."""
    examples = found.examples
    return {
        "config": found.config.as_dict(),
        "widened": found.widened,
        "parameters": found.learned,
        "rows": len(examples.train),
        "held_out": len(examples.held_out),
        "problems": [dataclasses.asdict(problem) for problem in examples.problems[:20]],
        "problem_count": len(examples.problems),
        "buckets": examples.buckets,
        "epochs": round(found.epochs, 3),
        "passes": found.passes,
        "memory": found.fit.as_dict(),
    }
