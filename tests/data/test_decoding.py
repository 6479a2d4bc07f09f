"""Decoding: every kind of image file, and one line about every other file."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from mixnet_tf.data.decoding import formats, read_image
from mixnet_tf.errors import DataError

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    return (rgb @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)


def repeat(gray: np.ndarray) -> np.ndarray:
    return np.stack([gray] * 3, axis=-1)


GRAY = luma(PIXELS)
ALPHA = RNG.integers(0, 256, (6, 9, 1), np.uint8)
BINARY = GRAY > 127
PALETTE = RNG.integers(0, 256, (4, 3), np.uint8)
INDICES = RNG.integers(0, 4, (6, 9), np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


def palette_image() -> Image.Image:
    image = Image.new("P", (9, 6))
    image.putdata(INDICES.ravel().tolist())
    image.putpalette(PALETTE.ravel().tolist())
    return image


READABLE = {
    "png": (lambda p: save(p / "x.png", Image.fromarray(PIXELS)), PIXELS),
    "wrong ending": (lambda p: save(p / "x.jpg", Image.fromarray(PIXELS), format="png"), PIXELS),
    "bmp": (lambda p: save(p / "x.bmp", Image.fromarray(PIXELS)), PIXELS),
    "webp": (lambda p: save(p / "x.webp", Image.fromarray(PIXELS), lossless=True), PIXELS),
    "gray": (lambda p: save(p / "x.png", Image.fromarray(GRAY)), repeat(GRAY)),
    "one bit": (lambda p: save(p / "x.png", Image.fromarray(BINARY)), repeat(BINARY * np.uint8(255))),
    "16 bit": (lambda p: save(p / "x.png", Image.fromarray(GRAY.astype(np.uint16) * 257)), repeat(GRAY)),
    "32 bit": (lambda p: save(p / "x.tif", Image.fromarray(GRAY.astype(np.int32) * 257)), repeat(GRAY)),
    "alpha": (lambda p: save(p / "x.png", Image.fromarray(np.concatenate([PIXELS, ALPHA], -1))), PIXELS),
    "palette": (lambda p: save(p / "x.png", palette_image()), PALETTE[INDICES]),
    "palette, transparent": (
        lambda p: save(p / "x.png", palette_image(), transparency=bytes([0, 100, 200, 255])),
        PALETTE[INDICES],
    ),
    "cmyk": (lambda p: save(p / "x.tif", Image.fromarray(PIXELS).convert("CMYK")), PIXELS),
    "turned by EXIF": (
        lambda p: save(p / "x.png", Image.fromarray(np.rot90(PIXELS)), exif=exif_orientation(6)),
        PIXELS,
    ),
    "damaged EXIF": (lambda p: save(p / "x.png", Image.fromarray(PIXELS), exif=b"Exif\0\0II*\0\xff\xff"), PIXELS),
}


def exif_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("kind", READABLE)
def test_read_image_gives_rgb(tmp_path, kind):
    write, expected = READABLE[kind]
    image = read_image(write(tmp_path))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that promises so many pixels, and has none."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def png_with(extra: bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    return stream.getvalue()[:33] + extra + stream.getvalue()[33:]


def text_bomb() -> bytes:
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26)))


def _truncated(path):
    whole = save(path / "whole.jpg", Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)))
    (path / "x.jpg").write_bytes(whole.read_bytes()[:1500])


def _with_flipped_bytes(path):
    whole = bytearray(save(path / "whole.png", Image.fromarray(PIXELS)).read_bytes())
    whole[45] ^= 255
    (path / "x.png").write_bytes(whole)


UNREADABLE = {
    "truncated": (_truncated, "x.jpg", r"not a readable image \(.*truncated"),
    "flipped byte": (_with_flipped_bytes, "x.png", "not a readable image"),
    "text": (lambda p: (p / "x.jpg").write_text("hello"), "x.jpg", "not a readable image"),
    "empty": (lambda p: (p / "x.jpg").touch(), "x.jpg", "not a readable image"),
    "missing": (lambda p: None, "x.jpg", "no such file"),
    "folder": (lambda p: (p / "x.jpg").mkdir(), "x.jpg", r"not a readable image \(a folder\)"),
    "dangling link": (lambda p: (p / "x.jpg").symlink_to(p / "nowhere"), "x.jpg", "no such file"),
    "looping link": (
        lambda p: (p / "x.jpg").symlink_to(p / "x.jpg"),
        "x.jpg",
        r"\(Too many levels of symbolic links\)",
    ),
    "named pipe": (lambda p: os.mkfifo(p / "x.jpg"), "x.jpg", r"\(no regular file\)"),
    "device": (lambda p: (p / "x.jpg").symlink_to("/dev/zero"), "x.jpg", r"\(no regular file\)"),
    "too long a name": (lambda p: None, "x" * 5000, r"\(File name too long\)"),
    "PostScript": (
        lambda p: Image.fromarray(PIXELS).save(p / "x.jpg", "EPS"),
        "x.jpg",
        r"\(expected one of JPEG, PNG, .*",
    ),
    "icon": (
        lambda p: Image.fromarray(PIXELS).save(p / "x.ico"),
        "x.ico",
        r"\(expected one of JPEG, PNG, WEBP, BMP, GIF",
    ),
    "text bomb": (lambda p: (p / "x.png").write_bytes(png_with(text_bomb())), "x.png", "Decompressed data too large"),
    "GIF without images": (
        lambda p: (p / "x.gif").write_bytes(b"GIF89a\5\0\5\0\0\0\0;"),
        "x.gif",
        "not a readable image",
    ),
    "wide header": (
        lambda p: (p / "x.png").write_bytes(png_of(65500, 65500)),
        "x.png",
        "not a readable .*4290250000 pixels",
    ),
    "long strip": (
        lambda p: (p / "x.png").write_bytes(png_of(65500, 1)),
        "x.png",
        "65500x1 pixels, .* ratio up to 100",
    ),
    "floats": (lambda p: Image.fromarray(GRAY.astype("f")).save(p / "x.tif"), "x.tif", "floating-point"),
    "a strip": (lambda p: Image.new("RGB", (201, 2)).save(p / "x.png"), "x.png", "201x2 pixels, .*aspect ratio"),
    "large": (lambda p: Image.new("1", (10, 15)).save(p / "x.png"), "x.png", "not a readable image .*150 pixels"),
    "huge": (lambda p: Image.new("1", (30, 30)).save(p / "x.png"), "x.png", "not a readable image .*900 pixels"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_read_image_names_the_file_it_cannot_read(tmp_path, kind, monkeypatch):
    write, name, message = UNREADABLE[kind]
    if kind in ("large", "huge"):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write(tmp_path)
    with pytest.raises(DataError, match=message) as raised:
        read_image(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_a_large_image_costs_one_line_and_no_warning(tmp_path):
    Image.new("1", (10, 15)).save(tmp_path / "x.png")
    code = (
        "from PIL import Image; from mixnet_tf.data.decoding import read_image; Image.MAX_IMAGE_PIXELS = 100\n"
        f"try: read_image({str(tmp_path / 'x.png')!r})\n"
        "except ValueError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "not a readable image" in result.stdout
    assert result.stderr == ""


CURIOUS = {  # each makes Pillow or libtiff talk
    "EXIF": lambda p: Image.fromarray(PIXELS).save(p / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\0\0", quality=95),
    "TIFF tag": lambda p: (p / "x.tif").write_bytes(with_odd_tag(tiff(None))),
    "TIFF data": lambda p: (p / "x.tif").write_bytes(damaged_tiff()),
    "palette": lambda p: palette_image().save(p / "x.png", transparency=bytes([0, 100, 200, 255])),
    "broken profile": lambda p: Image.fromarray(PIXELS).convert("CMYK").save(p / "x.jpg", icc_profile=b"no profile"),
    "phone": lambda p: (p / "x.jpg").write_bytes(broken_mpo()),
}


def tiff(compression: str | None) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(stream, "TIFF", compression=compression, dpi=(72, 72))
    return stream.getvalue()


def with_odd_tag(content: bytes) -> bytes:
    """Give the resolution unit (a SHORT) many values: more than the file has."""
    entry = struct.pack("<HHI", 296, 3, 1)
    assert content.count(entry) == 1
    return content.replace(entry, struct.pack("<HHI", 296, 3, 10**6))


def damaged_tiff() -> bytes:
    content = bytearray(tiff("tiff_lzw"))
    content[500:520] = b"\xff" * 20
    return bytes(content)


def broken_mpo() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "MPO", save_all=True, append_images=[Image.fromarray(PIXELS)])
    return stream.getvalue().replace(b"MPF\0MM\0*", b"MPF\0XX\0*").replace(b"MPF\0II*\0", b"MPF\0XX*\0")


READ = """
for path in {}:
    try: read(path)
    except (ValueError, OSError) as error: print(error)
