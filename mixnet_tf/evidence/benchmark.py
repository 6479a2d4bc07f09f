"""Latency on LiteRT, measured so that models can be compared on a noisy machine: paired and interleaved."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixnet_tf import checks
from mixnet_tf.errors import ArgumentError
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.progress.steps import counted
from mixnet_tf.training.run_models import lite

_WARM_UP = 3  # invocations before anything is timed
_TURN = 4  # invocations of a model each time it has its turn; the first of them is not timed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one model, in milliseconds an image.

    Attributes:
        path: of its file.
        min_ms: the fastest invocation.
        median_ms: half of all invocations were faster.
        p95_ms: 95 % of them were faster.
        ratio: median of this model's time over the first model's, round by round: believe it before the milliseconds.
    """

    path: str
    min_ms: float
    median_ms: float
    p95_ms: float
    ratio: float


def benchmark(models: Sequence[str | Path | bytes], *, num_threads: int = 1, rounds: int = 20) -> list[Latency]:
    """Time models in turns within one process, so that a busy moment of the machine hits all of them.

    Args:
        models: ``.tflite`` files, folders with one, or the content of some.
        num_threads: CPU threads of each.
        rounds: how often each has its turn; a turn times three invocations.

    Returns:
        One Latency a model, in the order given.

    Raises:
        MixNetError: no list, a Keras model, a file that LiteRT cannot run, or counts below 1.

    Example:
        >>> benchmark(["model_float32.tflite", "model_int8.tflite"])[1].ratio                    # doctest: +SKIP
        0.58
    """
    num_threads, rounds = checks.integer("num_threads", num_threads, 1), checks.integer("rounds", rounds, 1)
    if not isinstance(models, list | tuple):
        raise ArgumentError(checks.complaint("models", models, "a list of .tflite files"))
    files = [model if isinstance(model, bytes) else lite(model) for model in models]
    opened = [LiteModel(file, num_threads=num_threads) for file in files]
    for model in opened:
        model.fill_input()
        for _ in range(_WARM_UP):
            model.invoke()
    times = np.empty((len(opened), rounds, _TURN))
    for turn in counted(range(rounds), "time the files", rounds, "round"):
        for i, model in enumerate(opened):
            times[i, turn] = [_milliseconds(model) for _ in range(_TURN)]
    times = times[:, :, 1:]  # the first invocation of a turn pays for the caches that the others' turns took
    return [_latency(model.source, times[i], times[0]) for i, model in enumerate(opened)]


def _latency(path: str, times: np.ndarray, first: np.ndarray) -> Latency:
    """Summarize the milliseconds (rounds, invocations) of one model, and compare them with the first model's."""
    return Latency(
        path=path,
        min_ms=float(times.min()),
        median_ms=float(np.median(times)),
        p95_ms=float(np.percentile(times, 95)),
        ratio=float(np.median(np.median(times, axis=1) / np.median(first, axis=1))),
    )


def _milliseconds(model: LiteModel) -> float:
    start = time.perf_counter()
    model.invoke()
    return (time.perf_counter() - start) * 1e3
