"""Images: .npz files and image files, damaged as bytes, and whole ones of the wrong shape, type, size and range."""

import contextlib
import functools
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mixnet_tf.errors import printable
from tests.fuzz.cases import Case
from tests.fuzz.mutations import damaged, damaged_zip

MODEL = str(Path(__file__).resolve().parents[3] / "tests/fixtures/nano_int8.tflite")  # ten classes
CLASSES = 10
_LABELS = np.arange(3 * CLASSES) % CLASSES
_PIXELS = np.random.default_rng(0).integers(0, 256, (3 * CLASSES, 8, 8, 3), np.uint8)
_DTYPES = (
    "u1",
    "i1",
    "?",
    "<i2",
    ">i4",
    "u8",
    "f2",
    "<f4",
    ">f8",
    "g",
    "c8",
    "O",
    "U3",
    "S2",
    "M8[s]",
    "V4",
    "<f4,<i2",
)
_NUMBERS = (0, 1, -1, 2, 255, 256, 0.5, 1.0002, -0.001, 1e30, float("nan"), float("inf"), -float("inf"), 2**62)


def _set(random: Random) -> dict[str, np.ndarray]:
    count = random.choice((CLASSES, 2 * CLASSES))
    images = _PIXELS[..., :1] if random.random() < 0.3 else _PIXELS
    if random.random() < 0.5:
        images = images.astype(random.choice(("f2", "f4", "f8", ">f4"))) / random.choice((1, 255, 255))
    return {"x_train": images, "y_train": _LABELS, "x_test": images[:count], "y_test": _LABELS[:count]}


def _change(random: Random, arrays: dict[str, Any]) -> None:
    """Make one array another, which is still written as NumPy writes it."""
    name = random.choice(list(arrays))
    array = arrays[name]
    action = random.randrange(9)
    with np.errstate(all="ignore"):
        if action == 0 and array.dtype.kind in "iuf":
            arrays[name] = array * np.float32(random.choice((0, 1 / 255, 1.0002, 257, -1, 2, 1e-8)))
        elif action == 1 and array.dtype.kind in "iuf":
            arrays[name] = array + np.array(random.choice((1, -1, 0.001, -0.02, 1000)))
        elif action == 2 and array.size and array.dtype.kind == "f":
            array = array.copy()
            array.flat[random.randrange(array.size)] = random.choice(_NUMBERS)
            arrays[name] = array
        elif action == 3:
            dtype = random.choice(_DTYPES)
            simple = (array.dtype.kind in "iuf" and dtype[-1] not in "4]2") or dtype in ("f2", "<i2")
            arrays[name] = array.astype(dtype) if simple and "V" not in dtype else np.zeros(array.shape, dtype)
        elif action == 4:
            shapes = (
                (-1,),
                (1, *array.shape),
                array.shape[::-1],
                (*array.shape, 1),
                (len(array) or 1, -1) if array.ndim else (1,),
            )
            arrays[name] = array.reshape(random.choice(shapes))
        elif action == 5:
            arrays[name] = array[: random.randrange(len(array) + 1)] if array.ndim else array
        elif action == 6:
            arrays[random.choice(("x_val", "", "../x", "\x1b[31m", "a\nb", "x_train.npy"))] = arrays.pop(name)
        elif action == 7:
            arrays[name] = np.asfortranarray(array)
        else:
            arrays[name] = np.zeros((), array.dtype)


def _npy(random: Random, array: np.ndarray) -> bytes:
    """Write a member, or one whose header says something else."""
    stream = io.BytesIO()
    version = random.choice((None, (1, 0), (2, 0), (3, 0)))
    np.lib.format.write_array(stream, np.asarray(array), version, allow_pickle=True)
    content = stream.getvalue()
    if random.random() < 0.96:
        return content
    shape = random.choice(
        (array.shape, (2**40,), (-1, -8), (10**30,), (0, 10**30), (3 * 10**9,), (True,), ("x",), 7, None, ((),))
    )
    dtype = random.choice((array.dtype.str, "|O", "<f8", ">u2", "<U9", "|V0", "|V8", "(9999,)f4", "x", 3, None, ["a"]))
    header = repr({"descr": dtype, "fortran_order": random.choice((True, False, 0, "x")), "shape": shape})
    header = random.choice((header, header, header[:-3], "(" * 3000, header + " " * 20000, header.replace("'", '"')))
    length = random.choice((len(header), len(header), 1, 65535))
    start = b"\x93NUMPY" + bytes(random.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))) + struct.pack("<H", length)
    return start + header.encode() + content[-array.nbytes :]


