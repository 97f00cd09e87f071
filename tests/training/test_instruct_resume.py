"""A training that is killed, stopped or out of disk loses time, never the result; several processes are one."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showtell.errors import Cancelled, ModelError, OutputError, ShowtellError, UsageError
from showtell.training.instruct import beginning, checkpoint, configuring, run
from tests.training import making

STEPS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pairs of two shapes, and random starters, which the whole module trains on."""
    from tests.helpers import tiny

    root = tmp_path_factory.mktemp("instruct")
    tiny.build_starters(root / "starters")
    making.pairs(root / "pairs", 12, sizes=((32, 32), (48, 24)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOWTELL_STARTERS", str(root / "starters"))
        yield root


def told(place: Path, **sections):
    sections.setdefault("train", {"steps": STEPS, "betas": (0.9, 0.99), "min_snr": 5.0})
    return making.told(place / "pairs", save={"every": 3}, **sections)


def trained(place: Path, out: str, *, resume: bool = False, report=run.quiet, **sections) -> Path:
    run.train(configuring.configure(told(place, **sections)), place / out, resume=resume, device="cpu", report=report)
    return place / out


@pytest.fixture(scope="module")
def uninterrupted(place):
    return trained(place, "uninterrupted")


def parameters(out: Path) -> dict[str, torch.Tensor]:
    last = checkpoint.newest(out)
    assert last is not None
    parts = [load_file(last / f"{part}.safetensors") for part in ("weights", "average", "optimiser")]
    return {f"{i}.{name}": tensor for i, part in enumerate(parts) for name, tensor in part.items()}


def same(a: Path, b: Path) -> None:
    """Both runs ended alike to the bit, with one and the same loss curve."""
    first, second = parameters(a), parameters(b)
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    curves = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (a, b)]
    assert [line["step"] for line in curves[1]] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in curves[0]] == [line["loss"] for line in curves[1]]
    weights = "model/unet/diffusion_pytorch_model.safetensors"
    assert (a / weights).read_bytes() == (b / weights).read_bytes()


def command(place: Path, out: str, *options: str) -> list[str]:
    config = place / f"{out}.yaml"
    config.write_text(json.dumps(told(place)))  # JSON is YAML
    return ["-m", "showtell.cli", "train", "instruct", str(config), "-o", str(place / out), "--device", "cpu", *options]


def lines(out: Path) -> int:
    log = out / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_run_killed_at_a_random_moment_goes_on_as_if_it_had_not_been(place, uninterrupted) -> None:
    moment = random.randrange(1, STEPS - 12)
    process = subprocess.Popen([sys.executable, *command(place, "killed")], stdout=subprocess.DEVNULL)
    while lines(place / "killed") < moment and process.poll() is None:
        time.sleep(0.002)
    time.sleep(random.random() * 0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (place / "killed" / "model").exists()
    assert lines(place / "killed") >= moment
    trained(place, "killed", resume=True)
    same(uninterrupted, place / "killed")


def test_ctrl_c_keeps_the_step_that_was_made(place, uninterrupted) -> None:
    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if (stage, step) == ("training", 7):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Cancelled, match=r"interrupted after step \d of 24; .* --resume"):
        trained(place, "stopped", report=report)
    assert checkpoint.newest(place / "stopped").name in ("step-000007", "step-000008")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    trained(place, "stopped", resume=True)
    same(uninterrupted, place / "stopped")


def test_ctrl_c_before_the_first_step_stops_at_once(place) -> None:
    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        assert stage == "pictures"
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Cancelled, match="interrupted; nothing was written"):
        trained(place, "early", report=report)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not (place / "early").exists()


def test_what_is_half_written_is_passed_over(place, uninterrupted) -> None:
    shutil.copytree(uninterrupted, place / "half")
    old = checkpoint.whole(place / "half")[0]
    for name in ("step-000025", "step-000030"):
        shutil.copytree(old, old.parent / name)
    (old.parent / "step-000025" / "weights.safetensors").write_bytes(b"cut short")
    (old.parent / "step-000030" / "state.json").unlink()
    (old.parent / ".showtell.abc.part").mkdir()
    (place / "half" / "log.jsonl").open("a").write('{"step": 25, "lo')
    assert checkpoint.newest(place / "half").name == "step-000024"
    trained(place, "half", resume=True)
    same(uninterrupted, place / "half")
    assert not list(old.parent.glob(".*"))


def test_the_last_checkpoints_are_kept(uninterrupted) -> None:
    assert [path.name for path in checkpoint.whole(uninterrupted)] == ["step-000021", "step-000024"]


def test_a_full_disk_leaves_the_checkpoint_before(place, monkeypatch) -> None:
    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if (stage, step) == ("training", 5):
            size = (checkpoint.newest(place / "full") / "optimiser.safetensors").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))

    try:
        with pytest.raises(OutputError, match="step-000006: .*cannot be written") as caught:
            trained(place, "full", report=report)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert caught.value.exit_code == 1 and "--resume" in str(caught.value)
    assert [path.name for path in checkpoint.folder_of(place / "full").iterdir()] == ["step-000003"]


