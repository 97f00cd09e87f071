"""What every test shares: no network, one torch thread a worker, tiny models made once a session."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# A model, made or loaded, is a hundred thousand objects, all of which stay: looking for cycles after every 700 is in vain.
gc.set_threshold(50_000, 20, 20)
# A busy machine is no failure.
settings.register_profile("showtell", deadline=None)
settings.load_profile("showtell")


#: Files with tests that take tens of seconds.
LONG = ("tests/starters/", "tests/training/test_starter.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A worker takes whole files, in this order: what is long comes first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_starters(tmp_path_factory):
    """A folder of random starters in the package's layout."""
    from tests.helpers import tiny

    return tiny.build_starters(tmp_path_factory.mktemp("tiny") / "starters")


@pytest.fixture
def starters(tiny_starters, monkeypatch):
    """The package's starters are the random ones."""
    monkeypatch.setenv("SHOWTELL_STARTERS", str(tiny_starters))
    return tiny_starters


@pytest.fixture(scope="session")
def tiny_instruct_folder(tmp_path_factory):
    """A diffusers folder of a random instruct pipeline."""
    from tests.helpers import tiny

    folder = tmp_path_factory.mktemp("tiny") / "instruct"
    tiny.pipeline("instruct").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base_folder(tmp_path_factory):
    """A diffusers folder of a random base pipeline."""
    from tests.helpers import tiny

    folder = tmp_path_factory.mktemp("tiny") / "base"
    tiny.pipeline("base").save_pretrained(folder)
    return folder


@pytest.fixture
def instruct_pipe():
    """A random instruct pipeline, new for each test."""
    from tests.helpers import tiny

    return tiny.pipeline("instruct")


@pytest.fixture
def editor(instruct_pipe):
    """An editor around a random instruct pipeline."""
    import showtell

    return showtell.Editor(instruct_pipe)


@pytest.fixture
def picture():
    """``picture(width, height)``: a smooth RGB picture with some noise."""

    def make(width: int = 32, height: int = 32, seed: int = 0) -> Image.Image:
        rng = np.random.default_rng(seed)
        across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
        base = np.stack([across, down, (across + down) / 2], axis=2)
        return Image.fromarray((base + rng.integers(0, 55, base.shape)).astype(np.uint8))

    return make