def _zip(random: Random, arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    kind = random.choice((*[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 9, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy(random, array), kind)
    return stream.getvalue()


@functools.cache
def _warm_up() -> None:
    """Let no case wait for what only the first one of a process waits for."""
    from mixnet_tf.progress.loading import load_tensorflow

    load_tensorflow()


def data_npz(random: Random, folder: Path) -> Case:
    """Evaluate on a damaged .npz."""
    _warm_up()
    arrays, path = _set(random), folder / random.choice(("set.npz", "a\nb\x1b[31m.npz"))
    for _ in range(random.choice((0, 0, 1, 1, 1, 2, 3))):
        if arrays:
            _change(random, arrays)
    content = _zip(random, arrays)
    if random.random() < 0.4:
        content = (
            damaged_zip(random, content)
            if zipfile.is_zipfile(io.BytesIO(content)) and arrays
            else damaged(random, content)
        )
    path.write_bytes(content)
    asked = random.choice((None, None, None, "0..1", "0..255"))
    flags = ["--json", *(["--pixel-range", asked] if asked else [])]
    return Case(["evaluate", MODEL, "--data", str(path), *flags], lambda output: _wrong_pixels(output, path, asked))


def _wrong_pixels(output: str, path: Path, asked: str | None) -> str | None:
    """Read an accepted file as NumPy does, and decide by its numbers alone what the pixels must be."""
    from mixnet_tf.data.sources import load_data

    with np.load(path) as file:
        images, labels, both = file["x_test"], file["y_test"], (file["x_train"], file["x_test"])
    least, most = min(array.min() for array in both), max(array.max() for array in both)
    white = {"0..1": 1.0, "0..255": 255.0}[asked] if asked else 1.0 if most <= 1 else 255.0
    if not (-white / 4 <= least and most <= white * 1.25) or (asked is None and (least < 0 or 1 < most <= 2)):
        return f"takes pixels from {least} to {most}"
    pixels = load_data(path, pixel_range=asked).splits["test"].images
    expected = np.clip(images.reshape(*images.shape[:3], -1).astype(float) * (255 / white), 0, 255)
    if np.abs(pixels - expected).max() > 0.5001:
        return f"pixels are off by {np.abs(pixels - expected).max()}"
    count = json.loads(output)["count"]
    return None if count == len(labels) == len(pixels) else f"counts {count} of {len(labels)} images"


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@functools.cache
def _files() -> tuple[bytes, ...]:
    """Whole files of every format, and some of formats that are not read."""
    rgb = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 30, 3), np.uint8))
    smooth = rgb.resize((8, 6)).resize((40, 30))
    gray, exif, wide = (
        rgb.convert("L"),
        Image.Exif(),
        Image.fromarray(np.arange(720, dtype=np.uint16).reshape(24, 30) * 90),
    )
    exif[0x0112], exif[0x010E] = 6, "a picture"
    files = [
        _encoded(smooth, "JPEG", quality=80, **how)
        for how in ({}, {"progressive": True}, {"exif": exif, "dpi": (72, 72)})
    ]
    files += [_encoded(smooth.convert("CMYK"), "JPEG", icc_profile=b"x" * 200), _encoded(gray, "JPEG")]
    files += [_encoded(smooth, "MPO", save_all=True, append_images=[smooth])]
    files += [
        _encoded(image, "PNG") for image in (rgb, gray, wide, rgb.convert("1"), rgb.convert("LA"), rgb.convert("RGBA"))
    ]
    files += [_encoded(rgb.quantize(9), "PNG", transparency=bytes([0, 9, 200]), exif=exif)]
    files += [_encoded(rgb, "PNG", save_all=True, append_images=[smooth.resize((30, 24))])]
    files += [
        _encoded(smooth, "WEBP", **how)
        for how in ({}, {"lossless": True, "exif": exif}, {"save_all": True, "append_images": [smooth.rotate(180)]})
    ]
    files += [_encoded(image, "BMP") for image in (rgb, gray, rgb.convert("1"), rgb.quantize(16), rgb.convert("RGBA"))]
    files += [
        _encoded(rgb, "GIF"),
        _encoded(smooth, "GIF", save_all=True, append_images=[smooth.rotate(90)], transparency=3),
    ]
    for compression in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate"):
        files += [_encoded(rgb, "TIFF", compression=compression, dpi=(72, 72))]
    files += [_encoded(rgb.convert("1"), "TIFF", compression=fax) for fax in ("group3", "group4", "tiff_ccitt")]
    files += [
        _encoded(image, "TIFF")
        for image in (wide, rgb.convert("CMYK"), rgb.convert("LAB"), rgb.convert("YCbCr"), gray.convert("F"))
    ]
    files += [_encoded(image, "PPM") for image in (rgb, gray, rgb.convert("1"), wide)] + [
        b"P3 2 2 255 " + b"7 " * 12,
        b"Pf 2 2 -1.0\n" + bytes(16),
    ]
    if "AVIF" in Image.SAVE:
        files += [_encoded(smooth, "AVIF", **how) for how in ({}, {"exif": exif, "quality": 100})]
    others = [_encoded(rgb, kind) for kind in ("EPS", "ICO", "TGA", "PCX", "DDS", "SGI", "JPEG2000", "ICNS")]
    return (*files, *files, *others)


