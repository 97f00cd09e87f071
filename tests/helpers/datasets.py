"""Tiny data sets in the layouts in which the real ones are published: a few rows of small pictures each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (24, 16)


def drawn(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of its own for each seed, without a white pixel."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 200, (size[1], size[0], 3), dtype=np.uint8))


def save(path: Path, seed: int, size: tuple[int, int] = SIZE) -> Path:
    """Such a picture in a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(seed, size).save(path)
    return path


def region(size: tuple[int, int] = SIZE) -> np.ndarray:
    """The mask of every fixture: a box of 5 x 4 pixels."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[3:7, 2:7] = True
    return mask


def save_mask(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """The region as a black and white picture."""
    Image.fromarray(region(size)).save(path)
    return path


def hole(seed: int, *, white: bool = False) -> Image.Image:
    """A picture whose region is transparent, or white."""
    mask = region()
    rgb = np.where(mask[..., None], 255, np.asarray(drawn(seed))).astype(np.uint8)
    if white:
        return Image.fromarray(rgb)
    return Image.fromarray(np.dstack([rgb, np.where(mask, 0, 255).astype(np.uint8)]))


def write(path: Path, value: Any) -> Path:
    """JSON, or JSON lines where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(v) + "\n" for v in value) if path.suffix == ".jsonl" else json.dumps(value)
    path.write_text(text)
    return path


def change(path: Path, how: Callable[[Any], Any]) -> None:
    """Alter what a JSON file says."""
    value = json.loads(path.read_text())
    changed = how(value)
    write(path, value if changed is None else changed)


def pie_bench(root: Path, count: int = 4) -> Path:
    from showtell.data import pie_bench as layout

    listed = {}
    for i in range(count):
        name = f"{i}_kind/1_artificial/{i:012d}.jpg"
        save(root / "annotation_images" / name, i)
        mask = np.zeros((layout.SIDE, layout.SIDE), dtype=bool)
        mask[100:220, 40:150] = True
        listed[f"{i:012d}"] = {
            "image_path": name, "original_prompt": "a [cat] on a bench", "editing_prompt": "a [dog] on a bench",
            "editing_instruction": "Change the cat to a dog", "editing_action": {}, "blended_word": "cat dog",
            "editing_type_id": str(i % 10), "mask": layout.encode(mask),
        }  # fmt: skip
    write(root / "mapping_file.json", listed)
    return root


def magicbrush(root: Path, count: int = 2) -> Path:
    """Sessions of two turns."""
    sessions: dict[str, Any] = {}
    captions: dict[str, Any] = {}
    for i in range(count):
        name = f"{1000 + i}"
        files = [f"{name}-input.png", f"{name}-output1.png", f"{name}-output2.png"]
        for j, file in enumerate(files):
            save(root / "images" / name / file, 10 * i + j)
        turns = []
        for j in (1, 2):
            hole(10 * i + j - 1).save(root / "images" / name / f"{name}-mask{j}.png")
            turns.append(
                {"input": files[j - 1], "mask": f"{name}-mask{j}.png", "output": files[j], "instruction": f"edit {j}"}
            )
        sessions[name] = turns
        captions[name] = {file: f"what {file} shows" for file in files}
    write(root / "edit_sessions.json", sessions)
    write(root / "edit_turns.json", [turn for turns in sessions.values() for turn in turns])
    write(root / "global_descriptions.json", captions)
    write(root / "local_descriptions.json", {k: {f: f"a part of {f}" for f in v} for k, v in captions.items()})
    return root


def cell(picture: Image.Image) -> dict[str, Any]:
    """A picture as a table holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def table(path: Path, records: list[dict[str, Any]]) -> Path:
    """A parquet table in row groups of two."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=2)
    return path


def magicbrush_tables(root: Path) -> Path:
    records = [
        {
            "img_id": name, "turn_index": turn, "source_img": cell(drawn(turn - 1)), "target_img": cell(drawn(turn)),
            "mask_img": cell(hole(turn - 1, white=True)), "instruction": f"edit {turn}",
        }
        for name in ("7", "8") for turn in (1, 2)
    ]  # fmt: skip
    table(root / "data" / "train-00000-of-00001.parquet", records[:1])
    table(root / "data" / "dev-00000-of-00001.parquet", records)
    return root


