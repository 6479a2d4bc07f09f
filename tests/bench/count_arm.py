"""Instructions an inference takes on an emulated Cortex-A76, repeatable to the instruction.

    python tests/bench/count_arm.py --root ARM64 --invoke INVOKE.py [--runs 31] [--json] MODEL.tflite ...

ARM64 holds an arm64 userland with LiteRT and a `python` that starts it under qemu-aarch64 with the options in
$QEMU_OPTS; INVOKE.py MODEL N runs a model N times. The counts of every block of code with 2 and with 2 + runs
inferences are compared, and only blocks that ran a multiple of `runs` more often belong to the inference: what the
interpreter's start-up does more or less of by chance drops out. A count is no latency: use it as a ratio.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def plugin(folder: Path) -> Path:
    library = folder / "blocks.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", HERE / "blocks.c", "-o", library], check=True)
    return library


def executions(args: argparse.Namespace, library: Path, model: str, runs: int) -> collections.Counter:
    """Return how often each block (address, instructions) ran."""
    out = library.parent / "blocks.txt"
    env = os.environ | {"PYTHONHASHSEED": "0", "QEMU_OPTS": f"-plugin {library}", "BLOCKS_OUT": str(out)}
    # no address space randomization: blocks are told apart by their address
    command = ["setarch", "-R", args.root / "python", args.invoke, model, str(runs)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{model}: the emulated run failed: {done.stderr[-1000:]}")
    counts = collections.Counter()
    for line in out.read_text().splitlines():
        address, times, instructions = line.split()
        counts[address, int(instructions)] += int(times)
    return counts


def instructions(args: argparse.Namespace, library: Path, model: str) -> float:
    few, many = (executions(args, library, model, runs) for runs in (2, 2 + args.runs))
    more = {block: times - few[block] for block, times in many.items()}
    return sum(block[1] * times // args.runs for block, times in more.items() if times > 0 and times % args.runs == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--root", type=Path, default=Path(tempfile.gettempdir(), "arm64"))
    parser.add_argument("--invoke", type=Path, default=os.environ.get("MIXNET_TF_INVOKE"))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.invoke is None:
        parser.error("give --invoke INVOKE.py, or set MIXNET_TF_INVOKE")
    with tempfile.TemporaryDirectory() as folder:
        library = plugin(Path(folder))
        millions = {model: instructions(args, library, model) / 1e6 for model in args.models}
    if args.json:
        print(json.dumps(millions))
    else:
        sys.stdout.writelines(f"{count:10.3f} M instructions  {model}\n" for model, count in millions.items())


if __name__ == "__main__":
    main()
