"""The graphs of one operator that the model of costs is fitted on: seeded random shapes of each kind."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from micro import Window, binary, conv, dense, depthwise, joined, parted, pool, unary, with_numbers

DTYPES = ("float32", "int8")
WIDTHS = (8, 12, 16, 20, 24, 32, 36, 40, 48, 60, 64, 80, 96, 100, 120, 160, 200, 240, 300, 384)
SIDES = (3, 4, 6, 7, 10, 14)
IMAGES = (
    (7, 8),
    (7, 16),
    (7, 40),
    (7, 100),
    (7, 240),
    (14, 16),
    (14, 60),
    (14, 120),
    (28, 16),
    (28, 48),
    (56, 24),
    (10, 36),
)
"""Sides and channels."""
LENGTHS = (16, 100, 240, 1000, 1024, 4096, 20000)
BINARY = ("ADD", "MUL", "SUB", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM", "DIV")
UNARY = (
    *("LOGISTIC", "HARD_SWISH", "TANH", "GELU", "EXP", "ELU", "LEAKY_RELU", "ABS", "NEG", "RELU", "RELU6"),
    *("RSQRT", "SQRT", "SQUARE", "SOFTMAX"),
)
NO_INT8 = ("RSQRT", "SQRT", "SQUARE", "DIV")  # LiteRT refuses int8 of these, or some of its values
CONVERSIONS = (
    *(("QUANTIZE", "float32", "int8"), ("QUANTIZE", "int8", "int8"), ("QUANTIZE", "uint8", "int8")),
    *(("QUANTIZE", "int8", "uint8"), ("QUANTIZE", "float32", "uint8"), ("DEQUANTIZE", "int8", "float32")),
    ("DEQUANTIZE", "uint8", "float32"),
)

Case = Callable[[], bytes]


def cases() -> Iterator[bytes]:
    """Yield the content of every graph."""
    for dtype in DTYPES:
        rng = np.random.default_rng(0)
        yield from _matrices(rng, dtype)
        yield from _windows(rng, dtype)
        yield from _depthwise(rng, dtype)
        yield from _elementwise(dtype)
        yield from _unary(dtype)
        yield from _images(dtype)
    for (name, *dtypes), length in itertools.product(CONVERSIONS, LENGTHS):
        yield unary(name, (1, 1, 1, length), (dtypes[0], dtypes[1]))


def _pick(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _matrices(rng: np.random.Generator, dtype: str) -> Iterator[bytes]:
    for _ in range(50):
        side, inputs, outputs = _pick(rng, SIDES), _pick(rng, WIDTHS), _pick(rng, WIDTHS)
        yield conv((side, side), (inputs, outputs), Window(), dtype)
    for _ in range(30):
        groups = _pick(rng, (2, 2, 3, 4))
        yield conv(
            (_pick(rng, SIDES),) * 2,
            (groups * _pick(rng, WIDTHS), groups * _pick(rng, WIDTHS)),
            Window(),
            dtype,
            groups,
        )
    for _ in range(30):
        yield conv((1, 1), (_pick(rng, WIDTHS), _pick(rng, WIDTHS)), Window(), dtype)
    for _ in range(12):
        groups = _pick(rng, (2, 4))
        yield conv((1, 1), (groups * _pick(rng, WIDTHS), groups * _pick(rng, WIDTHS)), Window(), dtype, groups)
    for rows, widths in itertools.product(
        (1, 25), ((64, 10), (256, 100), (384, 1000), (1280, 12), (100, 7), (80, 80), (48, 196))
    ):
        yield dense(rows, widths, dtype)


def _windows(rng: np.random.Generator, dtype: str) -> Iterator[bytes]:
    for _ in range(50):
        side, k, stride = _pick(rng, SIDES[1:]), _pick(rng, (2, 3, 3, 3, 4, 5)), _pick(rng, (1, 2))
        yield conv((side, side), (_pick(rng, (3, *WIDTHS[:9])), _pick(rng, WIDTHS[:12])), Window((k, k), stride), dtype)
    for _ in range(12):
        yield conv((28, 28), (3, _pick(rng, WIDTHS[:12])), Window((_pick(rng, (3, 4)),) * 2, _pick(rng, (2, 4))), dtype)
    for _ in range(12):  # one tap, but not every pixel
        yield conv(
            (_pick(rng, SIDES[3:]),) * 2, (_pick(rng, WIDTHS[:9]), _pick(rng, WIDTHS[:12])), Window(stride=2), dtype
        )
    for _ in range(16):
        groups = _pick(rng, (2, 4))
        widths = groups * _pick(rng, WIDTHS[:9]), groups * _pick(rng, WIDTHS[:9])
        yield conv((_pick(rng, SIDES[1:]),) * 2, widths, Window((3, 3), _pick(rng, (1, 2))), dtype, groups)
    for k, outputs in itertools.product((2, 3, 4), WIDTHS[:12:3]):  # one output pixel
        yield conv((k, k), (_pick(rng, WIDTHS[:6]), outputs), Window((k, k), same=False), dtype)


def _depthwise(rng: np.random.Generator, dtype: str) -> Iterator[bytes]:
    kernels = ((1, 1), (1, 3), (2, 2), (1, 4), (3, 3), (3, 3), (1, 7), (5, 5), (5, 5), (3, 7), (2, 11), (4, 5))
    for kernel, _ in itertools.product(kernels, range(9)):
        side, channels = _pick(rng, SIDES), _pick(rng, (3, 6, 10, 18, *WIDTHS))
        yield depthwise((side, side), channels, Window(kernel, _pick(rng, (1, 1, 2))), dtype)
    for dilation, _ in itertools.product(((2, 1), (2, 2), (1, 6)), range(3)):
        yield depthwise((14, 14), _pick(rng, WIDTHS), Window((4, 4), 1, dilation), dtype)
    for k, stride in itertools.product((6, 7, 9, 11), (1, 2)):
        yield depthwise((_pick(rng, SIDES[2:]),) * 2, _pick(rng, WIDTHS[:8]), Window((k, k), stride), dtype)


def _elementwise(dtype: str) -> Iterator[bytes]:
    for name in BINARY[: None if dtype == "float32" else -1]:
        for length in LENGTHS:
            yield binary(name, (1, 1, 1, length), (1, 1, 1, length), dtype)
        for (side, channels), constant in itertools.product(IMAGES, (False, True)):
            yield binary(name, (1, side, side, channels), (channels,), dtype, constant)
        for side, channels in IMAGES:
            yield binary(name, (1, side, side, channels), (1, side, side, 1), dtype)
        for length in LENGTHS[::2]:
            yield binary(name, (1, 1, 1, length), (), dtype, constant=True)
        if dtype == "float32" and name in ("ADD", "MUL", "SUB"):
            for length in LENGTHS:
                yield binary(name, (1, 1, 1, length), (1, 1, 1, length), dtype, clamped=True)
            for side, channels in IMAGES:
                yield binary(name, (1, side, side, channels), (channels,), dtype, constant=True, clamped=True)


def _unary(dtype: str) -> Iterator[bytes]:
    for name, length in itertools.product(UNARY, LENGTHS):
        if dtype == "float32" or name not in NO_INT8:
            shape = (1, length) if name == "SOFTMAX" else (1, 1, 1, length)
            yield unary(name, shape, (dtype, dtype), _options(name))


def _options(name: str) -> Any:
    if name == "SOFTMAX":
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return options
    return {"GELU": schema.GeluOptionsT, "LEAKY_RELU": schema.LeakyReluOptionsT}.get(name, lambda: None)()


def _images(dtype: str) -> Iterator[bytes]:
    """What moves or sums up values of images."""
    mean, cut = schema.ReducerOptionsT(), schema.StridedSliceOptionsT()
    mean.keepDims = True
    cut.beginMask = cut.endMask = cut.ellipsisMask = cut.newAxisMask = cut.shrinkAxisMask = 0
    for side, channels in IMAGES:
        shape = (1, side, side, channels)
        for name in ("MEAN", "SUM"):
            yield with_numbers(name, shape, (1, 1, 1, channels), [[1, 2]], dtype, mean)
            yield with_numbers(name, shape, (1, side, side, 1), [[3]], dtype, mean)
        for pads in ([1, 1], [0, 1], [3, 3]):
            padded = (1, side + sum(pads), side + sum(pads), channels)
            yield with_numbers("PAD", shape, padded, [[[0, 0], pads, pads, [0, 0]]], dtype)
        for result in ((1, side - 1, side, channels), (1, side, side - 2, channels), (1, side, side, channels // 2)):
            yield with_numbers("STRIDED_SLICE", shape, result, [[0] * 4, result, [1] * 4], dtype, cut)
            yield with_numbers("SLICE", shape, result, [[0] * 4, result], dtype, schema.SliceOptionsT())
        for count in (2, 3, 5, 7):
            yield joined([shape] * count, dtype)
            yield joined([(1, 1, 1, channels)] * count, dtype)
        for parts in (2, 4):
            yield parted(shape, parts, dtype)
        yield parted((*shape[:3], 5 * channels), 5, dtype)
        yield with_numbers("RESHAPE", shape, (1, side * side * channels), [[1, side * side * channels]], dtype)
        for window in (Window((3, 3), 2), Window((2, 2), 2)):
            yield pool("MAX_POOL_2D", (side, side), channels, window, dtype)
            yield pool("AVERAGE_POOL_2D", (side, side), channels, window, dtype)
