"""The cost of depthwise kernels in pieces, and of 1x1 convolutions by width: what the deploy graph rests on.

    python tests/bench/bench_kernels.py [--kernels K …] [--widths N …] [--arm ARM64] [--readme tflite/README.md]

Every file holds 4 equal ops with different weights, on 28 x 28 x 64 (stride 2: from 56 x 56 x 64), so that one op
stands out of the noise. Costs are per output value: A76 instructions (ARM64: see count_arm.py), and nanoseconds
on this machine.
"""

import argparse
import functools
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from measuring import instructions, replace_tables, table, times

from mixnet_tf.deploy import kernels
from mixnet_tf.deploy.emitter import Emitter
from mixnet_tf.deploy.kernels import Piece, Taps, plan
from mixnet_tf.litert.convert import convert
from mixnet_tf.quantization.quantize import quantize
from mixnet_tf.quantization.recipe import load_recipe

SIZE, CHANNELS, COPIES, ROUNDS = 28, 64, 4, 10
WIDTHS = (12, 16, 20, 24, 36, 40, 60, 64, 100, 104)
KERNELS, STRIDES = (3, 5, 7, 9, 11), (1, 2)

Op = Callable[[Emitter, Any, np.random.Generator, str], Any]
"""Adds an operator to a tensor, with these random numbers and this name; returns its output."""


def runs(size: int, longest: int) -> list[Taps]:
    return [Taps(first, min(longest, size - first)) for first in range(0, size, longest)]


def every(size: int, step: int) -> list[Taps]:
    return [Taps(first, -(-(size - first) // step), step) for first in range(step)]


def pieces(rows: list[Taps], cols: list[Taps]) -> tuple[Piece, ...]:
    return tuple(Piece(row, col) for row, col in itertools.product(rows, cols))


def forms(k: int, stride: int) -> dict[str, tuple[Piece, ...]]:
    """The ways to write a k x k kernel that are compared."""
    whole = [Taps(0, k)]
    named = {"one op": pieces(whole, whole)}
    if k * k > kernels.MAX_TAPS:
        named["chosen"] = plan(k, k, stride)
        strip = kernels.MAX_TAPS // k
        named |= {"row strips": pieces(runs(k, strip), whole), "tiles": pieces(runs(k, 5), runs(k, 5))}
    if k * k > kernels.MAX_TAPS and stride == 1:
        strips, phases = -(-k // (kernels.MAX_TAPS // k)), -(-k // 5)
        named |= {
            "every n-th row": pieces(every(k, strips), whole),
            "every n-th row and column": pieces(every(k, phases), every(k, phases)),
        }
    return named


def chain(op: Op, size: int, channels: int) -> keras.Model:
    """A chain of COPIES ops, each from and to `channels` channels of size x size (or as the op leaves it)."""
    image = x = keras.Input((size, size, channels), batch_size=1)
    emit = Emitter(lanes=1)
    for i in range(COPIES):
        x = op(emit, x, np.random.default_rng(i), f"op{i}")
    return keras.Model(image, x)


def depthwise(k: int, stride: int, form: tuple[Piece, ...]) -> Op:
    def op(emit: Emitter, x: Any, rng: np.random.Generator, name: str) -> Any:
        kernel, bias = rng.normal(0, 1 / k, (k, k, CHANNELS)), rng.normal(0, 0.1, CHANNELS)
        pads = [(k // 2, k - 1 - k // 2 if stride == 1 else k // 2 - (1 - x.shape[1] % 2))] * 2
        with mock.patch("mixnet_tf.deploy.emitter.plan", lambda *_: form):
            return emit.depthwise(x, kernel, bias, name, stride, pads)

    return op


def pointwise(width: int) -> Op:
    """To `width` channels and back to 40: the difference of two widths is what counts."""

    def op(emit: Emitter, x: Any, rng: np.random.Generator, name: str) -> Any:
        hidden = emit.conv(x, rng.normal(0, 0.2, (40, width)), rng.normal(0, 0.1, width), f"{name}_there")
        return emit.conv(hidden, rng.normal(0, 0.2, (width, 40)), rng.normal(0, 0.1, 40), f"{name}_back")

    return op


def parallel(op: Op, size: int) -> keras.Model:
    """COPIES ops on the same input: a stride leaves nothing to chain."""
    image = keras.Input((size, size, CHANNELS), batch_size=1)
    emit = Emitter(lanes=1)
    outputs = [op(emit, image, np.random.default_rng(i), f"op{i}") for i in range(COPIES)]
    return keras.Model(image, outputs)


def write(model: keras.Model, name: str, folder: Path) -> list[Path]:
    """Write a model as float32 and as int8."""
    shape = (1, *model.input_shape[1:])
    images = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i in range(2)]
    graph = convert(model, image_size=shape[1:3])
    paths = [folder / f"{name}_{dtype}.tflite" for dtype in ("float32", "int8")]
    paths[0].write_bytes(graph.content())
    paths[1].write_bytes(quantize(graph, load_recipe("int8_baseline"), images).graph.content())
    return paths


def costs(paths: list[Path], arm: Path | None, values: int) -> list[str]:
    """Return the cells of a row: instructions and nanoseconds per value, float32 and int8."""
    counted = instructions(arm, paths)
    timed = times(sys.executable, paths, 1, ROUNDS)
    a76 = [f"{1e6 * counted[path] / values / COPIES:.1f}" if counted else "–" for path in paths]
    return a76 + [f"{1e6 * min(timed[path]) / values / COPIES:.2f}" for path in paths]


HEAD = ["A76 float32", "A76 int8", "ns float32", "ns int8"]


def depthwise_table(kernel_sizes: list[int], folder: Path, arm: Path | None) -> str:
    rows = []
    for k, stride in itertools.product(kernel_sizes, STRIDES):
        for label, form in forms(k, stride).items():
            op = depthwise(k, stride, form)
            model = chain(op, SIZE, CHANNELS) if stride == 1 else parallel(op, SIZE * stride)
            paths = write(model, f"dw_{k}_{stride}_{label.replace(' ', '_')}", folder)
            taps = "+".join(str(piece.taps) for piece in form)
            rows.append([f"{k}x{k}", str(stride), label, taps, *costs(paths, arm, SIZE * SIZE * CHANNELS)])
            print(" | ".join(rows[-1]), file=sys.stderr)
    return table(["kernel", "stride", "form", "taps", *HEAD], rows)


def pointwise_table(widths: list[int], folder: Path, arm: Path | None) -> str:
    rows = []
    for width in widths:
        paths = write(chain(pointwise(width), SIZE, 40), f"pw_{width}", folder)
        rows.append([str(width), *costs(paths, arm, SIZE * SIZE * width)])
        print(" | ".join(rows[-1]), file=sys.stderr)
    return table(["channels between two 1x1 convolutions, 40 → n → 40", *HEAD], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", nargs="+", type=int, default=list(KERNELS), choices=KERNELS, metavar="K")
    parser.add_argument("--widths", nargs="+", type=int, default=list(WIDTHS), metavar="N")
    parser.add_argument("--arm", type=Path, metavar="ARM64")
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        makers = (functools.partial(depthwise_table, args.kernels), functools.partial(pointwise_table, args.widths))
        tables = "\n\n".join(make(Path(folder), args.arm) for make in makers)
    print(tables)
    if args.readme:
        replace_tables(args.readme, "bench_kernels.py", tables)


if __name__ == "__main__":
    main()
