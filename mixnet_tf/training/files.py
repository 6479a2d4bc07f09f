"""Files that say how to train: a YAML of the fields of TrainingConfig and of Augmentation."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.errors import ArgumentError, ConfigError
from mixnet_tf.schema import mapping, read_yaml
from mixnet_tf.training.config import TrainingConfig

_SECTIONS: Mapping[str, type] = {"training": TrainingConfig, "augmentation": Augmentation}


def read_training(source: str | Path) -> dict[str, dict[str, Any]]:
    """Return what a file says of ``training`` and of ``augmentation``: the values of the fields that it has.

    Args:
        source: the path of a YAML file, or the name of one that ships: ``small_data`` or ``imagenet``.

    Raises:
        ConfigError: no such file, a key that is no field, or a value that its field cannot have.

    Example:
        >>> said = read_training("imagenet")
        >>> said["training"]["optimizer"], said["augmentation"]["erase"]
        ('rmsprop', 0.3)
    """
    content = read_yaml(source, "training_configs")
    try:
        sections = _mapping(content, "", _SECTIONS)
        return {name: _fields(sections.get(name), name, cls) for name, cls in _SECTIONS.items()}
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _fields(value: Any, name: str, cls: type) -> dict[str, Any]:
    fields = _mapping(value, name, [field.name for field in dataclasses.fields(cls)])
    try:
        cls(**fields)
    except ArgumentError as error:
        raise ConfigError(f"{name}.{str(error).removeprefix(f'{name}.')}") from error
    return fields


def _mapping(value: Any, path: str, keys: Collection[str]) -> dict[str, Any]:
    return dict(mapping({} if value is None else value, path, keys))  # null is an empty one
