"""The folder of a training run: what lies in it, whether a run may use it, and what a resumed one continues.

It holds ``training.json`` (what was asked), ``last.keras`` (model, optimizer and EMA after the last whole epoch),
``best.keras`` (EMA weights of the best epoch on the validation split), ``history.csv``, ``logs/`` (TensorBoard) and, at
the end, ``model.keras`` and ``labels.txt``. Importing this module does not import TensorFlow.
"""

import contextlib
import csv
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnet_tf.distribution.processes import by_first
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import check_name, is_part, remove_parts, whole_file
from mixnet_tf.training.config import TrainingConfig

if TYPE_CHECKING:  # takes a quarter of the time that --help does
    from filelock import FileLock

LAST, BEST, MODEL = "last.keras", "best.keras", "model.keras"
HISTORY, REQUEST, LABELS, LOGS = "history.csv", "training.json", "labels.txt", "logs"
BUNDLE = "bundle"
LOCK = ".lock"
_RUN_FILES = (
    *(LAST, BEST, MODEL, HISTORY, LABELS, LOGS, "model_*.tflite", "model_*.quantization.json"),
    *(BUNDLE, "report.json", "report.md", "report.html", "confusion.png", "latency.png"),
)


def holds_run(output: Path) -> bool:
    """Say whether a folder holds a training run, whole or not."""
    return (output / REQUEST).is_file()


