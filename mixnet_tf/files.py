"""Files that appear whole or not at all."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from mixnet_tf.errors import MixNetError


@contextlib.contextmanager
def whole_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` when the block ends well and removed when it does not.

    Args:
        path: the file to write; its folder is made if need be.
        overwrite: False refuses to replace a file that exists.

    Raises:
        MixNetError: the file exists and `overwrite` is False, or the folder cannot be written.

    Example:
        >>> with whole_file("/tmp/example.txt") as part:
        ...     _ = part.write_text("all of it")
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    # Keras picks the format by suffix, so the temporary name keeps it.
    part = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise MixNetError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to report
            part.unlink(missing_ok=True)


def check_suffix(path: str | Path, suffix: str) -> None:
    """Raise MixNetError where the name of a file to write does not end in `suffix`."""
    if Path(path).suffix != suffix:
        raise MixNetError(f"{path}: expected a name that ends in {suffix}")


def check_free(path: str | Path, *, overwrite: bool) -> None:
    """Raise MixNetError where `path` must not be written: it is a folder, or exists and `overwrite` is False."""
    path = Path(path)
    if path.is_dir():
        raise MixNetError(f"{path}: is a folder, expected the name of a file")
    if path.exists() and not overwrite:
        raise MixNetError(f"{path}: exists already; give --overwrite to replace it, or another name")