def test_another_configuration_is_refused_by_the_keys_that_differ(place, uninterrupted) -> None:
    changed = {"train": {"steps": STEPS, "learning_rate": 0.5, "betas": (0.9, 0.99), "min_snr": 5.0}, "seed": 3}
    with pytest.raises(UsageError, match=r"another configuration: seed \(was 0, is 3\), train.learning_rate"):
        trained(place, "uninterrupted", resume=True, **changed)
    found = checkpoint.newest(uninterrupted)
    state = json.loads((found / "state.json").read_text())
    asked = configuring.configure(told(place, **changed)).as_dict()
    with pytest.raises(UsageError, match=r"step-000024: .*train.learning_rate \(was 0.001, is 0.5\)"):
        checkpoint.check(state, {**state, "config": asked}, str(found))
    with pytest.raises(UsageError, match="the rows to train on are others"):
        checkpoint.check(state, {**state, "data": "other"}, str(found))


def test_a_folder_in_use_is_not_begun_in(place, uninterrupted, tmp_path) -> None:
    with pytest.raises(OutputError, match="holds a run already; go on with it by --resume"):
        trained(place, "uninterrupted")
    with pytest.raises(UsageError, match="holds no run to resume"):
        trained(place, "nothing", resume=True)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(OutputError, match="is not empty"):
        trained(place, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_begin_leaves_nothing_and_may_be_begun_otherwise(place, uninterrupted) -> None:
    with pytest.raises(ModelError, match="no such model"):
        trained(place, "never", model="nobody")
    assert not (place / "never").exists()
    other, out = configuring.configure(told(place), {"seed": 3}), place / "barely"
    beginning.begin(other, out, resume=False)
    beginning.write_config(other, out)
    beginning.begin(configuring.configure(told(place)), out, resume=True)  # no checkpoint: it is not gone on with
    shutil.copytree(uninterrupted / "model", out / "model")
    with pytest.raises(UsageError, match="none of its checkpoints is whole"):
        beginning.begin(other, out, resume=True)


def test_a_validation_that_fails_costs_no_step_and_is_made_up_for(place) -> None:
    def fails(pipe: object, step: int):
        raise ShowtellError("no room for a validation")

    def noted(pipe: object, step: int):
        seen.append(step)
        return {"held_out_loss": 0.5}, None

    seen: list[int] = []
    config = configuring.configure(
        told(place, train={"steps": 5}, data={"held_out": 0.3}, validate={"every": 3}), {"save": {"every": 3}}
    )
    with pytest.raises(ShowtellError, match="no room"):
        run.train(config, place / "judged", device="cpu", validate=lambda config, rows: fails)
    assert checkpoint.newest(place / "judged").name == "step-000003"
    run.train(config, place / "judged", device="cpu", resume=True, validate=lambda config, rows: noted)
    assert seen == [3, 5]
    with pytest.raises(UsageError, match="is at step 5 already: train.steps must be that or more"):
        fewer = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=4))
        run.train(fewer, place / "judged", device="cpu", resume=True)
    again = run.train(config, place / "judged", device="cpu", resume=True, validate=lambda config, rows: noted)
    assert seen == [3, 5] and again.figures["loss"] > 0  # a run at its end is only saved again


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(place) -> None:
    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if (stage, step) == ("training", 4):
            for path in (place / "wild" / "cache").rglob("*.safetensors"):
                save_file({key: tensor * torch.nan for key, tensor in load_file(path).items()}, path)

    with pytest.raises(ShowtellError, match=r"the loss is not finite at step 4; the last good state is .*step-000003"):
        trained(place, "wild", report=report, data={"cache": "latents"})
    assert all(torch.isfinite(tensor).all() for tensor in parameters(place / "wild").values())


def test_weights_that_are_not_finite_are_not_kept(place) -> None:
    with pytest.raises(ShowtellError, match="the weights are not finite after step 1; nothing was saved yet"):
        trained(place, "burst", train={"steps": 1, "learning_rate": 1e38, "betas": (0.9, 0.99)})
    assert not (place / "burst" / "model").exists()


def test_two_processes_are_one_with_the_whole_batch(place) -> None:
    """Five rows a step: two for the one, three for the other, one at a time."""
    options = ("--set", "train.steps=4", "--set", "train.batch_size=5")
    trained(place, "one", train={"steps": 4, "batch_size": 5, "betas": (0.9, 0.99), "min_snr": 5.0})
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *command(place, "two", *options, "--set", "train.micro_batch=1")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained in") == 1
    one, two = parameters(place / "one"), parameters(place / "two")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 5e-5
    told_by = [json.loads(line)["loss"] for line in (place / "two" / "log.jsonl").read_text().splitlines()]
    expected = [json.loads(line)["loss"] for line in (place / "one" / "log.jsonl").read_text().splitlines()]
    assert told_by == pytest.approx(expected, abs=1e-5)
