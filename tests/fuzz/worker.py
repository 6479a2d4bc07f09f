"""Runs cases one after another in this process: a line ``READER SEED`` in, a line of JSON out."""

import contextlib
import json
import os
import re
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

GIB = 2**30
SECONDS, MEMORY = 10, 2 * GIB
_PROGRESS = re.compile(r"\d+%\||\[\d\d:\d\d")
_LIMIT = 12 * GIB  # of the address space that a case may fill before it ends in MemoryError: keeps the machine alive


def outcome(reader: str, seed: int) -> dict:
    """Return ``{"kind": "refused" | "accepted" | "finding", "what": …}`` for one mutant."""
    first = _outcome(reader, seed)
    slow = first["kind"] == "finding" and first["what"].startswith("takes")
    return _outcome(reader, seed) if slow else first  # the first one imported what it needs


def _outcome(reader: str, seed: int) -> dict:
    from tests.fuzz.readers import READERS

    with tempfile.TemporaryDirectory() as name, captured() as (output, errors):
        folder = Path(name)
        try:
            case = READERS[reader](Random(f"{reader} {seed}"), folder)
        except Exception as error:
            return {"kind": "finding", "what": f"the reader itself failed: {type(error).__name__}: {error}"}
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
        started = _processor_seconds()
        try:
            problem, status = None, run(case.arguments)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            problem, status = f"{type(error).__name__}: {error} at {where.filename}:{where.lineno}", 1
        seconds, peak = _processor_seconds() - started, _peak()
        said, error_text = output(), errors()
        problem = problem or _problem(status, said, error_text)
        if problem is None and status == 0:  # while its files are there
            problem = _judged(case, said)
    if problem is None and seconds > SECONDS:
        problem = f"takes {seconds:.0f} s"
    if problem is None and peak > MEMORY:
        problem = f"takes {peak / GIB:.1f} GiB"
    kind = "finding" if problem else "refused" if status == 2 else "accepted"
    return {"kind": kind, "what": problem or error_text.strip().split("\n")[-1][-300:], "arguments": case.arguments}


def _judged(case: Any, output: str) -> str | None:
    try:
        return case.wrong(output)
    except Exception as error:
        return f"is taken, but its check ends in {type(error).__name__}: {error}"


def run(arguments: list[str]) -> int:
    """Run a command in this process; return its exit status."""
    from mixnet_tf.cli import main

    try:
        return main(arguments)
    except SystemExit as error:  # argparse's way out
        return error.code if isinstance(error.code, int) else 1


def _problem(status: int, output: str, errors: str) -> str | None:
    """Return what is wrong with how a command ended: 0, or 2 and one printable line."""
    lines = lines_of(errors)
    if status not in (0, 2):
        return f"exit status {status}: {errors[-500:]}"
    if status == 2 and (len(lines) != 1 or not lines[0].startswith("mixnet-tf")):
        return f"{len(lines)} lines, expected 1: {errors[-500:]!r}"
    if "Traceback" in errors:
        return f"a traceback: {errors[-500:]}"
    bad = [line for line in [*lines, *output.splitlines()] if not line.replace("\t", " ").isprintable()]
    return f"not printable: {bad[0][:200]!r}" if bad else None


def lines_of(errors: str) -> list[str]:
    """Return the lines of standard error, progress left out."""
    return [line for line in re.split(r"[\r\n]+", errors) if line.strip() and not _PROGRESS.search(line)]


@contextlib.contextmanager
def captured():
    """Send file descriptors 1 and 2 to files, native libraries' words included; yield how to read them."""
    with tempfile.TemporaryFile("w+b") as output, tempfile.TemporaryFile("w+b") as errors:
        kept = os.dup(1), os.dup(2)
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)

        def reader(stream, file):
            def read():
                stream.flush()
                file.seek(0)
                return file.read().decode(errors="backslashreplace")

            return read

        try:
            yield reader(sys.stdout, output), reader(sys.stderr, errors)
        finally:
            for number, old in enumerate(kept, 1):
                os.dup2(old, number)
                os.close(old)


def _processor_seconds() -> float:
    """Return the CPU time up to now, that of ended children included: a busy machine makes no case look slow."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main() -> None:
    """Answer until the input ends. The answers leave by a descriptor of their own."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT, _LIMIT))
    for line in sys.stdin:
        reader, seed = line.split()
        print(json.dumps(outcome(reader, int(seed))), file=answers)


if __name__ == "__main__":
    main()
