"""Which blocks lose most in int8, and the fewest that must stay in float32."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np
from tqdm import tqdm

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph, Outputs
from mixnet_tf.metrics import signal_to_noise
from mixnet_tf.quantization.backends import to_int8

EXACT_DB = 200.0
"""The signal-to-noise ratio of what shows no difference at all."""

_BLOCK = re.compile(r"/((?:stem|stage\d+_block\d+|last_conv))_")


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """A block, and the logit SNR in dB when it alone stays in float32; `gain_db` is that over int8 throughout."""

    block: str
    snr_db: float
    gain_db: float


def block_names(content: bytes) -> tuple[str, ...]:
    """Return the blocks of a ``.tflite`` made from one of this package's models, in graph order."""
    graph = FlatGraph(content)
    names = (_BLOCK.search(graph.name(op.outputs[0])) for op in graph.ops)
    return tuple(dict.fromkeys(match[1] for match in names if match))


def float_names(blocks: Iterable[str]) -> tuple[str, ...]:
    """Return what the names of a block's tensors hold."""
    return tuple(f"/{block}_" for block in blocks)


def rank_blocks(prepared, backend: str, images: Sequence[np.ndarray]) -> list[Sensitivity]:
    """Return every block by the SNR regained when it stays in float32, largest first.

    Args:
        prepared: from ``mixnet_tf.quantization.quantize.prepare``.
        backend: a quantizer that can leave operators in float32.
        images: normalized float images (1, height, width, channels), to measure on.
    """
    blocks = block_names(prepared.content)
    wanted = _logits(prepared.reference, images)

    def snr(members: tuple[str, ...]) -> float:
        content = to_int8(prepared.content, prepared.ranges, backend, float_names(members))
        found = signal_to_noise(wanted, _logits(content, images))
        return EXACT_DB if found is None else found

    base = snr(())
    shown = tqdm(blocks, desc="sensitivity", unit="block", leave=False, disable=None)
    found = [Sensitivity(block, own := snr((block,)), own - base) for block in shown]
    return sorted(found, key=lambda own: -own.gain_db)


def fewest_float_blocks(
    prepared, recipe, backend: str, images: Sequence[np.ndarray], corrected
) -> tuple[tuple[str, ...], float]:
    """Return the fewest blocks, taken in the order of their gain, that reach the recipe's agreement, and what it is.

    Args:
        prepared: from ``mixnet_tf.quantization.quantize.prepare``.
        recipe: with ``min_agreement``.
        backend: a quantizer that can leave operators in float32.
        images: to measure on.
        corrected: a function from blocks to the content of the finished file.

    Raises:
        DeployError: all blocks together do not reach it, or there is nothing to choose from or to compare.
    """
    graph, names = FlatGraph(prepared.content), block_names(prepared.content)
    if not names:
        raise DeployError("min_agreement: the model has no stages and blocks; expected one made by this package")
    if [len(graph.shape(i)) for i in graph.outputs] != [2]:
        raise DeployError("min_agreement: expected a classifier, with one output (1, classes)")
    wanted = _logits(prepared.reference, images).argmax(axis=1)
    ranked: list[Sensitivity] = []
    for count in range(len(names) + 1):
        if count == 1:
            ranked = rank_blocks(prepared, backend, images)
        blocks = tuple(own.block for own in ranked[:count])
        agreement = float((_logits(corrected(blocks), images).argmax(axis=1) == wanted).mean())
        if agreement >= recipe.min_agreement:
            return blocks, agreement
    raise DeployError(
        f"min_agreement {recipe.min_agreement}: with every block in float32 {agreement:.4f} of {len(images)} images "
        "agree; expected a smaller number"
    )


def _logits(content: bytes, images: Sequence[np.ndarray]) -> np.ndarray:
    run = Outputs(content)
    return np.concatenate([run(image)[0] for image in images])
