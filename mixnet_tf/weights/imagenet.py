"""Weights published for ImageNet, downloaded once, and the names of its classes."""

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from mixnet_tf.checks import integer, shown
from mixnet_tf.config import expand_blocks, load_config
from mixnet_tf.data.labels import imagenet_classes
from mixnet_tf.download import download
from mixnet_tf.errors import ArgumentError, WeightsError
from mixnet_tf.files import whole_file
from mixnet_tf.layers import MixDepthBlock
from mixnet_tf.weights.h5_files import MAX_BYTES
from mixnet_tf.weights.schemes import mixnet_blocks

URL = "https://huggingface.co/timm/{repository}/resolve/{revision}/model.safetensors"
_LEFTOVER_SECONDS = 3600  # a download that lives has written within download.TIMEOUT_SECONDS, or is being loaded


class Published(NamedTuple):
    """A repository, and which state of it: a commit's hash pins it, ``main`` is what is published today."""

    repository: str
    revision: str = "main"


IMAGENET_FILES = {
    "imagenet": {
        "mixnet_s": Published("mixnet_s.ft_in1k"),
        "mixnet_m": Published("mixnet_m.ft_in1k"),
        "mixnet_l": Published("mixnet_l.ft_in1k"),
        "mixnet_xl": Published("mixnet_xl.ra_in1k"),
    },
    "imagenet_tf": {
        "mixnet_s": Published("tf_mixnet_s.in1k"),
        "mixnet_m": Published("tf_mixnet_m.in1k"),
        "mixnet_l": Published("tf_mixnet_l.in1k"),
    },
}
"""timm's repositories by configuration. ImageNet top-1 at 224 px: S 76.0, M 77.3, L 79.0, XL 80.5 %; the authors' own
weights (``imagenet_tf``): S 75.7, M 77.0, L 78.8 %. Source: timm."""

_PADDINGS = {"imagenet": "symmetric", "imagenet_tf": "same"}


@contextlib.contextmanager
def imagenet_file(model: keras.Model, weights: str) -> Iterator[Path]:
    """Yield the file with the published weights of a model's architecture, downloaded if it is not in the cache.

    The caller loads the file inside the ``with`` block, which checks every name and shape; a download that does not
    load is thrown away. The SHA-256 of one that does is kept beside it, and compared whenever the file is used.

    Args:
        model: a MixNet-S, M, L or XL.
        weights: ``"imagenet"`` (timm's training, symmetric padding) or ``"imagenet_tf"`` (the authors', padding same).

    Raises:
        WeightsError: another architecture or padding; no network, a wrong file (the message names the address, and
            where to put a file fetched by hand); a file that has changed since it was downloaded.
    """
    published = _published(model, weights)
    path = _cache_folder() / f"{published.repository}.safetensors"
    url = URL.format(**published._asdict())
    if path.exists():
        _check_hash(path, url)
        try:
            yield path
        except WeightsError as error:
            raise WeightsError(f"{error}; delete the file, and it is downloaded again from {url}") from error
        return
    _remove_leftovers(path)
    with whole_file(path) as part:
        download(url, part, path=path, what="ImageNet weights", most=MAX_BYTES, wrong=WeightsError)
        try:
            yield part
        except WeightsError as error:
            reason = str(error).replace(str(part), "the download")
            raise WeightsError(f"{url}: not the expected file: {reason}") from error
        digest = _sha256(part)
    with whole_file(_hash_path(path)) as part:
        part.write_text(f"{digest}  {path.name}\n")  # as sha256sum writes it


def _published(model: keras.Model, weights: str) -> Published:
    files, blocks = IMAGENET_FILES[weights], mixnet_blocks(model)
    if blocks[0].padding != _PADDINGS[weights]:
        raise WeightsError(
            f"weights={weights!r} need padding={_PADDINGS[weights]!r}, the model is built with {blocks[0].padding!r}"
        )
    for name, published in files.items():
        if _features(blocks) == _features_of(name):
            return published
    raise WeightsError(f"weights={weights!r}: published for {', '.join(files)} only, not for this architecture")


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
    try:
        return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    except RuntimeError:  # of Path.home()
        raise WeightsError("ImageNet weights: there is no home folder; set KERAS_HOME to where to keep them") from None


def _hash_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_hash(path: Path, url: str) -> None:
    """Refuse a file that is not what was downloaded; one that was put there by hand has no hash beside it."""
    if not _hash_path(path).exists():
        return
    kept = _hash_path(path).read_text(encoding="utf-8", errors="replace").partition(" ")[0].strip()
    digest = _sha256(path)
    if digest != kept:
        raise WeightsError(
            f"{path}: has changed since it was downloaded: its SHA-256 is {digest}, but {_hash_path(path).name} says "
            f"{shown(kept)}; delete both, and it is downloaded again from {url}"
        )


def _remove_leftovers(path: Path) -> None:
    """Remove what downloads have left that were killed."""
    for part in path.parent.glob(f".{path.stem}-*.part{path.suffix}"):
        with contextlib.suppress(OSError):  # another process removes it, too, or has just finished
            if time.time() - part.stat().st_mtime > _LEFTOVER_SECONDS:
                part.unlink()


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
    return [[(*imagenet_classes()[i], float(row[i])) for i in order] for row, order in zip(preds, best, strict=True)]
