"""Time and memory until the first result, in processes of their own."""

import pytest

from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.evidence import starting as module
from mixnet_tf.evidence.starting import Start, start_up


def test_the_median_of_three_processes_of_each_file_in_turns(nano_float32, nano_int8, monkeypatch):
    asked, answers = [], iter([(5.0, 30), (1.0, 7), (90.0, 10), (2.0, None), (6.0, 20), (3.0, 9)])

    def run(path, num_threads):
        asked.append((path, num_threads))
        milliseconds, size = next(answers)
        return {"start_ms": milliseconds, "peak_bytes": size}

    monkeypatch.setattr(module, "_run", run)
    first, second = start_up([nano_float32, nano_int8], num_threads=2)
    assert asked == [(str(nano_float32), 2), (str(nano_int8), 2)] * 3
    assert first == Start(path=str(nano_float32), start_ms=6.0, peak_bytes=20)
    assert second == Start(path=str(nano_int8), start_ms=2.0, peak_bytes=8)


def test_a_file_needs_memory_for_itself_and_its_tensors(nano_float32):
    (start,) = start_up([nano_float32])
    assert 0 < start.start_ms < 60_000
    assert start.peak_bytes is None or nano_float32.stat().st_size < start.peak_bytes < 20 * 2**20


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "text.tflite").write_text("no model")
    with pytest.raises(DeployError, match=r"text\.tflite: not a \.tflite"):
        start_up([tmp_path / "text.tflite"])


def test_a_process_that_fails_is_one_line(nano_int8, tmp_path, monkeypatch):
    (tmp_path / "start.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(module, "_CHILD", tmp_path / "start.py")
    with pytest.raises(DeployError, match=r"nano_int8\.tflite: a process to start it in fails"):
        start_up([nano_int8])


def test_no_threads(nano_int8):
    with pytest.raises(MixNetError, match="num_threads: found 0"):
        start_up([nano_int8], num_threads=0)
