"""Latency: whose turn it is when, and what is made of the times, on a clock that is set by hand."""

import pytest

from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.evidence import benchmark as module
from mixnet_tf.evidence.benchmark import benchmark

MILLISECONDS = {"slow": 4.0, "fast": 1.0}
CACHES = 100.0  # what the first run of a turn takes longer


@pytest.fixture
def invoked(monkeypatch) -> list[str]:
    """Models that take the time they are said to take; the list says which ran, in order."""
    clock, names = [0.0], []

    class Model:
        def __init__(self, path, *, num_threads):
            assert num_threads == 3
            self.source, self.filled = str(path), False

        def fill_input(self):
            self.filled = True

        def invoke(self):
            assert self.filled
            first = not names or names[-1] != self.source
            clock[0] += (MILLISECONDS[self.source] + CACHES * first) / 1e3
            names.append(self.source)

    monkeypatch.setattr(module, "LiteModel", Model)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    return names


def test_models_take_turns_and_the_first_run_of_a_turn_is_not_timed(invoked):
    slow, fast = benchmark(["slow", "fast"], num_threads=3, rounds=2)
    assert invoked == ["slow"] * 3 + ["fast"] * 3 + (["slow"] * 4 + ["fast"] * 4) * 2
    assert (slow.path, fast.path) == ("slow", "fast")
    assert slow.min_ms == pytest.approx(4) and slow.median_ms == pytest.approx(4) and slow.ratio == 1
    assert fast.p95_ms == pytest.approx(1) and fast.ratio == pytest.approx(0.25)


def test_the_ratio_is_taken_round_by_round(invoked, monkeypatch):
    """In each round both models meet the same machine; over all rounds, their medians may come from different ones."""
    rounds = {"slow": iter([4.0] * 4 + [12.0] * 4 + [40.0] * 4), "fast": iter([2.0] * 4 + [1.0] * 4 + [20.0] * 4)}
    monkeypatch.setattr(module, "_milliseconds", lambda model: next(rounds[model.source]))
    slow, fast = benchmark(["slow", "fast"], num_threads=3, rounds=3)
    assert (slow.min_ms, slow.median_ms, fast.min_ms, fast.median_ms) == (4, 12, 1, 2)
    assert fast.ratio == 0.5  # the median of 2 / 4, 1 / 12 and 20 / 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_threads": 0}, "num_threads: found 0, expected an integer from 1"),
        ({"rounds": 0}, "rounds: found 0, expected an integer from 1"),
        ({"rounds": 2.5}, r"rounds: found 2\.5, expected an integer"),
        ({"num_threads": True}, "num_threads: found True, expected an integer"),
    ],
)
def test_wrong_counts_are_refused_before_a_file_is_opened(arguments, message):
    with pytest.raises(MixNetError, match=message):
        benchmark(["no/such.tflite"], **arguments)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "text.tflite").write_text("no model")
    with pytest.raises(DeployError, match=r"text\.tflite: not a \.tflite"):
        benchmark([tmp_path / "text.tflite"])


def test_a_real_file(nano_float32, nano_int8):
    latencies = benchmark([nano_float32, nano_int8], rounds=2)
    assert [latency.path for latency in latencies] == [str(nano_float32), str(nano_int8)]
    assert all(0 < latency.min_ms <= latency.median_ms <= latency.p95_ms for latency in latencies)


def test_content_is_timed_without_a_file(nano_int8):
    first, second = benchmark([nano_int8.read_bytes(), nano_int8], rounds=1)
    assert first.path == "the model" and second.path == str(nano_int8) and second.ratio > 0
