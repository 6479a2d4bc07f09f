"""What every variable of a MixNet is called elsewhere, and how it lies in memory there.

One table per naming scheme: timm's (Ross Wightman's pytorch-image-models), NetsPresso Trainer's, ours (the variables'
paths) and that of Keras' weight files. The tables are read in both directions, by loading and by exporting.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from mixnet_tf.errors import WeightsError
from mixnet_tf.layers import BLOCK, HEAD, ConvBatchNorm, MixDepthBlock, numbers_of

_TIMM_BLOCK = "blocks.{timm_stage}.{timm_block}"
_TIMM = {
    "stem.conv": "conv_stem",
    "stem.bn": "bn1",
    # In timm a block without expansion counts its norms from the depthwise one, and its last conv is called conv_pw.
    "expand_conv": f"{_TIMM_BLOCK}.conv_pw{{dot_i}}",
    "expand_bn": f"{_TIMM_BLOCK}.bn1",
    "expand_act": f"{_TIMM_BLOCK}.bn1.act",
    "depthwise_conv": f"{_TIMM_BLOCK}.conv_dw{{dot_i}}",
    "depthwise_bn": f"{_TIMM_BLOCK}.bn{{expands_plus_1}}",
    "depthwise_act": f"{_TIMM_BLOCK}.bn{{expands_plus_1}}.act",
    "se.reduce": f"{_TIMM_BLOCK}.se.conv_reduce",
    "se.act": f"{_TIMM_BLOCK}.se.act1",
    "se.expand": f"{_TIMM_BLOCK}.se.conv_expand",
    "project_conv": f"{_TIMM_BLOCK}.conv_pw{{linear}}{{dot_i}}",
    "project_bn": f"{_TIMM_BLOCK}.bn{{expands_plus_2}}",
    "last_conv.conv": "conv_head",
    "last_conv.bn": "bn2",
    "predictions": "classifier",
}
_NETSPRESSO = {
    "stem.conv": "mod1.block.conv",
    "stem.bn": "mod1.block.norm",
    "expand_conv": "stages.{stage}.{block}.expansion.conv.group_point_wise.{i}",
    "expand_bn": "stages.{stage}.{block}.expansion.norm",
    "expand_act": "stages.{stage}.{block}.expansion.act",
    "depthwise_conv": "stages.{stage}.{block}.depth_wise.conv.mixed_depth_wise.{i}",
    "depthwise_bn": "stages.{stage}.{block}.depth_wise.norm",
    "depthwise_act": "stages.{stage}.{block}.depth_wise.act",
    "se.reduce": "stages.{stage}.{block}.se_block.fc1",
    "se.act": "stages.{stage}.{block}.se_block.activation",
    "se.expand": "stages.{stage}.{block}.se_block.fc2",
    "project_conv": "stages.{stage}.{block}.point_wise.conv.group_point_wise.{i}",
    "project_bn": "stages.{stage}.{block}.point_wise.norm",
    "last_conv.conv": "stages.{stage}.{block}.block.conv",
    "last_conv.bn": "stages.{stage}.{block}.block.norm",
    # Sequential((Linear, activation) x (n - 1), Dropout, Linear)
    "head_dense": "head.classifier.{position}",
    "head_act": "head.classifier.{position}",
    "predictions": "head.classifier.{position}",
}
_OURS = dict.fromkeys(_NETSPRESSO, "{path}")
_HEAD_PARTS = ("head_dense", "head_act", "predictions")

_TORCH_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "alpha": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_POSITIONS = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3, "alpha": 0}

# The axes of a PyTorch kernel in the order of ours: OIHW -> HWIO, C1HW -> HWC1, OI -> IO.
_TORCH_AXES = {
    keras.layers.Conv2D: (2, 3, 1, 0),
    keras.layers.DepthwiseConv2D: (2, 3, 0, 1),
    keras.layers.Dense: (1, 0),
}


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A way to name and lay out the tensors of a MixNet.

    Attributes:
        title: whose names, for messages.
        modules: template of a module's name by its part in ours.
        leaves: name of a variable by its name in ours.
        separator: between module and leaf.
        body: pattern of a backbone tensor's name without prefixes.
        head: pattern of a head tensor's name.
        classifier: pattern of the last bias; its length is the number of classes.
        torch: whether kernels lie as in PyTorch.
        epsilon: of every batch norm there, by the model's padding; empty where it is the same as ours.
        prefix: what stands before the backbone's names in a whole checkpoint.
    """

    title: str
    modules: Mapping[str, str]
    leaves: Mapping[str, str | int]
    separator: str
    body: str
    head: str
    classifier: str
    torch: bool
    epsilon: Mapping[str, float] = dataclasses.field(default_factory=dict)
    prefix: str = ""


