"""The speed of a run, and how much of its time it waits for images."""

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.training import meter as meter_module
from mixnet_tf.training.meter import Meter


def epoch(meter: Meter, monkeypatch, waits: list[float], work: float) -> dict[str, float]:
    """Run an epoch by a clock of our own: each batch is waited for, and worked on."""
    now = [100.0]
    monkeypatch.setattr(meter_module.time, "monotonic", lambda: now[0])
    for batch, wait in enumerate(waits):
        meter.on_train_batch_begin(batch)
        now[0] += wait
        meter._arrived()
        now[0] += work
        meter.on_train_batch_end(batch)
    logs = {"loss": 1.0}
    meter.on_epoch_end(0, logs)
    return logs


def test_the_first_batch_does_not_count(monkeypatch):
    logs = epoch(Meter(32), monkeypatch, [60.0, 0.1, 0.1, 0.1, 0.1], work=0.3)
    assert logs == {"loss": 1.0, "images_per_second": pytest.approx(80), "data_wait": pytest.approx(0.25)}


def test_an_epoch_of_one_batch_has_no_speed(monkeypatch):
    assert epoch(Meter(32), monkeypatch, [1.0], 1.0) == {"loss": 1.0, "images_per_second": 0.0, "data_wait": 0.0}


@pytest.mark.parametrize(("wait", "warnings"), [(0.05, 0), (0.2, 1)])
def test_a_slow_input_is_worth_one_line(wait, warnings, monkeypatch, capsys):
    meter = Meter(32)
    for _ in range(3):
        epoch(meter, monkeypatch, [wait] * 5, work=0.3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == warnings and all(line.startswith("40% of the time the training waits") for line in lines)


def test_every_batch_that_is_asked_for_is_marked_and_stays_as_it_is(monkeypatch):
    meter, marks = Meter(2), []
    monkeypatch.setattr(meter, "_arrived", lambda: marks.append(1))
    batches = tf.data.Dataset.from_tensor_slices((np.arange(6), np.eye(6))).batch(2)
    watched = iter(meter.watched(batches))
    for count, (x, y) in enumerate(batches, start=1):
        for given, expected in zip(next(watched), (x, y), strict=True):
            np.testing.assert_array_equal(given, expected)
        assert len(marks) == count, "no batch is marked before it is asked for"
