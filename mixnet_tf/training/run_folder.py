"""The folder of a training run: what lies in it, whether a run may use it, and what a resumed one continues.

It holds ``training.json`` (what was asked), ``last.keras`` (model, optimizer and EMA after the last whole epoch),
``best.keras`` (EMA weights of the best epoch on the validation split), ``history.csv``, ``logs/`` (TensorBoard) and, at
the end, ``model.keras`` and ``labels.txt``. Importing this module does not import TensorFlow.
"""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixnet_tf.errors import MixNetError
from mixnet_tf.files import whole_file

LAST, BEST, MODEL = "last.keras", "best.keras", "model.keras"
HISTORY, REQUEST, LABELS, LOGS = "history.csv", "training.json", "labels.txt", "logs"
_RUN_FILES = (
    *(LAST, BEST, MODEL, HISTORY, LABELS, LOGS, "model_*.tflite", "model_*.quantization.json"),
    *("report.json", "report.md", "confusion.png", "latency.png"),
)


def holds_run(output: Path) -> bool:
    """Say whether a folder holds a training run, whole or not."""
    return (output / REQUEST).is_file()


def check_folder(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder whose files a run could replace.

    Raises:
        MixNetError: it is a file, or holds files and neither `resume` (of a run) nor `overwrite` is meant.
    """
    if output.exists() and not output.is_dir():
        raise MixNetError(f"{output}: is a file, expected a folder for the run")
    is_run = holds_run(output)
    if overwrite or (resume and is_run) or not output.is_dir() or not any(output.iterdir()):
        return
    if is_run:
        raise MixNetError(f"{output}: holds a training run; give --resume to continue it, or --overwrite to restart")
    raise MixNetError(f"{output}: holds files already; give an empty folder, or --overwrite to let a run replace them")


def can_continue(output: Path, request: Mapping[str, Any]) -> bool:
    """Check that the run in the folder is the one asked for; return whether it has an epoch to continue from.

    Raises:
        MixNetError: the run was started with something else, or its ``training.json`` is damaged.
    """
    path = output / REQUEST
    if not path.is_file():
        return False
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MixNetError(f"{path}: not valid JSON: {error}; start anew with --overwrite") from error
    if not isinstance(earlier, dict):
        raise MixNetError(f"{path}: found a {type(earlier).__name__}, expected a mapping; start anew with --overwrite")
    request = json.loads(json.dumps(request))  # tuples become lists, as in the file
    for key in request:
        if earlier.get(key) != request[key]:
            raise MixNetError(f"{path}: the run was started with {key} {_difference(earlier.get(key), request[key])}")
    return (output / LAST).is_file()


def _difference(earlier: object, now: object) -> str:
    if isinstance(earlier, dict) and isinstance(now, dict):
        key = next(key for key in now if earlier.get(key) != now[key])
        return f"{key} {_difference(earlier.get(key), now[key])}"
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


def remove_parts(output: Path) -> None:
    """Remove what a run left that was killed while it wrote."""
    for part in output.glob(".*.part.*"):
        part.unlink()


def cut_history(output: Path, epochs: int) -> float:
    """Drop the rows of epochs that will be trained again (a kill may fall between log and checkpoint).

    Returns:
        The best top-1 on the validation split in the rows that stay; 0 where none does.

    Raises:
        MixNetError: ``history.csv`` is damaged.
    """
    path = output / HISTORY
    if not path.is_file():
        return 0.0
    try:
        with path.open(newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if int(row["epoch"]) < epochs]
        best = max((float(row["val_accuracy"]) for row in rows), default=0.0)
    except (KeyError, TypeError, ValueError) as error:
        raise MixNetError(f"{path}: not the history of a run ({error}); start anew with --overwrite") from error
    if not rows:
        path.unlink()
        return best
    with whole_file(path) as part, part.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return best


def best_epoch(output: str | Path) -> tuple[int, float]:
    """Return which epoch of a run, counted from 0, gave its model, and its top-1 on the validation split."""
    with Path(output, HISTORY).open(newline="") as handle:
        epochs = [(float(row["val_accuracy"]), int(row["epoch"])) for row in csv.DictReader(handle)]
    accuracy, epoch = max(epochs)  # of equals, the later
    return epoch, accuracy
