"""NetsPresso Trainer's MixNet YAML as frozen dataclasses.

Three layouts are read: the whole file (``model:``), a file that starts at ``backbone:``, and the bare backbone
mapping ``{name, params, stage_params}``. Every error names the file, the path inside it, what was found and what
would be right. This module does not import TensorFlow.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixnet_tf.errors import ConfigError, did_you_mean
from mixnet_tf.scaling import scale_channels, squeeze_channels
from mixnet_tf.schema import (
    boolean,
    child,
    field,
    file_name,
    integer,
    list_of,
    name_of,
    nothing,
    number,
    odd_integer,
    optional,
    read_yaml,
    real,
    section,
    text,
    wrong,
)

ACTIVATIONS = ("relu", "relu6", "prelu", "leaky_relu", "gelu", "silu", "swish", "hard_swish")
MOST_BLOCKS = 1000
LAST_CONV_FILTERS = 1536  # not scaled by wid_mul: NetsPresso and the authors keep it

_CHANNELS = integer(1, 2**16)
_RATE = real(0, 0.999, expected="a number from 0 to below 1")
_MULTIPLIER = real(0.01, 100, expected="a number above 0 (at most 100)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One entry of ``stage_params``: nine parallel lists; position i of each describes the i-th block spec."""

    expansion_ratio: tuple[int, ...] = field(list_of(integer(1, 64)))
    out_channels: tuple[int, ...] = field(list_of(_CHANNELS))
    num_blocks: tuple[int, ...] = field(list_of(integer(1, 1000)))
    kernel_sizes: tuple[tuple[int, ...], ...] = field(list_of(list_of(odd_integer)))
    num_exp_groups: tuple[int, ...] = field(list_of(_CHANNELS))
    num_poi_groups: tuple[int, ...] = field(list_of(_CHANNELS))
    stride: tuple[int, ...] = field(list_of(integer(1, 2)))
    act_type: tuple[str, ...] = field(list_of(name_of(*ACTIVATIONS)))
    se_reduction_ratio: tuple[int | float | None, ...] = field(
        list_of(optional(number(0, 2**16, expected="null or a number from 0")))
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneParams:
    """``backbone.params``: the scalars that hold for the whole network."""

    stem_channels: int = field(_CHANNELS)
    wid_mul: float = field(_MULTIPLIER, 1.0)
    dep_mul: float = field(_MULTIPLIER, 1.0)
    dropout_rate: float = field(_RATE, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """``backbone``: everything that decides the network below the head."""

    name: str = field(name_of("mixnet"), "mixnet")
    params: BackboneParams = field(section(BackboneParams))
    stage_params: tuple[StageConfig, ...] = field(list_of(section(StageConfig)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadParams:
    """``head.params``: (Linear, act) x (num_layers - 1), Dropout, Linear."""

    num_layers: int = field(integer(1, 100), 1)
    intermediate_channels: int | None = field(optional(_CHANNELS), None)
    act_type: str | None = field(optional(name_of(*ACTIVATIONS)), None)
    dropout_prob: float = field(_RATE, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """``head``: the fully connected classification head."""

    name: str = field(name_of("fc"), "fc")
    params: HeadParams = field(section(HeadParams), HeadParams())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """``architecture``: backbone and head."""

    full: None = field(nothing, None)
    backbone: BackboneConfig = field(section(BackboneConfig))
    neck: None = field(nothing, None)
    head: HeadConfig = field(section(HeadConfig), HeadConfig())


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """``checkpoint``: `path` names the weights that training starts from; the rest is kept and not acted on."""

    use_pretrained: bool = field(boolean, False)
    load_head: bool = field(boolean, False)
    path: str | None = field(optional(text), None)
    fx_model_path: str | None = field(optional(text), None)
    optimizer_path: str | None = field(optional(text), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostprocessorParams:
    """``postprocessor.params``: kept and not acted on."""

    topk_max: int = field(integer(1, 2**16), 20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostprocessorConfig:
    """``postprocessor``: kept and not acted on."""

    params: PostprocessorParams = field(section(PostprocessorParams), PostprocessorParams())


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """One entry of ``losses``; `weight` holds one positive factor a class."""

    criterion: str = field(name_of("cross_entropy"), "cross_entropy")
    label_smoothing: float = field(_RATE, 0.0)
    weight: tuple[float, ...] | None = field(optional(list_of(real(1e-6, 1e6, expected="a positive number"))), None)


def _one_loss(value: Any, path: str) -> tuple[LossConfig, ...]:
    losses = list_of(section(LossConfig))(value, path)
    if len(losses) > 1:
        raise wrong(path, f"{len(losses)} losses", "one cross_entropy loss")
    return losses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The ``model`` section of a NetsPresso file: a network, its head and its loss.

    Example:
        >>> config = load_config("mixnet_s")
        >>> config.architecture.backbone.params.stem_channels
        16
    """

    task: str = field(name_of("classification"), "classification")
    name: str = field(file_name, "mixnet")
    checkpoint: CheckpointConfig = field(section(CheckpointConfig), CheckpointConfig())
    freeze_backbone: bool = field(boolean, False)
    architecture: ArchitectureConfig = field(section(ArchitectureConfig))
    postprocessor: PostprocessorConfig = field(section(PostprocessorConfig), PostprocessorConfig())
    losses: tuple[LossConfig, ...] = field(_one_loss, (LossConfig(),))

    def __post_init__(self) -> None:
        expand_blocks(self.architecture.backbone)
        head = self.architecture.head.params
        if head.num_layers > 1:
            for name in ("intermediate_channels", "act_type"):
                if getattr(head, name) is None:
                    raise ConfigError(
                        f"architecture.head.params.{name}: null, but num_layers is {head.num_layers}: "
                        "every layer before the last needs it"
                    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """One MixDepthBlock with all scaling applied.

    `path` says where in the backbone section the block comes from.
    """

    path: str
    in_channels: int
    out_channels: int
    expansion_ratio: int
    kernel_sizes: tuple[int, ...]
    num_exp_groups: int
    num_poi_groups: int
    stride: int
    act_type: str
    se_reduction_ratio: int | float | None

    @property
    def hidden_channels(self) -> int:
        """Channels between the expansion and the pointwise conv."""
        return self.in_channels * self.expansion_ratio

    @property
    def se_channels(self) -> int | None:
        """Channels of the squeeze-and-excitation bottleneck (of the block's *input* channels), or None without SE."""
        return squeeze_channels(self.in_channels, self.se_reduction_ratio)

    @property
    def has_residual(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.in_channels == self.out_channels


def expand_blocks(backbone: BackboneConfig) -> tuple[tuple[BlockConfig, ...], ...]:
    """Return the blocks of every stage, with `wid_mul`, `dep_mul` and `num_blocks` applied.

    Raises:
        ConfigError: lists of unequal length, channels that do not divide by kernels or groups, or too many blocks.

    Example:
        >>> stages = expand_blocks(load_config("mixnet_s").architecture.backbone)
        >>> [len(stage) for stage in stages], stages[1][0].kernel_sizes
        ([3, 4, 6, 3], (3, 5, 7))
    """
    params = backbone.params
    channels = scale_channels(params.stem_channels, params.wid_mul)
    stages, count = [], 0
    for s, stage in enumerate(backbone.stage_params):
        _check_equal_lengths(stage, f"architecture.backbone.stage_params[{s}]")
        blocks = []
        for i, repeats in enumerate(stage.num_blocks):
            repeats = repeats if params.dep_mul == 1.0 else math.ceil(params.dep_mul * repeats)
            count += repeats
            if count > MOST_BLOCKS:
                where = f"architecture.backbone.stage_params[{s}].num_blocks[{i}]"
                raise ConfigError(f"{where}: found more than {MOST_BLOCKS:,} blocks up to here, expected fewer")
            for repeat in range(repeats):
                block = BlockConfig(
                    path=f"architecture.backbone.stage_params[{s}].{{field}}[{i}]",
                    in_channels=channels,
                    out_channels=scale_channels(stage.out_channels[i], params.wid_mul),
                    expansion_ratio=stage.expansion_ratio[i],
                    kernel_sizes=stage.kernel_sizes[i],
                    num_exp_groups=stage.num_exp_groups[i],
                    num_poi_groups=stage.num_poi_groups[i],
                    stride=stage.stride[i] if repeat == 0 else 1,
                    act_type=stage.act_type[i],
                    se_reduction_ratio=stage.se_reduction_ratio[i],
                )
                _check_divisible(block)
                blocks.append(block)
                channels = block.out_channels
        stages.append(tuple(blocks))
    return tuple(stages)


def _check_equal_lengths(stage: StageConfig, path: str) -> None:
    lengths = {field.name: len(getattr(stage, field.name)) for field in dataclasses.fields(stage)}
    for name, length in lengths.items():
        if length != lengths["num_blocks"]:
            raise ConfigError(
                f"{path}.{name}: found {length} entries, expected {lengths['num_blocks']} (as many as num_blocks has)"
            )


def _check_divisible(block: BlockConfig) -> None:
    hidden, expands = block.hidden_channels, block.expansion_ratio > 1
    rules = [
        ("num_exp_groups", "input channels", block.in_channels, block.num_exp_groups if expands else 1),
        ("num_exp_groups", "hidden channels", hidden, block.num_exp_groups if expands else 1),
        ("kernel_sizes", "hidden channels", hidden, len(block.kernel_sizes)),
        ("num_poi_groups", "hidden channels", hidden, block.num_poi_groups),
        ("num_poi_groups", "output channels", block.out_channels, block.num_poi_groups),
    ]
    for name, noun, channels, parts in rules:
        if channels % parts:
            raise ConfigError(
                f"{block.path.format(field=name)}: {channels} {noun} cannot be split into {parts} equal parts; "
                f"expected a divisor of {channels}"
            )


def load_config(source: ModelConfig | str | Path | Mapping) -> ModelConfig:
    """Read a MixNet configuration from a shipped name, a YAML file or a mapping.

    Args:
        source: ``"mixnet_s"`` (see ``mixnet-tf list``), a path to a ``.yaml`` file, or the parsed mapping. The whole
            NetsPresso file (``model:``), its ``backbone:`` section and the bare ``{name, params, stage_params}``
            are all read.

    Returns:
        A frozen ModelConfig.

    Raises:
        ConfigError: with the file, the path inside it, what was found and what would be right.

    Example:
        >>> load_config("mixnet_s").name
        'mixnet_s'
    """
    if isinstance(source, ModelConfig):
        return source
    file = "" if isinstance(source, Mapping) else f"{source}: "
    data = source if isinstance(source, Mapping) else read_yaml(source, "configs")
    try:
        if not isinstance(data, Mapping):
            raise wrong("top level", data, "a mapping that starts at model:, backbone: or {name, params, stage_params}")
        return _read_layout(data)
    except ConfigError as error:
        raise ConfigError(f"{file}{error}") from error


def _read_layout(data: Mapping) -> ModelConfig:
    """Find out which of the three layouts `data` has, and name paths as they stand in that layout."""
    if "model" in data:
        prefix, nested = "", data
    elif "backbone" in data:
        prefix, nested = "model.architecture.", {"model": {"architecture": data}}
    else:
        prefix, nested = "model.architecture.backbone.", {"model": {"architecture": {"backbone": data}}}
    try:
        unknown = [key for key in nested if key != "model"]
        if unknown:
            raise ConfigError(
                f"{child('', unknown[0])}: unknown key{did_you_mean(unknown[0], ['model'])}; valid keys: model"
            )
        return section(ModelConfig)(nested["model"], "model")
    except ConfigError as error:
        message = str(error)
        if message.startswith("architecture."):  # raised by a check across fields, which knows no layout
            message = f"model.{message}"
        raise ConfigError(message.removeprefix(prefix)) from error


def to_dict(config: ModelConfig) -> dict:
    """Return the plain mapping of a whole file, ``{"model": ...}``: ``load_config(to_dict(c)) == c``.

    Example:
        >>> to_dict(load_config("mixnet_s"))["model"]["architecture"]["backbone"]["params"]["stem_channels"]
        16
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value

    return {"model": plain(dataclasses.asdict(config))}
