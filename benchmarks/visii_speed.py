"""A step of learning an instruction (VISII): the published form beside ours, with the same gradient.

python benchmarks/visii_speed.py [--steps 20] [-o benchmarks/results/visii_speed.json]
python benchmarks/visii_speed.py --device cuda --full-size [-o benchmarks/results/visii_speed-cuda.json]

The published form (published_visii.py) runs three branches with a gradient in float32, one timestep a step. Ours runs the two
constant ones without, in float32 and, on a GPU, in bfloat16. Both take the same pair, the same timesteps and noises, and steps
in turn; the gradients of the first step, where both stand at the same tokens, are compared in the same run. On a GPU each is
run alone once more for its greatest allocation.
"""

from __future__ import annotations

from typing import Any

import common
import full_size
import published_visii

WORDS = "make it a watercolor of the house"


def lesson(editor: Any, settings: Any) -> Any:
    """The lesson of a pair that starts from a few words. CLIP's loss, whose cost is nothing beside the UNet's, is left out."""
    from showtell import lessons
    from showtell.pairs import Pairs

    pair = (full_size.pictures(editor, 1)[0], full_size.pictures(editor, 1, after=True)[0])
    return lessons.prepare(editor, Pairs.of([pair]), settings, words=WORDS, clip=None, fit="fit")[0]


class Alone(Exception):
    """Ends a learning before its last step, which a check follows."""


def ours(editor: Any, steps: int, observe: Any) -> None:
    """Steps of showtell's learning; ``observe(done, progress, draws, lesson)`` after each."""
    import dataclasses

    from showtell import methods
    from showtell.inversion import visii
    from showtell.inversion.draws import Draws
    from showtell.inversion.progress import Progress

    value = visii.VisualInstructionInversion(
        steps=steps + 1, timesteps_per_step=1, clip_weight=0.0, check_every=steps + 1, check_timesteps=1, mirror=False
    )
    settings = methods.settle(value, given={}, card={}, kind=editor.kind)[0]
    own = lesson(editor, dataclasses.replace(settings))
    draws = Draws.of(steps=steps + 1, timesteps_per_step=1, pairs=1, total=len(own.alphas_cumprod), seed=0)

    def look(progress: Any, loss: float) -> None:
        observe(progress.step, progress, draws, own)
        if progress.step == steps:
            raise Alone

    try:
        visii.learn(own, draws, Progress.of(own.tokens), observe=look)
    except Alone:
        return


class Published:
    """The published step, at the timesteps and noises of ours."""

    def __init__(self, editor: Any, own: Any, draws: Any) -> None:
        import torch

        self.lesson = published_visii.Lesson.of(lesson(editor, own.settings))
        self.draws, self.noises = draws, draws.noise(self.lesson.after.shape[1:]).float()
        self.embeds, self.optimiser = published_visii.begin(self.lesson)
        self.device = torch.device(self.lesson.after.device)

    def step(self, number: int) -> None:
        t = self.draws.timesteps[number, 0]
        noise = self.noises[t][None].to(self.device)
        published_visii.step(self.lesson, self.embeds, self.optimiser, t.to(self.device), noise)


def side_by_side(editor: Any, exact: Any, steps: int, now: Any) -> dict[str, Any]:
    """Steps of ours on ``editor``, each followed by one of the published form on ``exact``, which is float32."""
    own_seconds: list[float] = []
    their_seconds: list[float] = []
    found: dict[str, Any] = {}
    state: dict[str, Any] = {}

    def observe(done: int, progress: Any, draws: Any, own: Any) -> None:
        if done > 1:  # the first one has a check before it, and warms up
            own_seconds.append(now() - state["start"])
        else:
            state["peer"] = Published(exact, own, draws)
        start = now()
        state["peer"].step(done - 1)
        if done > 1:
            their_seconds.append(now() - start)
        else:
            begin, end = own.span
            theirs, ours_ = (
                g.float().flatten() for g in (state["peer"].embeds.grad[begin:end], progress.parameter.grad)
            )
            found["gradient"] = {
                "difference": float((theirs - ours_).norm() / theirs.norm()),
                "cosine": float((theirs @ ours_) / theirs.norm() / ours_.norm()),
            }
        state["start"] = now()

    ours(editor, steps + 1, observe)
    return found | {
        "seconds": {"published": common.spread(their_seconds), "ours": common.spread(own_seconds)},
        "times_published": common.ratios(their_seconds, own_seconds),
    }


def memory(editor: Any, exact: Any) -> dict[str, int]:
    """Greatest CUDA allocations of three steps of each, from what the networks of that one alone hold."""
    import torch

    found: dict[str, int] = {}
    kept: dict[str, Any] = {}

    def measured(name: str, pipe: Any, run: Any) -> None:
        torch.cuda.empty_cache()
        others = torch.cuda.memory_allocated() - held(pipe)
        torch.cuda.reset_peak_memory_stats()
        run()
        found[name] = torch.cuda.max_memory_allocated() - others

    measured(
        "ours", editor.pipe, lambda: ours(editor, 3, lambda done, progress, draws, own: kept.update(d=draws, o=own))
    )
    peer = Published(exact, kept["o"], kept["d"])
    measured("published", exact.pipe, lambda: [peer.step(number) for number in range(3)])
    return found


def held(pipe: Any) -> int:
    """Bytes of a pipeline's networks."""
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    return sum(p.numel() * p.element_size() for part in parts for p in part.parameters())


def main(argv: list[str] | None = None) -> None:
    parser = common.options(__doc__)
    parser.add_argument("--steps", type=int, default=20, help="pairs of steps that are timed")
    args = common.ready(parser, argv)
    steps, cuda = (2 if args.quick else args.steps), args.device == "cuda"
    exact = full_size.editor(args, dtype="float32")
    now, forms, aims = common.clock(args.device), {}, []
    editors = {"float32": exact}
    if cuda and args.dtype != "float32":
        editors[args.dtype] = full_size.editor(args)
    for name, editor in editors.items():
        for part in (editor.pipe.unet, editor.pipe.vae, editor.pipe.text_encoder):
            part.requires_grad_(False)
        forms[name] = side_by_side(editor, exact, steps, now)
        if cuda:
            forms[name]["memory"] = memory(editor, exact)
    least = 3.0 if cuda else 1.2
    last = list(forms)[-1]
    aims.append(
        common.aim(f"VISII step: the published time over ours in {last}", forms[last]["times_published"], least=least)
    )
    if cuda:
        share = forms[last]["memory"]["ours"] / forms[last]["memory"]["published"]
        aims.append(common.aim(f"VISII step: our memory in {last} over the published", share, most=0.5))
    args.repeats = steps
    common.record("visii_speed", args, aims=aims, model=exact.model_id, forms=forms)


if __name__ == "__main__":
    main()
