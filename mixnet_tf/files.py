"""Files that appear whole or not at all."""

import contextlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from mixnet_tf.errors import MixNetError, WriteError

_PART = re.compile(r"\..*-(?P<process>\d+)-[0-9a-f]{8}\.part(\..*)?")


@contextlib.contextmanager
def whole_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` when the block ends well and removed when it does not.

    Args:
        path: the file to write; its folder is made if need be. A link to a file stays, and leads to the new content.
        overwrite: False refuses to replace a file that exists, also one that appears while the block runs.

    Raises:
        MixNetError: the file exists and `overwrite` is False, or the folder cannot be written.

    Example:
        >>> with whole_file("/tmp/example.txt") as part:
        ...     _ = part.write_text("all of it")
    """
    with whole_files(path, overwrite=overwrite) as (part,):
        yield part


@contextlib.contextmanager
def whole_files(*paths: str | Path, overwrite: bool = True) -> Iterator[tuple[Path, ...]]:
    """Yield a temporary path beside each of `paths`; all are renamed when the block ends well, or none.

    Where a rename fails, or Ctrl-C falls between two, the earlier files come back. After a kill there, the first paths
    hold new files and the last one the old: the one that the others describe comes last.

    Args:
        paths: the files to write, see ``whole_file``.
        overwrite: False refuses to replace files that exist.

    Raises:
        MixNetError: a file exists and `overwrite` is False, or a folder cannot be written.

    Example:
        >>> with whole_files("/tmp/example.json", "/tmp/example.txt") as parts:
        ...     for part in parts:
        ...         _ = part.write_text("all of it")
    """
    targets = []
    for path in map(Path, paths):
        check_free(path, overwrite=overwrite)
        targets.append(Path(os.path.realpath(path)) if path.is_symlink() else path)
    parts = tuple(_part(target) for target in targets)
    try:
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        yield parts
        _place_all(parts, targets, overwrite)
    except OSError as error:
        raise WriteError(f"{paths[-1]}: cannot be written: {error.strerror or error}") from error
    finally:
        for part in parts:
            for left in (part, _kept(part)):
                with contextlib.suppress(OSError):  # the first error is the one to report
                    left.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Return a temporary name. Keras picks the format by suffix, so that stays; the whole is shorter than 255 bytes."""
    return path.with_name(f".{path.stem[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part{path.suffix}")


def _kept(part: Path) -> Path:
    """Return the name under which the earlier file is kept until all are written."""
    return part.with_name(f"{part.name}.old")


def _place_all(parts: Sequence[Path], targets: Sequence[Path], overwrite: bool) -> None:
    for part in parts:
        _sync(part)
    written = {target: part.stat() for part, target in zip(parts, targets, strict=True)}
    try:
        for part, target in zip(parts, targets, strict=True):
            if overwrite and target != targets[-1] and target.exists():
                _link(target, _kept(part)) or shutil.copy2(target, _kept(part))
            _place(part, target, overwrite)
    except BaseException:
        if not _is(targets[-1], written[targets[-1]]):
            for part, target in zip(parts, targets, strict=True):
                if _is(target, written[target]):
                    _kept(part).replace(target) if _kept(part).exists() else target.unlink()
        raise


def _place(part: Path, target: Path, overwrite: bool) -> None:
    """Give a finished file its name, and the permissions of the one that it replaces."""
    if overwrite:
        with contextlib.suppress(OSError):  # nothing to replace, or a file system without permissions
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        part.replace(target)
    elif not _link(part, target):
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL))  # nobody else can take the name from now on
        except FileExistsError:
            raise _exists(target) from None
        part.replace(target)
    with contextlib.suppress(OSError):  # not every system can open a folder
        _sync(target.parent)


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name that is free; return whether that worked: not every file system can."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return True
    return False


def _sync(path: Path) -> None:
    """Wait until the disk has it: a name must not survive a power cut that its content did not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is(path: Path, written: os.stat_result) -> bool:
    return path.exists() and os.path.samestat(path.stat(), written)


def cache_folder() -> Path:
    """Return the user's folder for what can be made or downloaded again.

    Raises:
        MixNetError: the user has no home.
    """
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # of Path.home()
        raise MixNetError("there is no home folder; set XDG_CACHE_HOME to where to keep what is downloaded") from None
    return Path(cache) / "mixnet_tf"


def is_part(path: Path) -> bool:
    """Say whether a file is one of `whole_file`'s that is not whole yet, or never was.

    >>> is_part(Path("runs/.best-1234-0123abcd.part.keras"))
    True
    """
    return _PART.fullmatch(path.name) is not None


def remove_parts(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote to `folder`.

    Those that bear the number of this process go, too: call it before anything is written. In a container, every run
    may have the same number.
    """
    for path in folder.iterdir():
        match = _PART.fullmatch(path.name)
        if match and (int(match["process"]) == os.getpid() or not _is_alive(int(match["process"]))):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def check_suffix(path: str | Path, suffix: str) -> None:
    """Raise MixNetError where the name of a file to write does not end in `suffix`."""
    if Path(path).suffix != suffix:
        raise MixNetError(f"{path}: expected a name that ends in {suffix}")


def check_name(path: Path) -> None:
    """Raise MixNetError where no file or folder should bear the name: blank, with a NUL, or not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise MixNetError(f"{str(path)!a}: is not UTF-8, expected a name that is") from None
    if "\0" in str(path) or not path.absolute().stem.strip():
        raise MixNetError(f"{str(path)!r}: expected a name that is not blank, without NUL")


def check_free(path: str | Path, *, overwrite: bool) -> None:
    """Raise MixNetError where `path` must not, or cannot, be written.

    It must be no folder, link to nothing, FIFO, socket or device; and not exist, unless `overwrite` is True.
    """
    path = Path(path)
    check_name(path)
    try:
        if path.exists():
            _check_kind(path, path.stat().st_mode, overwrite)
        elif path.is_symlink():
            raise MixNetError(f"{path}: is a link that leads nowhere, expected the name of a file")
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        if not folder.is_dir():
            raise MixNetError(f"{path}: cannot be written: {folder} is no folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise MixNetError(f"{path}: cannot be written: {folder} is read-only")
    except OSError as error:
        raise MixNetError(f"{path}: cannot be written: {error.strerror or error}") from error


def _check_kind(path: Path, mode: int, overwrite: bool) -> None:
    if stat.S_ISDIR(mode):
        raise MixNetError(f"{path}: is a folder, expected the name of a file")
    if not stat.S_ISREG(mode):
        raise MixNetError(f"{path}: is a pipe, socket or device, expected the name of a file")
    if not overwrite:
        raise _exists(path)


def _exists(path: Path) -> MixNetError:
    return MixNetError(f"{path}: exists already; give --overwrite to replace it, or another name")
