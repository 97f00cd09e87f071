"""The model card of a trained editor: ``showtell_card.json`` for showtell, ``README.md`` for people and the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from showtell import loading
from showtell.training.instruct import distilling

if TYPE_CHECKING:
    from .settings import Config

_GUIDANCE = ("num_inference_steps", "guidance_scale", "image_guidance_scale")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a card is made of. ``whole``: the folder has the pipeline and not only adapters for it; ``learned``: how many
    numbers were learned.
    """

    config: Config
    figures: Mapping[str, Any]
    widened: bool
    whole: bool
    learned: int


def as_json(told: Told) -> dict[str, Any]:
    """The card that showtell reads: tuned defaults for a method, figures, and how it was trained."""
    config = told.config
    found: dict[str, Any] = {
        "kind": "instruct",
        "note": f"Trained by showtell from {_start(config)}; its figures are about the data that it was trained on.",
        "command": command(config),
        "defaults": {"ip2p": guidance(config)},
        "figures": dict(told.figures),
        "training": {"learned": told.learned, "widened": told.widened, "configuration": published(config)},
    }
    if config.lora is not None:
        found["lora"] = {"file": loading.ADAPTERS, "base": None if told.whole else config.model}
    return found


def command(config: Config) -> str:
    """The command that trains such a model."""
    return "showtell train instruct" if config.distill is None else "showtell train distill"


def guidance(config: Config) -> dict[str, Any]:
    """What the validation edits with, and what the card recommends: the configuration's values, else those that the start's
    card has; what neither has is the paper's. A student's own come first of all: guidance is in it already.
    """
    own = {} if config.distill is None else distilling.sampled_with(config.distill)
    tuned = loading.card_of(config.model).get("defaults", {}).get("ip2p", {})
    found = {name: getattr(config.validate, name) for name in _GUIDANCE}
    found = {name: tuned.get(name) if value is None else value for name, value in found.items()}
    return {name: value for name, value in found.items() if value is not None} | own


def published(config: Config) -> dict[str, Any]:
    """The configuration as others may see it: files and folders of this machine by their last name."""
    told = config.as_dict()
    told["model"] = _start(config)
    for name in ("path", "held_out_path"):
        if told["data"].get(name):
            told["data"][name] = _last(told["data"][name])
    return told


def readme(told: Told, *, name: str) -> str:
    """The Hugging Face model card, with its YAML header. The licence is left to whoever publishes it."""
    sections = (_header(told), f"# {name}", _about(told), _use(told), _training(told), _measured(told), _limits())
    return "\n\n".join(sections) + "\n"


def _header(told: Told) -> str:
    tags = ["image-to-image", "image-editing", "instruct-pix2pix", "stable-diffusion", "diffusers", "showtell"]
    lines = ["---", "# license: name the licence; the start's and the data's terms go on to hold"]
    if loading.has_public_name(told.config.model) and told.config.model not in loading.STARTERS:
        lines.append(f"base_model: {told.config.model}")
    lines += ["library_name: diffusers", "pipeline_tag: image-to-image", "tags:"]
    lines += [f"- {tag}" for tag in (*tags, *(["lora"] if told.config.lora else []))]
    return "\n".join([*lines, "---"])


def _about(told: Told) -> str:
    config = told.config
    start = f"{_start(config)}, widened from 4 to 8 input channels," if told.widened else f"{_start(config)},"
    what = f"LoRA adapters of rank {config.lora.rank}" if config.lora else "The whole UNet"
    widened = " and the first convolution" if config.lora and told.widened else ""
    return (
        f"An editor of pictures by instructions (InstructPix2Pix), trained by showtell. {what}{widened} learned: "
        f"{told.learned:,} numbers. It grew out of {start} and the other networks are as they were there.{_student(config)}"
    )


def _student(config: Config) -> str:
    if config.distill is None:
        return ""
    s_T, s_I = distilling.scales(config)
    few = (
        f", and it needs {config.distill.num_inference_steps} steps or so"
        if config.distill.kind == "consistency"
        else ""
    )
    return (
        f" It was distilled from its start guided with s_T {s_T:g} and s_I {s_I:g}: one evaluation of the network a step, "
        f"without guidance{few}."
    )