"""


def test_libraries_keep_silent(tmp_path):
    """In processes of their own: Pillow alone, with all its warnings, and ours."""
    for kind, write in CURIOUS.items():
        (tmp_path / kind).mkdir()
        write(tmp_path / kind)
    files = sorted(map(str, tmp_path.glob("*/*")))
    assert len(files) == len(CURIOUS)
    plain = (
        "import PIL.Image, warnings; warnings.simplefilter('always'); read = lambda x: PIL.Image.open(x).convert('RGB')"
    )
    ours = "from mixnet_tf.data.decoding import read_image as read"
    results = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for code in (plain + READ.format(files), ours + READ.format(files))
    ]
    assert results[0].stderr.count("Warning: ") >= 3 and "tempfile.tif: " in results[0].stderr
    assert results[1].stderr == ""
    assert [line.split(": ")[0] for line in results[1].stdout.splitlines()] == [str(tmp_path / "TIFF data" / "x.tif")]


def test_formats_are_those_of_photographs():
    assert {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"} <= set(formats())
    assert not {"EPS", "PSD", "WMF", "FITS", "ICO", "MPEG"} & set(formats())


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_every_format_is_read(tmp_path, kind):
    if kind not in formats() and kind != "MPO":
        pytest.skip(f"this Pillow has no {kind}")
    whole = np.kron(np.array([[[200, 30, 60], [10, 120, 240]]], np.uint8), np.ones((16, 16, 1), np.uint8))
    Image.fromarray(whole).save(tmp_path / "x.jpg", kind)
    np.testing.assert_allclose(read_image(tmp_path / "x.jpg")[::5, [2, 5, 26, 29]], whole[::5, [2, 5, 26, 29]], atol=9)


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").tolist() == [[[1, 2, 3]]]


def test_a_message_shows_a_name_on_one_line(tmp_path):
    path = tmp_path / "a\nb\x1b[31m.jpg"
    path.touch()
    for name in (path, path.with_name("c\nd")):
        with pytest.raises(DataError) as raised:
            read_image(name)
        assert str(raised.value).isprintable() and r"\n" in str(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(DataError, match=r"x\.png: not a readable image \(Permission denied\)$"):
        read_image(tmp_path / "x.png")


def test_what_the_system_says_is_said_once(tmp_path, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match=rf"^{tmp_path}/x\.png: not a readable image \(Permission denied\)$"):
        read_image(tmp_path / "x.png")
