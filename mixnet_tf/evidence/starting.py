"""What a file takes until its first result: time and memory, in a process that does nothing else."""

import dataclasses
import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mixnet_tf import checks
from mixnet_tf.errors import DeployError
from mixnet_tf.guard import trial
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.progress.steps import counted
from mixnet_tf.training.run_models import lite

_CHILD = Path(__file__).parents[1] / "guard" / "start.py"
_TIMES = 3  # processes of each file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The start of one model, the median of three processes; from a file that the system has read before.

    Attributes:
        path: of its file.
        start_ms: milliseconds from opening the file to the first result; importing LiteRT is not in it.
        peak_bytes: the memory by which the process grew at most, file included; None where the system does not tell.
    """

    path: str
    start_ms: float
    peak_bytes: int | None


def start_up(models: Sequence[str | Path], *, num_threads: int = 1) -> list[Start]:
    """Measure what ``.tflite`` files take until their first result, each in processes of its own.

    Args:
        models: ``.tflite`` files, or folders with one.
        num_threads: CPU threads of each.

    Returns:
        One Start per model, in the order given.

    Raises:
        MixNetError: a file that LiteRT cannot run, or no threads.

    Example:
        >>> start_up(["model_int8.tflite"])[0].peak_bytes                                        # doctest: +SKIP
        19922944
    """
    num_threads = checks.integer("num_threads", num_threads, 1)
    paths = [str(lite(model)) for model in models]
    for path in paths:
        LiteModel(path, num_threads=num_threads)  # which refuses what it cannot run, in one line
    runs: dict[str, list[dict[str, float]]] = {path: [] for path in paths}
    turns = [path for _ in range(_TIMES) for path in paths]
    for path in counted(turns, "start the files", len(turns), "process"):
        runs[path].append(_run(path, num_threads))
    return [_start(path, runs[path]) for path in paths]


def _start(path: str, rows: Sequence[dict[str, float]]) -> Start:
    sizes = [row["peak_bytes"] for row in rows if row["peak_bytes"] is not None]
    return Start(
        path=path,
        start_ms=statistics.median(row["start_ms"] for row in rows),
        peak_bytes=int(statistics.median(sizes)) if sizes else None,
    )


def _run(path: str, num_threads: int) -> dict[str, float]:
    command, environment = trial.command(_CHILD, path, str(num_threads)), trial.environment()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=trial.SECONDS, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DeployError(f"{path}: a process to start it in fails ({checks.reason(error)})") from error
    row: dict[str, float] = json.loads(done.stdout)
    return row
