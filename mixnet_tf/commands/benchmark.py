"""``mixnet-tf benchmark``: the latency of .tflite files."""

import argparse
import dataclasses
from typing import Any

from mixnet_tf.commands.arguments import count, threads
from mixnet_tf.commands.output import show_table

HELP = "time .tflite files in turns on LiteRT, and their start and memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", metavar="F.tflite", nargs="+", help="files to time, or folders with one; ratios are to the first"
    )
    help_text = "CPU threads per model (default: %(default)s)"
    parser.add_argument("--threads", type=threads, default=1, metavar="N", help=help_text)
    help_text = "turns per model, of three timed runs each (default: %(default)s)"
    parser.add_argument("--rounds", type=count, default=20, metavar="N", help=help_text)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    from mixnet_tf.progress.steps import step

    with step("load LiteRT"):
        from mixnet_tf.evidence.benchmark import benchmark
        from mixnet_tf.evidence.starting import start_up

    latencies = benchmark(args.models, num_threads=args.threads, rounds=args.rounds)
    starts = start_up(args.models, num_threads=args.threads)
    pairs = zip(latencies, starts, strict=True)
    return [dataclasses.asdict(latency) | dataclasses.asdict(start) for latency, start in pairs]


def show(result: list[dict[str, Any]]) -> None:
    from mixnet_tf.metrics import mebibytes

    times = ("min_ms", "median_ms", "p95_ms")
    rows = [
        (
            row["path"],
            *(f"{row[name]:.2f}" for name in times),
            f"{row['ratio']:.2f}",
            f"{row['start_ms']:.0f}",
            mebibytes(row["peak_bytes"]),
        )
        for row in result
    ]
    show_table(("model", "min ms", "median ms", "p95 ms", "ratio to the first", "first result ms", "memory MiB"), rows)
