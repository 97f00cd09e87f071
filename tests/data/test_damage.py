"""Whatever is wrong with a row is told by its name, and the rest goes on; a layout that is not there is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from showtell import data
from showtell.errors import FileFormatError, ImageError, ShowtellError, UsageError
from tests.helpers import datasets


def first(listed):
    return next(iter(listed.values())) if isinstance(listed, dict) else listed[0]


def drop(file: str, *keys: str):
    """Damage: the first entry of a JSON file lacks a key."""

    def damage(root: Path) -> None:
        def how(value):
            entry = value
            for key in keys[:-1]:
                entry = first(entry) if key == "*" else entry[key]
            del entry[keys[-1]]

        datasets.change(root / file, how)

    return damage


def put(file: str, value, *keys):
    """Damage: something in a JSON file is another value."""

    def damage(root: Path) -> None:
        def how(whole):
            entry = whole
            for key in keys[:-1]:
                entry = first(entry) if key == "*" else entry[key]
            entry[keys[-1]] = value

        datasets.change(root / file, how)

    return damage


def gone(name: str):
    return lambda root: (root / name).unlink()


def small_mask(name: str):
    return lambda root: datasets.save_mask(root / name, (9, 9))


def line(name: str, number: int, text: str):
    """Damage: one line of a file is another."""

    def damage(root: Path) -> None:
        lines = (root / name).read_text().splitlines()
        lines[number] = text
        (root / name).write_text("\n".join(lines) + "\n")

    return damage


def jsonl_manifest(root: Path) -> Path:
    return datasets.manifest(root, ".jsonl")


def imagenet_pairs(root: Path) -> Path:
    datasets.imagenet(root)
    files = sorted((root / "n02085620").iterdir())
    pairs = [{"image": f"n02085620/{f.name}", "source": "Chihuahua", "target": "tabby"} for f in files]
    datasets.write(root / "pairs.json", pairs)
    return root


PIE, BRUSH, COCO = "mapping_file.json", "edit_sessions.json", "annotations/captions_val2017.json"
DOG = "n02085620/ILSVRC2012_val_00000010.JPEG"
PIE_PICTURE = "annotation_images/0_kind/1_artificial/000000000000.jpg"
ESCAPES = ("../a.png", "/etc/passwd", "x/../../a.png", "C:\\a.png", "..\\a.png", "a\0.png")
DAMAGE = {
    "pie-bench picture": ("pie-bench", gone(PIE_PICTURE), "missing file", "000000000000"),
    "pie-bench prompt": ("pie-bench", drop(PIE, "*", "editing_prompt"), "missing words", "000000000000"),
    "pie-bench instruction": ("pie-bench", put(PIE, " ", "*", "editing_instruction"), "missing words", "000000000000"),
    "pie-bench entry": ("pie-bench", put(PIE, 5, "000000000000"), "damaged", "000000000000"),
    "pie-bench mask": ("pie-bench", put(PIE, [1, 2, 3], "*", "mask"), "mask", "000000000000"),
    "pie-bench larger mask": ("pie-bench", put(PIE, [600 * 600, 2], "*", "mask"), "mask", "000000000000"),
    "pie-bench no mask": ("pie-bench", drop(PIE, "*", "mask"), "mask", "000000000000"),
    "magicbrush picture": ("magicbrush", gone("images/1000/1000-output2.png"), "missing file", "1000-2"),
    "magicbrush mask": ("magicbrush", gone("images/1001/1001-mask1.png"), "missing file", "1001-1"),
    "magicbrush instruction": ("magicbrush", drop(BRUSH, "1000", "*", "instruction"), "missing words", "1000-1"),
    "magicbrush caption": ("magicbrush", drop("global_descriptions.json", "1001", "1001-output2.png"), "missing words", "1001-2"),
    "magicbrush mask's size": ("magicbrush", small_mask("images/1000/1000-mask1.png"), "mask", "1000-1"),
    "magicbrush session": ("magicbrush", put(BRUSH, {}, "1001"), "damaged", "1001"),
    "ip2p picture": ("ip2p", gone("shard-00/0000019/1900_1.jpg"), "missing file", "shard-00/0000019-1900"),
    "ip2p words": ("ip2p", drop("shard-00/0000018/prompt.json", "edit"), "missing words", "shard-00/0000018"),
    "ip2p no words": ("ip2p", gone("shard-00/0000018/prompt.json"), "missing file", "seeds.json:18"),
    "ip2p broken words": ("ip2p", line("shard-00/0000018/prompt.json", 0, "{"), "damaged", "shard-00/0000018"),
    "ip2p entry": ("ip2p", put("seeds.json", ["shard-00/0000018"], 18), "damaged", "seeds.json:18"),
    "imagenet class": ("imagenet", put("near.json", ["tabby", "unicorn"], 1), "missing words", "near classes, entry 2"),
    "imagenet picture": ("imagenet pairs", gone(DOG), "missing file", DOG),
    "imagenet target": ("imagenet pairs", drop("pairs.json", "*", "target"), "missing words", DOG),
    "coco picture": ("coco", gone("val2017/000000000002.jpg"), "missing file", "000000000002.jpg"),
    "coco caption": ("coco", put(COCO, [{"image_id": 1, "caption": "one"}], "annotations"), "missing words", "000000000000.jpg"),
    "foi picture": ("foi", gone("pictures/1.png"), "missing file", "pictures/1.png"),
    "foi caption": ("foi", drop("foi.json", "*", "source_caption"), "missing words", "pictures/0.png"),
    "foi instructions": ("foi", put("foi.json", [], "*", "instructions"), "missing words", "pictures/0.png"),
    "foi keyword": ("foi", put("foi.json", "dog", "*", "instructions", 0, "keyword"), "damaged", "pictures/0.png"),
    "foi masks": ("foi", put("foi.json", ["pictures/mask1.png"], "*", "masks"), "mask", "pictures/0.png"),
    "foi mask's size": ("foi", small_mask("pictures/mask2.png"), "mask", "pictures/0.png"),
    "foi twice": ("foi", put("foi.json", "pictures/0.png", 1, "image"), "twice", "pictures/0.png"),
    "foi entry": ("foi", put("foi.json", None, 1), "damaged", "foi.json:2"),
    "tedbench picture": ("tedbench", gone("originals/1.jpeg"), "missing file", "input_list.json:2"),
    "tedbench text": ("tedbench", drop("input_list.json", "*", "target_text"), "missing words", "input_list.json:1"),
    "folder words": ("folder", gone("cat.txt"), "missing words", "cat.png"),
    "folder empty words": ("folder", lambda root: (root / "cat.txt").write_text("\n "), "missing words", "cat.png"),
    "folder result": ("folder", gone("house-after.png"), "missing file", "house-before.png"),
    "folder mask's size": ("folder", small_mask("house-mask.png"), "mask", "house-before.png"),
    "folder twice": ("folder", lambda root: datasets.save(root / "cat.jpg", 7), "twice", "cat.png"),
    "manifest picture": ("manifest", gone("b.png"), "missing file", "list.csv:3"),
    "manifest mask's size": ("manifest", small_mask("mask.png"), "mask", "one"),
    "manifest broken mask": ("manifest", lambda root: (root / "mask.png").write_bytes(b"no"), "mask", "one"),
    "manifest words": ("manifest", line("list.csv", 2, "two,b.png"), "missing words", "two"),
    "manifest cells": ("manifest", line("list.csv", 2, "two,b.png" + "," * 20), "damaged", "list.csv:3"),
    "manifest half a pair": ("manifest", gone("shown1.png"), "missing file", "one"),
    "manifest line": ("manifest jsonl", line("list.jsonl", 1, '{"before": "b.p'), "damaged", "list.jsonl:2"),
    "manifest half a character": (
        "manifest jsonl", line("list.jsonl", 1, '{"before": "b.png", "instruction": "\\ud800"}'), "damaged", "list.jsonl:2",
    ),
    "manifest half a character in a name": (
        "manifest jsonl", line("list.jsonl", 1, '{"id": "\\ud800", "before": "c.png"}'), "missing file", "?",
    ),
    "manifest not a number": (
        "manifest jsonl", line("list.jsonl", 1, '{"before": "b.png", "target_caption": NaN}'), "missing words", "list.jsonl:2",
    ),
    "manifest list": ("manifest jsonl", line("list.jsonl", 1, '["b.png"]'), "damaged", "list.jsonl:2"),
}  # fmt: skip


def build(name: str, root: Path) -> tuple[str, Path]:
    builders = {**datasets.BUILDERS, "manifest jsonl": jsonl_manifest, "imagenet pairs": imagenet_pairs}
    return name.split()[0], builders[name](root)


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_row_is_named_and_the_rest_goes_on(case, tmp_path):
    fixture, damage, kind, culprit = DAMAGE[case]
    name, path = build(fixture, tmp_path)
    options = {"split": "all"} if name == "ip2p" else {}
    whole = data.load(name, path, **options)
    damage(tmp_path)
    found = data.load(name, path, **options)
    assert found.rows and found.problems
    assert (found.problems[0].id, found.problems[0].kind) == (culprit, kind), found.problems[0]
    assert "\n" not in found.problems[0].what and "Traceback" not in found.problems[0].what
    lost = {row.id for row in whole.rows} - {row.id for row in found.rows}
    assert lost
    if name not in ("ip2p", "imagenet"):  # there another pair, or another picture of the class, takes the place
        assert len(found.rows) == len(whole.rows) - len(lost) > 0


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_path_leaves_the_folder(escape, tmp_path):
    datasets.save(tmp_path / "a.png", 1)
    listed = {
        "pie-bench": put(PIE, escape, "*", "image_path"),
        "magicbrush": put(BRUSH, escape, "1000", "*", "input"),
        "ip2p": put("seeds.json", [escape, ["1"]], 19),
        "coco": put(COCO, escape, "images", 0, "file_name"),
        "foi": put("foi.json", escape, "*", "image"),
        "tedbench": put("input_list.json", escape, "*", "img_name"),
        "imagenet pairs": put("pairs.json", escape, "*", "image"),
    }
    for fixture, damage in listed.items():
        name, path = build(fixture, tmp_path / fixture)
        damage(tmp_path / fixture)
        options = {"split": "all"} if name == "ip2p" else {}
        (problem,) = data.load(name, path, **options).problems
        inside = (
            fixture == "magicbrush" and escape[0] == "/"
        )  # behind the session's own folder, it is one that is not there
        assert problem.kind == ("missing file" if inside else "path"), (fixture, problem)
        assert "\0" not in problem.what


def test_paths_from_the_root_only_if_they_are_asked_for(tmp_path):
    picture = datasets.save(tmp_path / "elsewhere" / "a.png", 1)
    (tmp_path / "m").mkdir()
    path = datasets.write(tmp_path / "m" / "list.jsonl", [{"image": str(picture), "instruction": "make it red"}])
    with pytest.raises(FileFormatError, match="leaves the data set's folder"):
        data.load("manifest", path)
    assert data.load("manifest", path, absolute=True).rows[0].before().size == datasets.SIZE
    datasets.write(path, [{"image": "../elsewhere/a.png", "instruction": "make it red"}])
    with pytest.raises(FileFormatError, match="leaves the data set's folder"):
        data.load("manifest", path, absolute=True)


def test_a_picture_that_is_cut_short_fails_alone(tmp_path):
    path = datasets.foi(tmp_path)
    file = tmp_path / "pictures" / "1.png"
    file.write_bytes(file.read_bytes()[:300])
    found = data.load("foi", path)
    assert len(found.rows) == 3
    with pytest.raises(ImageError, match=r"1\.png"):
        found.rows[1].before()
    assert found.rows[0].before() and found.rows[2].before()


def test_a_damaged_page_of_a_table_costs_its_pictures_alone(tmp_path):
    import pyarrow.parquet

    file = datasets.emuedit(tmp_path) / "data" / "all-00000.parquet"
    page = pyarrow.parquet.ParquetFile(file).metadata.row_group(0).column(2)
    assert page.path_in_schema == "image.bytes"
    first = page.dictionary_page_offset or page.data_page_offset
    file.write_bytes(file.read_bytes()[:first] + b"\xff" * 60 + file.read_bytes()[first + 60 :])
    found = data.load("emuedit", tmp_path)
    assert len(found.rows) == 3 and found.rows[2].before() and found.rows[0].after()
    for row in found.rows[:2]:
        with pytest.raises(ImageError, match=r"all-00000\.parquet, row group 0, row ., image: cannot be read"):
            row.before()


def test_an_empty_cell_of_a_table_is_named(tmp_path):
    broken = {"idx": 1, "instruction": "x", "image": {"bytes": b"no picture", "path": None}}
    empty = {"idx": 2, "instruction": "x", "image": None}
    told = {"idx": 3, "instruction": None, "image": datasets.cell(datasets.drawn(1))}
    path = datasets.table(tmp_path / "t.parquet", [broken, empty, told, {**told, "instruction": "y", "idx": 4}])
    found = data.load("emuedit", path)
    assert [(one.id, one.kind) for one in found.problems] == [("3", "missing words")]
    for row in found.rows[:2]:
        with pytest.raises(ImageError, match=r"t\.parquet, row group 0, row \d, image"):
            row.before()
    assert found.rows[2].before().size == datasets.SIZE


@pytest.mark.parametrize("name", [name for name in data.LOADERS if name != "scenes"])
def test_a_layout_that_is_not_there_is_refused(name, tmp_path):
    empty, text = tmp_path / "empty", tmp_path / "text.txt"
    empty.mkdir()
    text.write_text("not a data set")
    for path in (empty, text):
        with pytest.raises(FileFormatError, match="empty|text"):
            data.load(name, path)
    with pytest.raises(UsageError, match="does not exist"):
        data.load(name, tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "[", '{"a": ' * 5000, '"x"', "\udcff", "null"])
def test_listings_that_are_not_what_they_should_be(text, tmp_path):
    listings = {
        "pie-bench": PIE, "magicbrush": BRUSH, "ip2p": "seeds.json", "imagenet": "near.json", "coco": COCO, "foi": "foi.json",
        "tedbench": "input_list.json",
    }  # fmt: skip
    for name, file in listings.items():
        path = datasets.BUILDERS[name](tmp_path / name)
        (tmp_path / name / file).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(FileFormatError) as caught:
            data.load(name, path)
        assert Path(file).name in str(caught.value), name


def test_nothing_that_can_be_used_tells_the_first_problem(tmp_path):
    path = datasets.foi(tmp_path)
    datasets.change(path, lambda entries: [{**entry, "target_caption": ""} for entry in entries])
    with pytest.raises(FileFormatError, match=r"first of 3 problems: pictures/0\.png: the target caption is empty"):
        data.load("foi", path)


def test_every_error_is_one_of_ours(tmp_path):
    """Each value of a listing replaced by each kind of thing: a problem or a refusal, never another exception."""
    strange = (None, 5, [], {}, [[1]], {"a": {}}, "\0", 1e400)

    def places(value, at=()):
        yield at
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            yield from places(item, (*at, key))

    def altered(value, at, new):
        copy = json.loads(json.dumps(value))
        entry = copy
        for key in at[:-1]:
            entry = entry[key]
        entry[at[-1]] = new
        return copy

    small = {
        PIE: ("pie-bench", lambda root: datasets.pie_bench(root, 1)),
        BRUSH: ("magicbrush", lambda root: datasets.magicbrush(root, 1)),
        "global_descriptions.json": ("magicbrush", lambda root: datasets.magicbrush(root, 1)),
        "seeds.json": ("ip2p", lambda root: datasets.ip2p(root, 1)),
        "shard-00/0000000/prompt.json": ("ip2p", lambda root: datasets.ip2p(root, 1)),
        COCO: ("coco", lambda root: datasets.coco(root, 1)),
        "foi.json": ("foi", datasets.foi),
        "input_list.json": ("tedbench", datasets.tedbench),
        "pairs.json": ("imagenet", imagenet_pairs),
        "near.json": ("imagenet", datasets.imagenet),
        "scenes.json": ("folder", listed_scene),
        "list.jsonl": ("manifest", one_line),
    }
    for number, (listing, (name, build_one)) in enumerate(small.items()):
        path = build_one(tmp_path / str(number))
        file = tmp_path / str(number) / listing
        value = json.loads(file.read_text())
        if name == "pie-bench":
            first(value)["mask"] = [5, 6]
        for at in list(places(value))[1:25]:
            for new in strange:
                file.write_text(json.dumps(altered(value, at, new)))
                try:
                    found = data.load(name, path, **({"split": "all"} if name == "ip2p" else {}))
                except ShowtellError as error:
                    assert "\n" not in str(error)
                else:
                    assert found.fingerprint


def listed_scene(root: Path) -> Path:
    for i, role in enumerate(("before", "after")):
        datasets.save(root / f"7-{role}.png", i)
    record = {
        "seed": 7, "instructions": ["make the circle red"], "keywords": ["circle"], "edits": [{"action": "recolour"}],
        "captions": {"before": "a circle", "after": "a red circle"},
    }  # fmt: skip
    datasets.write(root / "scenes.json", [record])
    return root


def one_line(root: Path) -> Path:
    path = datasets.manifest(root, ".jsonl")
    path.write_text(path.read_text().splitlines()[0])
    return path
