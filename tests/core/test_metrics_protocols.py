"""Named protocols: what a meter says of examples, what it leaves out, and what its digest depends on."""

from __future__ import annotations

import json
import math
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from showtell import metrics, scenes
from showtell.errors import ImageError, ModelError, UsageError
from showtell.metrics import Example, frechet
from showtell.metrics.measuring import FUNCTIONS
from showtell.metrics.protocols import KINDS, OF_SETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def examples():
    """Six drawn edits: every other one is right, the first is no edit at all."""
    found = []
    for seed in range(6):
        case = scenes.sample(seed, actions=["recolour"], split="train")
        other = scenes.apply(case, to=seed + 50, split="train")
        result = (
            case.after if seed % 2 else case.before if seed == 0 else scenes.sample(seed + 90, split="train").before
        )
        found.append(
            Example(
                before=case.before, result=result, after=case.after, mask=case.masks[0], source_caption=case.captions[0],
                target_caption=case.captions[1], pair=(other.before, other.after), group="ab"[seed % 2], truth=case,
            )
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def clip_folder(tiny_starters, tmp_path_factory):
    """The tiny CLIP as a folder of its own."""
    folder = tmp_path_factory.mktemp("clip") / "whole"
    shutil.copytree(tiny_starters / "clip", folder)
    shutil.copytree(tiny_starters / "tokenizer", folder, dirs_exist_ok=True)
    return str(folder)


@pytest.fixture
def starter(starters):
    return metrics.load("starter")


def test_the_starter_protocol_measures_what_the_functions_do(starter, examples):
    columns = starter.measure(examples)
    clip = metrics.load_clip()
    for i, (e, row) in enumerate(zip(examples, columns, strict=True)):
        wanted = {
            "edit_success": metrics.edit_success(e.truth, e.result),
            "edit_inside": metrics.edit_inside(e.truth, e.result),
            "edit_parts": metrics.edit_parts(e.truth, e.result),
            "edit_error": metrics.edit_error(e.truth, e.result),
            "outside_psnr": metrics.outside_psnr(e.truth, e.result),
            "clip_image": metrics.clip_image(clip, e.before, e.result),
            "clip_directional": metrics.clip_directional(clip, e.before, e.result, e.source_caption, e.target_caption),
            "clip_text": metrics.clip_text(clip, e.result, e.target_caption),
            "clip_visual": metrics.clip_visual(clip, *e.pair, e.before, e.result),
            "psnr_truth": metrics.psnr(e.after, e.result),
            "ssim_truth": metrics.ssim(e.after, e.result),
            "l1_truth": metrics.l1(e.after, e.result),
        }
        for name, value in wanted.items():
            if math.isnan(float(value)):
                assert row[name] is None and i == 0, name
            else:
                assert row[name] == pytest.approx(float(value), abs=1e-5), name
        assert row["perceptual_distance"] == pytest.approx(0, abs=1e-6) if i == 0 else row["perceptual_distance"] > 0
    assert [row["edit_success"] for row in columns] == [0, 1, 0, 1, 0, 1]
    assert columns[1]["psnr_truth"] == math.inf
    assert list(columns[0]) == [m.name for m in starter.protocol.measures if m.reduction != "set"]


def test_a_batch_is_its_examples_one_by_one_and_sizes_may_differ(starter, examples):
    small = [
        replace(e, **{name: getattr(e, name).resize((40, 48)) for name in ("before", "result", "after")})
        for e in examples
    ]
    mixed = [replace(small[1], mask=None, truth=None), examples[2], replace(small[3], mask=None, truth=None)]
    together = starter.measure(mixed)
    for e, row in zip(mixed, together, strict=True):
        (alone,) = starter.measure([e])
        assert alone.keys() == row.keys()
        for name, value in alone.items():
            assert row[name] == (None if value is None else pytest.approx(value, abs=1e-5)), name
    tiny = replace(
        small[2], **{name: getattr(small[2], name).resize((9, 9)) for name in ("before", "result", "after")}, truth=None
    )
    (row,) = starter.measure([tiny])
    assert row["ssim_truth"] is None and row["l1_truth"] > 0  # too small for a window of 11
    assert starter.measure([]) == [] and starter.features([]) == []


def test_large_pictures_go_through_a_network_one_by_one(starter, examples, monkeypatch):
    from showtell.metrics import measuring

    large = [replace(e, truth=None) for e in examples]
    together = [row["perceptual_distance"] for row in starter.measure(large)]
    width, height = examples[0].before.size
    monkeypatch.setattr(measuring, "_PIXELS", width * height)
    assert [len(part) for part in measuring._parts(list(range(3)), (width, height))] == [1, 1, 1]
    assert [len(part) for part in measuring._parts(list(range(3)), (width, 2 * height))] == [1, 1, 1]
    alone = [row["perceptual_distance"] for row in starter.measure([replace(e) for e in large])]
    assert alone == pytest.approx(together, abs=1e-5)


def test_what_an_example_lacks_has_no_value(starter, examples):
    bare = Example(before=examples[2].before, result=examples[2].result)
    (row,) = starter.measure([bare])
    assert {name for name, value in row.items() if value is not None} == {"clip_image", "perceptual_distance"}
    (told,) = starter.features([bare])
    assert [*told] == ["class_frechet_distance"] and len(told["class_frechet_distance"]) == 8  # the result's alone
    assert set(starter.overall([told] * 3, ["a"] * 3).values()) == {None}
    pixels = metrics.load("pixels").measure([bare, examples[2]])
    assert pixels[0]["mse_truth"] is None and pixels[1]["mse_truth"] > 0
    assert pixels[0]["mse_input"] == pixels[1]["mse_input"] > 0


def test_figures_of_a_set_are_class_by_class(starter, examples):
    found = starter.features(examples)
    clip = metrics.load_clip()
    results, truths = (clip.image_features([getattr(e, which) for e in examples]) for which in ("result", "after"))
    groups = [e.group for e in examples]
    overall = starter.overall(json.loads(json.dumps(found)), groups)
    assert overall["frechet_distance"] == pytest.approx(frechet.distance(results, truths), abs=1e-5)
    wanted = frechet.class_distance(results, groups, truths, groups)
    assert overall["class_frechet_distance"] == pytest.approx(wanted, abs=1e-5)
    assert wanted == pytest.approx(frechet.distance(results[0::2], truths[0::2]) / 2, abs=1e-5)  # the others are right
    # One class of a single picture, and the class-conditional figure would be another one.
    few = starter.overall(found, [*"aaaaab"])
    assert few["class_frechet_distance"] is None and few["frechet_distance"] == overall["frechet_distance"]
    assert set(starter.overall(found[:1], ["a"]).values()) == {None} == set(starter.overall([{}], ["a"]).values())
    assert set(starter.overall([], []).values()) == {None}
    # Results without a true picture are compared with nothing, and so with no others' either.
    more = starter.features([*examples, *(replace(e, after=None) for e in examples[:2])])
    assert starter.overall(more, [*groups, "a", "c"]) == overall and starter.entering(more) == len(examples)


def test_a_class_can_be_compared_with_real_pictures_of_it(starter, examples):
    bare = [replace(e, after=None) for e in examples]
    opened: list[str] = []

    def real(name, picture):
        return lambda: opened.append(name) or picture

    reals = {name: [real(name, e.before) for e in examples] for name in ("a", "b", "not asked for")}
    starter.use_reals(reals)
    found, groups = starter.features(bare), [e.group for e in examples]
    overall = starter.overall(found, groups)
    assert starter.overall(found, groups) == overall and sorted(opened) == ["a"] * 6 + ["b"] * 6  # once
    clip = metrics.load_clip()
    results, befores = (clip.image_features([getattr(e, which) for e in examples]) for which in ("result", "before"))
    wanted = frechet.class_distance(results, groups, torch.cat([befores] * 2), ["a"] * 6 + ["b"] * 6)
    assert overall["class_frechet_distance"] == pytest.approx(wanted, abs=1e-5)

    def broken():
        raise ImageError("b7.png: is broken")

    starter.use_reals({**reals, "b": [*reals["b"], broken]})
    assert starter.overall(found, groups) == overall and starter.problems == ["b7.png: is broken"]
    starter.use_reals({**reals, "b": [broken]})  # none of a class opens: the other figure is of those that do
    found_of_set = starter.overall(found, groups)
    assert found_of_set["class_frechet_distance"] is None
    assert found_of_set["frechet_distance"] == pytest.approx(frechet.distance(results, befores), abs=1e-5)
    starter.use_reals({"a": reals["a"]})
    assert starter.overall(found, groups)["class_frechet_distance"] is None and starter.entering(found) == len(bare)
    starter.use_reals({})
    assert set(starter.overall(found, groups).values()) == {None} and starter.entering(found) == 0


def test_each_picture_goes_through_a_model_once(starter, examples, monkeypatch):
    from showtell.metrics.clip import Clip

    seen: list[int] = []
    own = Clip.image_features

    def counted(self, pictures):
        seen.append(len(pictures))
        return own(self, pictures)

    monkeypatch.setattr(Clip, "image_features", counted)
    starter.measure(examples)
    starter.features(examples)
    assert sum(seen) == 5 * len(examples)  # before, result, after, and the two of the pair


def test_pie_bench_counts_what_lies_outside_and_black_inside(clip_folder, examples, tmp_path):
    from safetensors.torch import save_file
    from transformers import ViTConfig, ViTModel

    from tests.core.test_metrics_networks import PROCESSOR, weights

    torch.manual_seed(0)
    small = ViTConfig(
        hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8, image_size=32, patch_size=16
    )
    ViTModel(small, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    told = json.dumps({**PROCESSOR, "image_processor_type": "ViTImageProcessor"})
    (tmp_path / "vit" / "preprocessor_config.json").write_text(told)
    save_file(weights("squeeze"), tmp_path / "squeeze.safetensors")
    models = {"clip": clip_folder, "dino": str(tmp_path / "vit"), "lpips": str(tmp_path / "squeeze.safetensors")}
    with pytest.raises(
        ModelError, match=r"'pie-bench' needs LPIPS weights \(squeeze\) for lpips_outside: give models="
    ):
        metrics.load("pie-bench", models={k: v for k, v in models.items() if k != "lpips"})
    meter = metrics.load("pie-bench", models=models)
    e = examples[4]
    empty, full = replace(e, mask=np.zeros((64, 64), bool)), replace(e, mask=np.ones((64, 64), bool))
    row, with_empty, with_full = meter.measure([e, empty, full])
    clip = metrics.load_clip(clip_folder)
    black = np.where(e.mask[:, :, None], np.asarray(e.result), 0).astype(np.uint8)
    from PIL import Image

    lpips = metrics.load_lpips(models["lpips"], network="squeeze")
    wanted = {
        "structure_distance": metrics.structure_distance(metrics.load_dino(models["dino"]), e.before, e.result),
        "psnr_outside": metrics.psnr(e.before, e.result, ~e.mask),
        "lpips_outside": metrics.lpips(lpips, e.before, e.result, ~e.mask),
        "mse_outside": metrics.mse(e.before, e.result, ~e.mask),
        "ssim_outside": metrics.ssim(e.before, e.result, ~e.mask),
        "clip_whole": metrics.clip_score(clip, e.result, e.target_caption),
        "clip_edited": metrics.clip_score(clip, Image.fromarray(black), e.target_caption),
    }
    assert row == {name: pytest.approx(float(value), abs=1e-5) for name, value in wanted.items()}
    assert with_empty["clip_edited"] is None and with_empty["mse_outside"] == pytest.approx(
        float(metrics.mse(e.before, e.result))
    )
    outside = [name for name in with_full if name.endswith("_outside")]
    assert len(outside) == 4 and all(with_full[name] is None for name in outside)


def test_pick_scores_and_dino_of_foi(clip_folder, examples, tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    from tests.core.test_metrics_networks import PROCESSOR

    Dinov2Model(
        Dinov2Config(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, image_size=32, patch_size=16)
    ).save_pretrained(tmp_path / "dino")
    told = json.dumps({**PROCESSOR, "image_processor_type": "BitImageProcessor"})
    (tmp_path / "dino" / "preprocessor_config.json").write_text(told)
    dino = str(tmp_path / "dino")
    meter = metrics.load("foi", models={"clip": clip_folder, "dino": dino, "pick": clip_folder})
    rows = meter.measure(examples[1:3])
    for e, row in zip(examples[1:3], rows, strict=True):
        model = metrics.load_pick_score(clip_folder)
        assert row["pick_score"] == pytest.approx(
            float(metrics.pick_score(model, e.result, e.target_caption)), abs=1e-4
        )
        assert row["dino_image"] == pytest.approx(
            float(metrics.dino_image(metrics.load_dino(dino), e.before, e.result)), abs=1e-5
        )
    assert meter.overall(meter.features(examples), [e.group for e in examples]) == {}


def test_another_model_is_another_protocol(clip_folder):
    own, other = metrics.choose("ip2p"), metrics.choose("ip2p", models={"clip": clip_folder})
    assert own == metrics.PROTOCOLS["ip2p"] and own.digest != other.digest and other.name == "ip2p"
    assert {m["model"] for m in other.describe()["measures"]} == {clip_folder}
    assert (
        other.describe()["digest"] == other.digest == metrics.load("ip2p", models={"clip": clip_folder}).protocol.digest
    )
    assert metrics.choose("foi", models={"dino": "x"}).measures[0] == metrics.PROTOCOLS["foi"].measures[0]


def test_ip2p_subtracts_features_of_unit_length(examples):
    (row,) = metrics.load("ip2p", models={"clip": "starter-clip"}).measure(examples[1:2])
    clip, e = metrics.load_clip(), examples[1]
    told = (clip, e.before, e.result, e.source_caption, e.target_caption)
    wanted = float(metrics.clip_directional(*told, unit=True))
    assert row["clip_directional"] == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted - float(metrics.clip_directional(*told))) > 1e-4


def test_what_cannot_be_loaded_is_said_and_nothing_takes_its_place(tmp_path):
    with pytest.raises(UsageError, match="protocol 'fio' is not known: choose one of starter, pie-bench"):
        metrics.load("fio")
    with pytest.raises(UsageError, match="'ip2p' has no use for a model 'dino': it takes clip"):
        metrics.load("ip2p", models={"dino": "x"})
    with pytest.raises(UsageError, match="'pixels' has no use for a model 'clip': it takes none"):
        metrics.load("pixels", models={"clip": "x"})
    with pytest.raises(
        ModelError, match=r"^clip_image of the protocol 'ip2p': .*nothing: cannot be loaded .* give models="
    ):
        metrics.load("ip2p", models={"clip": tmp_path / "nothing"})


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS.values(), ids=lambda p: p.name)
def test_every_protocol_says_all_of_itself(protocol):
    names = [m.name for m in protocol.measures]
    assert len(set(names)) == len(names) and protocol.note
    for m in protocol.measures:
        assert m.function in {*FUNCTIONS, *OF_SETS} and callable(getattr(metrics, m.function))
        assert bool(m.model) == (m.function in KINDS)
        assert m.range and m.label and m.input
        assert (m.reduction == "set") == (m.function in OF_SETS)
    assert json.loads(json.dumps(protocol.describe()))["digest"] == protocol.digest
    fields = {"label": "x", "model": "x", "input": "x", "where": "inside the mask", "reduction": "median", "scale": 2.0}
    for name, value in fields.items():
        changed = replace(protocol, measures=(replace(protocol.measures[0], **{name: value}), *protocol.measures[1:]))
        assert changed.digest != protocol.digest


def test_the_page_shows_every_protocol_as_it_is():
    tool = runpy.run_path(str(ROOT / "tools" / "protocol_tables.py"))
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == tool["page"](page), "run python tools/protocol_tables.py"
    assert all(f"| `{m.name}` |" in page for p in metrics.PROTOCOLS.values() for m in p.measures)


def test_asking_for_measures_loads_no_torch():
    asked = "metrics.choose('foi'); metrics.clip.clip_i; metrics.psnr"
    code = f"import sys; from showtell import metrics; {asked}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
