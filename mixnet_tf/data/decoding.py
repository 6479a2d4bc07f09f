"""From an image file to RGB pixels, by Pillow. Any file may be hostile: what is wrong with it is one line."""

import contextlib
import ctypes
import logging
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mixnet_tf import checks
from mixnet_tf.data.stored import content, file_of
from mixnet_tf.errors import DataError, printable

MAX_ASPECT_RATIO = 100  # beyond, resizing the shorter side would make an image of gigabytes

# Of the formats that Pillow knows, those of photographs: some others start programs (EPS) or are rarely tested. JPEG
# is also MPO, the format of phones; AVIF and HEIF depend on how Pillow was built and extended.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "HEIF")

# What is odd about a file that can be read is nobody's business here, and an error has its own line. The libraries
# cannot be told for one file or thread alone.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(AttributeError, OSError):  # libtiff may be out of reach inside Pillow: then it still talks
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)

# Pillow only warns between one and two times its limit; such an image is refused like a larger one.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def formats() -> tuple[str, ...]:
    """Return the names of the formats that are read.

    >>> "JPEG" in formats(), "EPS" in formats()
    (True, False)
    """
    Image.init()
    available = set(Image.EXTENSION.values())
    return tuple(name for name in _FORMATS if name in available)


def read_image(path: str | Path) -> np.ndarray:
    """Read one image from disk.

    Args:
        path: a file in any of `formats`, whatever its name ends in. EXIF orientation is applied; gray, palette, CMYK,
            16-bit and transparent images become RGB (transparency is dropped).

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        DataError: naming the file, which is missing, not an image, truncated or absurdly large.
    """
    return np.asarray(decode(path))


def decode(path: str | Path, *, at_least: int | None = None) -> Image.Image:
    """Return the RGB image of a file, as `read_image` does.

    Args:
        path: of the file, or of what is ``stored`` in a larger one.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep so many pixels;
            for photographs of 12 megapixels that is five times faster.
    """
    where = printable(path)
    try:
        mode = Path(file_of(path)).stat().st_mode
        if not stat.S_ISREG(mode):  # a named pipe would wait for ever
            raise ValueError("a folder" if stat.S_ISDIR(mode) else "no regular file")
        with Image.open(content(path), formats=formats()) as image:
            if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
                size = f"{image.width}x{image.height} pixels"
                raise DataError(f"{where}: {size}, expected an aspect ratio up to {MAX_ASPECT_RATIO}")
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            return upright_rgb(image)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{where}: no such file") from error
    except Exception as error:  # decoders fed with damaged bytes raise nearly every kind
        raise DataError(f"{where}: not a readable image ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"expected one of {', '.join(formats())}"
    if isinstance(error, OSError) and error.strerror:  # its text would name the file again
        return error.strerror
    return checks.reason(error)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image as its camera held it, in RGB; the image itself may be turned.

    Raises:
        ValueError: pixels without a defined range.
    """
    with contextlib.suppress(Exception):  # damaged EXIF data: the pixels are good all the same
        ImageOps.exif_transpose(image, in_place=True)
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray: Pillow's own conversion clips at 255
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
