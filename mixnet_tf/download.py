"""Files from the network, with progress, and one line about what went wrong."""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from mixnet_tf.errors import MixNetError, printable
from mixnet_tf.progress.steps import bar

TIMEOUT_SECONDS = 30  # without a byte


def download(url: str, part: Path, *, path: Path, what: str, most: int, wrong: type[MixNetError] = MixNetError) -> None:
    """Write what an address answers.

    Args:
        url: the address.
        part: the file to write: a temporary name beside `path`.
        path: what the file will be called, for messages.
        what: is downloaded, for messages.
        most: bytes.
        wrong: the error to raise.

    Raises:
        MixNetError: of the kind `wrong`: no network, no such file, less than was announced, or too much. The message
            says how to do without the network.

    Example:
        >>> download("https://example.org/x.npz", part, path=path, what="x", most=10**6)         # doctest: +SKIP
    """
    by_hand = f"fetch {url} by hand and put it at {path}"
    if not os.access(part.parent, os.W_OK):
        raise wrong(f"{part.parent}: not writable, and {path.name} is not there; {by_hand}")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response, part.open("wb") as file:
            _receive(response, file, path.name, most)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = printable(" ".join(str(error).split()) or type(error).__name__)
        raise wrong(f"{what}: cannot be downloaded ({reason}); {by_hand}") from error


def _receive(response: Any, file: IO[bytes], name: str, most: int) -> None:
    """Write what a server sends, with progress; raise ValueError for less than it announced, or for too much."""
    length = response.headers.get("Content-Length", "")
    announced = int(length) if length.isdigit() else None
    received = 0
    with bar(name, announced, "B", unit_scale=True) as progress:
        while piece := response.read(2**16):
            received += file.write(piece)
            progress.update(len(piece))
            if received > most:
                raise ValueError(f"more than {most} bytes")
    if announced not in (None, received):
        raise ValueError(f"received {received} of {announced} bytes")
