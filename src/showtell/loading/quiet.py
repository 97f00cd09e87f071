"""What the libraries say while they load, kept to one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..errors import ModelError, ShowtellError

# What diffusers, transformers and huggingface_hub raise for files that are missing, broken or do not fit.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError)


@contextlib.contextmanager
def one_line(name: str) -> Iterator[None]:
    """The libraries' bars and warnings are silenced; whatever they raise becomes one line that names the model."""
    import torch
    from safetensors import SafetensorError

    try:
        with silent():
            yield
    except torch.OutOfMemoryError as error:
        raise ShowtellError(
            f"{name}: the device has not enough memory for it: use float16, offload='model', or the CPU"
        ) from error
    except (*_LOAD_ERRORS, SafetensorError) as error:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{name}: cannot be loaded ({text[:300]})") from error


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """No bars and no warnings from the libraries; what the user had set is set again afterwards."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, (verbosity, bar) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()
