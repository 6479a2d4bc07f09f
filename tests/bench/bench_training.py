"""What a step of training costs against timm's, and against Keras' own batch norm: a table of CONTRIBUTING.md.

    python tests/bench/bench_training.py --torch VENV/bin/python [--size 128 ...] [--batch 32] [--width 1.0 ...]
                                         [--rounds 12] [--steps 1] [--threads 1] [--json] [--readme CONTRIBUTING.md]
                                         [--growth FILE.png]

VENV has torch and timm; without it timm's rows are left out. MixNet-S with AdamW, label smoothing, an average of the
weights and the top-1, one process per engine, which take turns. Numbers are seconds of CPU time (user and system), so
that other work on the machine counts little; believe the ratios, which are of the same round. Their interval is that of
the median by order statistics, 95 % or more. The time to the first step begins with the process and its imports.
--growth draws in place of it how time and memory grow with image, batch and width of the network, around 128 px,
32 images and width 1.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import replace_tables, table

HERE = Path(__file__).resolve().parent
CENTRE = {"size": 128, "batch": 32, "width": 1.0}
GROWTH = {
    "size": (64, 128, 224),
    "batch": (8, 32, 64),
    "width": (1.0, 1.3, 2.0),
}  # others give MixNet-S channels that cannot be split
AXES = {"size": "pixels per side", "batch": "images in a batch", "width": "width of the network"}
MEASURES = {"seconds": "CPU time of a step, s", "megabytes": "peak memory, MB"}
LABELS = {
    "timm": "timm, eager, channels last",
    "ours": "mixnet_tf",
    "keras": "mixnet_tf with Keras' own batch norm",
    "chosen": "mixnet_tf with TensorFlow's own choice of operators",
    "returning": "mixnet_tf with memory returned to the system",
}


@contextlib.contextmanager
def engine(python: str | Path, name: str, *flags: object):
    """Give a process that trains; it ends with the block."""
    command = [str(part) for part in (python, HERE / "training_steps.py", name, *flags)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(BrokenPipeError):  # it has failed
                process.stdin.close()


def ask(process: subprocess.Popen, steps: int) -> dict[str, float]:
    with contextlib.suppress(BrokenPipeError):  # it has failed
        process.stdin.write(f"{steps}\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"failed: {' '.join(process.args)}")
    return json.loads(line)


def measure(args: argparse.Namespace, names: Sequence[str], **case: float) -> dict[str, list[dict[str, float]]]:
    """Return what each engine answers in every round, the first left out."""
    flags = [part for name, value in case.items() for part in (f"--{name}", value)] + ["--threads", args.threads]
    pythons = {name: args.torch if name == "timm" else sys.executable for name in names}
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(engine(python, name, *flags)) for name, python in pythons.items() if python
        }
        rounds = [
            {name: ask(process, args.steps) for name, process in processes.items()} for _ in range(args.rounds + 1)
        ]
    return {name: [row[name] for row in rounds[1:]] for name in processes}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the order statistics that hold it with 95 %: of 12 values, the third from either end."""
    ordered, count, tail, cut = sorted(values), len(values), 0.0, 0
    while (tail := tail + math.comb(count, cut) / 2**count) < 0.025:
        cut += 1
    first = max(0, cut - 1)
    return statistics.median(ordered), ordered[first], ordered[count - 1 - first]


def row(case: str, measured: dict[str, list[dict[str, float]]], name: str) -> list[str]:
    """Return the cells of an engine."""
    seconds = [answer["seconds"] for answer in measured[name]]
    cells = [case, LABELS[name], f"{1e3 * statistics.median(seconds):.0f} ms"]
    for reference in ("timm", "keras"):
        pairs = zip(measured.get(reference, ()), seconds, strict=reference in measured) if reference != name else ()
        ratios = [second / answer["seconds"] for answer, second in pairs]
        cells.append("{:.2f} ({:.2f} to {:.2f})".format(*interval(ratios)) if ratios else "–")
    peak, start = (max(answer[key] for answer in measured[name]) for key in ("megabytes", "start"))
    return [*cells, f"{peak:.0f} MB", f"{start:.0f} s"]


def draw_growth(args: argparse.Namespace) -> None:
    """Draw the medians of time and memory, a panel for each thing that grows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    medians: dict[tuple, dict[str, dict[str, float]]] = {}
    figure, panels = pyplot.subplots(len(MEASURES), len(GROWTH), figsize=(10, 6), layout="constrained", sharey="row")
    for column, (axis, values) in enumerate(GROWTH.items()):
        for case in ({**CENTRE, axis: value} for value in values):
            key = tuple(case.values())
            if key not in medians:
                rounds = measure(args, [name for name in ("timm", "ours") if args.torch or name != "timm"], **case)
                medians[key] = {
                    name: {what: statistics.median(answer[what] for answer in answers) for what in MEASURES}
                    for name, answers in rounds.items()
                }
                print(case, medians[key], file=sys.stderr, flush=True)
        for panel, (what, label) in zip(panels[:, column], MEASURES.items(), strict=True):
            for name, marker in (("timm", "o"), ("ours", "s")):
                points = [medians[tuple({**CENTRE, axis: value}.values())].get(name) for value in values]
                if all(points):
                    panel.plot(values, [point[what] for point in points], marker=marker, label=LABELS[name])
            panel.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel="" if column else label, xticks=values)
            panel.xaxis.set_major_formatter(ScalarFormatter())
            panel.xaxis.set_minor_formatter(NullFormatter())
            for axis_formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                axis_formatter(ScalarFormatter())
            panel.grid(alpha=0.3)
    panels[0, 0].legend(frameon=False)
    figure.savefig(args.growth, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", type=Path, help="a Python with torch and timm")
    parser.add_argument("--size", type=int, nargs="+", default=[128])
    parser.add_argument("--width", type=float, nargs="+", default=[1.0])
    for flag, default in (("--batch", 32), ("--rounds", 12), ("--steps", 1), ("--threads", 1)):
        parser.add_argument(flag, type=int, default=default)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--growth", type=Path, metavar="PNG", help="draw this picture in place of the table")
    args = parser.parse_args()
    if args.growth:
        return draw_growth(args)
    results: list[dict[str, Any]] = []
    rows = []
    for size in args.size:
        for width in args.width:
            measured = measure(
                args, list(LABELS) if args.torch else list(LABELS)[1:], size=size, batch=args.batch, width=width
            )
            results.append({"size": size, "width": width, "batch": args.batch, "rounds": measured})
            case = f"{size} px, width {width:g}, batch {args.batch}"
            rows += [row(case, measured, name) for name in measured]
            print(*rows[-len(measured) :], sep="\n", file=sys.stderr, flush=True)
    header = ["MixNet-S", "trained by", "CPU time a step", "of timm's", "of Keras'", "peak memory", "to the first step"]
    text = table(header, rows)
    print(json.dumps(results) if args.json else text)
    if args.readme:
        replace_tables(args.readme, "bench_training.py", text)


if __name__ == "__main__":
    main()
