"""Each side declares what it imports: what runs a ``.tflite``, what works on models of Keras, and the tests."""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import mixnet_tf
from mixnet_tf import errors

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mixnet_tf"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {"torch", "jax"}
"""What Keras may train on. PyTorch is read by `weights/state_dict.py`, too, where a user has it."""
KNOWN = importlib.metadata.packages_distributions()
USED_BY_OTHERS = {
    "tensorboard",  # by Keras' callback of that name
    "pytest-cov", "pytest-xdist",  # by pytest
}  # fmt: skip
WITHOUT_TENSORFLOW = ["predict", "Predictor", "evaluate", "compare", "benchmark", "inspect_model", "bundle", "verify"]
WITHOUT_TENSORFLOW += ["load_config", "load_data", "cost_model", "start_up"]
"""Functions that must run a ``.tflite`` with the dependencies alone; so must the commands, which ``cli`` imports."""


def declared(requirements: Iterable[str]) -> set[str]:
    """Return the distributions that requirements name, spelt as PyPI compares them."""
    names = (re.match(r"[\w.-]+", requirement)[0] for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


BASE, TRAIN, TEST = map(
    declared,
    (PROJECT["dependencies"], PROJECT["optional-dependencies"]["train"], PROJECT["optional-dependencies"]["test"]),
)


def nodes(tree: ast.AST, *, bodies: bool) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported; with `bodies`, those of functions and for mypy, too."""
    for node in ast.iter_child_nodes(tree):
        for_mypy = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if bodies or not (for_mypy or isinstance(node, ast.FunctionDef)):
            yield node
            yield from nodes(node, bodies=bodies)


@functools.cache
def imports(path: Path, *, bodies: bool = True) -> set[str]:
    """Return what a file imports: modules, and names in modules, which may be modules, too."""
    names = set()
    for node in nodes(ast.parse(path.read_text()), bodies=bodies):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def distributions(files: Iterable[Path], *, bodies: bool = True) -> set[str]:
    """Return the distributions that files import."""
    names = {name.split(".")[0] for path in files for name in imports(path, bodies=bodies)}
    here = {"mixnet_tf", "tests", *(path.stem for path in (ROOT / "tests").iterdir())}
    return declared(KNOWN.get(name, [name])[0] for name in names - {*sys.stdlib_module_names, *here, *OPTIONAL})


def loaded(module: str, *, bodies: bool = False, seen: set[Path] | None = None) -> set[Path]:
    """Return the files of this package that are read when a module is imported.

    With `bodies`, those that its functions import are among them, unless these need a package of the extra ``train``.
    """
    seen, path = set() if seen is None else seen, ROOT / f"{module.replace('.', '/')}.py"
    if not module.startswith("mixnet_tf.") or not path.is_file() or path in seen or (bodies and needs_train(module)):
        return seen
    seen.add(path)
    for name in imports(path, bodies=bodies):
        loaded(name, bodies=bodies, seen=seen)
    return seen


@functools.cache
def needs_train(module: str) -> bool:
    """Say whether a module cannot be imported without the extra ``train``."""
    return bool(distributions(loaded(module), bodies=False) & TRAIN)


def test_the_package_imports_what_it_declares():
    assert not BASE & TRAIN
    assert distributions(PACKAGE.rglob("*.py")) == (BASE | TRAIN) - USED_BY_OTHERS


def test_the_dependencies_are_what_runs_a_tflite():
    """The functions that need the extra ``train`` import it in their bodies, so that the rest works without."""
    doors = ["mixnet_tf.cli", *(f"mixnet_tf.{mixnet_tf._HOME[name]}" for name in WITHOUT_TENSORFLOW)]
    assert [door for door in doors if needs_train(door)] == []
    files = set().union(*(loaded(door, bodies=True) for door in doors))
    assert distributions(files) - TRAIN == BASE
    assert PACKAGE / "training" / "fit.py" not in files  # the check sees a difference


def test_the_tests_import_what_they_declare():
    skipped = [ROOT / "tests" / name for name in ("bench", "golden")]
    files = [path for path in (ROOT / "tests").rglob("*.py") if not any(map(path.is_relative_to, skipped))]
    used = distributions(files)
    assert used <= TEST | BASE | TRAIN
    assert used >= TEST - USED_BY_OTHERS


def test_the_metadata_that_errors_read_is_that_of_this_checkout():
    assert errors._extra_packages("train") == TRAIN, "pyproject.toml has changed: run pip install -e '.[dev]' again"


def test_what_another_extra_brings_is_named_with_it(monkeypatch):
    needed = ["keras; extra == 'train'", "torch; extra == 'distributed'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    line = 'needs torch, which is not installed; type: pip install "mixnet_tf[distributed]"'
    with pytest.raises(errors.PackageError, match=f"^{re.escape(line)}$"), errors.missing_packages():
        raise ModuleNotFoundError(name="torch")


@pytest.mark.parametrize("name", ["numpy", "timm", "keras.src.gone", None])
def test_what_the_extra_does_not_bring_is_no_business_of_it(name):
    with pytest.raises(ModuleNotFoundError) as raised, errors.missing_packages():
        raise ModuleNotFoundError(name=name)
    assert raised.value.name == name
