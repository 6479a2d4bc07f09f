"""Files that travel inside a ``.tflite``: a zip archive behind its flatbuffer, which LiteRT does not read."""

import io
import zipfile
from collections.abc import Mapping

from mixnet_tf.errors import DeployError

_LARGEST = 2**24
"""Bytes of all files together: 1,000 labels are 20 KB."""


def attachments(content: bytes, where: str) -> dict[str, bytes]:
    """Return the files behind a flatbuffer, by name; none where there is no archive.

    Args:
        content: a whole ``.tflite``.
        where: its name, for messages.

    Raises:
        DeployError: an archive that is damaged, or too large.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise DeployError(f"{where}: the files inside it have more than {_LARGEST >> 20} MiB")
            return {entry.filename: _limited(archive, entry) for entry in archive.infolist()}
    except DeployError:
        raise
    except Exception as error:  # zipfile raises what its decoders and struct raise
        raise DeployError(f"{where}: the files inside it (labels) are damaged") from error


def _limited(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        content = file.read(_LARGEST + 1)
    if len(content) != entry.file_size:
        raise ValueError("its size is not the one announced")
    return content


def with_attachments(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return a flatbuffer with files behind it: stored as they are, so that they can be read in place, and undated.

    >>> attachments(with_attachments(b"flatbuffer", {"labels.txt": b"cat"}), "a.tflite")
    {'labels.txt': b'cat'}
    """
    if not files:
        return content
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # the same bytes on every system
            archive.writestr(entry, data)
    return file.getvalue()
