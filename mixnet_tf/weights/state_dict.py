"""State dicts on disk, safely: names and shapes first, single tensors on demand, nothing in the file is ever executed.

A hostile or damaged file raises WeightsError; its tensors are only read after their shapes have been approved.
"""

import contextlib
import dataclasses
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixnet_tf.errors import WeightsError

Source = str | Path | Mapping[str, Any]
"""A file, or a mapping of names to arrays (numpy, Keras or PyTorch)."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_MAX_H5_BYTES = 2**30  # twenty times the largest MixNet; a .keras archive may be compressed
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Where training loops put the state dict, best first: an exponential moving average is what they evaluate.
_WRAPPERS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model")


@dataclasses.dataclass(frozen=True)
class StateDict:
    """Named tensors that are read one at a time.

    Attributes:
        where: the file, for messages.
        shapes: shape of every tensor by name.
        fetch: returns the array of a name.
    """

    where: str
    shapes: Mapping[str, tuple[int, ...]]
    fetch: Callable[[str], np.ndarray]

    def read(self, name: str) -> np.ndarray:
        """Return a tensor in its own floating-point type; raise WeightsError for any other type."""
        with _as_weights_error(f"{self.where}: tensor {name!r}"):
            array = self.fetch(name)
        if array.dtype.name not in _FLOATS:
            raise WeightsError(f"{self.where}: tensor {name!r} is {array.dtype.name}, expected {', '.join(_FLOATS)}")
        return array


@contextlib.contextmanager
def open_state_dict(source: Source) -> Iterator[StateDict]:
    """Open a state dict by the suffix of its file, or take a mapping of arrays as it is.

    Args:
        source: ``.safetensors``, ``.npz``, ``.pth`` or ``.pt`` (needs PyTorch, read with ``weights_only``), ``.keras``
            or ``.weights.h5``; or a mapping. Wrappers such as ``{"state_dict": ...}`` are looked through.

    Yields:
        The StateDict, usable inside the ``with`` block.

    Raises:
        WeightsError: the file is missing, damaged, of another format, or needs PyTorch and there is none.

    Example:
        >>> with open_state_dict({"conv_stem.weight": np.zeros((16, 3, 3, 3), "float32")}) as state:
        ...     state.shapes
        {'conv_stem.weight': (16, 3, 3, 3)}
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, Mapping):
            where, opened = "state dict", _from_mapping(source)
        else:
            where, opened = str(source), _from_file(source, stack)
        yield StateDict(where, *opened)


_Opened = tuple[dict[str, tuple[int, ...]], Callable[[str], np.ndarray]]


def _from_file(source: str | Path, stack: contextlib.ExitStack) -> _Opened:
    if not isinstance(source, str | Path):
        raise WeightsError(f"weights: found {type(source).__name__}, expected a file or a mapping of arrays")
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"{path}: weights of an unknown kind; expected a file ending in {', '.join(_READERS)}")
    if not path.is_file():
        raise WeightsError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected a file of weights")
    with _as_weights_error(f"{path}: not a readable {path.suffix.lower()} file"):
        return reader(path, stack)


@contextlib.contextmanager
def _as_weights_error(what: str) -> Iterator[None]:
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # parsers fed with damaged bytes raise nearly every kind
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f"{what} ({reason})") from error


def _from_mapping(mapping: Mapping[str, Any]) -> _Opened:
    inner: Any = mapping
    while inner is not None:
        mapping = inner
        inner = next((mapping[key] for key in _WRAPPERS if isinstance(mapping.get(key), Mapping)), None)
    strangers = [name for name in mapping if not isinstance(name, str)]
    if strangers:
        raise WeightsError(f"state dict: found the name {strangers[0]!r}, expected texts")
    return {name: tuple(np.shape(value)) for name, value in mapping.items()}, lambda name: _to_numpy(mapping[name])


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a PyTorch tensor; NumPy does not know its bfloat16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() and value.element_size() < 4 else value
    return np.asarray(value)


def _from_safetensors(path: Path, stack: contextlib.ExitStack) -> _Opened:
    from safetensors import safe_open

    file = stack.enter_context(safe_open(path, framework="np"))
    return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, file.get_tensor  # noqa: SIM118


def _from_npz(path: Path, stack: contextlib.ExitStack) -> _Opened:
    archive = stack.enter_context(zipfile.ZipFile(path))
    shapes = {}
    for member in archive.namelist():
        with archive.open(member) as stream:
            shape, _, dtype = _NPY_HEADERS[np.lib.format.read_magic(stream)](stream)
        if dtype.hasobject:
            raise WeightsError(f"{path}: {member} holds pickled Python objects, which are never loaded")
        shapes[member.removesuffix(".npy")] = shape

    def fetch(name: str) -> np.ndarray:
        with archive.open(f"{name}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    return shapes, fetch


def _from_torch(path: Path, stack: contextlib.ExitStack) -> _Opened:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path}: reading {path.suffix} needs PyTorch (pip install torch); or save it as .safetensors or .npz there"
        ) from error
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}, expected a state dict")
    return _from_mapping(loaded)


def _from_keras(path: Path, stack: contextlib.ExitStack) -> _Opened:
    archive = stack.enter_context(zipfile.ZipFile(path))
    member = archive.getinfo("model.weights.h5")
    if member.file_size > _MAX_H5_BYTES:
        raise WeightsError(f"{path}: {member.filename} unpacks to {member.file_size} bytes, too many for a MixNet")
    return _from_h5(io.BytesIO(archive.read(member)), stack)


def _from_h5(path: Path | io.BytesIO, stack: contextlib.ExitStack) -> _Opened:
    """Name every variable by the layers it sits in, and its position: ``stem/bn/2``.

    Keras names the groups by class and number; the layers' own names are attributes of the groups.
    """
    import h5py

    file = stack.enter_context(h5py.File(path, "r"))
    paths: dict[str, str] = {}

    def visit(location: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise ValueError(f"{location} refers to another file")
        *groups, _, position = location.split("/")
        ancestors = [file["layers"].get("/".join([*groups[:depth], "vars"])) for depth in range(1, len(groups) + 1)]
        names = [str(group.attrs["name"]) for group in ancestors if group is not None]
        paths["/".join([*names, position])] = f"layers/{location}"

    file["layers"].visititems(visit)
    return {name: file[location].shape for name, location in paths.items()}, lambda name: file[paths[name]][()]


_READERS: dict[str, Callable[[Path, contextlib.ExitStack], _Opened]] = {
    ".safetensors": _from_safetensors,
    ".npz": _from_npz,
    ".pth": _from_torch,
    ".pt": _from_torch,
    ".keras": _from_keras,
    ".h5": _from_h5,
}
