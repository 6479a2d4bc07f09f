"""What every variable of a MixNet is called elsewhere, and how it lies in memory there.

One table a naming scheme: timm's (Ross Wightman's pytorch-image-models), NetsPresso Trainer's, ours (the variables'
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
from mixnet_tf.layers import ConvBatchNorm, MixDepthBlock

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
    leaves: Mapping[str, Any]
    separator: str
    body: str
    head: str
    classifier: str
    torch: bool
    epsilon: Mapping[str, float] = dataclasses.field(default_factory=dict)
    prefix: str = ""


_OUR_LAYER = r"(?:stem|last_conv|stage\d+_block\d+)/"
_OUR_HEAD = r"(?:head_dense\d+|head_act\d+|predictions)/"
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
        body=_OUR_LAYER + r".*[a-z]$",
        head=_OUR_HEAD,
        classifier=r"predictions()/bias",
        torch=False,
    ),
    "keras": Scheme(
        title="a Keras file",
        modules=_OURS,
        leaves=_POSITIONS,
        separator="/",
        body=_OUR_LAYER + r".*\d$",
        head=_OUR_HEAD,
        classifier=r"predictions()/1",
        torch=False,
    ),
}
_IGNORED = re.compile(r"(?:^|[./])(?:num_batches_tracked|n_averaged|seed_generator_state)$")  # no weights


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
    variable: Any
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
    layers = sorted(_known_layers(model), key=lambda layer: _numbers(layer.name))
    repeated = [name for name, count in collections.Counter(layer.name for layer in layers).items() if count > 1]
    if repeated or not any(isinstance(layer, MixDepthBlock) for layer in layers):
        found = f"{repeated[0]!r} twice" if repeated else "no layer called stage1_block1"
        raise WeightsError(f"model {model.name!r}: {found}, expected one MixNet as create_model builds it")
    return layers


def _known_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    names = re.compile(r"stem|last_conv|stage\d+_block\d+|head_dense\d+|head_act\d+|predictions")
    kinds = (ConvBatchNorm, MixDepthBlock, keras.layers.Dense, keras.layers.PReLU)
    for layer in model.layers:
        if isinstance(layer, keras.Model):  # a model of the user's own around ours
            yield from _known_layers(layer)
        elif isinstance(layer, kinds) and names.fullmatch(layer.name):
            yield layer


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", name))


def mixnet_blocks(model: keras.Model) -> list[MixDepthBlock]:
    """Return the blocks of the MixNet in a model, in order.

    Raises:
        WeightsError: the model holds no MixNet, or two.
    """
    return [layer for layer in _mixnet_layers(model) if isinstance(layer, MixDepthBlock)]


def _modules(model: keras.Model) -> Iterator[_Module]:
    layers, blocks = _mixnet_layers(model), mixnet_blocks(model)
    fields = dict(_block_fields(blocks))
    last_stage, last_block = _numbers(blocks[-1].name)
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
            number = head_layers + 1 if part == "predictions" else _numbers(layer.name)[0]
            position = 2 * number - (2 if part == "head_dense" else 1)
            yield _Module(part, layer, {"path": layer.name, "position": position})


def _block_fields(blocks: Iterable[MixDepthBlock]) -> Iterator[tuple[str, dict]]:
    """Number the blocks as NetsPresso does (by stage of the YAML) and as timm does.

    A stage of timm is a run of blocks of one shape: it starts at every block that cannot have a residual.
    """
    timm_stage, timm_block = -1, 0
    for block in blocks:
        starts = timm_stage < 0 or not block.has_residual
        timm_stage, timm_block = (timm_stage + 1, 0) if starts else (timm_stage, timm_block + 1)
        stage, number = _numbers(block.name)
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


def _block_modules(block: MixDepthBlock, fields: dict) -> Iterator[_Module]:
    for part in _NETSPRESSO:  # which names every part of a block
        layer = block
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


def recognize(names: Iterable[str], where: str) -> tuple[Scheme, dict[str, str]]:
    """Find out whose names these are, and strip what training wrappers put before them.

    Where several sets of weights stand side by side, the one under a prefix with ``ema`` is taken.

    Args:
        names: of all tensors.
        where: the file, for messages.

    Returns:
        The scheme, and the tensor's own name by its name without prefixes. Counters are left out.

    Raises:
        WeightsError: no scheme fits, or several sets of weights.

    Example:
        >>> recognize(["module.conv_stem.weight", "module.bn1.weight"], "a.pth")[1]
        {'conv_stem.weight': 'module.conv_stem.weight', 'bn1.weight': 'module.bn1.weight'}
    """
    names = [name for name in names if not _IGNORED.search(name)]
    votes = {key: _prefixes(names, scheme) for key, scheme in SCHEMES.items()}
    key = max(votes, key=lambda key: votes[key].total())
    scheme, prefixes = SCHEMES[key], votes[key]
    if not prefixes:
        shown = shorten(names) if names else "no tensor at all"
        titles = ", ".join(scheme.title for scheme in SCHEMES.values())
        raise WeightsError(f"{where}: not the weights of a MixNet: found {shown}, expected {titles}")
    # A few strays under another prefix are no second set: they are reported as unexpected.
    roots = [prefix for prefix, count in prefixes.items() if 2 * count > max(prefixes.values())]
    ema = [prefix for prefix in roots if re.search(r"(?<![a-z])ema", prefix.lower())]
    if len(roots) > 1 and len(ema) != 1:
        raise WeightsError(f"{where}: found {len(roots)} sets of weights, under {shorten(roots)}, expected one")
    chosen = ema[0] if len(roots) > 1 else roots[0]
    return scheme, _strip(names, scheme, chosen, roots, where)


def _prefixes(names: Iterable[str], scheme: Scheme) -> collections.Counter:
    """Count the prefixes of backbone tensors; the ``backbone.`` next to them is no part of it."""
    pattern = re.compile(rf"((?:.+?{re.escape(scheme.separator)})?){scheme.body}")
    found = (pattern.match(name) for name in names)
    return collections.Counter(match[1].removesuffix(f"backbone{scheme.separator}") for match in found if match)


def _strip(names: Iterable[str], scheme: Scheme, root: str, roots: list[str], where: str) -> dict[str, str]:
    """Return the names of the set under `root` without prefixes, and strays as they are."""
    stripped: dict[str, str] = {}
    for name in names:
        owner = max((prefix for prefix in roots if name.startswith(prefix)), key=len, default=None)
        if owner not in (root, None):
            continue
        short = name.removeprefix(root if owner is not None else "").removeprefix(f"backbone{scheme.separator}")
        if short in stripped:
            raise WeightsError(f"{where}: {stripped[short]!r} and {name!r} name the same tensor, expected one of them")
        stripped[short] = name
    return _current_head(stripped)


def _current_head(stripped: dict[str, str]) -> dict[str, str]:
    """Name NetsPresso's head of a single layer as version 1.4 does; others have ``classifier`` or another index."""
    head = [name for name in stripped if name.startswith("head.")]
    single = re.compile(r"head\.classifier(?:\.[01])?\.(weight|bias)")
    leaves = [match[1] for name in head if (match := single.fullmatch(name))]
    if len(head) != 2 or sorted(leaves) != ["bias", "weight"]:
        return stripped
    return {single.sub(r"head.classifier.1.\1", name): original for name, original in stripped.items()}


def shorten(names: Iterable[str], limit: int = 10) -> str:
    """Join at most `limit` names for a message, and say how many more there are.

    >>> shorten(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    shown = ", ".join(repr(name if len(name) <= 100 else f"{name[:97]}...") for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
