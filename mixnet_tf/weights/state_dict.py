"""State dicts on disk, safely: names and shapes first, single tensors on demand, nothing in the file is ever executed.

A hostile or damaged file raises WeightsError; its tensors are only read after their shapes have been approved.
"""

import contextlib
import dataclasses
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mixnet_tf.checks import reason, shown
from mixnet_tf.errors import WeightsError, printable
from mixnet_tf.npz import open_npz
from mixnet_tf.weights.h5_files import MAX_BYTES, clean_copy
from mixnet_tf.weights.keras_files import open_keras_file

Source = str | Path | Mapping[str, Any]
"""A file, or a mapping of names to arrays (numpy, Keras or PyTorch)."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_MAX_HEADER = 2**22  # of .safetensors: MixNet-L's has 90 KB
# Where training loops put the state dict, best first: an exponential moving average is what they evaluate.
_WRAPPERS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model")


@dataclasses.dataclass(frozen=True)
class StateDict:
    """Named tensors that are read one at a time.

    Attributes:
        where: the file, for messages.
        shapes: shape of every tensor by name.
        fetch: returns the array of a name.
        paddings: of the blocks they were trained in, where the file says so.
    """

    where: str
    shapes: Mapping[str, tuple[int, ...]]
    fetch: Callable[[str], np.ndarray]
    paddings: Set[str] = frozenset()

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
            where, opened = printable(str(source)), _from_file(source, stack)
        yield StateDict(where, *opened)


class _Opened(NamedTuple):
    """What a reader returns: the last three attributes of a StateDict."""

    shapes: dict[str, tuple[int, ...]]
    fetch: Callable[[str], np.ndarray]
    paddings: Set[str] = frozenset()


def _from_file(source: str | Path, stack: contextlib.ExitStack) -> _Opened:
    if not isinstance(source, str | Path):
        raise WeightsError(f"weights: found {type(source).__name__}, expected a file or a mapping of arrays")
    path = Path(source)
    where, reader = printable(str(path)), _READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"{where}: weights of an unknown kind; expected a file ending in {', '.join(_READERS)}")
    if not path.is_file():
        raise WeightsError(f"{where}: {'is a folder' if path.is_dir() else 'no such file'}, expected a file of weights")
    with _as_weights_error(f"{where}: not a readable {path.suffix.lower()} file"):
        return reader(path, stack)


@contextlib.contextmanager
def _as_weights_error(what: str) -> Iterator[None]:
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # parsers fed with damaged bytes raise nearly every kind
        raise WeightsError(f"{what} ({reason(error)})") from error


def _unwrapped(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    inner: Any = mapping
    while inner is not None:
        mapping = inner
        inner = next((mapping[key] for key in _WRAPPERS if isinstance(mapping.get(key), Mapping)), None)
    return mapping


def _from_mapping(mapping: Mapping[str, Any], where: str = "state dict") -> _Opened:
    mapping = _unwrapped(mapping)
    strangers = [name for name in mapping if not isinstance(name, str)]
    if strangers:
        raise WeightsError(f"{where}: found the name {shown(strangers[0])}, expected texts")
    shapes = {name: tuple(np.shape(value)) for name, value in mapping.items()}
    return _Opened(shapes, lambda name: _to_numpy(mapping[name]))


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a PyTorch tensor; NumPy does not know its bfloat16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() and value.element_size() < 4 else value
    return np.asarray(value)


def _from_safetensors(path: Path, stack: contextlib.ExitStack) -> _Opened:
    from safetensors import safe_open

    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"a header of {length} bytes, expected at most {_MAX_HEADER}")
    file = stack.enter_context(safe_open(path, framework="np"))
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return _Opened(shapes, file.get_tensor)


def _from_npz(path: Path, stack: contextlib.ExitStack) -> _Opened:
    arrays = stack.enter_context(open_npz(path, limit=MAX_BYTES))
    return _Opened({name: header.shape for name, header in arrays.headers.items()}, arrays.read)


def _from_torch(path: Path, stack: contextlib.ExitStack) -> _Opened:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{printable(str(path))}: reading {path.suffix} needs PyTorch (pip install torch); "
            "or save it as .safetensors or .npz there"
        ) from error
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"unpacks to {unpacked} bytes, and PyTorch does not compress")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old ways to save
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"holds a {type(loaded).__name__}, expected a state dict")
    mapping = _unwrapped(loaded)
    for name, value in mapping.items():
        if isinstance(value, torch.Tensor) and not _is_whole(value):
            raise ValueError(f"tensor {name!r} claims more numbers than the file holds")
    return _from_mapping(mapping, printable(str(path)))


def _is_whole(tensor: Any) -> bool:
    """Say whether a PyTorch tensor has a number of its own in memory for each of its elements."""
    plain = tensor.device.type == "cpu" and tensor.layout is sys.modules["torch"].strided
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _from_keras(path: Path, stack: contextlib.ExitStack) -> _Opened:
    file = stack.enter_context(open_keras_file(path))
    return _from_clean_h5(file.weights, stack)._replace(paddings=file.paddings)


def _from_h5(path: Path, stack: contextlib.ExitStack) -> _Opened:
    return _from_clean_h5(stack.enter_context(clean_copy(path)), stack)


def _from_clean_h5(path: Path, stack: contextlib.ExitStack) -> _Opened:
    """Name every variable by the layers it sits in, and its position: ``stem/bn/2``.

    Keras names the groups by class and number; the layers' own names are attributes of the groups.
    """
    import h5py

    file = stack.enter_context(h5py.File(path, "r"))
    paths: dict[str, str] = {}

    def visit(location: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        *groups, _, position = location.split("/")
        ancestors = [file["layers"].get("/".join([*groups[:depth], "vars"])) for depth in range(1, len(groups) + 1)]
        names = [str(group.attrs["name"]) for group in ancestors if group is not None]
        name = "/".join([*names, position])
        if name in paths:
            raise ValueError(f"two arrays are called {name}")
        paths[name] = f"layers/{location}"

    file["layers"].visititems(visit)
    return _Opened({name: file[at].shape for name, at in paths.items()}, lambda name: file[paths[name]][()])


_READERS: dict[str, Callable[[Path, contextlib.ExitStack], _Opened]] = {
    ".safetensors": _from_safetensors,
    ".npz": _from_npz,
    ".pth": _from_torch,
    ".pt": _from_torch,
    ".keras": _from_keras,
    ".h5": _from_h5,
}
