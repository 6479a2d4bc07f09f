"""Checks that a deploy graph computes what its model computes, and says where it does not."""

from collections.abc import Iterator

import keras
import numpy as np

from mixnet_tf.data.input_format import prepare
from mixnet_tf.deploy.chunks import FLOAT32, output_chunk
from mixnet_tf.deploy.deploy import float32_policy
from mixnet_tf.deploy.front import front_of
from mixnet_tf.deploy.graphs import functional, nodes
from mixnet_tf.errors import DeployError
from mixnet_tf.layers import ConvBatchNorm, MixDepthBlock
from mixnet_tf.progress.steps import step
from mixnet_tf.sublayers import Tensor

_NAMED = (ConvBatchNorm, MixDepthBlock)
"""Their outputs are known by name (``output_name``); a layer of another kind may be called anything."""

_TOLERANCE = 1e-4
"""Largest difference of a layer's output, as a share of its largest value; rounding alone is about 1e-6."""


@step("compare the rewritten graph with the model")
@float32_policy()
def verify_deploy(model: keras.Model, deployed: keras.Model, images: np.ndarray | None = None) -> float:
    """Check on real and random images that the deploy graph computes what the model computes, layer by layer.

    Args:
        model: the model that was deployed; compared in float32 whatever its dtype policy.
        deployed: what ``deploy_model`` returned.
        images: what the model takes, float (n, height, width, channels), to compare on, besides two of noise.

    Returns:
        The largest difference of the model's outputs, as a share of the largest value of an output.

    Raises:
        DeployError: an output or a layer differs by more than 1e-4 of its largest value: the first such layer is named;
            or the images do not fit.

    Example:
        >>> from mixnet_tf.deploy.deploy import deploy_model
        >>> from mixnet_tf.model import create_model
        >>> model = create_model("mixnet_nano", classes=10)
        >>> verify_deploy(model, deploy_model(model, image_size=32)) < 1e-5
        True
    """
    batch, *size = deployed.input_shape
    noise = _noise((2, *size), front_of(model).input_format)
    if images is not None and np.shape(images)[1:] != tuple(size):
        raise DeployError(f"images of shape {np.shape(images)}, expected (n, {', '.join(map(str, size))})")
    images = noise if images is None else np.concatenate([np.asarray(images, np.float32), noise])
    reference = _in_float32(model)
    names, expected, emitted = zip(*_matched(reference, deployed), strict=True)
    pair = keras.Model(reference.inputs[0], list(expected)), keras.Model(deployed.inputs[0], list(emitted))
    shares = np.max([_shares(pair, np.repeat(image[None], batch, axis=0)) for image in images], axis=0)
    for name, share in zip(names, shares, strict=True):
        if not share <= _TOLERANCE:
            raise DeployError(
                f"the deploy graph of {model.name} differs from it: it begins at {name} with {share:.2g} of the "
                f"largest value, expected at most {_TOLERANCE:.0e}"
            )
    return float(max(shares[-len(model.outputs) :]))


def _noise(shape: tuple[int, ...], input_format: str | None) -> np.ndarray:
    """Return random images: pixels of a known format, else normal numbers."""
    random = np.random.default_rng(0)
    if input_format is None:
        return random.standard_normal(shape).astype(np.float32)
    return prepare(random.integers(0, 256, shape, np.uint8), input_format)


def _in_float32(model: keras.Model) -> keras.Model:
    if _is_float32(model):
        return functional(model)
    twin = _float32_twin(model)
    twin.set_weights(model.get_weights())
    return twin


def _float32_twin(model: keras.Model) -> keras.Model:
    """Return the model with fresh weights and float32 throughout: the inputs of nested models, too."""

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return _float32_twin(layer)
        return type(layer).from_config(layer.get_config() | FLOAT32)

    image = keras.Input(batch_shape=model.inputs[0].shape, **FLOAT32)
    return keras.models.clone_model(functional(model), input_tensors=image, clone_function=clone)


def _is_float32(model: keras.Model) -> bool:
    return all(
        _is_float32(layer) if isinstance(layer, keras.Model) else layer.compute_dtype == "float32"
        for layer in model.layers
    )


def _matched(model: keras.Model, deployed: keras.Model) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield what to compare, by name: every layer whose output keeps it in the deploy graph, then the outputs."""
    for layer in model.layers:
        if not isinstance(layer, _NAMED):
            continue
        chunks = {
            chunk: twin.output for twin in deployed.layers if (chunk := output_chunk(twin.name, layer.name)) is not None
        }
        calls = [node for node in nodes(model) if node.operation is layer]
        if chunks and len(calls) == 1:  # a layer called twice has no single output
            (output,) = calls[0].outputs
            width = output.shape[-1] // len(chunks)  # what a chunk has beyond it are zero channels
            parts = [chunks[chunk][..., :width] for chunk in sorted(chunks)]
            yield f"layer {layer.name!r}", output, keras.ops.concatenate(parts, axis=-1)
    for i, (output, emitted) in enumerate(zip(model.outputs, deployed.outputs, strict=True)):
        yield f"output {i}", output, emitted


def _shares(pair: tuple[keras.Model, keras.Model], images: np.ndarray) -> list[float]:
    """Return the largest difference of every output, as a share of its largest value; NaN if one is not finite."""
    shares = []
    for outputs in zip(*(net(images, training=False) for net in pair), strict=True):
        expected, emitted = (np.asarray(output, np.float64) for output in outputs)
        shares.append(np.abs(emitted - expected).max() / (np.abs(expected).max() or 1.0))
    return shares
