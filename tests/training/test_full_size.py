"""The configuration of Stable Diffusion 1.5 with weights drawn at random: one step of LoRA, within 24 GB (docs/memory.md).

What it prints is shown by ``pytest -m slow -s``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_STEP = Path(__file__).with_name("full_size_step.py")
MOST = 24e9


def called(*arguments: object) -> str:
    """What the script prints, in a process of its own, whose memory is its own; freed memory goes back to the system at once."""
    environment = dict(os.environ) | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, str(_STEP), *(str(each) for each in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("full") / "model"
    called("make", made)
    yield made
    shutil.rmtree(made)


def one_step(folder: Path, out: Path, *options: object) -> None:
    """Its shapes, what learnt, and what was held."""
    text = called("step", folder, out, *options)
    print(text)  # noqa: T201
    shutil.rmtree(out)
    found = json.loads(text.splitlines()[-1])
    assert found["numbers"] == 859_520_964 + 320 * 4 * 9  # the published network's, and the four new channels'
    assert found["adapters"] == 797_184 and found["learned"] == 797_184 + 320 * 8 * 9 + 320
    assert found["layers"] == found["moved"] == 2 * 4 * 16  # two attentions of four projections in sixteen blocks
    assert found["first convolution"] == [320, 8, 3, 3] and found["new channels moved"]
    assert 0 < found["loss"] < 100
    assert found["process"] < MOST
    assert 0.75 * found["estimate"] < found["measured"] < 1.1 * found["estimate"]


@pytest.mark.slow
@pytest.mark.parametrize("side", [256, 512])
def test_a_step_of_lora_at_full_size_on_a_cpu(folder, tmp_path, side) -> None:
    one_step(folder, tmp_path / "out", "--side", side)


@pytest.mark.gpu
def test_a_step_of_lora_at_full_size_on_a_gpu(folder, tmp_path) -> None:
    one_step(folder, tmp_path / "out", "--side", 512, "--device", "cuda", "--precision", "bf16")
