"""Damage as it happens, and as nobody would think of: every function draws from the generator it is given, alone."""

import io
import struct
import zipfile
from collections.abc import Callable
from random import Random

_INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    -(2**31),
    2**32 - 1,
    2**63 - 1,
    -(2**63),
)


def _flip_bits(random: Random, content: bytearray) -> None:
    for _ in range(2 ** random.randrange(7)):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _set_bytes(random: Random, content: bytearray) -> None:
    for _ in range(2 ** random.randrange(5)):
        content[random.randrange(len(content))] = random.choice((0, 1, 0x20, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _set_integer(random: Random, content: bytearray) -> None:
    size, kind = random.choice(((1, "B"), (2, "<H"), (4, "<I"), (4, ">I"), (8, "<Q")))
    start = random.randrange(max(1, len(content) - size))
    content[start : start + size] = struct.pack(kind, random.choice(_INTEGERS) % 256**size)


def _truncate(random: Random, content: bytearray) -> None:
    del content[random.randrange(len(content)) :]


def _piece(random: Random, content: bytearray) -> slice:
    start = random.randrange(len(content))
    return slice(start, start + 2 ** random.randrange(12))


def _delete(random: Random, content: bytearray) -> None:
    del content[_piece(random, content)]


def _repeat(random: Random, content: bytearray) -> None:
    piece = _piece(random, content)
    content[piece.start : piece.start] = content[piece]


def _zero(random: Random, content: bytearray) -> None:
    piece = _piece(random, content)
    content[piece] = bytes(len(content[piece]))


def _insert(random: Random, content: bytearray) -> None:
    start = random.randrange(len(content))
    content[start:start] = random.randbytes(2 ** random.randrange(8))


def _swap(random: Random, content: bytearray) -> None:
    one, other = _piece(random, content), _piece(random, content)
    content[one], content[other] = content[other], content[one]


_STEPS: tuple[Callable[[Random, bytearray], None], ...] = (
    *(_flip_bits, _flip_bits, _set_bytes, _set_integer, _set_integer),  # what keeps the length is tried more often
    *(_truncate, _delete, _repeat, _zero, _insert, _swap),
)


def damaged(random: Random, content: bytes) -> bytes:
    """Return bytes that were hit once to four times."""
    result = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if result:
            random.choice(_STEPS)(random, result)
    return bytes(result)


def damaged_zip(random: Random, content: bytes) -> bytes:
    """Return a ZIP archive damaged as a file, or one whole archive of damaged members."""
    if random.random() < 0.3:
        return damaged(random, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    hit = random.randrange(len(members))
    name, data = members[hit]
    members[hit] = name, damaged(random, data)
    action = random.random()
    if action < 0.1:
        del members[hit]
    elif action < 0.15:
        members[hit] = random.choice(("../" + name, "/" + name, name.upper(), "")), data
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()
