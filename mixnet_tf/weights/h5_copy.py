"""Copies a ``.weights.h5`` file, in a process of its own: libhdf5 may crash on a damaged file, or never return.

``h5_files.py`` runs this file. It imports neither TensorFlow nor this package, so it is there in a quarter of a second.
What it writes holds groups, their names and plain arrays, and nothing else.
"""

import contextlib
import sys
from pathlib import Path

import h5py

SECONDS = 4  # of CPU time: MixNet-L takes half a second
MEMORY = 4 * 2**30
_DEPTH = 32
_SMALLEST = 64  # bytes that a group or an array takes in a file, at least
_MARKS = ("name", "dtype")  # attributes that Keras writes


class _Copier:
    """Copies groups; what a file declares must fit into the bytes that it has."""

    def __init__(self, size: int):
        self.bytes_left = size

    def group(self, source: h5py.Group, target: h5py.Group, depth: int = 0) -> None:
        if depth > _DEPTH:
            raise ValueError(f"groups in groups, more than {_DEPTH} deep")
        _copy_marks(source, target)
        for name in source:
            where = f"{source.name.rstrip('/')}/{name}"
            if not isinstance(source.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{where} refers to another place or file")
            item = source[name]
            self._spend(where, _SMALLEST)
            if isinstance(item, h5py.Group):
                self.group(item, target.create_group(name), depth + 1)
            elif isinstance(item, h5py.Dataset):
                self._array(where, item, target)
            else:
                raise ValueError(f"{where} is neither a group nor an array")

    def _array(self, where: str, item: h5py.Dataset, target: h5py.Group) -> None:
        if item.external or item.is_virtual:
            raise ValueError(f"{where} refers to another file")
        if item.shape is None or (item.dtype.kind not in "fiub" and item.dtype.str != "|V2"):  # V2 is bfloat16
            raise ValueError(f"{where} is {item.dtype}, expected numbers")
        self._spend(where, item.nbytes)
        _copy_marks(item, target.create_dataset(where.rpartition("/")[2], data=item[()]))

    def _spend(self, where: str, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise ValueError(f"{where} is larger than what the file has left, expected arrays that are not compressed")


def _copy_marks(source: h5py.HLObject, target: h5py.HLObject) -> None:
    for key in _MARKS:
        value = source.attrs.get(key)
        if value is not None:
            if not isinstance(value, str):
                raise ValueError(f"{source.name}: its {key} is no text")
            target.attrs[key] = value


def _limit() -> None:
    with contextlib.suppress(ImportError):  # Windows: the parent's patience is the only limit
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(source: str, target: str) -> int:
    """Copy one file; print why not, and return 1, where that fails."""
    _limit()
    try:
        with h5py.File(source, "r") as file, h5py.File(target, "w") as copy:
            _Copier(Path(source).stat().st_size).group(file, copy)
    except Exception as error:  # libhdf5 fed with damaged bytes raises nearly every kind
        print(ascii(str(error) or type(error).__name__)[1:-1])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
