"""Feed damaged files to the commands: ``python -m tests.fuzz READER --seconds 60``.

A mutant is a function of reader and seed. A finding is a traceback, more than one line of error, more than 10 seconds
of CPU time or 90 of waiting, more than 2 GiB, a dead process, or output that is wrong without a word.
"""

import argparse
import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.fuzz.readers import READERS
from tests.fuzz.worker import SECONDS

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 9 * SECONDS  # a process imports TensorFlow with its first case that needs it


class Worker:
    """A process that runs cases; a new one takes its place where a case kills or blocks it."""

    def __init__(self) -> None:
        self.seed, self._started = -1, 0.0
        self._process = self._start()

    def _start(self) -> subprocess.Popen:
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONFAULTHANDLER": "", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            text=True,
            env=environment,
        )

    def ask(self, reader: str, seed: int) -> None:
        """Begin a case."""
        self.seed, self._started = seed, time.monotonic()
        self._process.stdin.write(f"{reader} {seed}\n")
        self._process.stdin.flush()

    @property
    def answers(self) -> Any:
        """The stream that becomes readable with the answer, or when the process has died."""
        return self._process.stdout

    def is_late(self) -> bool:
        """Say whether the case has blocked the process."""
        return time.monotonic() - self._started > _PATIENCE

    def answer(self) -> dict:
        """Return the outcome of the case, which may have killed the process; one that is late is killed."""
        line = self.answers.readline() if self._readable() else ""
        if line:
            return json.loads(line)
        late = self._process.poll() is None and self.is_late()
        self.close()
        status = self._process.returncode
        self._process = self._start()
        return {"kind": "finding", "what": "hangs" if late else f"the process died: status {status}"}

    def _readable(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            return bool(selector.select(max(0, _PATIENCE - (time.monotonic() - self._started))))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:
            pass


def fuzz(reader: str, *, seconds: float, count: int, seed: int, workers: int) -> tuple[dict[str, int], list[dict]]:
    """Run mutants until the time or the count is over; return how many of each kind, and the findings."""
    kinds, findings = dict.fromkeys(("accepted", "refused", "finding"), 0), []
    seeds = iter(range(seed, seed + count))
    ends = time.monotonic() + seconds
    busy = [Worker() for _ in range(min(workers, count))]
    everyone = list(busy)
    for worker in busy:
        worker.ask(reader, next(seeds))
    with tqdm(total=count, desc=reader, unit="mutant", leave=False, disable=None) as bar:
        while busy:
            for worker in _ready(busy):
                result = worker.answer() | {"seed": worker.seed}
                kinds[result["kind"]] += 1
                bar.update()
                if result["kind"] == "finding":
                    findings.append(result)
                following = next(seeds, None) if time.monotonic() < ends else None
                if following is None:
                    busy.remove(worker)
                else:
                    worker.ask(reader, following)
    for worker in everyone:
        worker.close()
    return kinds, findings


def _ready(workers: list[Worker]) -> list[Worker]:
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.answers, selectors.EVENT_READ, worker)
        ready = [key.data for key, _ in selector.select(1)]
    return ready + [worker for worker in workers if worker not in ready and worker.is_late()]


def main() -> int:
    """Return 1 where there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument(
        "readers", nargs="+", choices=[*READERS, "all"], metavar="READER", help=f"all, {', '.join(READERS)}"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each reader (default 60)")
    parser.add_argument("--count", type=int, default=10**9, help="of mutants for each reader, if that is sooner")
    parser.add_argument("--seed", type=int, default=0, help="of the first mutant; the others follow")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    args = parser.parse_args()
    failed = False
    for reader in READERS if "all" in args.readers else args.readers:
        kinds, findings = fuzz(reader, seconds=args.seconds, count=args.count, seed=args.seed, workers=args.workers)
        tried = sum(kinds.values())
        print(
            f"{reader}: {tried} tried, {kinds['refused']} refused, {kinds['accepted']} accepted, "
            f"{len(findings)} findings"
        )
        for finding in findings:
            print(
                f"  {finding['what']}\n    python -m tests.fuzz {reader} --seed {finding['seed']} --count 1", flush=True
            )
        failed |= bool(findings)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
