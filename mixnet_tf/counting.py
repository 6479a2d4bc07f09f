"""Parameters and multiply-accumulates of a MixNet, by arithmetic on its configuration (no TensorFlow).

Counted as MACs: every convolution (squeeze-and-excitation included) and fully connected layer, one image. Not counted:
batch norm, activations, pooling, additions. Parameters are the trainable ones.
"""

import dataclasses
import itertools

from mixnet_tf.config import LAST_CONV_FILTERS, BlockConfig, HeadParams, ModelConfig, expand_blocks
from mixnet_tf.scaling import scale_channels


@dataclasses.dataclass(frozen=True)
class StageCount:
    """One row of a model's summary: the output of a stage, and what it costs."""

    name: str
    blocks: int
    height: int
    width: int
    channels: int
    kernel_sizes: tuple[int, ...]
    parameters: int
    macs: int


def count_stages(config: ModelConfig, *, image_size: tuple[int, int], classes: int) -> list[StageCount]:
    """Return a row for the stem, every stage, the last convolution and the head.

    Args:
        config: the model.
        image_size: (height, width) in pixels.
        classes: number of classes.

    Example:
        >>> from mixnet_tf.config import load_config
        >>> rows = count_stages(load_config("mixnet_s"), image_size=(224, 224), classes=1000)
        >>> sum(row.parameters for row in rows), round(sum(row.macs for row in rows) / 1e6, 1)
        (4134606, 239.2)
    """
    backbone = config.architecture.backbone
    channels = scale_channels(backbone.params.stem_channels, backbone.params.wid_mul)
    height, width = (_halve(size) for size in image_size)
    stem = 27 * channels
    rows = [StageCount("stem", 0, height, width, channels, (3,), stem + 2 * channels, stem * height * width)]
    for s, blocks in enumerate(expand_blocks(backbone), start=1):
        parameters = macs = 0
        for block in blocks:
            before = height * width
            if block.stride == 2:
                height, width = _halve(height), _halve(width)
            parameters += _block_parameters(block)
            macs += _block_macs(block, before, height * width)
        channels = block.out_channels
        kernel_sizes = tuple(sorted({size for block in blocks for size in block.kernel_sizes}))
        rows.append(StageCount(f"stage{s}", len(blocks), height, width, channels, kernel_sizes, parameters, macs))
    weights, filters = channels * LAST_CONV_FILTERS, LAST_CONV_FILTERS
    macs = weights * height * width
    rows.append(StageCount("last_conv", 0, height, width, filters, (1,), weights + 2 * filters, macs))
    weights, biases = _head(config.architecture.head.params, classes)
    rows.append(StageCount("head", 0, 1, 1, classes, (), weights + biases, weights))
    return rows


def _halve(size: int) -> int:
    return -(-size // 2)


def _conv_weights(block: BlockConfig) -> dict[str, int]:
    """Weights of each convolution of a block; SE's biases come on top."""
    hidden, squeezed = block.hidden_channels, block.se_channels or 0
    return {
        "expand": block.in_channels * hidden // block.num_exp_groups if block.expansion_ratio > 1 else 0,
        "depthwise": sum(size * size for size in block.kernel_sizes) * hidden // len(block.kernel_sizes),
        "se": 2 * hidden * squeezed,
        "project": hidden * block.out_channels // block.num_poi_groups,
    }


def _block_parameters(block: BlockConfig) -> int:
    hidden, squeezed, expands = block.hidden_channels, block.se_channels, block.expansion_ratio > 1
    batch_norm = 2 * (hidden * (1 + expands) + block.out_channels)
    se_biases = 0 if squeezed is None else hidden + squeezed
    prelu = (1 + expands + (squeezed is not None)) if block.act_type == "prelu" else 0
    return sum(_conv_weights(block).values()) + batch_norm + se_biases + prelu


def _block_macs(block: BlockConfig, pixels_in: int, pixels_out: int) -> int:
    weights = _conv_weights(block)
    return weights["expand"] * pixels_in + (weights["depthwise"] + weights["project"]) * pixels_out + weights["se"]


def _head(head: HeadParams, classes: int) -> tuple[int, int]:
    """Return the numbers of weights and of all other parameters of the head."""
    widths = [LAST_CONV_FILTERS, *[head.intermediate_channels or 0] * (head.num_layers - 1), classes]
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    prelu = head.num_layers - 1 if head.act_type == "prelu" else 0
    return weights, sum(widths[1:]) + prelu
