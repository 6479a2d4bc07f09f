"""Pictures as the browser decodes, resizes and crops them, against Pillow's pixels."""

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from chromium import browse, serving
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from web_bundle import write_bundle

from mixnet_tf.data.decoding import decode
from mixnet_tf.data.pixels import evaluation_pixels

pytestmark = pytest.mark.slow
PHOTOS = Path(sklearn.datasets.__file__).with_name("images")  # china.jpg and flower.jpg, of 640 x 427 pixels
CROP = {"height": 112, "width": 96, "cropFraction": 0.875}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_gamma(path: Path) -> None:
    """Let a PNG say that its colors are to be converted."""
    content = path.read_bytes()
    path.write_bytes(content[:33] + png_chunk(b"gAMA", struct.pack(">I", 100_000)) + content[33:])


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def swapped_profile() -> bytes:
    """Return a profile in which red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    places = [profile.index(tag) + 4 for tag in (b"rXYZ", b"gXYZ")]  # where each is, and how long
    red, green = (profile[place : place + 8] for place in places)
    for place, entry in zip(places, (green, red), strict=True):
        profile = profile[:place] + entry + profile[place + 8 :]
    return profile


LOSSLESS = {
    "photo.png": {},
    "gray.png": {"mode": "L"},
    "palette.png": {"mode": "P"},
    "turned.png": {"exif": turned(6)},
    "profile.png": {"icc_profile": swapped_profile()},
    "gamma.png": {},
    "photo.webp": {"lossless": True},
    "photo.bmp": {},
    "photo.gif": {"mode": "P"},
    "opaque.png": {"mode": "RGBA"},
}
JPEG = {
    "quality 75.jpg": {"quality": 75},
    "quality 95.jpg": {"quality": 95, "subsampling": 0},
    "progressive.jpg": {"quality": 85, "progressive": True},
    "gray.jpg": {"quality": 85, "mode": "L"},
    **{f"turned {i}.jpg": {"quality": 85, "exif": turned(i)} for i in (2, 3, 5, 8)},
    "profile.jpg": {"quality": 85, "icc_profile": swapped_profile()},
}


@pytest.fixture(scope="module")
def url(tmp_path_factory, nano_int8, nano_float32, chromium):
    with serving(write_bundle(tmp_path_factory.mktemp("pictures") / "bundle", nano_int8, nano_float32)) as url:
        yield url


def compared(url: str, paths: list[Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each picture, how much every pixel differs from Pillow's: decoded, and as a model sees it."""
    seen = browse(url, "outputs", pictures=list(map(str, paths)), models=[], crop=CROP)
    differences = {}
    for path in paths:
        each, image = seen[str(path)], decode(path)
        assert (each["width"], each["height"]) == image.size
        cropped = evaluation_pixels(image, (CROP["height"], CROP["width"]), CROP["cropFraction"])
        differences[path.name] = tuple(
            np.abs(np.frombuffer(base64.b64decode(each[key]), np.uint8).reshape(pixels.shape) - pixels.astype(int))
            for key, pixels in (("rgb", np.asarray(image)), ("seen", cropped))
        )
        assert not each["transparent"]
    return differences


def saved(folder: Path, kinds: dict[str, dict]) -> list[Path]:
    image = Image.open(PHOTOS / "china.jpg").convert("RGB")
    for name, options in kinds.items():
        options = dict(options)
        mode = options.pop("mode", "RGB")
        image.convert(mode).save(folder / name, **options)
    if "gamma.png" in kinds:
        with_gamma(folder / "gamma.png")
    return [folder / name for name in kinds]


def test_lossless_pictures_are_pillows_to_the_byte(url, tmp_path):
    for name, differences in compared(url, saved(tmp_path, LOSSLESS)).items():
        assert [difference.max() for difference in differences] == [0, 0], name


def test_jpegs_are_pillows(url, tmp_path):
    """Both decode by libjpeg-turbo."""
    paths = [PHOTOS / "china.jpg", PHOTOS / "flower.jpg", *saved(tmp_path, JPEG)]
    for name, differences in compared(url, paths).items():
        assert [difference.max() for difference in differences] == [0, 0], name


def test_an_orientation_in_xmp_is_the_one_that_browsers_leave(url, tmp_path):
    """README says so."""
    xmp, png = '<r tiff:Orientation="6"/>', PngInfo()
    png.add_itxt("XML:com.adobe.xmp", xmp)
    paths = [tmp_path / "xmp.jpg", tmp_path / "xmp.png"]
    for path in paths:
        Image.open(PHOTOS / "china.jpg").save(path, xmp=xmp.encode(), pnginfo=png)
    seen = browse(url, "outputs", pictures=list(map(str, paths)), models=[], crop=CROP)
    for path in paths:
        assert (seen[str(path)]["height"], seen[str(path)]["width"]) == decode(path).size == (427, 640)


def test_a_transparent_picture_is_said(url, tmp_path):
    pixels = np.random.default_rng(7).integers(0, 256, (60, 90, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    (seen,) = browse(url, "drop", files=[str(tmp_path / "alpha.png")])
    assert seen["problem"] == "alpha.png: transparent in places, where its colors are not exact."
    assert seen["status"].startswith("alpha.png: ")
