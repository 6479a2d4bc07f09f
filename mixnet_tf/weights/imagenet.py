"""Weights published for ImageNet, downloaded once, and the names of its classes."""

import contextlib
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mixnet_tf.checks import integer
from mixnet_tf.config import expand_blocks, load_config
from mixnet_tf.errors import ArgumentError, WeightsError
from mixnet_tf.files import whole_file
from mixnet_tf.layers import MixDepthBlock
from mixnet_tf.weights.schemes import mixnet_blocks

URL = "https://huggingface.co/timm/{repository}/resolve/main/model.safetensors"
TIMEOUT_SECONDS = 30  # without a byte
IMAGENET_FILES = {
    "imagenet": {
        "mixnet_s": "mixnet_s.ft_in1k",
        "mixnet_m": "mixnet_m.ft_in1k",
        "mixnet_l": "mixnet_l.ft_in1k",
        "mixnet_xl": "mixnet_xl.ra_in1k",
    },
    "imagenet_tf": {
        "mixnet_s": "tf_mixnet_s.in1k",
        "mixnet_m": "tf_mixnet_m.in1k",
        "mixnet_l": "tf_mixnet_l.in1k",
    },
}
"""timm's repositories by configuration. ImageNet top-1 at 224 px: S 76.0, M 77.3, L 79.0, XL 80.5 %; the authors' own
weights (``imagenet_tf``): S 75.7, M 77.0, L 78.8 %. Source: timm."""

_PADDINGS = {"imagenet": "symmetric", "imagenet_tf": "same"}


@contextlib.contextmanager
def imagenet_file(model: keras.Model, weights: str) -> Iterator[Path]:
    """Yield the file with the published weights of a model's architecture, downloaded if it is not in the cache.

    The caller loads the file inside the ``with`` block, which checks every name and shape; a download that does not
    load is thrown away.

    Args:
        model: a MixNet-S, M, L or XL.
        weights: ``"imagenet"`` (timm's training, symmetric padding) or ``"imagenet_tf"`` (the authors', padding same).

    Raises:
        WeightsError: another architecture or padding; no network, a wrong file (the message names the address, and
            where to put a file fetched by hand).
    """
    repository = _repository(model, weights)
    path = _cache_folder() / f"{repository}.safetensors"
    url = URL.format(repository=repository)
    if path.exists():
        try:
            yield path
        except WeightsError as error:
            raise WeightsError(f"{error}; delete the file, and it is downloaded again from {url}") from error
        return
    with whole_file(path) as part:
        _download(url, part, path)
        try:
            yield part
        except WeightsError as error:
            reason = str(error).replace(str(part), "the download")
            raise WeightsError(f"{url}: not the expected file: {reason}") from error


def _repository(model: keras.Model, weights: str) -> str:
    repositories, blocks = IMAGENET_FILES[weights], mixnet_blocks(model)
    if blocks[0].padding != _PADDINGS[weights]:
        raise WeightsError(
            f"weights={weights!r} need padding={_PADDINGS[weights]!r}, the model is built with {blocks[0].padding!r}"
        )
    for name, repository in repositories.items():
        if _features(blocks) == _features_of(name):
            return repository
    raise WeightsError(f"weights={weights!r}: published for {', '.join(repositories)} only, not for this architecture")


def _features(blocks: list[MixDepthBlock]) -> list[tuple]:
    """Return what tells the architectures apart, batch norms and head left out."""
    return [
        (block.filters, tuple(block.kernel_sizes), block.expansion_ratio, block.strides, block.act_type)
        for block in blocks
    ]


@functools.cache
def _features_of(name: str) -> list[tuple]:
    stages = expand_blocks(load_config(name).architecture.backbone)
    return [
        (block.out_channels, block.kernel_sizes, block.expansion_ratio, block.stride, block.act_type)
        for stage in stages
        for block in stage
    ]


def _cache_folder() -> Path:
    """Return the folder where keras.applications keeps its weights, too."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _download(url: str, part: Path, path: Path) -> None:
    by_hand = f"fetch {url} by hand and put it at {path}"
    if not os.access(part.parent, os.W_OK):
        raise WeightsError(f"{part.parent}: not writable, and {path.name} is not there; {by_hand}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)  # get_file takes no timeout, and would wait forever
    try:
        keras.utils.get_file(
            part.name, url, cache_dir=part.parent.parent, cache_subdir=part.parent.name, force_download=True
        )
    except Exception as error:  # get_file raises bare Exception
        reason = " ".join(str(error).split())
        raise WeightsError(f"ImageNet weights: cannot be downloaded ({reason}); {by_hand}") from error
    finally:
        socket.setdefaulttimeout(before)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Name the most likely ImageNet classes, as ``keras.applications`` does.

    Args:
        preds: (batch, 1000) probabilities or logits, numpy or tensor.
        top: how many classes per image.

    Returns:
        For every image `top` tuples (WordNet id, class name, score), best first.

    Raises:
        ArgumentError: another shape, or a `top` that is not from 1 to 1000.

    Example:
        >>> decode_predictions(np.eye(1000)[[1]], top=1)
        [[('n01443537', 'goldfish', 1.0)]]
    """
    preds = np.asarray(preds)
    if preds.ndim != 2 or preds.shape[1] != 1000:
        raise ArgumentError(f"preds: found shape {preds.shape}, expected (batch, 1000): one score per ImageNet class")
    best = np.argsort(-preds, axis=1, kind="stable")[:, : integer("top", top, 1, 1000)]
    return [[(*_classes()[i], float(row[i])) for i in order] for row, order in zip(preds, best, strict=True)]


@functools.cache
def _classes() -> list[tuple[str, str]]:
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    pairs = (line.partition(" ") for line in text.splitlines() if not line.startswith("#"))
    return [(wordnet_id, name) for wordnet_id, _, name in pairs]
