"""Where a run's figures and its model go: TensorBoard, and a hub on this machine."""

from __future__ import annotations

import pytest
from huggingface_hub import constants
from PIL import Image

from showtell.errors import ShowtellError, UsageError
from showtell.training.instruct import hub, trackers
from showtell.training.instruct.settings import Config, Data
from tests.helpers.hub import serving

RED = Image.new("RGB", (8, 6), "red")


def test_a_resumed_run_goes_on_without_doubled_steps(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = Config(data=Data(path="/home/someone/pairs"))
    killed = trackers.Trackers(["tensorboard"], tmp_path, config)
    for step in range(1, 8):
        killed.log(step, {"loss": 1 / step, "note": "not a number"}, {"samples": RED} if step in (4, 6) else None)  # ty: ignore
    killed.close()
    resumed = trackers.Trackers(["tensorboard"], tmp_path, config, step=5)  # its last checkpoint
    for step in range(6, 10):
        resumed.log(step, {"loss": 10 / step}, {"samples": RED} if step == 6 else None)
    resumed.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 10))
    assert found[5] == pytest.approx(1 / 5) and found[6] == pytest.approx(10 / 6)
    images = events.Images("samples")
    assert [image.step for image in images] == [4, 6] and (images[0].width, images[0].height) == (8, 6)
    text = events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "path: pairs" in text and "someone" not in text


def test_a_tracker_that_is_not_there_is_one_line_before_anything_is_made(tmp_path) -> None:
    with pytest.raises(UsageError, match="'mlflow' is not known"):
        trackers.Trackers(["mlflow"], tmp_path / "run", Config())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def local_hub(monkeypatch):
    """A hub on this machine, which the client takes for the real one."""
    with serving() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_nothing")
        yield found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "README.md").write_text("---\ntags:\n- showtell\n---\n\n# x\n")
    (tmp_path / "model" / "unet" / "weights.safetensors").write_bytes(bytes(range(256)))
    return tmp_path / "model"


def test_a_model_is_pushed_as_it_lies(local_hub, folder) -> None:
    hub.check("someone/watercolours")
    assert local_hub.asked == []
    assert hub.push(folder, "someone/watercolours") == f"{local_hub.address}/someone/watercolours"
    assert local_hub.told[0]["visibility"] == "private" and local_hub.tokens == {"Bearer hf_nothing"}
    assert local_hub.files == {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_push_that_fails_says_where_the_model_lies(local_hub, folder, monkeypatch) -> None:
    local_hub.refuses = 403
    with pytest.raises(ShowtellError, match="403.*lies whole in .*hf upload someone/watercolours") as refused:
        hub.push(folder, "someone/watercolours")
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(ShowtellError, match="not pushed"):
        hub.push(folder, "someone/watercolours")


def test_what_a_push_needs_is_checked_before_the_training(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for wrong in ("a/b/c", "what is this", "-x/y"):
        with pytest.raises(UsageError, match="not a repository's name"):
            hub.check(wrong)
    with pytest.raises(UsageError, match="no token"):
        hub.check("someone/watercolours")
    monkeypatch.setenv("HF_TOKEN", "hf_nothing")
    hub.check("someone/watercolours")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE"):
        hub.check("someone/watercolours")
