"""Images that lie inside of a larger file: ``shards/train-00000-of-00010/1234+567`` is 567 bytes of it from 1234 on.

Such a name can be no file's, as it goes on behind one, so it may stand wherever the path of an image does.
"""

import io
import os
import re
from pathlib import Path

_PART = re.compile(r"(?P<file>.+)[/\\](?P<offset>[0-9]{1,18})\+(?P<length>[0-9]{1,10})", re.DOTALL)


def stored(file: str | Path, offset: int, length: int) -> str:
    """Return the name of a part of a file.

    >>> stored("train-00000-of-00010", 1234, 567)
    'train-00000-of-00010/1234+567'
    """
    return f"{file}/{offset}+{length}"


def file_of(path: str | Path) -> str | Path:
    """Return the file in which an image lies: its own, as a rule.

    >>> file_of("cat.jpg"), file_of("setup.py/0+12")
    ('cat.jpg', 'setup.py')
    """
    match = _match(path)
    return match["file"] if match else path


def _match(path: str | Path) -> re.Match[str] | None:
    """Return the parts of a name that goes on behind a file; None for a file's own."""
    match = _PART.fullmatch(str(path))
    return match if match and os.path.isfile(match["file"]) else None  # noqa: PTH113  # done a million times


def content(path: str | Path) -> str | Path | io.BytesIO:
    """Return what Pillow opens: the path of a file, or the bytes of a part of one.

    Raises:
        OSError: the file cannot be read.
        ValueError: it ends before the part does.
    """
    match = _match(path)
    if match is None:
        return path
    offset, length = int(match["offset"]), int(match["length"])
    with Path(match["file"]).open("rb") as opened:
        opened.seek(offset)
        part = opened.read(length)
    if len(part) < length:
        raise ValueError(f"the file ends {length - len(part)} bytes too early")
    return io.BytesIO(part)
