"""Batch norm's statistics, taken again when training has ended.

What a batch norm has gathered while it trained is a mean over the last few batches, of weights that were not the final
ones; an average of weights has no statistics at all. Taken over the training images with the final weights, as
stochastic weight averaging does it (Izmailov et al. 2018, arXiv:1803.05407, section 3.2) and "precise BN" (Wu & Johnson
2021, arXiv:2105.07576), they fit: rare images no longer have logits many times as large as all others, which int8 would
have to hold, too.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.checks import ImageSize
from mixnet_tf.data.batches import evaluation_batches
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.distribution.processes import own_part, own_part_of_batches, processes
from mixnet_tf.progress.steps import bar

IMAGES = 1024
"""Training images that the statistics are taken over: Wu & Johnson found no gain from more."""


def settle_statistics(model: keras.Model, data: ImageData, *, image_size: ImageSize, batch_size: int) -> bool:
    """Take the statistics of a classifier's batch norms again, and keep them where the validation loss is lower.

    Batch norms that are frozen stay as they are; nothing is dropped out.

    Args:
        model: changed in place; it takes pixels and gives logits.
        data: with training and validation images.
        image_size: pixels: a side, or (height, width).
        batch_size: images whose statistics are averaged with those of the other batches.

    Returns:
        Whether the new ones are kept.

    Example:
        >>> settle_statistics(model, load_data("photos"), image_size=224, batch_size=32)         # doctest: +SKIP
        True
    """
    norms = [layer for layer in model._flatten_layers() if _gathers(layer)]
    if not norms:
        return False
    variables = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]
    before, values = _loss(model, data, image_size), [variable.numpy() for variable in variables]
    momenta = [norm.momentum for norm in norms]
    drops = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    rates = [drop.rate for drop in drops]
    for drop in drops:
        drop.rate = 0  # as at inference; and a file does not keep its seed, so it would be left to chance
    for norm in norms:
        norm.momentum = 0  # its statistics become those of the batch
    call = _compiled(model)
    taken = []
    for images in _training_images(data, image_size, batch_size):
        call(images, training=True)
        taken.append([variable.numpy() for variable in variables])
    if processes().whole:  # each took batches of its own
        taken = [values for rows in processes().gather(taken) for values in rows]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for drop, rate in zip(drops, rates, strict=True):
        drop.rate = rate
    _assign(variables, [np.stack(rows).mean(axis=0, dtype=np.float64) for rows in zip(*taken, strict=True)])
    kept = _loss(model, data, image_size) < before
    if not kept:
        _assign(variables, values)
    return kept


def _compiled(model: keras.Model) -> Callable[..., object]:
    """Return the model as a function that moves its statistics; compiled, but on PyTorch."""
    return {"tensorflow": tf.function, "jax": _compiled_by_jax}.get(keras.backend.backend(), lambda eager: eager)(model)


def _compiled_by_jax(model: keras.Model) -> Callable[..., None]:
    import jax

    forward = jax.jit(functools.partial(model.stateless_call, training=True))
    kinds = model.trainable_variables, model.non_trainable_variables

    def call(images: np.ndarray, **_: bool) -> None:
        _, moved = forward(*([variable.value for variable in kind] for kind in kinds), images)
        _assign(model.non_trainable_variables, moved)

    return call


def _gathers(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _training_images(data: ImageData, image_size: ImageSize, batch_size: int) -> Iterator[np.ndarray]:
    """Yield whole batches, or this process' part of them, as evaluation sees images; the order is always the same."""
    split = data.splits["train"]
    size = min(batch_size, len(split))
    batches = max(1, min(IMAGES, len(split)) // size)
    order = np.random.default_rng(0).permutation(len(split))[: batches * size]
    if processes().whole:  # the model is this process' own, and its statistics are those of whole batches
        order = np.reshape(own_part(list(order.reshape(batches, size))), -1)
    else:
        order = own_part_of_batches(order, batches)
        size //= processes().count
    chosen = split.take(order)
    few = dataclasses.replace(data, splits={**data.splits, "train": chosen})
    with bar("settle the batch norms", len(chosen), "image") as shown:
        for images, _ in evaluation_batches(few, "train", image_size=image_size, batch_size=size):
            yield images.astype(np.float32)
            shown.update(len(images))


def _loss(model: keras.Model, data: ImageData, image_size: ImageSize) -> float:
    """Return the cross-entropy on the validation images."""
    losses = []
    for images, labels in evaluation_batches(data.own_part("val"), "val", image_size=image_size, batch_size=64):
        logits = np.asarray(model.predict_on_batch(images.astype(np.float32)), np.float64)
        largest = logits.max(axis=1)
        likely = logits[np.arange(len(labels)), labels] - largest
        losses.append(np.log(np.exp(logits - largest[:, None]).sum(axis=1)) - likely)
    return float(np.concatenate(processes().gather(np.concatenate(losses))).mean())