@contextlib.contextmanager
def open_run(output: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Keep the folder of a run to this thread: the kernel frees its lock however the process ends.

    Of several processes that train together, the first keeps it for all.

    What a killed run left half-written is removed. A folder that is made, and stays empty, is removed at the end.

    Args:
        output: the folder; where this thread has it already, nothing happens.
        resume: a run in the folder will be continued.
        overwrite: what is in the folder may be replaced.

    Raises:
        MixNetError: the folder must not be used, see ``check_folder``, or another run writes there.
    """
    with contextlib.ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(_kept(output, resume=resume, overwrite=overwrite))

        by_first(enter)
        yield


@contextlib.contextmanager
def _kept(output: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    from filelock import FileLock

    check_folder(output, resume=resume, overwrite=overwrite)
    lock = FileLock(output / LOCK, blocking=False, is_singleton=True, fallback_to_soft=False)
    if lock.is_locked:  # by a pipeline, which trains in its folder
        yield
        return
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        with _held(lock, output):
            check_folder(output, resume=resume, overwrite=overwrite)  # again: another run may have just ended
            remove_parts(output)
            yield
    finally:
        with contextlib.suppress(OSError):  # until one is not empty
            for folder in made:
                folder.rmdir()


@contextlib.contextmanager
def _held(lock: "FileLock", output: Path) -> Iterator[None]:
    from filelock import Timeout

    path = output / LOCK
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        process = path.read_text() if path.is_file() else ""
        another = f"another run (process {process})" if process.isdecimal() else "another run"
        raise MixNetError(f"{output}: {another} writes there; wait until it ends, or give another folder") from None
    except OSError as error:
        raise MixNetError(f"{output}: cannot be locked for this run: {error.strerror or error}") from error
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the number, too
            path.write_text(str(os.getpid()))
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: who has opened it sees that it is gone, and tries again
        lock.release()


def check_folder(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder whose files a run could replace.

    Raises:
        MixNetError: it is a file, or holds files and neither `resume` (of a run) nor `overwrite` is meant.
    """
    check_name(output)
    try:
        if output.exists() and not output.is_dir():
            raise MixNetError(f"{output}: is a file, expected a folder for the run")
        if output.is_symlink() and not output.exists():
            raise MixNetError(f"{output}: is a link that leads nowhere, expected a folder for the run")
    except OSError as error:  # a name that is too long
        raise MixNetError(f"{output}: cannot be used: {error.strerror or error}") from error
    is_run = holds_run(output)
    if overwrite or (resume and is_run) or not output.is_dir():
        return
    if is_run:
        raise MixNetError(f"{output}: holds a training run; give --resume to continue it, or --overwrite to restart")
    if any(path.name != LOCK and not is_part(path) for path in output.iterdir()):  # which a run leaves that is killed
        raise MixNetError(
            f"{output}: holds files already; give an empty folder, or --overwrite to let a run replace them"
        )


def can_continue(output: Path, request: Mapping[str, Any], *, or_anew: bool = False) -> bool:
    """Check that the run in the folder is the one asked for; return whether it has an epoch to continue from.

    Args:
        output: the folder.
        request: what is asked for.
        or_anew: return False where it is another run, which may be overwritten.

    Raises:
        MixNetError: the run was started with something else, or its ``training.json`` is damaged.
    """
    with contextlib.suppress(MixNetError) if or_anew else contextlib.nullcontext():
        return _is_asked_for(output / REQUEST, request) and (output / LAST).is_file()
    return False


def _is_asked_for(path: Path, request: Mapping[str, Any]) -> bool:
    if not path.is_file():
        return False
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MixNetError(f"{path}: not valid JSON: {error}; start anew with --overwrite") from error
    if not isinstance(earlier, dict):
        raise MixNetError(f"{path}: found a {type(earlier).__name__}, expected a mapping; start anew with --overwrite")
    request = json.loads(json.dumps(request))  # tuples become lists, as in the file
    if isinstance(said := earlier.get("training"), dict):  # a field that did not exist yet had its default
        defaults = dataclasses.asdict(TrainingConfig())
        earlier["training"] = {name: defaults[name] for name in request["training"] if name in defaults} | said
    for key in request:
        if earlier.get(key) != request[key]:
            raise MixNetError(f"{path}: the run was started with {key} {_difference(earlier.get(key), request[key])}")
    return True


def _difference(earlier: object, now: object) -> str:
    if isinstance(earlier, dict) and isinstance(now, dict):
        key = next(key for key in {**now, **earlier} if earlier.get(key) != now.get(key) or key not in now)
        return f"{key} {_difference(earlier.get(key), now.get(key))}"
    if isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        i = next(i for i in range(len(now)) if earlier[i] != now[i])
        return f"[{i}] {_difference(earlier[i], now[i])}"
    return f"{str(earlier)[:60]}, expected the same now, found {str(now)[:60]}"


def start_run(output: Path, request: Mapping[str, Any]) -> None:
    """Make the folder ready for a new run: what an earlier one left goes, and nothing else."""
    for pattern in _RUN_FILES if holds_run(output) else ():
        for path in output.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with whole_file(output / REQUEST) as part:
        part.write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")


def cut_history(output: Path, epochs: int) -> float:
    """Drop the rows of epochs that will be trained again (a kill may fall between log and checkpoint).

    Returns:
        The best top-1 on the validation split in the rows that stay; 0 where none does.

    Raises:
        MixNetError: ``history.csv`` is damaged, or lacks an epoch.
    """
    path = output / HISTORY
    try:
        rows = _read_history(path)[:epochs]
        best = max((_accuracy(row) for row in rows), default=0.0)
        if (logged := [int(row["epoch"]) for row in rows]) != list(range(epochs)):
            raise ValueError(f"expected the epochs 0 to {epochs - 1} first, found {str(logged)[:60]}")
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise MixNetError(f"{path}: not the history of a run ({error}); start anew with --overwrite") from error
    if not rows:
        path.unlink(missing_ok=True)
        return best
    with whole_file(path) as part, part.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return best


def _read_history(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as handle:
        lines = handle.read().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):  # the disk was full
        del lines[-1]
    rows = list(csv.DictReader(lines))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("rows of several lengths")
    return rows


def _accuracy(row: Mapping[str, str]) -> float:
    """Return the top-1 in a row of the history; ValueError where that is no share."""
    if not 0 <= (accuracy := float(row["val_accuracy"])) <= 1:
        raise ValueError(f"val_accuracy is {accuracy}")
    return accuracy


def best_epoch(output: str | Path) -> tuple[int, float]:
    """Return which epoch of a run, counted from 0, gave its model, and its top-1 on the validation split."""
    epochs = [(_accuracy(row), int(row["epoch"])) for row in _read_history(Path(output, HISTORY))]
    accuracy, epoch = max(epochs)  # of equals, the later
    return epoch, accuracy


def read_curves(output: str | Path) -> dict[str, tuple[float | None, ...]]:
    """Return the columns of a run's history, a number for each epoch, or None where that is not finite."""
    rows = _read_history(Path(output, HISTORY))
    return {name: tuple(_finite(row[name]) for row in rows) for name in (rows[0] if rows else ())}


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
