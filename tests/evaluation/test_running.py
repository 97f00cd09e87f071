"""The engine: what is kept, what is done again, what is refused; on tiny random models."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from showtell import evaluation
from showtell.data import Problem, Row, dataset
from showtell.errors import FileFormatError, ImageError, UsageError
from showtell.evaluation import running, table
from showtell.evaluation.summary import RESAMPLES, resampled
from showtell.metrics import frechet, protocols
from showtell.metrics.clip import Clip
from tests.helpers import outsiders

COUNT = 5


def drawn(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))


def mask(number: int) -> np.ndarray:
    found = np.zeros((24, 32), bool)
    found[4:12, 8 : 16 + number] = True
    return found


def corrupt() -> Image.Image:
    raise ImageError("row-2.png: is not a picture that opens")


def rows(*, broken: bool = False) -> list[Row]:
    return [
        Row(
            id=f"row-{i}",
            before=corrupt if broken and i == 2 else partial(drawn, i),
            after=partial(drawn, 100 + i),
            mask=partial(mask, i),
            pair=lambda: (drawn(50), drawn(51)),
            instructions=("make it [red]", "and night")[: 1 + i % 2],
            source_caption="a thing",
            target_caption="a red thing",
            group=("even", "odd")[i % 2],
        )
        for i in range(COUNT)
    ]


@pytest.fixture(scope="module")
def meter():
    return protocols.load("pixels")


@pytest.fixture
def models(tiny_instruct_folder, tiny_base_folder):
    return {"instruct": str(tiny_instruct_folder), "base": str(tiny_base_folder)}


FAST = [
    evaluation.System(name="ip2p", settings={"num_inference_steps": 1}),
    evaluation.System(name="sdedit", settings={"num_inference_steps": 2, "strength": 0.5}),
    evaluation.System(name="input"),
]


LEARN = {"steps": 2, "init": "make it red", "clip_weight": 0.0}


def stamps(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*.png"))}


def test_a_class_is_compared_with_its_own_pictures(tmp_path, starters):
    def real(number):
        return lambda: drawn(number)

    listed = [replace(row, id=f"{row.id}-{i}", after=None) for i in range(2) for row in rows()]
    reals = {"even": (real(200), real(201), corrupt, real(202)), "odd": (real(203), real(204)), "other": ()}
    data = replace(dataset("mine", listed), reals=reals)
    starter = protocols.load("starter")
    summary = evaluation.run(data, [evaluation.System(name="input")], starter, tmp_path / "out")
    clip = Clip.load()
    befores = clip.image_features([row.before() for row in listed])
    own = clip.image_features([drawn(number) for number in (200, 201, 202, 203, 204)])
    wanted = frechet.class_distance(befores, [row.group for row in listed], own, ["even"] * 3 + ["odd"] * 2)
    found = summary["rows"][0]["measures"]["class_frechet_distance"]
    assert found["value"] == pytest.approx(wanted, abs=1e-4) and found["low"] < found["value"] < found["high"]
    assert summary["reals"] == {"groups": 3, "problems": ["row-2.png: is not a picture that opens"]}
    bare = evaluation.run(replace(data, reals={}), [evaluation.System(name="input")], starter, tmp_path / "out")
    assert bare["rows"][0]["measures"]["class_frechet_distance"]["value"] is None and "reals" not in bare


def test_a_run_goes_on_where_it_stopped(tmp_path, meter, models):
    data = dataset("mine", rows())
    whole = evaluation.run(data, FAST, meter, tmp_path / "whole", models=models, batch_size=2)

    class Stop(BaseException):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done >= 8:
            raise Stop

    out = tmp_path / "out"
    with pytest.raises(Stop):
        evaluation.run(data, FAST, meter, out, models=models, batch_size=2, tick=stop)
    kept = stamps(out)
    assert 0 < len([name for name in kept if name.startswith("edits")]) < 3 * COUNT
    resumed = evaluation.run(data, FAST, meter, out, models=models, batch_size=2)
    after = stamps(out)
    assert all(after[name] == stamp for name, stamp in kept.items()), "a picture was made again"
    for one in (whole, resumed):
        for row in one["rows"]:
            row.pop("seconds")
    assert resumed == whole
    assert [row["count"] for row in whole["rows"]] == [COUNT] * 3
    same = next(row for row in whole["rows"] if row["system"] == "input")["measures"]
    assert same["l1_truth"]["value"] > 0 and same["l1_truth"]["count"] == COUNT


def test_order_shards_and_batches_change_nothing(tmp_path, meter, models):
    data = dataset("mine", rows())
    evaluation.run(data, FAST[:1], meter, tmp_path / "a", models=models, batch_size=3)
    for number in (1, 0):
        evaluation.run(data, FAST[:1], meter, tmp_path / "b", models=models, batch_size=1, shard=(number, 2))
    first, second = ({one["id"]: one for one in evaluation.scores(tmp_path / name)} for name in ("a", "b"))
    assert first.keys() == second.keys() and len(first) == COUNT
    for name, one in first.items():
        assert one["seed"] == second[name]["seed"] == running.making.seed_of(0, name)
        for column, value in one["values"].items():
            assert second[name]["values"][column] == pytest.approx(value, abs=2e-3)
    assert len({one["seed"] for one in first.values()}) == COUNT


def test_a_corrupt_picture_is_counted_and_the_rest_goes_on(tmp_path, meter, models):
    data = dataset("mine", rows(broken=True), [Problem(id="row-9", what="is missing")])
    found = evaluation.run(data, FAST, meter, tmp_path, models=models, batch_size=4)
    assert [(row["count"], row["failed"]) for row in found["rows"]] == [(COUNT - 1, 1)] * 3
    broken = [one for one in evaluation.scores(tmp_path) if one["error"]]
    assert {one["id"] for one in broken} == {"row-2"} and "not a picture" in broken[0]["error"]
    assert [one["size"] for one in evaluation.rows(tmp_path)] == [None if i == 2 else [32, 24] for i in range(COUNT)]
    assert found["evaluation"]["dataset"]["problems"] == [{"id": "row-9", "what": "is missing", "kind": "damaged"}]
    mended = replace(data, rows=tuple(rows()))
    again = evaluation.run(mended, FAST, meter, tmp_path, models=models)
    assert [(row["count"], row["failed"]) for row in again["rows"]] == [(COUNT, 0)] * 3


def test_other_results_are_refused_not_mixed(tmp_path, meter, models):
    data = dataset("mine", rows()[:2])
    bounds = [evaluation.System(name="input"), evaluation.System(name="truth")]
    evaluation.run(data, bounds, meter, tmp_path, models=models)
    before = (tmp_path / "summary.json").read_bytes()

    class Other:
        protocol = replace(meter.protocol, name="another")
        measure, features, overall = meter.measure, meter.features, meter.overall

    for changed, words in (
        (lambda: evaluation.run(data, bounds, Other(), tmp_path), "another protocol"),
        (lambda: evaluation.run(dataset("mine", rows()), bounds, meter, tmp_path), "another data set"),
        (lambda: evaluation.run(data, bounds, meter, tmp_path, seed=1), "results of seed 0"),
        (
            lambda: evaluation.run(data, [evaluation.System(name="input", method="truth")], meter, tmp_path),
            "'input' with another method",
        ),
    ):
        with pytest.raises(FileFormatError, match=words):
            changed()
    assert (tmp_path / "summary.json").read_bytes() == before
    more = evaluation.run(data, [FAST[0]], meter, tmp_path, models=models)  # one more row of the same table
    assert [row["system"] for row in more["rows"]] == ["input", "truth", "ip2p"]


def test_every_kind_of_system_makes_pictures(tmp_path, meter, models):
    data = dataset("mine", rows()[:2])
    few = {"num_inference_steps": 2}
    systems = [
        evaluation.System(name="sequential", settings={"num_inference_steps": 1}),
        evaluation.System(name="visii", settings={"num_inference_steps": 1, **LEARN}),
        evaluation.System(name="autoencoder"),
        evaluation.System(name="truth"),
        evaluation.System(name="back", method="reconstruct-pti", settings={**few, "inner_steps": 1}),
        evaluation.System(name="ddim-edit", settings=few),
    ]
    found = evaluation.run(data, systems, meter, tmp_path, models=models)
    errors = [one["error"] for one in evaluation.scores(tmp_path) if one["error"]]
    assert not errors
    assert [row["count"] for row in found["rows"]] == [2] * 6
    assert len(list((tmp_path / "learned" / "visii").iterdir())) == 1  # both rows are shown the same pair
    truth = next(row for row in found["rows"] if row["system"] == "truth")["measures"]
    assert truth["l1_truth"]["value"] == 0


def test_a_row_without_what_a_system_needs_is_its_failure_alone(tmp_path, meter, models):
    bare = Row(id="bare", before=partial(drawn, 1))
    data = dataset("mine", [bare, rows()[0]])
    systems = [*FAST, evaluation.System(name="truth"), evaluation.System(name="visii", settings=LEARN)]
    found = evaluation.run(data, systems, meter, tmp_path, models=models)
    assert {row["system"]: row["failed"] for row in found["rows"]} == {
        "ip2p": 1, "sdedit": 1, "input": 0, "truth": 1, "visii": 1
    }  # fmt: skip
    told = {one["system"]: one["error"] for one in evaluation.scores(tmp_path) if one["id"] == "bare"}
    assert told["ip2p"] == "bare: the data set has no instruction for this row"
    assert told["sdedit"] == "bare: the data set has no caption of the result for this row"
    assert told["visii"] == "bare: the data set has no pair that shows the edit for this row"


def test_what_results_are_measured_against_is_opened_once_for_all_systems(tmp_path, meter):
    opened = []

    def told(what, value):
        return lambda: opened.append(what) or value

    row = replace(rows()[0], mask=told("mask", mask(0)), pair=told("pair", (drawn(50), drawn(51))))
    systems = [evaluation.System(name=name, method="input") for name in ("a", "b", "c")]
    found = evaluation.run(dataset("mine", [row]), systems, meter, tmp_path)
    assert [one["failed"] for one in found["rows"]] == [0, 0, 0] and sorted(opened) == ["mask", "pair"]
    wrong = replace(row, mask=lambda: mask(0)[:5])
    found = evaluation.run(dataset("mine", [wrong]), [evaluation.System(name="truth")], meter, tmp_path)
    assert [one["failed"] for one in found["rows"]] == [0, 0, 0, 1]
    assert [one["error"] for one in evaluation.scores(tmp_path) if one["error"]] == [
        "row-0: its mask is 32×5 and its picture 32×24"
    ]


def test_the_table_holds_every_picture_and_the_protocol(tmp_path, meter, models):
    data = dataset("mine", rows(broken=True))
    evaluation.run(data, [FAST[0], FAST[2]], meter, tmp_path, models=models)
    lines, protocol = table.read(tmp_path / "results.parquet")
    assert len(lines) == 2 * COUNT and protocol == json.loads(json.dumps(meter.protocol.describe()))
    by_name = {(one["system"], one["id"]): one for one in lines}
    for one in evaluation.scores(tmp_path):
        line = by_name[one["system"], one["id"]]
        assert line["error"] == one["error"] and line["group"] == ("even", "odd")[int(one["id"][-1]) % 2]
        for column in one["values"]:
            assert line[column] == one["values"][column]


def test_figures_are_means_with_bootstrap_intervals_and_counts(tmp_path, meter, models):
    found = evaluation.run(dataset("mine", rows()), FAST[2:], meter, tmp_path, models=models)
    values = [one["values"]["l1_truth"] for one in evaluation.scores(tmp_path)]
    l1 = found["rows"][0]["measures"]["l1_truth"]
    assert l1["value"] == pytest.approx(np.mean(values), abs=1e-5)
    assert min(values) <= l1["low"] < l1["value"] < l1["high"] <= max(values)
    assert found["groups"]["odd"]["input"]["l1_truth"]["count"] == 2


def test_resampled_figures_are_the_bootstraps_however_many_are_drawn_at_once():
    known = np.random.default_rng(1).normal(size=300)
    drawn = known[np.random.default_rng(2).integers(0, 300, size=(RESAMPLES, 300))]
    for reduce, most in ((np.mean, 2**20), (np.median, 1000), (np.mean, 7)):
        found = resampled(known, reduce, np.random.default_rng(2), most=most)
        assert np.allclose(found, reduce(drawn, axis=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: evaluation.check(evaluation.named("ip2p,nothing")), "'nothing' is not known"),
        (lambda: evaluation.check(evaluation.named("")), "no system to evaluate"),
        (lambda: evaluation.spec("a=ip2p,guidance"), "is no SETTING=VALUE"),
        (lambda: evaluation.spec("../x=ip2p"), "its name is of letters"),
        (lambda: evaluation.spec("a=ip2p,guidance_scale=NaN"), "guidance_scale"),
        (lambda: evaluation.swept("foi"), "METHOD.SETTING=VALUE"),
        (lambda: evaluation.check([FAST[0], evaluation.System(name="ip2p")]), "two systems are called 'ip2p'"),
        (lambda: evaluation.run(dataset("a", rows()), FAST, None, Path("x"), shard=(2, 2)), "shard 2/2"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_said_at_once(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_systems_are_read_from_words():
    one = evaluation.spec("wide=foi@some/folder,gamma=0,tau=0.3,columns=text")
    assert (one.name, one.method, one.model) == ("wide", "foi", "some/folder")
    assert one.settings == {"gamma": 0, "tau": 0.3, "columns": "text"}
    points = evaluation.swept("ip2p.image_guidance_scale=1,1.5")
    assert [point.name for point in points] == ["ip2p-image_guidance_scale=1", "ip2p-image_guidance_scale=1.5"]
    assert {point.curve for point in points} == {"ip2p"} and points[1].at == ("image_guidance_scale", 1.5)


def test_a_folder_of_something_else_is_no_evaluation(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(FileFormatError, match="is not an evaluation that this version reads"):
        evaluation.scores(tmp_path)
    with pytest.raises(FileFormatError, match="is not the folder of an evaluation"):
        evaluation.summary(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"format": 1}, "has no dataset: it is damaged"),
        (
            {"format": 1, "dataset": {}, "protocol": {"measures": []}, "systems": [{"name": "../x"}]},
            "not safe as a folder's",
        ),
        ({"format": 1, "dataset": {}, "protocol": {"measures": []}, "systems": []}, "another data set"),
        (None, "has rows.json but no evaluation.json"),
    ],
)
def test_a_folder_that_does_not_say_what_it_holds_is_left_alone(tmp_path, meter, head, words):
    (tmp_path / "rows.json").write_text("mine")
    if head is not None:
        (tmp_path / "evaluation.json").write_text(json.dumps(head))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(FileFormatError, match=words):
        evaluation.run(dataset("mine", rows()), FAST[2:], meter, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_was_damaged_is_made_again_and_nothing_else(tmp_path, meter):
    data, systems = dataset("mine", rows()), [evaluation.System(name="input"), evaluation.System(name="truth")]
    whole = evaluation.run(data, systems, meter, tmp_path)
    before = stamps(tmp_path)
    (tmp_path / "scores" / "input" / "row-0.json").write_text("[]")
    (tmp_path / "scores" / "input" / "row-1.json").write_text('{"half')
    (tmp_path / "scores" / "truth" / "row-2.json").unlink()
    (tmp_path / "edits" / "truth" / "row-2.png").write_bytes(b"half")
    (tmp_path / "inputs" / "row-4.png").write_bytes(b"half")  # everything of this row is done
    again = evaluation.run(data, systems, meter, tmp_path)
    for one in (whole, again):
        for row in one["rows"]:
            row.pop("seconds")
    assert again == whole
    after = stamps(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"edits/truth/row-2.png", "inputs/row-4.png"}
    assert [row["size"] for row in evaluation.rows(tmp_path)] == [[32, 24]] * 4 + [None]


def test_a_picture_that_is_another_now_is_refused_not_mixed(tmp_path, meter):
    evaluation.run(dataset("mine", rows()), FAST[2:], meter, tmp_path)
    changed = [replace(row, before=partial(drawn, 77)) if row.id == "row-1" else row for row in rows()]
    truth = evaluation.System(name="truth")
    found = evaluation.run(dataset("mine", changed), [truth], meter, tmp_path)
    assert [(row["system"], row["failed"]) for row in found["rows"]] == [("input", 0), ("truth", 1)]
    (told,) = [one["error"] for one in evaluation.scores(tmp_path) if one["error"]]
    assert "row-1.png: is not the picture that the data set has now" in told
    (tmp_path / "inputs" / "row-1.png").write_bytes(b"damaged")  # what does not open is written again
    assert evaluation.run(dataset("mine", rows()), [truth], meter, tmp_path)["rows"][1]["failed"] == 0


def test_systems_that_another_run_brought_meanwhile_are_kept(tmp_path, meter):
    data = dataset("mine", rows())

    def tick(done, total, what):
        if done == 0 and what == "input":  # the other run began and ended in the meantime
            evaluation.run(data, [evaluation.System(name="truth")], meter, tmp_path)

    found = evaluation.run(data, FAST[2:], meter, tmp_path, tick=tick)
    assert [(row["system"], row["count"]) for row in found["rows"]] == [("input", COUNT), ("truth", COUNT)]


def test_a_method_of_another_package_that_fails_is_its_rows_failure_alone(tmp_path, meter, models, monkeypatch):
    site = outsiders.install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    systems = [evaluation.System(name=name) for name in ("input", "crash", "quits")]
    found = evaluation.run(dataset("mine", rows()), systems, meter, tmp_path / "out", models=models)
    assert [(row["count"], row["failed"]) for row in found["rows"]] == [(COUNT, 0), (0, COUNT), (0, COUNT)]
    told = {one["system"]: one["error"] for one in evaluation.scores(tmp_path / "out")}
    assert told["crash"] == "method 'crash' failed: no plan for this" and told["quits"] == "method 'quits' failed: 0"


def test_words_that_are_cut_are_told(tmp_path, meter, models):
    long = replace(rows()[0], instructions=("make it red " * 80,))
    data = dataset("mine", [long, rows()[1]])
    found = evaluation.run(data, [*FAST[:1], FAST[2]], meter, tmp_path, models=models)
    assert [(row["system"], row["cut"], row["count"]) for row in found["rows"]] == [("ip2p", 1, 2), ("input", 0, 2)]
    told = [one["notes"] for one in evaluation.scores(tmp_path) if one["system"] == "ip2p"]
    assert "the instruction is too long" in told[0][0] and not told[1]


def test_a_psnr_is_kept_as_at_most_100_db(meter):
    kept = running.plain({"psnr_input": float("inf"), "psnr_truth": 107.0, "l1_input": float("nan")}, meter.protocol)
    assert kept == {"psnr_input": running.EQUAL, "psnr_truth": running.EQUAL, "l1_input": None}
