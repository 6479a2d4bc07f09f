"""Which layers of a network train: those from a block to the output, with batch norm in inference mode."""

from collections.abc import Iterator, Sequence
from numbers import Integral

import keras

from mixnet_tf.checks import complaint
from mixnet_tf.config import ModelConfig, expand_blocks
from mixnet_tf.errors import ArgumentError, did_you_mean
from mixnet_tf.layers import block_name, block_of
from mixnet_tf.sublayers import Composite


def unfreeze(model: keras.Model, from_: str | int) -> list[str]:
    """Let the layers from a block to the output train, and freeze what is before; compile the model afterwards.

    Batch norm stays frozen in every block, in inference mode: a few images would spoil the statistics of many. The
    usual loop over ``model.layers``, which leaves each BatchNormalization out, would let it train: a block is one
    layer, with its batch norms inside. Your own layers before the first block are frozen, all others train. A saved
    model comes back as it was.

    Args:
        model: from ``create_model``, or a model of your own with one of these in it.
        from_: the first block that trains: ``"stem"`` (so all do), ``"stage4"``, ``"stage3_block2"`` or
            ``"last_conv"``. Or how many blocks train, from the end, stem and last convolution counted; 0 is the head
            alone.

    Returns:
        The names of the layers that train now, in order. A block is one.

    Raises:
        ArgumentError: no such block, or not a model with one MixNet in it.

    Example:
        >>> from mixnet_tf import create_model
        >>> model = create_model("mixnet_nano", classes=3)
        >>> unfreeze(model, 0), unfreeze(model, "stage3")
        (['predictions'], ['stage3_block1', 'stage3_block2', 'last_conv', 'predictions'])
    """
    if not isinstance(model, keras.Model):
        raise ArgumentError(complaint("model", model, "a keras.Model"))
    parts = list(_parts(model))
    blocks = [part.name for part in parts if _is_block(part)]
    if not blocks or len(set(blocks)) < len(blocks):
        problem = "several MixNets" if blocks else "no block of a MixNet"
        raise ArgumentError(f"model {model.name!r}: holds {problem}, expected one, as create_model builds it")
    frozen = blocks[: first_block(blocks, from_)]
    for value in (False, True):  # and all that is inside: Keras passes on only what changes
        model.trainable = value
    behind_input = False
    for part in parts:
        behind_input |= _is_block(part)
        part.trainable = behind_input and part.name not in frozen
        for norm in part.batch_norms if _is_block(part) else ():
            norm.trainable = False
    return [part.name for part in parts if part.trainable_variables]


def _parts(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield the blocks of a MixNet, and the layers around them, in order; what holds blocks is taken apart."""
    for part in layer._flatten_layers(include_self=False, recursive=False):
        if not _is_block(part) and any(map(_is_block, part._flatten_layers())):
            yield from _parts(part)
        else:
            yield part


def _is_block(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, Composite) and block_of(layer.name) == layer.name


def block_names(config: ModelConfig) -> list[str]:
    """Return the names of the blocks that a configuration describes, in order.

    >>> from mixnet_tf import load_config
    >>> block_names(load_config("mixnet_nano"))
    ['stem', 'stage1_block1', 'stage2_block1', 'stage2_block2', 'stage3_block1', 'stage3_block2', 'last_conv']
    """
    stages = enumerate(expand_blocks(config.architecture.backbone), start=1)
    blocks = [block_name(s, b) for s, stage in stages for b in range(1, len(stage) + 1)]
    return ["stem", *blocks, "last_conv"]


def first_block(names: Sequence[str], from_: object, argument: str = "from_", fewest: int = 0) -> int:
    """Return the place of the block that training begins with; behind the last one for 0.

    Args:
        names: of all blocks, in order.
        from_: see ``unfreeze``.
        argument: what `from_` is called.
        fewest: blocks that must train.

    Raises:
        ArgumentError: names the places that there are.

    Example:
        >>> first_block(["stem", "stage1_block1", "stage1_block2", "last_conv"], "stage1")
        1
    """
    if isinstance(from_, Integral) and not isinstance(from_, bool) and fewest <= int(from_) <= len(names):
        return len(names) - int(from_)
    blocks, stages = {name: i for i, name in enumerate(names)}, dict[str, int]()
    for name, i in blocks.items():
        stages.setdefault(name.partition("_block")[0], i)
    places = stages | blocks
    if isinstance(from_, str) and from_ in places:
        return places[from_]
    expected = f"one of {', '.join(stages)}, a block of them ({names[1]}), or a number of blocks from {fewest} to "
    raise ArgumentError(complaint(argument, from_, f"{expected}{len(names)}{did_you_mean(from_, places)}"))