def _png_chunk(random: Random, content: bytes) -> bytes:
    """Damage one chunk of a PNG, and make its checksum right."""
    chunks, start = [], 8
    while start + 12 <= len(content):
        (length,) = struct.unpack(">I", content[start : start + 4])
        chunks.append((content[start + 4 : start + 8], content[start + 8 : start + 8 + length]))
        start += 12 + length
    hit = random.randrange(len(chunks))
    kind, data = chunks[hit]
    action = random.random()
    if action < 0.6:
        chunks[hit] = kind, damaged(random, data)
    elif action < 0.7:
        chunks[hit] = (
            random.choice((b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"xxxx")),
            data,
        )
    elif action < 0.8:
        chunks.insert(hit, random.choice(chunks))
    elif action < 0.9:
        text = b"Comment\0\0" + zlib.compress(bytes(random.choice((10, 10**5, 3 * 10**7))))
        chunks.insert(1, (random.choice((b"zTXt", b"iCCP")), text))
    else:
        del chunks[hit]
    pack = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return content[:8] + b"".join(pack)


def _tiff_entry(random: Random, content: bytes) -> bytes:
    """Change entries of a TIFF's first directory: tag, type, count or value."""
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", content[4:8])
    (count,) = struct.unpack(order + "H", content[start : start + 2])
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = start + 2 + 12 * random.randrange(count)
        values = list(struct.unpack(order + "HHII", changed[at : at + 12]))
        field = random.randrange(4)
        large = (0, 1, 2, 5, 16, 300, 65535, 65536, 2**20, 2**31 - 1, 2**31, 2**32 - 1, len(content))
        options = (
            (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 339, 34665),
            range(14),
            large,
            large,
        )
        values[field] = random.choice(options[field])
        changed[at : at + 12] = struct.pack(order + "HHII", *values)
    return bytes(changed)


def _jpeg_size(random: Random, content: bytes) -> bytes:
    at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    size = struct.pack(">HH", random.choice((0, 1, 30, 5000, 65500)), random.choice((0, 1, 40, 9000, 65500)))
    return content[: at + 5] + size + content[at + 9 :] if at > 0 else content


