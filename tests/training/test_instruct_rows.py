"""What of a data set can be trained on, what is told of the rest, and configurations that are wrong."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from showtell import models
from showtell.data import Row
from showtell.errors import FileFormatError, ImageError, ModelError, UsageError
from showtell.training.instruct import configuring, network, planning, presets, rows, run
from tests.training import making

LONG = "make the circle red and " * 20


@pytest.fixture
def pipe(starters):
    return network.load(configuring.configure({"model": "starter"}), device="cpu").pipe


def gathered(pipe, path, **sections) -> rows.Examples:
    config = configuring.configure(making.told(path, **sections))
    return rows.gather(
        config, pipe, rows.read(config), resolution=models.resolution(pipe), multiple=models.size_multiple(pipe)
    )


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_trained_on(tmp_path, pipe) -> None:
    sideways = Image.Exif()
    sideways[0x0112] = 6
    turned = io.BytesIO()
    making.picture(3, (48, 24)).save(turned, "PNG", exif=sideways)
    spoil = {
        1: {"before.png": b"no picture at all"},
        2: {"json": b'{"source_caption": "a", "target_caption": "b"}'},
        4: {"after.png": making.encoded(making.picture(0, (16, 64)))},
        5: {"before.png": turned.getvalue(), "after.png": making.encoded(making.picture(5, (24, 48)))},
        6: {"after.png": b""},
    }
    found = gathered(pipe, making.pairs(tmp_path / "p", 8, spoil=spoil))
    assert [one.id for one in found.train] == ["p000000", "p000003", "p000005", "p000007"]
    told = {problem.id: problem.what for problem in found.problems}
    assert set(told) == {"p000001", "p000002", "p000004", "p000006"}
    assert "not a picture" in told["p000001"] and "instruction is missing" in told["p000002"]
    assert told["p000004"] == "before is 32x32 and after 16x64: not of one shape"
    assert found.train[2].size == (24, 48) and found.frames[found.train[2].frame] == (24, 40)
    assert found.buckets == {"32x32": 3, "24x40": 1}


def test_a_set_of_which_nothing_is_left_says_why(tmp_path, pipe) -> None:
    path = making.pairs(tmp_path / "p", 2, spoil={i: {"before.png": b"none"} for i in range(2)})
    with pytest.raises(UsageError, match=r"no row is left to train on \(first of 2 problems: p000000: .*not a picture"):
        gathered(pipe, path)
    with pytest.raises(FileFormatError):
        gathered(pipe, making.pairs(tmp_path / "q", 2, spoil={i: {"after.png": None} for i in range(2)}))


def test_a_picture_that_breaks_later_is_named_with_its_row(tmp_path, starters) -> None:
    """Its header is right, and it is cut short behind it."""
    whole = making.encoded(making.picture(1, (32, 32)))
    short = whole[: len(whole) // 2]
    path = making.pairs(tmp_path / "p", 4, spoil={2: {"after.png": short}})
    config = configuring.configure(making.told(path))
    with pytest.raises(
        ImageError, match="row p000002, the picture after: .*p000002.after.png.*; mend it or take the row out"
    ):
        run.train(config, tmp_path / "out", device="cpu")


def test_words_that_are_too_long_stop_are_dropped_or_cut(tmp_path, pipe) -> None:
    path = making.pairs(tmp_path / "p", 4, words=["make it sepia", LONG])
    with pytest.raises(
        UsageError, match=r"row p000001: its words do not fit into 75 tokens; .*data.too_long: drop or cut"
    ):
        gathered(pipe, path)
    dropped = gathered(pipe, path, data={"too_long": "drop"})
    assert len(dropped.train) == 2 and [one.kind for one in dropped.problems] == ["too long"] * 2
    cut = gathered(pipe, path, data={"too_long": "cut"})
    assert len(cut.train) == 4 and cut.cut == 2 and all(len(one.ids) == 77 for one in cut.train)
    assert any("2 rows were cut" in note for note in run.notes_of(cut))


def test_held_out_rows_are_a_share_and_candidates_of_one_pair_stay_together(tmp_path, pipe) -> None:
    told = {"source_caption": "a", "instructions": ("b",)}
    many = [
        Row(id=f"p{i:04d}-c{c}", before=lambda: making.picture(0, (8, 8)), target_caption=f"c{i}", **told)
        for i in range(300)
        for c in range(3)
    ]
    away = {row.id for row in many if rows.is_held_out(row, 0.2)}
    assert 0.15 < len(away) / 900 < 0.25
    assert away <= {row.id for row in many if rows.is_held_out(row, 0.3)}
    assert len({name.split("-")[0] for name in away}) * 3 == len(away)
    path = making.pairs(tmp_path / "p", 12)
    found = gathered(pipe, path, data={"held_out": 0.5})
    kept = {one.id for one in found.train}
    assert len(kept) + len(found.held_out) == 12 and not kept & {row.id for row in found.held_out}
    other = gathered(pipe, path, data={"held_out_path": str(making.pairs(tmp_path / "q", 3))})
    assert len(other.train) == 12 and len(other.held_out) == 3


def test_a_plan_tells_what_would_be_done_and_writes_nothing(tmp_path, starters) -> None:
    path = making.pairs(tmp_path / "p", 8, sizes=((32, 32), (48, 24)), spoil={3: {"before.png": b"no"}})
    config = configuring.configure(making.told(path, train={"steps": 21, "batch_size": 4, "micro_batch": 3}))
    before = sorted(tmp_path.rglob("*"))
    plan = planning.plan(config, device="cpu")
    assert plan.passes == 2 and plan.epochs == 12 and plan.widened
    told = planning.as_json(plan)
    assert (told["rows"], told["problem_count"]) == (7, 1) and told["problems"][0]["id"] == "p000003"
    assert sum(told["buckets"].values()) == 7 and told["memory"]["total"] > 0
    assert "7 to train on, 0 held out, 1 left out (1 picture)" in "\n".join(planning.described(plan))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("told", "culprit"),
    [
        ({"trian": {}}, "trian is not a key of the configuration: there is model, seed, data, train"),
        ({"train": {"step": 3}}, "train.step is not a key .* there is steps, batch_size"),
        ({"train": {"steps": "many"}}, "train.steps is 'many'"),
        ({"train": {"steps": 0}}, "train.steps is 0: 1 is the least"),
        ({"train": {"learning_rate": -1}}, "train.learning_rate is -1"),
        ({"train": {"drop_text": 0.9, "drop_both": 0.2}}, "shares that sum to at most 1"),
        ({"train": {"precision": "int4"}}, "train.precision is 'int4'"),
        ({"data": 3}, "data is 3: name its keys"),
        ({"data": {"crop": "random", "cache": "latents"}}, "data.cache latents keeps one crop"),
        ({"lora": {"rank": 0}}, "lora.rank is 0"),
        ({"save": {"trackers": ["paper"]}}, "save.trackers"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_key(told, culprit: str) -> None:
    with pytest.raises(UsageError, match=culprit):
        configuring.configure(told)


def test_a_configuration_is_read_merged_and_written_back(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("train: {learning_rate: 1e-4, precision: no}\ndata:\n  options: {split: train}\nlora: {rank: 8}\n")
    told = [
        presets.preset("starter"),
        configuring.read(file),
        configuring.overrides(["lora=null", "train.betas=[0.5, 0.6]"]),
    ]
    config = configuring.configure(*told)
    assert (config.train.learning_rate, config.train.precision, config.train.betas) == (1e-4, "no", (0.5, 0.6))
    assert config.lora is None and config.data.options == {"split": "train"} and config.train.noise_exponent == 0.5
    assert configuring.configure(config.as_dict()) == config
    file.write_text("train: [")
    with pytest.raises(UsageError, match="is not YAML"):
        configuring.read(file)
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        configuring.overrides(["train.steps"])


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_are_configurations(name: str) -> None:
    assert configuring.configure(presets.preset(name)).data.path is None


def test_the_preset_for_a_card_takes_as_many_rows_at_once_as_it_has_room_for(starters) -> None:
    told = configuring.configure(presets.preset("24gb"), {"model": "starter-base", "data": {"resolution": 32}})
    assert told.train.micro_batch is None
    assert presets.fitted(told, "24gb").train.micro_batch == 64  # the whole batch of so small a model
    large = configuring.configure(presets.preset("24gb"), {"model": "starter-base", "data": {"resolution": 4096}})
    assert presets.fitted(large, "24gb").train.micro_batch < 64
    given = configuring.configure(presets.preset("24gb"), {"model": "starter-base", "train": {"micro_batch": 3}})
    assert presets.fitted(given, "24gb") == given and presets.fitted(told, "starter") == told


def test_what_may_change_when_a_run_is_resumed() -> None:
    def differing(**changes: object) -> list[str]:
        new = configuring.overrides([f"{key.replace('__', '.')}={value}" for key, value in changes.items()])
        return configuring.differing(configuring.configure({}).as_dict(), configuring.configure(new).as_dict())

    assert differing(train__micro_batch=2, save__keep=5, validate__rows=1, data__workers=3, train__steps=7) == []
    assert differing(seed=1, train__ema=0.5) == ["seed", "train.ema"]
    assert differing(train__schedule="cosine", train__steps=7) == ["train.steps", "train.schedule"]
    assert differing(data__options="{split: val}") == ["data.options"]


def test_what_is_missing_is_said_before_a_model_is_loaded(tmp_path, starters) -> None:
    with pytest.raises(UsageError, match="data.path is missing"):
        run.train(configuring.configure({}), tmp_path / "out")
    eight = making.told(tmp_path, train={"optimiser": "adamw8bit"})
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="needs bitsandbytes: pip install bitsandbytes"):
            run.train(configuring.configure(eight), tmp_path / "out")
    with pytest.raises(ModelError, match="starter-clip"):
        network.load(configuring.configure({"model": "starter-clip"}), device="cpu")
    assert list(tmp_path.iterdir()) == []