def ip2p(root: Path, count: int = 20) -> Path:
    """Prompts with three pairs each."""
    listed = []
    for i in range(count):
        name = f"shard-00/{i:07d}"
        folder = root / name
        seeds = [str(100 * i + j) for j in range(3)]
        for j, seed in enumerate(seeds):
            save(folder / f"{seed}_0.jpg", 10 * i + j)
            save(folder / f"{seed}_1.jpg", 1000 + 10 * i + j)
        write(folder / "prompt.json", {"input": f"a cat {i}", "edit": f"make it a dog {i}", "output": f"a dog {i}"})
        scores = [{"seed": int(s), "clip_sim_dir": 0.2 + 0.1 * j, "clip_sim_image": 0.8} for j, s in enumerate(seeds)]
        write(folder / "metadata.jsonl", scores)
        listed.append([name, seeds])
    write(root / "seeds.json", listed)
    return root


def visii(root: Path) -> Path:
    for name in ("art", "dog"):
        for i in range(3):
            save(root / name / f"{i}_0.png", i)
            save(root / name / f"{i}_1.png", 10 + i)
        write(root / name / "prompt.json", {"caption": "a house", "edit": "make it art", "output": "an art house"})
    return root


def imagenet(root: Path) -> Path:
    names = {"n02123045": "tabby, tabby cat", "n02085620": "Chihuahua", "n03792782": "mountain bike, off-roader"}
    for i, wnid in enumerate(names):
        for j in range(2):
            folder = root / wnid
            folder.mkdir(parents=True, exist_ok=True)
            drawn(10 * i + j).save(folder / f"ILSVRC2012_val_{10 * i + j:08d}.JPEG")
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {name}\n" for wnid, name in names.items()))
    write(root / "near.json", [["tabby", "Chihuahua"], ["n02123045", "mountain bike"]])
    return root


def coco(root: Path, count: int = 6) -> Path:
    images, captions = [], []
    for i in range(count):
        name = f"{i:012d}.jpg"
        save(root / "val2017" / name, i)
        images.append({"id": i, "file_name": name})
        captions += [{"image_id": i, "id": 10 * i + j, "caption": f"caption {j} of {i} \n"} for j in (1, 0)]
    write(root / "annotations" / "captions_val2017.json", {"images": images, "annotations": captions})
    return root


def foi(root: Path) -> Path:
    entries = []
    for i in range(3):
        save(root / "pictures" / f"{i}.png", i)
        told = [{"text": "make the cat red", "keyword": "cat"}, {"text": "remove the tree", "keyword": "tree"}]
        entries.append(
            {
                "image": f"pictures/{i}.png",
                "instructions": told,
                "source_caption": "a cat and a tree",
                "target_caption": "a red cat",
            }
        )
    save(root / "pictures" / "after.png", 9)
    for i in (1, 2):
        save_mask(root / "pictures" / f"mask{i}.png")
    entries[0] |= {"masks": ["pictures/mask1.png", "pictures/mask2.png"], "after": "pictures/after.png"}
    return write(root / "foi.json", entries)


def tedbench(root: Path) -> Path:
    listed = []
    for i in range(3):
        save(root / "originals" / f"{i}.jpeg", i)
        listed.append({"img_name": f"{i}.jpeg", "target_text": f"A photo of a sitting dog {i}."})
    write(root / "input_list.json", listed)
    return root


def emuedit(root: Path) -> Path:
    tasks = ("add", "remove", "add", "style")
    records = [
        {
            "idx": i, "instruction": f"edit {i}", "image": cell(drawn(i)), "task": task, "input_caption": f"before {i}",
            "split": "validation" if i == 3 else "test", "output_caption": f"after {i}", "edited_image": cell(drawn(50 + i)),
        }
        for i, task in enumerate(tasks)
    ]  # fmt: skip
    table(root / "data" / "all-00000.parquet", records)
    return root


def folder(root: Path) -> Path:
    """One told picture, one with result and mask, one that only common words serve."""
    save(root / "cat.png", 0)
    (root / "cat.txt").write_text("make the [cat] red\nremove the tree\n")
    save(root / "house-before.png", 1)
    save(root / "house-after.png", 2)
    save_mask(root / "house-mask.png")
    (root / "house.txt").write_text("make it blue")
    return root


def manifest(root: Path, kind: str = ".csv") -> Path:
    for i, name in enumerate(("a.png", "b.png", "after.png", "shown0.png", "shown1.png")):
        save(root / name, i)
    save_mask(root / "mask.png")
    first = {
        "id": "one", "before": "a.png", "after": "after.png", "mask": "mask.png", "instructions": "make it red | add a star",
        "source_caption": "a thing, grey", "target_caption": "a red thing", "group": "g",
        "pair_before": "shown0.png", "pair_after": "shown1.png",
    }  # fmt: skip
    second = {"before": "b.png", "target_caption": "a blue thing"}
    if kind == ".jsonl":
        first = {**first, "instructions": ["make it red", "add a star"]}
        return write(root / "list.jsonl", [first, second])
    lines = [",".join(first), ",".join(f'"{cell}"' for cell in first.values())]
    lines.append(",".join(second.get(column, "") for column in first))
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root / "list.csv"