def _spoilt(random: Random) -> bytes:
    content = random.choice(_files())
    if random.random() < 0.08:
        return content
    if random.random() < 0.5:
        for start, change in ((b"\x89PNG", _png_chunk), (b"II*\0", _tiff_entry), (b"\xff\xd8", _jpeg_size)):
            if content.startswith(start):
                content = change(random, content)
                return damaged(random, content) if random.random() < 0.1 else content
    return damaged(random, content)


_ODD: tuple[Callable[[Path], object], ...] = (
    os.mkfifo,
    lambda path: path.mkdir(),
    lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to("nowhere"),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("/proc/self/mem"),
)


_NAMES = (".jpg", ".jpg", ".png", ".tif", "", "\x1b[31m.gif", "\n.jpg", " \xe4.jpg", os.fsdecode(b"\xff.jpg"))


def image(random: Random, folder: Path) -> Case:
    """Evaluate on a folder with one damaged image, or with a dozen of which the bad ones are skipped."""
    _warm_up()
    good = folder / "good.png"
    Image.fromarray(_PIXELS[0]).save(good)
    for split in ("train", "val", "test"):
        for label in range(CLASSES):
            (folder / "data" / split / str(label)).mkdir(parents=True)
            (folder / "data" / split / str(label) / "good.png").symlink_to(good)
    skip = random.random() < 0.7
    paths = [
        folder / "data" / "test" / str(i % CLASSES) / f"{i}{random.choice(_NAMES)}" for i in range(12 if skip else 1)
    ]
    for path in paths:
        if random.random() < 0.03:
            random.choice(_ODD)(path)
        else:
            path.write_bytes(_spoilt(random))
    flags = ["--json", *(["--on-bad-image", "skip"] * skip)]
    arguments = ["evaluate", MODEL, "--data", str(folder / "data"), *flags]
    return Case(arguments, lambda output: _wrong_images(json.loads(output), paths))


def _wrong_images(result: dict[str, Any], paths: list[Path]) -> str | None:
    skipped = set(result["skipped_images"])
    if result["count"] != CLASSES + len(paths) - len(skipped):
        return f"counts {result['count']} images and skips {len(skipped)}"
    flaws = (_flaw(path, printable(path) in skipped) for path in paths)
    return next((flaw for flaw in flaws if flaw), None)


def _flaw(path: Path, skipped: bool) -> str | None:
    """Say what is wrong with how an image was read, or with that it was skipped."""
    from mixnet_tf.data.decoding import formats, read_image

    if path.is_file() and _pixels_of(path) > 2**20:
        return None  # comparing tens of millions of pixels would look like a command that hangs
    try:
        expected, kind = _as_anybody(path)
    except Exception as error:
        return None if skipped else f"takes {path.name!r}, which Pillow refuses: {error}"
    if skipped:
        height, width = expected.shape[:2]
        fine = kind in (*formats(), "MPO") and max(height, width) <= 100 * min(height, width)
        return f"skips {path.name!r}, a {kind} of {width}x{height}" if fine else None
    pixels = read_image(path)
    if pixels.shape[:2] != expected.shape[:2] or not (pixels == expected).all():
        return f"pixels of a {kind} differ"
    return None


def _pixels_of(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except Exception:  # no image at all
        return 0


def _as_anybody(path: Path) -> tuple[np.ndarray, str | None]:
    """Decode an image with Pillow, as its documentation says."""
    if not path.is_file():
        raise ValueError("no file")
    with Image.open(path) as image:
        image.load()
        kind, turned = image.format, image
        with contextlib.suppress(Exception):
            turned = ImageOps.exif_transpose(image)
        if turned.mode == "F":
            raise ValueError("floats")
        if turned.mode.startswith("I"):
            return np.asarray(turned).clip(0, 65535)[..., None] // 257, kind
        if turned.mode == "P" and "transparency" in turned.info:
            turned = turned.convert("RGBA")
        return np.asarray(turned.convert("RGB")), kind


READERS = {"data-npz": data_npz, "image": image}
