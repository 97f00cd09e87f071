"""Any diffusers scheduler, by name, class, instance or configuration; always a fresh one."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from .errors import MethodError

_ALIASES = {
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm-multistep": "DPMSolverMultistepScheduler",
    "dpm-singlestep": "DPMSolverSinglestepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "pndm": "PNDMScheduler",
    "lcm": "LCMScheduler",
}


_MOST_TIMESTEPS = 10_000
# A step is told itself, the prediction, the timestep and the latents; one that must be told more is not for these models.
_TOLD = 4
_BUILD_ERRORS = (
    ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError, ImportError,
)  # fmt: skip


def names() -> list[str]:
    """The short names, for messages and help; diffusers' class names are taken too."""
    return list(_ALIASES)


def short_name(class_name: str) -> str:
    """The short name of a diffusers class, or the class name itself where it has none."""
    return next((name for name, each in _ALIASES.items() if each == class_name), class_name)


def fresh_scheduler(spec: Any, config: Mapping[str, Any]) -> Any:
    """A new scheduler, sharing nothing with the one given.

    ``spec`` is a short name, a diffusers class name, a class (both built from ``config``, the model's own scheduler
    configuration), an instance, or a configuration with ``_class_name`` (both with their own configuration).
    Raises ``MethodError`` for anything else, and for schedulers that these models do not fit: of flow matching, of
    inversion, and those whose step must be told more than prediction, timestep and latents.
    """
    if isinstance(spec, str):
        return _build(_class_by_name(spec), config)
    if isinstance(spec, type):
        return _build(_checked(spec, spec.__name__), config)
    if isinstance(spec, Mapping):
        return _build(_class_by_name(str(spec.get("_class_name"))), spec)
    if hasattr(spec, "config") and hasattr(spec, "set_timesteps"):
        return _build(_checked(type(spec), type(spec).__name__), spec.config)
    raise MethodError(
        f"scheduler={spec!r} is not a scheduler: give a name ({', '.join(names())}) or a diffusers scheduler"
    )


def recorded(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and configuration as plain JSON, from which ``fresh_scheduler`` builds the same one."""
    config = json.loads(scheduler.to_json_string())
    # Where the configuration was read from says nothing about the run.
    return {key: value for key, value in config.items() if key not in ("_name_or_path", "_diffusers_version")}


def _class_by_name(name: str) -> type:
    import diffusers

    short = _plain(name)
    known = {_plain(alias): cls for alias, cls in _ALIASES.items()}
    wanted = known.get(short) or next(
        (
            n
            for n in dir(diffusers)
            if n.endswith("Scheduler") and short in (_plain(n), _plain(n.removesuffix("Scheduler")))
        ),
        None,
    )
    if wanted is None:
        raise MethodError(
            f"scheduler {name!r} is not known: choose one of {', '.join(names())}, or a diffusers class name"
        )
    return _checked(getattr(diffusers, wanted), wanted)


def _checked(cls: Any, name: str) -> type:
    needed = ("set_timesteps", "step", "scale_model_input", "add_noise", "from_config")
    try:
        fits = all(hasattr(cls, method) for method in needed) and not re.search("FlowMatch|Inverse", name)
        fits = fits and _needed(cls.step) <= _TOLD
    except ImportError as error:  # diffusers' stand-in for a class whose own dependency is missing
        raise MethodError(f"scheduler {name!r} needs a library that is not installed ({error})") from error
    if not fits:
        raise MethodError(f"scheduler {name!r} does not fit these models: choose one of {', '.join(names())}")
    return cls


def _needed(step: Any) -> int:
    """How many arguments a ``step`` cannot do without."""
    given = inspect.signature(step).parameters.values()
    return sum(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in given)


def _build(cls: Any, config: Mapping[str, Any]) -> Any:
    import diffusers

    timesteps = config.get("num_train_timesteps", 1000)
    if isinstance(timesteps, bool) or not isinstance(timesteps, int) or not 1 <= timesteps <= _MOST_TIMESTEPS:
        raise MethodError(
            f"scheduler {cls.__name__}: num_train_timesteps={timesteps!r:.40} is out of range: "
            f"it must be a whole number from 1 to {_MOST_TIMESTEPS}"
        )
    told = dict(config)
    if "clip_sample" in inspect.signature(cls.__init__).parameters:
        told.setdefault("clip_sample", False)  # latents are no pictures: they go beyond [-1, 1]
    quiet = diffusers.logging.get_verbosity()
    # Keys that another scheduler class does not know are expected here, not worth a warning.
    diffusers.logging.set_verbosity_error()
    try:
        return cls.from_config(told)
    except _BUILD_ERRORS as error:
        raise MethodError(
            f"scheduler {cls.__name__} cannot be built from this model's configuration ({error})"
        ) from error
    finally:
        diffusers.logging.set_verbosity(quiet)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.lower())
