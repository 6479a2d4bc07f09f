"""Kill a command at random moments: ``python -m tests.fuzz.kill train --count 50``.

What must hold after every kill: a file is whole or not there, what was finished stays, and the folder is free for the
next process. A training is continued until it is done, and ends with the weights of one that nothing killed.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np

from tests.quick_run import write_images

ROOT = Path(__file__).resolve().parents[2]
TINY, NANO = ROOT / "tests" / "tiny.yaml", ROOT / "tests" / "fixtures" / "nano_float32.tflite"
TRAINING = ("--epochs", "6", "--batch-size", "16")
VARIED = (
    "--mixup 0.2 --cutmix 1 --erase 0.3 --rand-level 9 --rand-deviation 0.5 --jitter 0.3 --min-area 0.3 "
    "--drop-path 0.2 --accumulate 2 --clip-norm 1 --balance --initial-scale 0.5"
)
EXPORT = ("export", NANO, "--recipe", "weight_int8")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mixnet_tf", *map(str, arguments)]


def start(*arguments: object) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command(*arguments), cwd=ROOT, **quiet)


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)


def problems(folder: Path) -> list[str]:
    """Return what is not whole in a folder that a kill left."""
    wrong = []
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue  # half files have hidden names
        try:
            check_file(path)
        except Exception as error:
            wrong.append(f"{path.name}: {type(error).__name__}: {error}")
    return wrong


def check_file(path: Path) -> None:
    """Raise where a file cannot be read as what its name says."""
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    from mixnet_tf.saving import load_model

    if path.suffix == ".keras":
        load_model(path)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".tflite":
        Interpreter(str(path)).allocate_tensors()
    elif path.suffix == ".png":
        Image.open(path).load()
    elif path.suffix == ".html":
        assert path.read_text(encoding="utf-8").endswith("</html>\n")
    elif path.name == "history.csv":
        with path.open(newline="") as handle:
            assert all(None not in row.values() for row in csv.DictReader(handle))


def weights(folder: Path) -> bytes:
    from mixnet_tf.saving import load_model

    values = load_model(folder / "model.keras").get_weights()
    return hashlib.sha256(b"".join(np.ascontiguousarray(value).tobytes() for value in values)).digest()


def kill_runs(name: str, folder: Path, random: Random, count: int, *flags: str) -> list[str]:
    """Kill ``train`` or ``pipeline``, continue it, and compare the end with a run that nothing killed."""
    data, wrong, killed, round_ = write_images(folder), [], 0, 0
    arguments = (name, TINY, "--data", data, *TRAINING, *flags)
    started = time.monotonic()
    whole = run(*arguments, "--output", folder / "whole")
    seconds, expected = time.monotonic() - started, weights(folder / "whole")
    assert whole.returncode == 0, whole.stderr
    while killed < count:
        round_ += 1
        output, done = folder / f"run{round_}", False
        while not done:
            kept = {path: path.stat().st_size for path in output.glob("model*")}
            process = start(*arguments, "--resume", "--output", output)
            # most kills fall after TensorFlow's start, which is a third of a short run
            if killed < count and wait(
                process, seconds * random.choice((random.random(), 0.4 + 0.7 * random.random()))
            ):
                if random.random() < 0.2:
                    wrong += second_writer(process, arguments, output)
                process.send_signal(signal.SIGKILL)
                killed += 1
                print(
                    f"{name}: {killed} killed, in round {round_}: {sorted(p.name for p in output.glob('*'))}",
                    flush=True,
                )
            status = process.wait()
            wrong += [f"round {round_}: {problem}" for problem in problems(output)]
            wrong += [f"round {round_}: {path.name} is gone" for path in kept if not path.exists()]
            done = status == 0
            if status not in (0, -signal.SIGKILL):
                return [
                    *wrong,
                    f"round {round_}: status {status}: {run(*arguments, '--resume', '--output', output).stderr}",
                ]
        if weights(output) != expected:
            wrong.append(f"round {round_}: other weights than a run that nothing killed")
        if left := [path.name for path in output.glob(".*")]:
            wrong.append(f"round {round_}: {left} left")
    return wrong


def second_writer(process: subprocess.Popen, arguments: Sequence[object], output: Path) -> list[str]:
    """Return what is wrong with the refusal of a second run in the folder of one that is at work."""
    if process.poll() is not None or not (output / ".lock").is_file():
        return []
    os.kill(process.pid, signal.SIGSTOP)  # or it may end first
    refusal = run(*arguments, "--resume", "--output", output)
    os.kill(process.pid, signal.SIGCONT)
    lines = [line for line in refusal.stderr.splitlines() if "holds no run to resume" not in line]
    if refusal.returncode == 2 and len(lines) == 1 and f"another run (process {process.pid}) writes there" in lines[0]:
        return []
    return [f"a second run was not refused: {refusal.returncode} {refusal.stderr}"]


def kill_exports(folder: Path, random: Random, count: int) -> list[str]:
    """Kill ``export``, half of them over an earlier pair, and hold file and record against each other."""
    wrong, output, record = [], folder / "f.tflite", folder / "f.quantization.json"
    started = time.monotonic()
    assert run(*EXPORT, "--output", folder / "whole.tflite").returncode == 0
    seconds, whole = time.monotonic() - started, (folder / "whole.tflite").read_bytes()
    old = b"an earlier file"
    for number in range(count):
        for path in folder.glob("*f*"):
            if path.name.startswith(("f.", ".f")):
                path.unlink()
        if is_over := random.random() < 0.5:
            output.write_bytes(old)
            record.write_text(json.dumps({"sha256": hashlib.sha256(old).hexdigest()}))
        process = start(*EXPORT, "--output", output, *(["--overwrite"] if is_over else []))
        if number % 2:  # while it writes
            while process.poll() is None and not list(folder.glob(".f*.part*")):
                time.sleep(0.0005)
            time.sleep(random.random() * 0.02)
        else:
            wait(process, seconds * (0.5 + 0.6 * random.random()))
        process.kill()
        process.wait()
        content = output.read_bytes() if output.exists() else None
        sha = json.loads(record.read_text())["sha256"] if record.exists() else None
        print(f"export: {number + 1} killed: {sorted(path.name for path in folder.glob('*f.*'))}", flush=True)
        if content not in (whole, old if is_over else None):
            wrong.append(f"kill {number}: the file is neither the new nor the old one")
        if content == whole and sha != hashlib.sha256(whole).hexdigest():
            wrong.append(f"kill {number}: a new file without its record")
        if is_over and sha is None:
            wrong.append(f"kill {number}: the earlier record is gone")
    return wrong


def wait(process: subprocess.Popen, seconds: float) -> bool:
    """Wait; return whether the process is still there then."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


KILLERS: dict[str, Callable[[Path, Random, int], list[str]]] = {
    "train": lambda folder, random, count: kill_runs("train", folder, random, count),
    "train-varied": lambda folder, random, count: kill_runs("train", folder, random, count, *VARIED.split()),
    "pipeline": lambda folder, random, count: kill_runs("pipeline", folder, random, count),
    "export": kill_exports,
}


def main() -> int:
    """Return 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kill", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=KILLERS)
    parser.add_argument("--count", type=int, default=25, help="of kills (default 25)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = KILLERS[args.command](Path(folder), Random(args.seed), args.count)
    print(f"{args.command}: {args.count} kills, {len(wrong)} problems", *wrong, sep="\n  ")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