SCHEMES = {
    "timm": Scheme(
        title="timm's names",
        modules=_TIMM,
        leaves=_TORCH_LEAVES,
        separator=".",
        body=r"(?:conv_stem|conv_head|blocks\.\d+\.\d+)\.",
        head=r"classifier\.",
        classifier=r"classifier()\.bias",
        torch=True,
        epsilon={"symmetric": 1e-5, "same": 1e-3},  # mixnet_*, and tf_mixnet_* with TensorFlow's padding
    ),
    "netspresso": Scheme(
        title="NetsPresso's names",
        modules=_NETSPRESSO,
        leaves=_TORCH_LEAVES,
        separator=".",
        body=r"(?:mod1\.block|stages\.\d+\.\d+)\.",
        head=r"head\.",
        classifier=r"head\.classifier\.(\d+)\.bias",
        torch=True,
        prefix="backbone.",
    ),
    "ours": Scheme(
        title="mixnet_tf's names",
        modules=_OURS,
        leaves={name: name for name in _TORCH_LEAVES},
        separator="/",
        body=BLOCK + "/.*[a-z]$",
        head=HEAD + "/",
        classifier=r"predictions()/bias",
        torch=False,
    ),
    "keras": Scheme(
        title="a Keras file",
        modules=_OURS,
        leaves=_POSITIONS,
        separator="/",
        body=BLOCK + r"/.*\d$",
        head=HEAD + "/",
        classifier=r"predictions()/1",
        torch=False,
    ),
}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A variable of a model, and the tensor of a scheme that belongs there.

    Attributes:
        name: of the tensor.
        variable: of the model.
        shape: of the tensor.
        axes: permutation that brings the tensor's axes into our order.
        variance: for the scale of a batch norm with another epsilon there: the name of its variance, else None.
        epsilons: with it, the epsilon there and in ours.
    """

    name: str
    variable: keras.Variable
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    variance: str | None = None
    epsilons: tuple[float, float] = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class _Module:
    """One layer that may hold variables: its part in the tables, and the fields of the templates."""

    part: str
    layer: keras.layers.Layer
    fields: Mapping[str, Any]


def _mixnet_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of the MixNet in a model, head included, blocks in order."""
    layers = sorted(_known_layers(model), key=lambda layer: numbers_of(layer.name))
    repeated = [name for name, count in collections.Counter(layer.name for layer in layers).items() if count > 1]
    if repeated or not any(isinstance(layer, MixDepthBlock) for layer in layers):
        problem = f"{repeated[0]!r} twice" if repeated else "no layer called stage1_block1"
        raise WeightsError(f"model {model.name!r}: {problem}, expected one MixNet as create_model builds it")
    return layers


def _known_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    names = re.compile(f"{BLOCK}|{HEAD}")
    kinds = (ConvBatchNorm, MixDepthBlock, keras.layers.Dense, keras.layers.PReLU)
    for layer in model.layers:
        if isinstance(layer, keras.Model):  # a model of the user's own around ours
            yield from _known_layers(layer)
        elif isinstance(layer, kinds) and names.fullmatch(layer.name):
            yield layer


def mixnet_blocks(model: keras.Model) -> list[MixDepthBlock]:
    """Return the blocks of the MixNet in a model, in order.

    Raises:
        WeightsError: the model holds no MixNet, or two.
    """
    return [layer for layer in _mixnet_layers(model) if isinstance(layer, MixDepthBlock)]


