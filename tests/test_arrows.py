"""Data goes forward only: a file imports from rooms above its own, never from below (CONTRIBUTING.md has the list)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mixnet_tf"
ROOMS = [
    *("errors", "files", "quiet", "environment", "checks", "schema", "config", "counting", "metrics"),
    *(
        "sublayers",
        "layers",
        "weights",
        "model",
        "saving",
        "data",
        "training",
        "deploy",
        "litert",
        "quantization",
        "evidence",
    ),
    *("exporting", "pipeline", "commands", "cli", "__main__"),
]
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the rooms that a file imports from, function bodies included."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[1] for name in names if name and name.startswith("mixnet_tf.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_rooms_above_its_own(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    below = ROOMS[ROOMS.index(room) + 1 :] if room != "__init__" else []
    assert not imports(path) & set(below)
    assert imports(path) <= set(ROOMS)
