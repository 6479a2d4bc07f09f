"""Everything that is imported is declared, and everything that is declared is imported."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {"torch"}
"""Read by `weights/state_dict.py` where a user has it, with a message where not."""
USED_BY_OTHERS = {
    "tensorboard",  # by Keras' callback of that name
    "pytest-cov", "pytest-xdist",  # by pytest
}  # fmt: skip


def declared(requirements: Iterable[str]) -> set[str]:
    """Return the distributions that requirements name, spelt as PyPI compares them."""
    names = (re.match(r"[\w.-]+", requirement)[0] for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def imported(folder: Path, skip: tuple[str, ...] = ()) -> set[str]:
    """Return the distributions of all top-level names that a folder's files import, function bodies included."""
    names = set()
    for path in folder.rglob("*.py"):
        if set(path.relative_to(folder).parts).isdisjoint(skip):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add(node.module.split(".")[0])
    here = {path.stem for path in folder.iterdir()} | {"mixnet_tf", "tests"}
    distributions = importlib.metadata.packages_distributions()
    names -= {*sys.stdlib_module_names, *here, *OPTIONAL}
    return declared(distributions.get(name, [name])[0] for name in names)


def test_the_package_imports_what_it_declares():
    assert imported(ROOT / "mixnet_tf") == declared(PROJECT["dependencies"]) - USED_BY_OTHERS


def test_the_tests_import_what_they_declare():
    used = imported(ROOT / "tests", skip=("bench", "golden"))
    test, package = declared(PROJECT["optional-dependencies"]["test"]), declared(PROJECT["dependencies"])
    assert used <= test | package
    assert test - USED_BY_OTHERS <= used
