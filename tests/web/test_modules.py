"""The page's modules that need no browser, run by Node.js, against Pillow's pixels and Python's archives."""

import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixnet_tf.data.choices import CROP_FRACTION
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.litert.attachments import with_attachments

RNG = np.random.default_rng(7)
RESIZED = {  # (width, height) before and after
    "smaller": ((61, 47), (19, 15)),
    "much smaller": ((300, 200), (7, 5)),
    "larger": ((9, 13), (40, 37)),
    "smaller and larger": ((50, 8), (11, 33)),
    "narrower alone": ((64, 20), (31, 20)),
    "lower alone": ((20, 64), (20, 31)),
    "hard edges": ((48, 48), (21, 21)),  # weights below 0 go beyond black and white
    "one pixel": ((1, 1), (3, 2)),
}
CROPPED = {  # (width, height) of the picture, (height, width) of the model; all of it is kept where it says whole
    "wide": ((200, 120), (32, 32)),
    "high": ((120, 201), (32, 32)),
    "of its size": ((36, 40), (32, 32)),
    "small": ((17, 23), (32, 32)),
    "cut in half pixels": ((45, 36), (32, 32)),  # 9 / 2 and 4 / 2
    "rounded down": ((91, 61), (33, 33)),  # 37.7 and 55.2: fractions are cut off
    "not square": ((150, 100), (24, 40)),
    "not square and high": ((100, 150), (24, 40)),
    "a half to round": ((101, 54), (21, 36)),
    "whole": ((60, 47), (32, 32)),
    "whole and not square": ((60, 47), (24, 40)),
}


def picture(name: str, size: tuple[int, int]) -> Image.Image:
    pixels = RNG.integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(np.where(pixels > 127, 255, 0).astype(np.uint8) if name == "hard edges" else pixels)


def zipped(name: str, content: bytes, before: bytes = b"TFL3" * 9, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO(before)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("other.bin", bytes(40))
        archive.writestr(name, content, method)
    return stream.getvalue()


def labelled() -> dict[str, tuple[bytes, dict]]:
    """Files by what is in them, and what must be read, or why it cannot."""
    labels = {"labels.txt": "cat\ndög\nwith space \n".encode()}
    whole = with_attachments(b"TFL3" * 9, labels)
    moved = b"\0" * 11 + whole  # what stands in the archive about places is then relative to its start
    end = whole.rindex(b"PK\5\6")
    read = {"labels": ["cat", "dög", "with space "]}
    damaged = {"error": "the archive at its end is damaged"}
    return {
        "labels": (whole, read),
        "an archive that was moved": (moved, read),
        "a comment": (whole[:-2] + b"\5\0hello", read),
        "a comment like an end": (whole[:-2] + b"\x1e\0" + b"PK\5\6" + b"." * 26, read),
        "Windows line breaks": (zipped("labels.txt", b"cat\r\ndog\r\n"), {"labels": ["cat", "dog"]}),
        "no last line break": (zipped("labels.txt", b"cat\ndog"), {"labels": ["cat", "dog"]}),
        "no archive": (b"TFL3" * 9, {"labels": None}),
        "nothing": (b"", {"labels": None}),
        "other files": (zipped("x.txt", b"cat\n"), {"labels": None}),
        "packed labels": (
            zipped("labels.txt", b"cat\n" * 99, method=zipfile.ZIP_DEFLATED),
            {"error": "labels.txt is compressed, expected it stored"},
        ),
        "no UTF-8": (zipped("labels.txt", b"\xff\n"), {"error": "labels.txt is no UTF-8"}),
        "a cut directory": (
            whole[:end] + b"PK\5\6" + bytes(8) + b"\xff\xff\0\0" + bytes(6),
            {"error": "it is cut short"},
        ),
        "a damaged directory": (whole.replace(b"PK\1\2", b"PK\1\3"), damaged),
        "a damaged entry": (whole.replace(b"PK\3\4", b"PK\3\5"), damaged),
    }


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    listed: dict[str, list] = {"resized": [], "cropped": [], "labels": []}
    for name, (before, after) in RESIZED.items():
        image = picture(name, before)
        (folder / f"{name}.rgb").write_bytes(image.tobytes())
        (folder / f"{name}.resized.rgb").write_bytes(image.resize(after, Image.Resampling.BICUBIC).tobytes())
        listed["resized"].append(described(name, before, after))
    for name, (before, after) in CROPPED.items():
        image = picture(name, before)
        (folder / f"{name}.rgb").write_bytes(image.tobytes())
        fraction = 1.0 if name.startswith("whole") else CROP_FRACTION
        (folder / f"{name}.cropped.rgb").write_bytes(evaluation_pixels(image, after, fraction).tobytes())
        listed["cropped"].append(described(name, before, after[::-1]) | {"cropFraction": fraction})
    for name, (content, expected) in labelled().items():
        (folder / f"{name}.tflite").write_bytes(content)
        listed["labels"].append({"name": name, **expected})
    (folder / "cases.json").write_text(json.dumps(listed))
    return folder


def described(name: str, before: tuple[int, int], after: tuple[int, int]) -> dict:
    sides = [dict(zip(("width", "height"), size, strict=True)) for size in (before, after)]
    return {"name": name, **sides[0], "to": sides[1]}


def test_the_modules_agree_with_pillow_and_python(cases):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: install Node.js 20 or later")
    command = [node, "--test", "--test-reporter=tap", str(Path(__file__).with_name("modules.test.mjs"))]
    done = subprocess.run(command, env=os.environ | {"CASES": str(cases)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    count = len(RESIZED) + len(CROPPED) + len(labelled()) + 3
    assert f"# pass {count}\n" in done.stdout and "# skipped 0\n" in done.stdout
