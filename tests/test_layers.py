"""The house's order: a module imports only from its own layer or a lower one; public things are documented."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "showtell"

LAYERS = {
    "types": 0, "errors": 0,
    "images": 1, "fitting": 1, "schedule": 1, "ddim": 1, "schedulers": 1, "guidance": 1, "blending": 1, "objectives": 1,
    "scenes": 1, "files": 1, "records": 1, "recipe": 1, "pairs": 1, "caching": 1, "drawing": 1, "overlays": 1,
    "fingerprint": 2, "models": 2, "tiling": 2, "networks": 2, "loading": 2, "attention": 2, "focus": 2,
    "prompt_to_prompt": 2, "feature_cache": 2, "metrics": 2,
    "starts": 3, "conditioning": 3, "instruction": 3, "layout": 3, "keywords": 3, "learned": 3, "learned_file": 3,
    "alignment": 3, "local_blend": 3, "memory": 3,
    "sampling": 4,
    "inversion": 5,
    "methods": 6,
    "data": 7, "training": 7, "work": 7,
    "editor": 8, "edits": 8, "jobs": 8, "replaying": 8, "learning": 8, "lessons": 8, "runs": 8, "wording": 8,
    "tokens": 8, "teaching": 8,
    "comparing": 8, "watching": 8, "requested": 8, "inversions": 8, "inversion_file": 8,
    "inverting": 8, "attending": 8, "predicting": 8, "imagining": 8, "calling": 8, "evaluation": 8, "study": 8,
    "engine": 8, "batching": 8, "validating": 8, "compiling": 8,
    "bench": 8, "cli": 8, "app": 8, "demo": 8, "__main__": 8,
}  # fmt: skip
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The first-level module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The first-level modules of showtell that a file imports, anywhere in it."""
    package = ("showtell", *path.relative_to(PACKAGE).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "showtell" and len(name) > 1 and name[1] != "__version__"}
    return found


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p != PACKAGE / "__init__.py"], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_go_down(path):
    own = room(path)
    assert own in LAYERS, f"{own} has no layer: give it one here and in the design"
    for other in imported(path) - {own}:
        assert other in LAYERS, f"{path}: imports {other}, which has no layer"
        assert LAYERS[other] <= LAYERS[own], f"{own} (layer {LAYERS[own]}) imports {other} (layer {LAYERS[other]})"


PUBLIC = [path for path in SOURCES if path.parent == PACKAGE or room(path) == "methods"]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_is_public_is_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if (
            isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            missing.append(node.name)
    assert not missing, f"no docstring: {', '.join(missing)}"


def test_there_is_one_loop_over_timesteps():
    loops = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.For)
        and ast.unparse(node.iter) in ("enumerate(schedule)", "scheduler.timesteps", "timesteps")
    ]
    assert loops == ["sampling.py"]


def test_nothing_unpickles():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text and "torch.load(" not in text, path
