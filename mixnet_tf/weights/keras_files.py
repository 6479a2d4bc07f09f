"""``.keras`` archives from anywhere: members bounded, and the configuration checked, before Keras reads them."""

import contextlib
import dataclasses
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from mixnet_tf.checks import shown
from mixnet_tf.weights.h5_files import MAX_BYTES, clean_copy

_MOST_BYTES = {"metadata.json": 2**20, "config.json": 2**20, "model.weights.h5": MAX_BYTES}  # MixNet-L's config: 25 KB
_KERAS_MODULES = re.compile(
    r"keras(\.(activations|constraints|dtype_policies|initializers|layers|losses|metrics|models|ops|optimizers"
    r"|quantizers|random|regularizers|src)(\.\w+)*)?"
)
_VALUES = {"__keras_tensor__", "__tuple__", "__ellipsis__", "__slice__"}
_OUTSIDERS = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}  # they load other files, or hold foreign code


@dataclasses.dataclass(frozen=True)
class KerasFile:
    """What a ``.keras`` file holds.

    Attributes:
        config: of the model, parsed.
        weights: a clean copy of its ``model.weights.h5``, see ``clean_copy``.
    """

    config: dict[str, Any]
    weights: Path

    @property
    def paddings(self) -> set[str]:
        """Return the paddings of its MixNet blocks."""
        blocks = (entry.get("config") for entry in entries(self.config) if entry["class_name"] == "MixDepthBlock")
        return {block["padding"] for block in blocks if isinstance(block, dict) and "padding" in block}


@contextlib.contextmanager
def open_keras_file(path: Path, *, to_build: bool = False) -> Iterator[KerasFile]:
    """Open a ``.keras`` archive; its weights are gone after the block.

    Args:
        path: the file.
        to_build: refuse a configuration that names anything but classes of Keras, and what is registered with it.

    Raises:
        ValueError: a member is missing, too large, there twice or unknown, or the weights are damaged.
        Exception: what zipfile and json raise for damaged bytes, nearly every kind.
    """
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        _check_members(archive)
        config = json.loads(archive.read("config.json"), parse_constant=_refuse_constant)
        if not isinstance(config, dict):
            raise ValueError(f"config.json holds a {type(config).__name__}, expected a model")
        if to_build:
            _check_classes(config)
        packed = Path(folder, "packed.h5")
        with archive.open("model.weights.h5") as source, packed.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        with clean_copy(packed) as weights:
            packed.unlink()
            yield KerasFile(config, weights)


def _check_members(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if len(set(names)) < len(names) or not {"config.json", "model.weights.h5"} <= set(names) <= set(_MOST_BYTES):
        raise ValueError(f"holds {shown(names)}, expected {', '.join(_MOST_BYTES)}, each once")
    for member in archive.infolist():
        if member.file_size > _MOST_BYTES[member.filename]:
            raise ValueError(
                f"{member.filename} unpacks to {member.file_size} bytes, too many for a MixNet; "
                f"expected at most {_MOST_BYTES[member.filename]}"
            )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"config.json holds the number {name}")


def entries(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a configuration that says which class it is."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
            if "class_name" in value:
                yield value
        elif isinstance(value, list):
            waiting.extend(value)


def _check_classes(config: dict[str, Any]) -> None:
    for entry in entries(config):
        if not _is_known(entry):
            name = f"{entry.get('module')}.{entry['class_name']}"
            raise ValueError(
                f"names the class {shown(name)}, expected layers of Keras and mixnet_tf, or of your own that "
                "are registered with Keras before the file is read"
            )


def _is_known(entry: dict[str, Any]) -> bool:
    name, module, registered = entry["class_name"], entry.get("module"), entry.get("registered_name")
    if not isinstance(name, str):
        return False
    if name in _VALUES or (isinstance(registered, str) and keras.saving.get_registered_object(registered) is not None):
        return True
    symbol = entry.get("config") if name == "function" else name
    if not isinstance(symbol, str) or not symbol.isidentifier() or symbol.startswith("__") or symbol in _OUTSIDERS:
        return False
    return module in (None, "builtins") or (isinstance(module, str) and bool(_KERAS_MODULES.fullmatch(module)))
