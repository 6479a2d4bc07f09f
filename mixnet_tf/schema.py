"""YAML files that ship with the package, and readers that turn parsed YAML into frozen dataclasses.

A dataclass whose fields are made with ``field(reader)`` is its own schema: ``section(cls)`` reads a mapping into it and
names, in one line, the path of whatever is wrong, what was found, and what would be right.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from mixnet_tf import checks
from mixnet_tf.errors import ArgumentError, ConfigError, did_you_mean

Reader = Callable[[Any, str], Any]
"""Turns the value found at a path of the YAML into the value of a field, or raises ConfigError."""


def wrong(path: str, value: object, expected: str) -> ConfigError:
    """Return the error for a value that is not what it must be; the file itself has no path."""
    return ConfigError(checks.complaint(path, value, expected))


def integer(low: int, high: int) -> Reader:
    """Read an integer from `low` to `high`."""

    def read(value: Any, path: str) -> int:
        try:
            return checks.integer(path, value, low, high)
        except ArgumentError as error:
            raise ConfigError(str(error)) from error

    return read


def odd_integer(value: Any, path: str) -> int:
    """Read an odd integer from 1 to 63: a kernel size."""
    if integer(1, 63)(value, path) % 2 == 0:
        raise wrong(path, value, "an odd integer")
    return value


def number(low: float, high: float, *, expected: str) -> Reader:
    """Read an integer or a float from `low` to `high`, as it is."""

    def read(value: Any, path: str) -> int | float:
        try:
            checks.number(path, value, low, high)
        except ArgumentError as error:
            raise wrong(path, value, expected) from error
        return value

    return read


def real(low: float, high: float, *, expected: str) -> Reader:
    """Read a number from `low` to `high` as a float."""
    read = number(low, high, expected=expected)
    return lambda value, path: float(read(value, path))


def name_of(*allowed: str) -> Reader:
    """Read one of the `allowed` (lower-case) names, in any case."""

    def read(value: Any, path: str) -> str:
        if not isinstance(value, str) or value.lower() not in allowed:
            expected = f"one of {', '.join(allowed)}" if len(allowed) > 1 else repr(allowed[0])
            lower = value.lower() if isinstance(value, str) else value
            raise wrong(path, value, f"{expected}{did_you_mean(lower, allowed)}")
        return value.lower()

    return read


def text(value: Any, path: str) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise wrong(path, value, "a text")
    return value


def file_name(value: Any, path: str) -> str:
    """Read a text that can be part of a file's name, of a layer's, and of an argument."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{,63}", value):
        expected = "a name of up to 64 letters, digits, '_', '-' and '.' that begins with a letter or digit"
        raise wrong(path, value, expected)
    return value


def boolean(value: Any, path: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise wrong(path, value, "true or false")
    return value


def nothing(value: Any, path: str) -> None:
    """Read null, where nothing else has a meaning."""
    if value is not None:
        raise wrong(path, value, "null")


def optional(reader: Reader) -> Reader:
    """Read null, or what `reader` reads."""
    return lambda value, path: None if value is None else reader(value, path)


def list_of(reader: Reader) -> Reader:
    """Read a list with at least one entry into a tuple."""

    def read(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise wrong(path, value, "a list with at least one entry")
        return tuple(reader(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return read


def field(reader: Reader, default: Any = dataclasses.MISSING) -> Any:
    """Declare a dataclass field that `section` reads with `reader`; without a default it must be there."""
    return dataclasses.field(default=default, metadata={"read": reader})


def section(cls: type) -> Reader:
    """Read a mapping into the dataclass `cls`; where every field has a default, null means all of them."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]

    def read(value: Any, path: str) -> Any:
        if value is None and not required:
            value = {}
        value = mapping(value, path, fields)
        for name in required:
            if name not in value:
                raise ConfigError(f"{child(path, name)}: missing; its section needs {', '.join(required)}")
        return cls(**{key: fields[key].metadata["read"](entry, child(path, key)) for key, entry in value.items()})

    return read


def mapping(value: Any, path: str, keys: Collection[str]) -> Mapping[str, Any]:
    """Return a mapping that has no key but these.

    Raises:
        ConfigError: it is no mapping, or has another key.
    """
    if not isinstance(value, Mapping):
        raise wrong(path, value, f"a mapping with the keys {', '.join(keys)}")
    for key in value:
        if key not in keys:
            hint = did_you_mean(key, keys)
            raise ConfigError(f"{child(path, key)}: unknown key{hint}; valid keys: {', '.join(keys)}")
    return value


def child(path: str, key: object) -> str:
    """Return the path of an entry, on one line whatever its key is.

    >>> child("model", "name"), child("", 3)
    ('model.name', '3')
    """
    name = key if isinstance(key, str) and key.isprintable() else checks.shown(key)
    return f"{path}.{name}" if path else name


_MOST_BYTES = 200_000  # of a file: the largest network that ships has 5,000
_MOST_VALUES = 50_000  # with aliases followed
_LONGEST_SCALAR = 1000


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML: no tags, nothing that grows when it is read, no duplicate keys, of which PyYAML keeps the last."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _count_values(node, {}) > _MOST_VALUES:
            raise ConfigError(f"holds more than {_MOST_VALUES:,} values once its aliases are followed")
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            raise ConfigError(f"line {line}: the tag {checks.shown(event.tag)}; expected values without tags")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST_SCALAR:
            raise ConfigError(f"line {line}: a value of {len(event.value):,} characters, expected {_LONGEST_SCALAR:,}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value in seen:
                line = key_node.start_mark.line + 1
                key = checks.shown(key_node.value)
                raise ConfigError(f"line {line}: the key {key} stands twice in the same mapping")
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Return the number of values in a node with aliases followed; one that holds itself has too many."""
    if id(node) not in counts:
        counts[id(node)] = _MOST_VALUES
        entries = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = itertools.chain(*entries) if isinstance(node, yaml.MappingNode) else entries
        counts[id(node)] = 1 + sum(_count_values(part, counts) for part in parts)
    return counts[id(node)]


_IN_CHECKOUT = {"recipes": "tflite/recipes", "training_configs": "configs/training"}


def _resource_folders(kind: str) -> list[Path]:
    """Folders that may hold the shipped `kind` files: beside this module (installed), then the checkout."""
    package = Path(__file__).resolve().parent
    return [package / kind, package.parent / _IN_CHECKOUT.get(kind, kind)]


def shipped_files(kind: str) -> dict[str, Path]:
    """Return the YAML files that ship, by stem; `kind` is ``"configs"``, ``"recipes"`` or ``"training_configs"``."""
    paths = {path.stem: path for folder in reversed(_resource_folders(kind)) for path in folder.glob("*.yaml")}
    return dict(sorted(paths.items()))


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
                f"no {kind.rstrip('s')} called {checks.shown(text)}{did_you_mean(text, shipped)}; "
                f"shipped: {', '.join(shipped)}; or give a path that ends in .yaml"
            )
        path = shipped[text]
    try:
        return yaml.load(_read_text(path), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def _read_text(path: Path) -> str:
    if path.exists() and not (path.is_file() or path.is_dir()):  # a named pipe would wait for ever
        raise ConfigError("a pipe or device, expected a file")
    with path.open("rb") as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"larger than {_MOST_BYTES:,} bytes, which no network or recipe needs")
    return content.decode("utf-8")
