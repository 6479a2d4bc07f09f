"""Bias correction: put the mean error of every channel of an int8 graph right in the biases of its convolutions.

Rounding and clipping move the mean of a channel, and the moves add up over the layers. After section 4.2 of
"Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et al. 2019, arXiv:1906.04721), with
measured means.
"""

from collections.abc import Sequence

import numpy as np

from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.litert.neighbours import convolutions
from mixnet_tf.litert.parts import up_to
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.progress.steps import counted, step
from mixnet_tf.quantization.layerwise import LayerwiseRun
from mixnet_tf.quantization.types import Images


def correct_biases(graph: FlatGraph, reference: FlatGraph, images: Images) -> None:
    """Correct the biases of an int8 graph in place, depth by depth; no operator is added.

    Convolutions of one depth do not read each other, so each sees what the corrections before it left. An image counts
    by the inverse of its power in the tensor: otherwise a few extreme images, which are clipped, would decide. A graph
    without an integer bias stays as it is.

    Given: x (1, h, w, i) int8 → CONV_2D, bias (o,) int32 → y (1, h, w, o) int8, whose channel means are m, in float n.
    Result: the same with bias + (n - m) / scale of the bias.

    Args:
        graph: int8; tensors are called as in the float graph.
        reference: the float graph.
        images: to measure on.
    """
    twins = {reference.name(op.outputs[0]): op.outputs[0] for op in convolutions(reference)}
    ops = [op for op in convolutions(graph) if graph.name(op.outputs[0]) in twins and _is_integer(graph, op.inputs[2])]
    if not ops:
        return
    tensors = [twins[graph.name(op.outputs[0])] for op in ops]
    power, means = _float_moments(reference, tensors, images)
    weights = dict(zip(tensors, (1 / power / (1 / power).sum(axis=0)).T, strict=True))
    wanted = {tensor: _weighted(weights[tensor], rows) for tensor, rows in zip(tensors, means, strict=True)}
    groups, run = _by_depth(graph, ops), LayerwiseRun(graph, images)
    for members in counted(groups, "correct the biases", len(groups), "layer"):
        values = run.values([op.outputs[0] for op in members])
        rows = zip(*([_channel_means(value) for value in of_image] for of_image in values), strict=True)
        for op, means in zip(members, rows, strict=True):
            tensor = twins[graph.name(op.outputs[0])]
            _shift(graph, op, wanted[tensor] - _weighted(weights[tensor], means))


def _is_integer(graph: FlatGraph, index: int) -> bool:
    return graph.constant(index).dtype == np.int32


def _channel_means(value: np.ndarray) -> np.ndarray:
    return value.reshape(-1, value.shape[-1]).mean(axis=0, dtype=np.float64)


@step("find the mean of every channel")
def _float_moments(
    graph: FlatGraph, tensors: Sequence[int], images: Images
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Return the power (images, tensors) of every tensor, and for each the channel means (channels,) of every image."""
    model = LiteModel(up_to(graph, tensors), num_threads=2)
    power, means = [], []
    for image in images:
        values = model.run(image)
        power.append([np.square(value).mean(dtype=np.float64) for value in values])
        means.append([_channel_means(value) for value in values])
    return np.maximum(np.array(power), np.finfo(np.float32).tiny), [list(rows) for rows in zip(*means, strict=True)]


def _weighted(weights: np.ndarray, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum of every image's row times its weight."""
    total = np.zeros_like(rows[0])
    for weight, row in zip(weights, rows, strict=True):
        total = total + weight * row
    return total


def _by_depth(graph: FlatGraph, ops: Sequence[Op]) -> list[list[Op]]:
    """Return the operators grouped by how many of them lie on the way from the input, themselves included."""
    depths: dict[int, int] = {}
    counted = {op.outputs[0] for op in ops}
    for op in graph.ops:
        depth = max((depths.get(i, 0) for i in op.inputs), default=0)
        depths.update(dict.fromkeys(op.outputs, depth + bool(counted & set(op.outputs))))
    reached = [depths[op.outputs[0]] for op in ops]
    return [[op for op, depth in zip(ops, reached, strict=True) if depth == wanted] for wanted in sorted(set(reached))]


def _shift(graph: FlatGraph, op: Op, error: np.ndarray) -> None:
    scale = np.asarray(graph.tensors[op.inputs[2]].quantization.scale, np.float64)
    limits = np.iinfo(np.int32)
    bias = graph.constant(op.inputs[2]) + np.round(error / scale)
    graph.set_constant(op, 2, np.clip(bias, limits.min, limits.max).astype(np.int32))