def _use(told: Told) -> str:
    lora, place = told.config.lora, "FOLDER"
    start = place if told.whole else _start(told.config)
    adapters = f'\npipe.load_lora_weights("{place}")' if lora else ""
    note = ""
    if lora and told.whole:
        note = " The pipeline in this folder is the start, without the adapters; they are in their own file, beside it."
    own = ""
    if start in loading.STARTERS:
        own = f"\n\n`showtell models export {start} {start}` writes the start as the folder that diffusers loads."
    scheduler = _scheduler(told.config)
    needed = f"{'LCMScheduler, ' if scheduler else ''}StableDiffusionInstructPix2PixPipeline"
    where = (
        "this folder, or its name on the hub" if told.whole else "this folder; `hf download` fetches it from the hub"
    )
    return (
        f"## How to use it\n\n`FOLDER` is {where}.{note}\n\n"
        f'```console\n$ showtell edit photo.png "make it a watercolor" --model {place} -o edited.png\n```\n\n'
        f"```python\nfrom diffusers import {needed}\n\n"
        f'pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained("{start}", safety_checker=None){adapters}{scheduler}\n'
        f'edited = pipe("make it a watercolor", image=photo{_scales(told.config)}).images[0]\n```{own}'
    )


def _scales(config: Config) -> str:
    return "".join(f", {name}={value}" for name, value in guidance(config).items() if name != "scheduler")


def _scheduler(config: Config) -> str:
    """What a stock pipeline must be told before a student of few steps is sampled."""
    if guidance(config).get("scheduler") != distilling.SCHEDULER:
        return ""
    return "\npipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)"


def _training(told: Told) -> str:
    config = told.config
    train, data = config.train, config.data
    rows = {
        "data": f"{_last(data.path or data.name)} ({data.name})",
        "steps": f"{train.steps:,} of {train.batch_size} pairs",
        "learning rate": f"{train.learning_rate:g}, {train.schedule}, {train.warmup_steps} steps of warm-up",
        "optimiser": f"{train.optimiser}, betas {train.betas[0]:g} and {train.betas[1]:g}, decay {train.weight_decay:g}",
        "averaged weights": "none" if train.ema is None else f"decay {train.ema:g}",
        "left out": f"words {train.drop_text:g}, picture {train.drop_image:g}, both {train.drop_both:g} of the samples",
        "precision": {"no": "float32"}.get(train.precision, train.precision),
        "seed": str(config.seed),
    }
    if config.distill is not None:
        del rows["left out"]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## Training\n\nMade by `{command(config)}`.\n\n| | |\n| --- | --- |\n{table}\n\n{_configuration(config)}"


def _configuration(config: Config) -> str:
    import yaml

    text = yaml.safe_dump(published(config), sort_keys=False, allow_unicode=True)
    return f"The whole configuration:\n\n```yaml\n{text}```"


def _measured(told: Told) -> str:
    lines = [f"| {name} | {value} |" for name, value in _flat(told.figures)]
    if not lines:
        return "## Figures\n\nNothing was measured."
    table = "\n".join(["| | |", "| --- | --- |", *lines])
    return (
        f"## Figures\n\nOf held-out rows, which were not trained on; the data decide what a good figure is.\n\n{table}"
    )


def _flat(figures: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Figures of any depth, one line each."""
    for name, value in figures.items():
        path = (*before, str(name).replace("_", " ").replace("|", "/"))
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            yield ", ".join(path), text.replace("|", "/").replace("\n", " ")


def _limits() -> str:
    return (
        "## Limitations\n\nIt knows the kinds of edits and pictures that it was trained on. An instruction of another kind may "
        "change nothing, or what it should leave alone. What its start and its data get wrong about people, places and "
        "things, it gets wrong too. Look at what it makes before you publish that."
    )


def _start(config: Config) -> str:
    """The start's name as others know it: a file or folder of this machine by its last name."""
    return config.model if loading.has_public_name(config.model) else _last(config.model)


def _last(path: str) -> str:
    """A path's last name; with the one before, where it is called model as in every run."""
    head, name = os.path.split(os.path.normpath(path))
    return f"{os.path.basename(head)}/{name}" if name == "model" and os.path.basename(head) else name or path
