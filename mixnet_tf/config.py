"""NetsPresso Trainer's MixNet YAML as frozen dataclasses.

Three layouts are read: the whole file (``model:``), a file that starts at ``backbone:``, and the bare backbone
mapping ``{name, params, stage_params}``. Every error names the file, the path inside it, what was found and what
would be right. This module does not import TensorFlow.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mixnet_tf.errors import ConfigError, did_you_mean

ACTIVATIONS = ("relu", "relu6", "prelu", "leaky_relu", "gelu", "silu", "swish", "hard_swish")
LAST_CONV_FILTERS = 1536  # not scaled by wid_mul: NetsPresso and the authors keep it

Reader = Callable[[Any, str], Any]
"""Turns the value found at a path of the YAML into the value of a field, or raises ConfigError."""


def _wrong(path: str, found: object, expected: str) -> ConfigError:
    shown = repr(found)
    return ConfigError(f"{path}: found {shown if len(shown) < 80 else shown[:77] + '...'}, expected {expected}")


def _integer(low: int, high: int) -> Reader:
    def read(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _wrong(path, value, f"an integer from {low} to {high}")
        return value

    return read


def _number(low: float, high: float, *, whole: str) -> Reader:
    def read(value: Any, path: str) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise _wrong(path, value, whole)
        return value

    return read


def _real(low: float, high: float, *, whole: str) -> Reader:
    number = _number(low, high, whole=whole)
    return lambda value, path: float(number(value, path))


def _name(*allowed: str) -> Reader:
    def read(value: Any, path: str) -> str:
        if not isinstance(value, str) or value.lower() not in allowed:
            expected = f"one of {', '.join(allowed)}" if len(allowed) > 1 else repr(allowed[0])
            raise ConfigError(f"{_wrong(path, value, expected)}{did_you_mean(str(value).lower(), allowed)}")
        return value.lower()

    return read


def _typed(kind: type, expected: str) -> Reader:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, kind):
            raise _wrong(path, value, expected)
        return value

    return read


def _odd_integer(value: Any, path: str) -> int:
    if _integer(1, 63)(value, path) % 2 == 0:
        raise _wrong(path, value, "an odd integer")
    return value


def _optional(reader: Reader) -> Reader:
    return lambda value, path: None if value is None else reader(value, path)


def _nothing(value: Any, path: str) -> None:
    if value is not None:
        raise _wrong(path, value, "null (MixNet for classification has none)")


def _list_of(reader: Reader) -> Reader:
    def read(value: Any, path: str) -> tuple:
        if not isinstance(value, list | tuple) or not value:
            raise _wrong(path, value, "a list with at least one entry")
        return tuple(reader(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return read


def _section(cls: type) -> Reader:
    """Read a mapping into the dataclass `cls`; each field carries its own reader."""

    def read(value: Any, path: str) -> Any:
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if value is None and all(field.default is not dataclasses.MISSING for field in fields.values()):
            value = {}
        if not isinstance(value, Mapping):
            raise _wrong(path, value, f"a mapping with the keys {', '.join(fields)}")
        for key in value:
            if key not in fields:
                raise ConfigError(
                    f"{_child(path, key)}: unknown key{did_you_mean(key, fields)}; valid keys: {', '.join(fields)}"
                )
        missing = [name for name, f in fields.items() if f.default is dataclasses.MISSING and name not in value]
        if missing:
            raise ConfigError(f"{_child(path, missing[0])}: missing; a {path or 'model'} section needs it")
        return cls(**{key: fields[key].metadata["read"](entry, _child(path, key)) for key, entry in value.items()})

    return read


def _child(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _field(reader: Reader, default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"read": reader})


_CHANNELS = _integer(1, 2**16)
_RATE = _real(0, 0.999, whole="a number from 0 to below 1")
_MULTIPLIER = _real(0.01, 100, whole="a number above 0 (at most 100)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One entry of ``stage_params``: nine parallel lists; position i of each describes the i-th block spec."""

    expansion_ratio: tuple[int, ...] = _field(_list_of(_integer(1, 64)))
    out_channels: tuple[int, ...] = _field(_list_of(_CHANNELS))
    num_blocks: tuple[int, ...] = _field(_list_of(_integer(1, 1000)))
    kernel_sizes: tuple[tuple[int, ...], ...] = _field(_list_of(_list_of(_odd_integer)))
    num_exp_groups: tuple[int, ...] = _field(_list_of(_CHANNELS))
    num_poi_groups: tuple[int, ...] = _field(_list_of(_CHANNELS))
    stride: tuple[int, ...] = _field(_list_of(_integer(1, 2)))
    act_type: tuple[str, ...] = _field(_list_of(_name(*ACTIVATIONS)))
    se_reduction_ratio: tuple[int | float | None, ...] = _field(
        _list_of(_optional(_number(0, 2**16, whole="null or a number from 0")))
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneParams:
    """``backbone.params``: the scalars that hold for the whole network."""

    stem_channels: int = _field(_CHANNELS)
    wid_mul: float = _field(_MULTIPLIER, 1.0)
    dep_mul: float = _field(_MULTIPLIER, 1.0)
    dropout_rate: float = _field(_RATE, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """``backbone``: everything that decides the network below the head."""

    name: str = _field(_name("mixnet"), "mixnet")
    params: BackboneParams = _field(_section(BackboneParams))
    stage_params: tuple[StageConfig, ...] = _field(_list_of(_section(StageConfig)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadParams:
    """``head.params``: (Linear, act) x (num_layers - 1), Dropout, Linear."""

    num_layers: int = _field(_integer(1, 100), 1)
    intermediate_channels: int | None = _field(_optional(_CHANNELS), None)
    act_type: str | None = _field(_optional(_name(*ACTIVATIONS)), None)
    dropout_prob: float = _field(_RATE, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """``head``: the fully connected classification head."""

    name: str = _field(_name("fc"), "fc")
    params: HeadParams = _field(_section(HeadParams), HeadParams())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """``architecture``: backbone and head."""

    full: None = _field(_nothing, None)
    backbone: BackboneConfig = _field(_section(BackboneConfig))
    neck: None = _field(_nothing, None)
    head: HeadConfig = _field(_section(HeadConfig), HeadConfig())


_TEXT = _optional(_typed(str, "a text or null"))
_BOOL = _typed(bool, "true or false")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """``checkpoint``: `path` names the weights that training starts from; the rest is kept and not acted on."""

    use_pretrained: bool = _field(_BOOL, False)
    load_head: bool = _field(_BOOL, False)
    path: str | None = _field(_TEXT, None)
    fx_model_path: str | None = _field(_TEXT, None)
    optimizer_path: str | None = _field(_TEXT, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostprocessorParams:
    """``postprocessor.params``: kept and not acted on."""

    topk_max: int = _field(_integer(1, 2**16), 20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostprocessorConfig:
    """``postprocessor``: kept and not acted on."""

    params: PostprocessorParams = _field(_section(PostprocessorParams), PostprocessorParams())


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """One entry of ``losses``; `weight` holds one positive factor a class."""

    criterion: str = _field(_name("cross_entropy"), "cross_entropy")
    label_smoothing: float = _field(_RATE, 0.0)
    weight: tuple[float, ...] | None = _field(_optional(_list_of(_real(0, 1e6, whole="a number from 0 to 1e6"))), None)


def _one_loss(value: Any, path: str) -> tuple[LossConfig, ...]:
    losses = _list_of(_section(LossConfig))(value, path)
    if len(losses) > 1:
        raise _wrong(path, f"{len(losses)} losses", "one cross_entropy loss")
    return losses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The ``model`` section of a NetsPresso file: a network, its head and its loss.

    Example:
        >>> config = load_config("mixnet_s")
        >>> config.architecture.backbone.params.stem_channels
        16
    """

    task: str = _field(_name("classification"), "classification")
    name: str = _field(_typed(str, "a text"), "mixnet")
    checkpoint: CheckpointConfig = _field(_section(CheckpointConfig), CheckpointConfig())
    freeze_backbone: bool = _field(_BOOL, False)
    architecture: ArchitectureConfig = _field(_section(ArchitectureConfig))
    postprocessor: PostprocessorConfig = _field(_section(PostprocessorConfig), PostprocessorConfig())
    losses: tuple[LossConfig, ...] = _field(_one_loss, (LossConfig(),))

    def __post_init__(self) -> None:
        expand_blocks(self.architecture.backbone)
        head = self.architecture.head.params
        if head.num_layers > 1:
            for field in ("intermediate_channels", "act_type"):
                if getattr(head, field) is None:
                    raise ConfigError(
                        f"architecture.head.params.{field}: null, but num_layers is {head.num_layers}: "
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


def squeeze_channels(in_channels: int, se_reduction_ratio: float | None) -> int | None:
    """Return the width of the SE bottleneck, or None where the ratio means "no SE" (null, or at most 1).

    >>> squeeze_channels(24, 2), squeeze_channels(24, None)
    (12, None)
    """
    if se_reduction_ratio is None or se_reduction_ratio <= 1:
        return None
    return max(1, int(in_channels / se_reduction_ratio))


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, never more than 10 % down.

    >>> make_divisible(31.2), make_divisible(10.4)
    (32, 16)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def scale_channels(channels: int, wid_mul: float) -> int:
    """Apply `wid_mul`; exactly 1.0 leaves the channels as they are, unrounded."""
    return channels if wid_mul == 1.0 else make_divisible(channels * wid_mul)


def expand_blocks(backbone: BackboneConfig) -> tuple[tuple[BlockConfig, ...], ...]:
    """Return the blocks of every stage, with `wid_mul`, `dep_mul` and `num_blocks` applied.

    Raises:
        ConfigError: lists of unequal length, or channels that do not divide by kernels or groups.

    Example:
        >>> stages = expand_blocks(load_config("mixnet_s").architecture.backbone)
        >>> [len(stage) for stage in stages], stages[1][0].kernel_sizes
        ([3, 4, 6, 3], (3, 5, 7))
    """
    params = backbone.params
    channels = scale_channels(params.stem_channels, params.wid_mul)
    stages = []
    for s, stage in enumerate(backbone.stage_params):
        _check_equal_lengths(stage, f"architecture.backbone.stage_params[{s}]")
        blocks = []
        for i, repeats in enumerate(stage.num_blocks):
            repeats = repeats if params.dep_mul == 1.0 else math.ceil(params.dep_mul * repeats)
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
    for field, length in lengths.items():
        if length != lengths["num_blocks"]:
            raise ConfigError(
                f"{path}.{field}: found {length} entries, expected {lengths['num_blocks']} (as many as num_blocks has)"
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
    for field, noun, channels, parts in rules:
        if channels % parts:
            raise ConfigError(
                f"{block.path.format(field=field)}: {channels} {noun} cannot be split into {parts} equal parts; "
                f"expected a divisor of {channels}"
            )


class _StrictLoader(yaml.SafeLoader):
    """YAML with duplicate keys refused: PyYAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen and isinstance(key_node, yaml.ScalarNode):
                line = key_node.start_mark.line + 1
                raise ConfigError(f"line {line}: the key {key_node.value!r} stands twice in the same mapping")
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _resource_folders(kind: str) -> list[Path]:
    """Folders that may hold the shipped `kind` files: beside this module (installed), then the checkout."""
    package = Path(__file__).resolve().parent
    return [package / kind, package.parent / {"recipes": "tflite/recipes"}.get(kind, kind)]


def shipped_files(kind: str) -> dict[str, Path]:
    """Return the YAML files that come with the package by stem; `kind` is ``"configs"`` or ``"recipes"``."""
    found = {path.stem: path for folder in reversed(_resource_folders(kind)) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def read_yaml(source: str | Path, kind: str) -> Any:
    """Parse a YAML file given by path, or by the bare name of one that ships with the package.

    Raises:
        ConfigError: no such name, an unreadable file, or invalid YAML.
    """
    text = str(source)
    if isinstance(source, Path) or text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text:
        path = Path(source)
    else:
        shipped = shipped_files(kind)
        if text not in shipped:
            raise ConfigError(
                f"no {kind.rstrip('s')} called {text!r}{did_you_mean(text, shipped)}; "
                f"shipped: {', '.join(shipped)}; or give a path that ends in .yaml"
            )
        path = shipped[text]
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


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
            raise _wrong(
                "top level", data, "a mapping that starts at model:, backbone: or {name, params, stage_params}"
            )
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
            raise ConfigError(f"{unknown[0]}: unknown key{did_you_mean(unknown[0], ['model'])}; valid keys: model")
        return _section(ModelConfig)(nested["model"], "model")
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
