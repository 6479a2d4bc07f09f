"""Files that say how to train: a YAML of the fields of TrainingConfig and of Augmentation."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.errors import ArgumentError, ConfigError, did_you_mean
from mixnet_tf.schema import child, read_yaml, wrong
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
    sections = _mapping(read_yaml(source, "training_configs"), "", tuple(_SECTIONS), source)
    said = {}
    for name, cls in _SECTIONS.items():
        fields = tuple(field.name for field in dataclasses.fields(cls))
        said[name] = _mapping(sections.get(name), name, fields, source)
        try:
            cls(**said[name])
        except ArgumentError as error:
            raise ConfigError(f"{source}: {name}.{str(error).removeprefix(f'{name}.')}") from error
    return said


def _mapping(value: Any, path: str, keys: tuple[str, ...], source: str | Path) -> dict[str, Any]:
    """Return a mapping with no key but these; null is an empty one."""
    if value is not None and not isinstance(value, Mapping):
        expected = f"a mapping with the keys {', '.join(keys)}"
        raise ConfigError(f"{source}: {wrong(path, value, expected)}")
    for key in value or {}:
        if key not in keys:
            hint = did_you_mean(key, keys)
            raise ConfigError(f"{source}: {child(path, key)}: unknown key{hint}; valid keys: {', '.join(keys)}")
    return dict(value or {})