def png(picture: Image.Image) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    """A plain tar of these files, in this order."""
    import tarfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def pair(name: str, i: int, **told: Any) -> dict[str, bytes]:
    """The three files of a pair, as `showtell dataset pictures` calls them."""
    words = {"instruction": f"edit {i}", "source_caption": f"before {i}", "target_caption": f"after {i}", **told}
    return {
        f"{name}.before.png": png(drawn(i)),
        f"{name}.after.png": png(drawn(100 + i)),
        f"{name}.json": json.dumps(words).encode(),
    }


def pairs(root: Path, count: int = 5, each: int = 2) -> Path:
    """A folder of pairs as the commands write it, of shards with ``each`` rows."""
    import hashlib

    write(root / "recipe.json", {"format": 1, "command": "dataset pictures"})
    shards = []
    for number, first in enumerate(range(0, count, each)):
        rows = range(first, min(first + each, count))
        name = f"data/train-{number:06d}.tar"
        shard = tar(root / name, {k: v for i in rows for k, v in pair(f"p{i:06d}-c00", i, group="recolour").items()})
        listed = [{"id": f"p{i:06d}-c00", "instruction": f"edit {i}", "kept": True} for i in rows]
        write(root / "records" / f"{number:06d}.jsonl", listed)
        digest = hashlib.sha256(shard.read_bytes()).hexdigest()
        shards.append({"file": name, "sha256": digest, "rows": len(rows), "records": f"records/{number:06d}.jsonl"})
    write(root / "manifest.json", {"format": 1, "recipe": {}, "shards": shards, "rows": count, "failed": []})
    return root


def candidates(root: Path, count: int = 3, each: int = 4, **changes: Any) -> Path:
    """A folder of candidates as `showtell dataset pictures` writes it: ``count`` caption pairs of ``each``, two pairs a shard.

    ``changes`` replaces records' values by the candidate's name; one whose ``error`` or ``scores`` it tells has no pictures.
    ``recipe`` is added to the folder's.
    """
    from showtell.work import Done, Item, ShardStore, run

    def made(items: Any) -> list[Done]:
        return [one(item.id) for item in items]

    def one(name: str) -> Done:
        i, number = int(name[1:7]), int(name[-2:])
        told = {
            "pair": name[:7], "candidate": number, "instruction": f"make it {i}", "source_caption": f"a circle {i}",
            "target_caption": f"a red star {i}", "guidance_scale": 7.5 + number, "self_replace_steps": 0.1 + 0.2 * number,
            "group": ("recolour", "replace")[i % 2], **changes.get(name.replace("-", "_"), {}),
        }  # fmt: skip
        pictures = {"before.png": png(drawn(10 * i + number)), "after.png": png(drawn(1000 + 10 * i + number))}
        error = told.pop("error", None)
        return Done(id=name, record=told, files={} if error or "scores" in told else pictures, error=error)

    recipe = {"command": "dataset pictures", "model": {"id": "starter-base"}, "seed": changes.get("seed", 0)}
    recipe |= changes.get("recipe", {})
    items = [Item(id=f"p{i:06d}-c{n:02d}", shard=i // 2) for i in range(count) for n in range(each)]
    run(items, lambda: made, ShardStore.begin(root, recipe, layout=changes.get("layout", "webdataset")))
    return root


def hf(root: Path, count: int = 5) -> Path:
    """Parquet files with the columns of InstructPix2Pix's published table."""
    records = [
        {
            "original_image": cell(drawn(i)), "edit_prompt": f"edit {i}", "edited_image": cell(drawn(100 + i)),
            "original_prompt": f"before {i}", "edited_prompt": f"after {i}",
        }
        for i in range(count)
    ]  # fmt: skip
    table(root / "data" / "train-00000-of-00002.parquet", records[:3])
    table(root / "data" / "train-00001-of-00002.parquet", records[3:])
    table(root / "data" / "test-00000-of-00001.parquet", records[:1])
    return root


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "pie-bench": pie_bench, "magicbrush": magicbrush, "ip2p": ip2p, "imagenet": imagenet, "coco": coco, "foi": foi,
    "tedbench": tedbench, "emuedit": emuedit, "folder": folder, "manifest": manifest, "pairs": pairs, "hf": hf,
}  # fmt: skip
"""Every loader that reads files, and what builds a fixture of its layout: called with an empty folder, it returns the path."""
