"""Which block of a network an operator belongs to, by the names of its tensors."""

import re
from collections.abc import Sequence

from mixnet_tf.litert.flatgraph import FlatGraph

_BLOCK = re.compile(
    r"(?:^|[/_])((?:stage_?\d+_block_?\d+|block_?\d+[a-z]?|expanded_conv(?:_\d+)?|stem|last_conv)(?![a-z0-9]))"
)
_STEM, _HEAD = "stem", "head"


def blocks_of(graph: FlatGraph) -> list[str]:
    """Return the block of every operator, in graph order.

    Names as MixNet's and Keras' networks have them are known. An operator without one belongs to the block before it;
    the first of all are the stem, and the last the head. In a graph without any such name, a block is the size of the
    image: "28x28".

    Example:
        >>> set(blocks_of(FlatGraph.read("model_int8.tflite")))                                  # doctest: +SKIP
        {'stem', 'stage1_block1', 'last_conv', 'head'}
    """
    named = [_block(graph.name(op.outputs[0])) if op.outputs else None for op in graph.ops]
    if not any(named):
        return [_sizes(graph.shape(op.outputs[0])) if op.outputs else _HEAD for op in graph.ops]
    last = max(i for i, name in enumerate(named) if name)
    blocks, block = [], _STEM
    for i, name in enumerate(named):
        block = _HEAD if i > last else name or block
        blocks.append(block)
    return blocks


def _block(name: str) -> str | None:
    match = _BLOCK.search(name)
    return match[1] if match else None


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape[1:3]) if len(shape) == 4 else _HEAD
