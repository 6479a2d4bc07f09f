"""The limits that keep the house readable, where neither ruff nor mypy can hold them."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mixnet_tf"
FILES = sorted(PACKAGE.rglob("*.py"))
NODES = {path: list(ast.walk(ast.parse(path.read_text()))) for path in FILES}
MAX_FILE, MAX_BODY, MAX_PARAMETERS, MAX_ROOM = 350, 45, 8, 0.20
NO_NAMES = {"own", "found", "it", "other"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[Function]:
    return (node for node in NODES[path] if isinstance(node, Function))


def is_private(function: Function) -> bool:
    return function.name.startswith("_") and not function.name.startswith("__")


def body_lines(function: Function) -> int:
    """Count the lines of a body, its docstring left out."""
    first = function.body[1:2] if ast.get_docstring(function) is not None else function.body[:1]
    return function.body[-1].end_lineno - first[0].lineno + 1 if first else 0


def parameters(function: Function) -> list[str]:
    groups = (function.args.posonlyargs, function.args.args, function.args.kwonlyargs)
    return [argument.arg for group in groups for argument in group if argument.arg not in ("self", "cls")]


def bound_names(node: ast.AST) -> list[str]:
    """Return the names that a node gives to something."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
            return [name]
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.MatchAs(name=str(name)):
            return [name]
        case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_small_and_speaks_in_nouns(path):
    assert lines(path) <= MAX_FILE, f"{path.name} has {lines(path)} lines: cut it where its docstring would say 'and'"
    for function in functions(path):
        where = f"{path.name}:{function.lineno} {function.name}"
        size, names = body_lines(function), parameters(function)
        assert size <= MAX_BODY, f"{where} has a body of {size} lines: name its parts, and call them"
        if is_private(function):
            assert len(names) <= MAX_PARAMETERS, f"{where} takes {len(names)}: pass what belongs together as one"
    for node in NODES[path]:
        for name in NO_NAMES.intersection(bound_names(node)):
            pytest.fail(f"{path.name}:{node.lineno} calls something {name!r}: call it by its noun (op, layer, row)")


def test_no_room_is_crowded():
    rooms = Counter()
    for path in FILES:
        parts = path.relative_to(PACKAGE).parts
        rooms[parts[0] if len(parts) > 1 else "top level"] += lines(path)
    del rooms["top level"]  # no room, but the files between them
    (room, size), total = rooms.most_common(1)[0], sum(map(lines, FILES))
    assert size <= MAX_ROOM * total, f"{room}/ holds {size / total:.0%} of {total} lines: build another room"


def test_the_limits_see_what_they_limit():
    source = "def _f(a, b, *, own):\n    'doc'\n    for found in a:\n        a.it = b\n    return b\n"
    nodes = list(ast.walk(ast.parse(source)))
    (function,) = (node for node in nodes if isinstance(node, Function))
    assert is_private(function) and parameters(function) == ["a", "b", "own"] and body_lines(function) == 3
    assert {name for node in nodes for name in bound_names(node)} == {"_f", "a", "b", "own", "found", "it"}
