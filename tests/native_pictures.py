"""Pictures for the C program of tflite/native, in many forms."""

import struct
from pathlib import Path

import numpy as np
import sklearn.datasets
from PIL import Image
from PIL.PngImagePlugin import PngInfo

PHOTOS = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))


def write_pictures(folder: Path) -> list[Path]:
    """Write a small part of a photograph in every form of JPEG and PNG that phones and programs write."""
    whole = Image.open(PHOTOS[0])
    part = whole.crop((300, 200, 397, 261))
    for quality, subsampling in ((95, 0), (80, 1), (30, 2)):
        part.save(folder / f"q{quality}.jpg", quality=quality, subsampling=subsampling)
    part.save(folder / "progressive.jpg", progressive=True)
    part.convert("L").save(folder / "gray.jpg")
    for orientation in range(10):  # 0 and 9 are none
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = orientation, "Maker"
        part.save(folder / f"turned_{orientation}.jpg", exif=exif)
        part.save(folder / f"turned_{orientation}.png", exif=exif)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        part.convert(mode).save(folder / f"{mode}.png")
    part.quantize(4).save(folder / "2_bits.png", bits=2)
    part.quantize(8).save(folder / "transparent.png", transparency=3)
    part.save(folder / "transparent_rgb.png", transparency=(0, 0, 0))
    part.save(folder / "gamma.png", pnginfo=None, icc_profile=None, dpi=(72, 72))
    deep = np.random.default_rng(0).integers(0, 65536, (61, 97), np.uint16)
    Image.fromarray(deep).save(folder / "gray_16.png")
    part.resize((9, 700)).save(folder / "tall.png")
    part.resize((1, 1)).save(folder / "dot.png")
    whole.crop((0, 0, 256, 256)).save(folder / "no_resize.png")
    _write_exif(part, folder)
    _write_xmp(part, folder)
    return sorted(folder.iterdir())


def _write_exif(image: Image.Image, folder: Path) -> None:
    """Write pictures with an orientation of 32 bits, in either order of bytes, and with EXIF in a PNG's text."""
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        for kind, value in ((4, 6), (4, 0x60006), (2, 6), (3, 8)):  # LONG, ASCII, SHORT
            number = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
            entry = struct.pack(f"{order}HHI", 0x0112, kind, 1) + number
            exif = b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)
            name = f"exif_{'little' if order == '<' else 'big'}_{kind}_{value}"
            image.save(folder / f"{name}.jpg", exif=exif)
            image.save(folder / f"{name}.png", exif=exif)
            for form, content in (("", exif.hex("\n", 36)), ("_bare", exif[6:].hex()), ("_odd", exif.hex() + "xy")):
                png = PngInfo()
                png.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{content}\n", zip=form == "")
                png.add_itxt("XML:com.adobe.xmp", 'tiff:Orientation="3"')
                image.save(folder / f"{name}_in_text{form}.png", pnginfo=png)


def _write_xmp(image: Image.Image, folder: Path) -> None:
    """Write pictures whose orientation is in XMP, whole or odd, some of them beside an orientation in EXIF."""
    texts = {
        **{f"attribute_{i}": f'<r tiff:Orientation="{i}"/>' for i in range(10)},
        "element": "<tiff:Orientation>8</tiff:Orientation>",
        "second": "tiff:Orientation='3' tiff:Orientation>x tiff:Orientation>5 tiff:Orientation>6",
        "cut": 'tiff:Orientation="',
        "none": "<r/>",
        "empty": "",
    }
    for name, text in texts.items():
        png = PngInfo()
        png.add_itxt("XML:com.adobe.xmp", text, zip=name == "element")
        image.save(folder / f"xmp_{name}.jpg", xmp=text.encode())
        image.save(folder / f"xmp_{name}.png", pnginfo=png)
    xmp, png = b'tiff:Orientation="6"', PngInfo()
    png.add_itxt("XML:com.adobe.xmp", xmp.decode())
    png.add_text("comment", 'tiff:Orientation="3"')
    for value in (None, 0, 1, 3, 9):
        exif = Image.Exif()
        exif[0x010F] = "Maker"
        if value is not None:
            exif[0x0112] = value
        image.save(folder / f"xmp_and_exif_{value}.jpg", exif=exif, xmp=xmp)
        image.save(folder / f"xmp_and_exif_{value}.png", exif=exif, pnginfo=png)
    for name, exif in {"bare": b"Exif\0\0", "damaged": b"Exif\0\0II*\0\xff\xff"}.items():
        image.save(folder / f"xmp_and_{name}.jpg", exif=exif, xmp=xmp)
        image.save(folder / f"xmp_and_{name}.png", exif=exif, pnginfo=png)
    image.save(folder / "xmp_and_no_tiff.jpg", exif=b"Exif\0\0no TIFF", xmp=xmp)
