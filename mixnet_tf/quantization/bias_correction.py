"""Bias correction: put the mean error of every channel of an int8 file right in the biases of its convolutions.

Rounding and clipping move the mean of a channel, and the moves add up over the layers. After section 4.2 of
"Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et al. 2019, arXiv:1906.04721), with
measured means.
"""

from collections.abc import Sequence

import numpy as np

from mixnet_tf.litert.flatgraph import FlatGraph, Op, Outputs, convolutions


def correct_biases(content: bytes, reference: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Correct the biases of an int8 ``.tflite``, depth by depth; no operator is added.

    Convolutions of one depth do not read each other, so each sees what the corrections before it left. An image counts
    by the inverse of its power in the tensor: otherwise a few extreme images, which are clipped, would decide. A file
    without an integer bias is returned as it is.

    Args:
        content: the int8 file; tensors are called as in the float file.
        reference: the float file.
        images: normalized float images (1, height, width, channels).
    """
    graph, wanted = FlatGraph(content), FlatGraph(reference)
    names = {wanted.name(op.outputs[0]): op.outputs[0] for op in convolutions(wanted)}
    ops = [op for op in convolutions(graph) if graph.name(op.outputs[0]) in names and _is_integer(graph, op.inputs[2])]
    if not ops:
        return content
    tensors = [names[graph.name(op.outputs[0])] for op in ops]
    weights = _weights(wanted, tensors, images)
    means = dict(zip(tensors, _means(wanted, tensors, weights, images), strict=True))
    weights = dict(zip(tensors, weights.T, strict=True))
    for members in _by_depth(graph, ops):
        own = [names[graph.name(op.outputs[0])] for op in members]
        found = _means(graph, [op.outputs[0] for op in members], np.transpose([weights[i] for i in own]), images)
        for op, i, mean in zip(members, own, found, strict=True):
            _shift(graph, op, means[i] - mean)
    return graph.content()


def _is_integer(graph: FlatGraph, index: int) -> bool:
    return graph.constant(index).dtype == np.int32


def _weights(graph: FlatGraph, tensors: Sequence[int], images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the weight (images, tensors) of every image in every tensor; each tensor's sum to 1."""
    run = Outputs(graph.content_up_to(tensors))
    power = np.array([[np.square(value).mean(dtype=np.float64) for value in run(image)] for image in images])
    inverse = 1 / np.maximum(power, np.finfo(np.float32).tiny)
    return inverse / inverse.sum(axis=0)


def _means(graph: FlatGraph, tensors: Sequence[int], weights: np.ndarray, images: Sequence[np.ndarray]) -> list:
    """Return the weighted mean (channels,) of every channel of `tensors`."""
    run = Outputs(graph.content_up_to(tensors))
    sums = [np.float64(0)] * len(tensors)
    for image, own in zip(images, weights, strict=True):
        for i, value in enumerate(run(image)):
            sums[i] = sums[i] + own[i] * value.reshape(-1, value.shape[-1]).mean(axis=0, dtype=np.float64)
    return sums


def _by_depth(graph: FlatGraph, ops: list[Op]) -> list[list[Op]]:
    depths: dict[int, int] = {}
    for op in graph.ops:
        depth = max((depths.get(i, 0) for i in op.inputs), default=0)
        depths.update(dict.fromkeys(op.outputs, depth + (op in ops)))
    found = [depths[op.outputs[0]] for op in ops]
    return [[op for op, own in zip(ops, found, strict=True) if own == depth] for depth in sorted(set(found))]


def _shift(graph: FlatGraph, op: Op, error: np.ndarray) -> None:
    scale = np.asarray(graph.tensors[op.inputs[2]].quantization.scale, np.float64)
    limits = np.iinfo(np.int32)
    bias = graph.constant(op.inputs[2]) + np.round(error / scale)
    graph.set_constant(op, 2, np.clip(bias, limits.min, limits.max).astype(np.int32))
