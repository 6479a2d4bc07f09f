"""Data goes forward only: a file imports from rooms above its own, never from below (CONTRIBUTING.md has the list)."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mixnet_tf"
ROOMS = [
    *("errors", "files", "quiet", "progress", "environment", "download", "checks", "npz", "distribution"),
    *(
        "schema",
        "scaling",
        "config",
        "counting",
        "metrics",
        "data",
        "batch_norm",
        "sublayers",
        "layers",
        "optimizer",
        "accuracy",
        "weights",
        "model",
    ),
    *("saving", "training", "deploy", "guard", "litert", "quantization", "float_graphs", "evidence", "costs"),
    *("exporting", "bundles", "pipeline", "demo", "commands", "cli", "__main__"),
]
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the rooms that a file imports from, function bodies included."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("mixnet_tf.")} - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_rooms_above_its_own(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in {*ROOMS, "__init__"}, f"{room} has no place: put it into ROOMS and into CONTRIBUTING.md"
    below = ROOMS[ROOMS.index(room) + 1 :] if room != "__init__" else []
    assert not imports(path) & set(below)
    assert imports(path) <= set(ROOMS)


def test_contributing_lists_the_rooms_in_this_order():
    (block,) = re.findall(r"```\n(errors.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    listed = [name.rstrip("/") for line in block.splitlines() for name in re.split(r"  +", line)[0].split()]
    assert listed == ROOMS[:-1]
