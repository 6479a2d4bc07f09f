"""Counts the instructions per inference on an emulated Cortex-A76, by a plugin of QEMU (blocks.c; needs gcc).

    python tests/bench/count_arm.py --arm ARM64 [--runs 7] [--json] MODEL.tflite ...

ARM64 is a folder from arm64.sh: an arm64 userland with Python, numpy and ai-edge-litert, and a program `python` that
starts that Python on a Cortex-A76 of QEMU, with the options in $QEMU_OPTS. The count compares how often every block of
code ran with 2 and with 2 + runs inferences. Whole multiples of `runs` belong to the inference: what the start-up does
more or less of by chance drops out. A count is no latency: use it as a ratio.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS = 7

Blocks = collections.Counter[tuple[str, int]]
"""How often each block (address, instructions) ran."""


def count(arm: Path, models: Sequence[Path], runs: int = RUNS) -> dict[Path, float]:
    """Return the millions of instructions per inference, by model."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "blocks.so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", HERE / "blocks.c", "-o", library], check=True)
        return {model: _instructions(arm, library, model, runs) / 1e6 for model in models}


def _instructions(arm: Path, library: Path, model: Path, runs: int) -> int:
    few, many = (_executions(arm, library, model, times) for times in (2, 2 + runs))
    more = {block: times - few[block] for block, times in many.items()}
    return sum(block[1] * (times // runs) for block, times in more.items() if times > 0)


def _executions(arm: Path, library: Path, model: Path, runs: int) -> Blocks:
    """Return how often each block (address, instructions) ran."""
    out = library.parent / "blocks.txt"
    env = os.environ | {"PYTHONHASHSEED": "0", "QEMU_OPTS": f"-plugin {library}", "BLOCKS_OUT": str(out)}
    # no address space randomization: blocks are told apart by their address
    command = ["setarch", "-R", arm / "python", HERE / "invoke.py", model, str(runs)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{model}: the emulated run failed: {done.stderr[-1000:]}")
    counts: Blocks = collections.Counter()
    for line in out.read_text().splitlines():
        address, times, instructions = line.split()
        counts[address, int(instructions)] += int(times)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--arm", type=Path, required=True, metavar="ARM64")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    millions = {str(model): number for model, number in count(args.arm, args.models, args.runs).items()}
    if args.json:
        print(json.dumps(millions))
    else:
        sys.stdout.writelines(f"{number:10.3f} M instructions  {model}\n" for model, number in millions.items())


if __name__ == "__main__":
    main()