def _modules(model: keras.Model) -> Iterator[_Module]:
    layers, blocks = _mixnet_layers(model), mixnet_blocks(model)
    fields = dict(_block_fields(blocks))
    last_stage, last_block = numbers_of(blocks[-1].name)
    head_layers = sum(layer.name.startswith("head_dense") for layer in layers)
    for layer in layers:
        if isinstance(layer, MixDepthBlock):
            yield from _block_modules(layer, fields[layer.name])
        elif isinstance(layer, ConvBatchNorm):
            for part in ("conv", "bn"):
                # The last convolution is one more block of the last stage in NetsPresso.
                place = {"path": f"{layer.name}/{part}", "stage": last_stage - 1, "block": last_block}
                yield _Module(f"{layer.name}.{part}", getattr(layer, part), place)
        else:
            part = layer.name.rstrip("0123456789")
            number = head_layers + 1 if part == "predictions" else numbers_of(layer.name)[0]
            position = 2 * number - (2 if part == "head_dense" else 1)
            yield _Module(part, layer, {"path": layer.name, "position": position})


def _block_fields(blocks: Iterable[MixDepthBlock]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Number the blocks as NetsPresso does (by stage of the YAML) and as timm does.

    A stage of timm is a run of blocks of one shape: it starts at every block that cannot have a residual.
    """
    timm_stage, timm_block = -1, 0
    for block in blocks:
        starts = timm_stage < 0 or not block.has_residual
        timm_stage, timm_block = (timm_stage + 1, 0) if starts else (timm_stage, timm_block + 1)
        stage, number = numbers_of(block.name)
        expands = block.expansion_ratio > 1
        yield (
            block.name,
            {
                "stage": stage - 1,
                "block": number - 1,
                "timm_stage": timm_stage,
                "timm_block": timm_block,
                "expands_plus_1": expands + 1,
                "expands_plus_2": expands + 2,
                "linear": "l" if expands else "",
            },
        )


def _block_modules(block: MixDepthBlock, fields: dict[str, Any]) -> Iterator[_Module]:
    for part in _NETSPRESSO:  # which names every part of a block
        layer: Any = block
        for attribute in part.split("."):
            layer = getattr(layer, attribute, None)
        if layer is None:
            continue
        path = f"{block.name}/{part.replace('.', '/')}"
        if not hasattr(layer, "convs"):
            yield _Module(part, layer, fields | {"path": path})
            continue
        for i, conv in enumerate(layer.convs):
            dot_i = f".{i}" if len(layer.convs) > 1 else ""
            yield _Module(part, conv, fields | {"path": f"{path}/{conv.name}", "i": i, "dot_i": dot_i})


def model_slots(model: keras.Model, scheme: Scheme) -> tuple[list[Slot], list[Slot] | None]:
    """Return the slots of the backbone and of the head; None for a head that the scheme has no names for.

    Raises:
        WeightsError: the model holds no MixNet, or two.
    """
    epsilon = scheme.epsilon.get(mixnet_blocks(model)[0].padding)
    backbone: list[Slot] = []
    head: list[Slot] = []
    head_has_names = True
    for module in _modules(model):
        slots = head if module.part in _HEAD_PARTS else backbone
        if module.part in scheme.modules:
            slots.extend(_module_slots(module, scheme, epsilon))
        else:  # timm has one layer there, and it must not be taken for the last of several
            head_has_names = False
    return backbone, head if head_has_names else None


def _module_slots(module: _Module, scheme: Scheme, epsilon: float | None) -> Iterator[Slot]:
    name = scheme.modules[module.part].format(**module.fields) + scheme.separator
    for variable in module.layer.variables:
        shape, axes = tuple(variable.shape), tuple(range(len(variable.shape)))
        if scheme.torch and variable.name == "kernel":
            axes = _TORCH_AXES[type(module.layer)]
            shape = tuple(shape[axis] for axis in np.argsort(axes))
        elif scheme.torch:  # a vector, or PReLU's single number, which is (1, 1, 1) in ours
            axes, shape = (0,), shape[-1:]
        slot = Slot(f"{name}{scheme.leaves[variable.name]}", variable, shape, axes)
        if epsilon is not None and variable.name == "gamma":
            variance = f"{name}{scheme.leaves['moving_variance']}"
            slot = dataclasses.replace(slot, variance=variance, epsilons=(epsilon, module.layer.epsilon))
        yield slot
