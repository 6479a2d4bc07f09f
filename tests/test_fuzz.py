"""A few mutants of every reader: ``python -m tests.fuzz`` runs as many as there is time for."""

import os
import signal
import sys

import pytest
from marks import exhaustive, slow

from tests.fuzz.__main__ import Worker
from tests.fuzz.cases import Case
from tests.fuzz.readers import READERS
from tests.fuzz.worker import outcome


@pytest.fixture(scope="module")
def worker():
    worker = Worker()
    yield worker
    worker.close()


def findings(worker: Worker, reader: str, seeds: range) -> list[dict]:
    outcomes = []
    for seed in seeds:
        worker.ask(reader, seed)
        outcomes.append(worker.answer() | {"again": f"python -m tests.fuzz {reader} --seed {seed} --count 1"})
    assert {outcome["kind"] for outcome in outcomes} <= {"accepted", "refused", "finding"}
    assert any(outcome["kind"] == "refused" for outcome in outcomes), "nothing is damaged enough"
    return [outcome for outcome in outcomes if outcome["kind"] == "finding"]


QUICK = ("config", "recipe", "training_config", "image", "tflite-inspect", "tflite-strange")
TRAINS = "run-folder"


@pytest.mark.parametrize(
    "reader", [*QUICK, *slow(*(name for name in READERS if name not in (*QUICK, TRAINS))), *exhaustive(TRAINS)]
)
def test_a_few_mutants(reader, worker):
    assert findings(worker, reader, range(1_000_000, 1_000_003)) == []


def died() -> int:
    raise ZeroDivisionError


def says(output: str, errors: str, status: int) -> int:
    print(output, end="")
    print(errors, end="", file=sys.stderr)
    return status


@pytest.mark.parametrize(
    ("command", "kind", "what"),
    [
        (died, "finding", "ZeroDivisionError"),
        (lambda: says("", "mixnet-tf list: error: x\nsecond\n", 2), "finding", "2 lines, expected 1"),
        (lambda: says("", "warning\n", 2), "finding", "1 lines, expected 1"),
        (lambda: says("a\x1b[31m", "", 0), "finding", "not printable"),
        (lambda: says("", "Traceback (most recent call last)", 0), "finding", "a traceback"),
        (lambda: says("", "", 1), "finding", "exit status 1"),
        (lambda: says("7 images", "", 0), "finding", "7 is not 8"),
        pytest.param(lambda: (b"x" * 2**31).find(b"y") + 1, "finding", "GiB", marks=pytest.mark.slow),
        (lambda: os.write(2, b"from C\n") and says("", "mixnet-tf list: error: x\n", 2), "finding", "2 lines"),
        (lambda: says("", "load:  50%|#####     | 1/2\rmixnet-tf list: error: x\n", 2), "refused", "error: x"),
        (lambda: says("8 images", "", 0), "accepted", ""),
    ],
)
def test_what_a_finding_is(command, kind, what, monkeypatch, capfd):
    case = Case([], wrong=lambda output: "7 is not 8" if "7" in output else None)
    monkeypatch.setitem(READERS, "one", lambda random, folder: case)
    monkeypatch.setattr("tests.fuzz.worker.run", lambda arguments: command())
    with capfd.disabled():
        result = outcome("one", 0)
    assert result["kind"] == kind and what in result["what"]


def test_a_reader_that_fails_is_a_finding(monkeypatch, capfd):
    monkeypatch.setitem(READERS, "one", lambda random, folder: 1 / 0)
    with capfd.disabled():
        assert "the reader itself failed: ZeroDivisionError" in outcome("one", 0)["what"]


def test_a_process_that_dies_is_a_finding(worker):
    worker.ask("config", 0)
    assert worker.answer()["kind"] != "finding"
    worker._process.send_signal(signal.SIGSTOP)
    worker.ask("config", 0)
    worker._process.kill()
    assert worker.answer() == {"kind": "finding", "what": "the process died: status -9"}
    worker.ask("config", 0)
    assert worker.answer()["kind"] != "finding"
