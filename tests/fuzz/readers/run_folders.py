"""The folder of a run, finished or cut, with damaged, missing and exchanged files: ``train --resume``."""

import contextlib
import functools
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.cases import Case
from tests.fuzz.mutations import damaged, damaged_zip

TINY = Path(__file__).resolve().parents[2] / "tiny.yaml"
_SETTINGS = ("--epochs", "1", "--batch-size", "8")
_VALUES = (None, True, 0, -1, 1e308, float("nan"), "", "x", "\x1b[31m", "\udcff", "x" * 9999, [], {}, [[]], 10**40)
_CELLS = ("", "nan", "-1", "inf", "x", "1e999", "0", "1", "9" * 5000, '"', "\x00", "\x1b[31m", "0.5,0.5", "\u0663")


@functools.cache
def _runs() -> tuple[Path, Path]:
    """Return two finished runs of one epoch, the second of another seed."""
    from mixnet_tf.cli import main
    from mixnet_tf.progress.loading import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)  # tracing takes five times as long as an epoch
    warnings.filterwarnings("ignore", "Even though the `tf.config.experimental_run_functions_eagerly`")
    root, rng = Path(tempfile.mkdtemp(prefix="fuzz-runs-")), np.random.default_rng(0)
    x, y = rng.integers(0, 255, (32, 8, 8, 3), dtype=np.uint8), np.arange(32) % 2
    np.savez(root / "images.npz", x_train=x[:24], y_train=y[:24], x_test=x[24:], y_test=y[24:])
    for seed in ("0", "1"):
        with contextlib.redirect_stderr(io.StringIO()):  # the progress of these is no case's
            assert main(_arguments(root / seed, root / "images.npz", seed)) == 0
    return root / "0", root / "1"


def _arguments(output: Path, data: Path, seed: str) -> list[str]:
    return ["train", str(TINY), "--data", str(data), *_SETTINGS, "--seed", seed, "--output", str(output)]


def _damage_bytes(random: Random, run: Path, path: Path) -> None:
    change = damaged_zip if path.suffix == ".keras" else damaged
    path.write_bytes(change(random, path.read_bytes()))


def _remove(random: Random, run: Path, path: Path) -> None:
    path.unlink()


def _exchange(random: Random, run: Path, path: Path) -> None:
    """Put a file of this run, or of the other, in its place."""
    names = ("last.keras", "best.keras", "model.keras", "history.csv", "training.json", "labels.txt")
    shutil.copyfile(random.choice((run, _runs()[1])) / random.choice(names), run / ".taken")
    (run / ".taken").replace(path)


def _put_something_else(random: Random, run: Path, path: Path) -> None:
    """Put in its place what is no regular file."""
    path.unlink()
    match random.choice(("folder", "nowhere", "loop", "device", "full folder")):
        case "folder":
            path.mkdir()
        case "full folder":
            path.mkdir()
            (path / "file").touch()
        case "nowhere":
            path.symlink_to("nothing")
        case "loop":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to("/dev/null")


def _change_request(random: Random, run: Path, path: Path) -> None:
    """Keep ``training.json`` valid, with another value somewhere."""
    request = json.loads((run / "training.json").read_text())
    container: Any = request
    while True:
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        key = random.choice(keys)
        if not isinstance(container[key], dict | list) or not container[key] or random.random() < 0.3:
            break
        container = container[key]
    match random.randrange(3):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[f"{key}x"] = container[key]
        case _:
            container[key] = random.choice(_VALUES)
    (run / "training.json").write_text(json.dumps(request))


def _change_history(random: Random, run: Path, path: Path) -> None:
    """Keep ``history.csv`` a table, with other cells, rows or columns."""
    rows = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    for _ in range(random.choice((1, 1, 2))):
        match random.randrange(4):
            case 0:
                row = random.choice(rows)
                row[random.randrange(len(row))] = random.choice(_CELLS)
            case 1:
                rows.append(list(random.choice(rows)))
            case 2:
                random.choice(rows).append("1")
            case _:
                random.shuffle(rows)
    (run / "history.csv").write_text("\n".join(map(",".join, rows)) + random.choice(("\n", "", "\r\n", "\n\n")))


def _damage_weights(random: Random, run: Path, path: Path) -> None:
    """Keep a checkpoint valid, with other steps or numbers."""
    from mixnet_tf.saving import load_model

    name = random.choice(("last.keras", "best.keras"))
    model = load_model(run / name)
    if name == "last.keras" and random.random() < 0.6:
        model.optimizer.iterations.assign(random.choice((0, -1, 1, 2, 4, 6, 10**9)))
    else:
        variable = random.choice(model.weights)
        variable.assign(np.full(variable.shape, random.choice((np.nan, np.inf, 1e38, 0.0)), "float32"))
    model.save(run / name)


def _break_logs(random: Random, run: Path, path: Path) -> None:
    shutil.rmtree(run / "logs")
    if random.random() < 0.7:
        (run / "logs").write_text("no folder")


_STEPS: tuple[Callable[[Random, Path, Path], None], ...] = (
    *(_damage_bytes, _damage_bytes, _remove, _exchange, _put_something_else, _change_request, _change_request),
    *(_change_history, _change_history, _damage_weights, _break_logs),
)


def run_folder(random: Random, folder: Path) -> Case:
    """Damage a finished run once or twice, and continue it."""
    run = _runs()[0].with_name("run")  # `folder` is gone when the output is judged
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(_runs()[0], run)
    if random.random() < 0.1:  # nothing was saved yet: the epoch is trained, which takes seconds
        (run / "last.keras").unlink()
    for _ in range(random.choice((1, 1, 2))):
        files = sorted(path for path in run.iterdir() if path.is_file() and not path.is_symlink())
        with contextlib.suppress(Exception):  # what the first damage left may not bear the second
            random.choice(_STEPS)(random, run, random.choice(files))
    return Case(
        [*_arguments(run, _runs()[0].parent / "images.npz", "0"), "--resume"],
        wrong=lambda output: _wrong(run),
    )


def _wrong(run: Path) -> str | None:
    """Say what is missing in the folder of a run that says it is done."""
    from mixnet_tf.saving import load_model

    if (run / "labels.txt").read_text() != "0\n1\n":
        return "other labels"
    if left := [path.name for path in run.glob(".*") if path.name != ".taken"]:
        return f"{left} left"
    values = load_model(run / "model.keras").get_weights()
    return None if all(np.isfinite(value).all() for value in values) else "a model of numbers that are not finite"


READERS = {"run-folder": run_folder}
