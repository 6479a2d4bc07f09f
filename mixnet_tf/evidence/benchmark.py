"""Latency on LiteRT, measured so that models can be compared on a noisy machine: paired and interleaved."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixnet_tf.errors import MixNetError
from mixnet_tf.litert.runtime import LiteModel

_WARM_UP, _BLOCK = 3, 4  # invocations: before anything is timed; per model and round, the first of them untimed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one model. `ratio` is its median over the first model's, round by round: believe it before the ms."""

    path: str
    min_ms: float
    median_ms: float
    p95_ms: float
    ratio: float


def benchmark(paths: Sequence[str | Path], *, num_threads: int = 1, rounds: int = 20) -> list[Latency]:
    """Time models in turns within one process, so that a busy moment of the machine hits all of them.

    Args:
        paths: ``.tflite`` files.
        num_threads: CPU threads of each.
        rounds: how often each has its turn; a turn times three invocations.

    Returns:
        One Latency a file, in the order given.

    Raises:
        MixNetError: a file that LiteRT cannot run, or counts below 1.
    """
    from tqdm import tqdm

    if num_threads < 1 or rounds < 1:
        raise MixNetError(f"{num_threads} threads and {rounds} rounds, expected at least 1 of each")
    models = [LiteModel(path, num_threads=num_threads) for path in paths]
    for model in models:
        model.fill_input()
        for _ in range(_WARM_UP):
            model.invoke()
    times = np.empty((len(models), rounds, _BLOCK))
    for turn in tqdm(range(rounds), desc="benchmark", unit="round", leave=False, disable=None):
        for i, model in enumerate(models):
            times[i, turn] = [_milliseconds(model) for _ in range(_BLOCK)]
    times = times[:, :, 1:]  # the first invocation of a turn pays for the caches that the others' turns took
    per_round = np.median(times, axis=2)
    return [
        Latency(
            path=str(path),
            min_ms=float(own.min()),
            median_ms=float(np.median(own)),
            p95_ms=float(np.percentile(own, 95)),
            ratio=float(np.median(per_round[i] / per_round[0])),
        )
        for i, (path, own) in enumerate(zip(paths, times, strict=True))
    ]


def _milliseconds(model: LiteModel) -> float:
    start = time.perf_counter()
    model.invoke()
    return (time.perf_counter() - start) * 1e3
