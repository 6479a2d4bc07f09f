"""``mixnet-tf benchmark``: the latency of .tflite files."""

import argparse
import dataclasses
from typing import Any

from mixnet_tf.commands.arguments import count, threads
from mixnet_tf.commands.output import show_table

HELP = "time .tflite files in turns on LiteRT"


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

    latencies = benchmark(args.models, num_threads=args.threads, rounds=args.rounds)
    return [dataclasses.asdict(latency) for latency in latencies]


def show(result: list[dict[str, Any]]) -> None:
    times = ("min_ms", "median_ms", "p95_ms")
    rows = [
        (latency["path"], *(f"{latency[name]:.2f}" for name in times), f"{latency['ratio']:.2f}") for latency in result
    ]
    show_table(("model", "min ms", "median ms", "p95 ms", "ratio to the first"), rows)
