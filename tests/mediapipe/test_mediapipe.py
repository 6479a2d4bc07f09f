"""MediaPipe's ImageClassifier on the files to ship. It does not go together with TensorFlow, so it has its own Python.

MIXNET_TF_MEDIAPIPE names that Python; tests/bench/mediapipe_check.py says what is installed there.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
CUT, REGION, SQUARE, WHOLE = (
    "our crop, cut before",
    "region of our crop",
    "region .0625 to .9375",
    "whole photo",
)
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FLOAT, INT8 = "model_float32.tflite", "model.tflite"


@pytest.fixture(scope="module")
def python() -> str:
    path = shutil.which(os.environ.get("MIXNET_TF_MEDIAPIPE", ""))
    if path is None:
        pytest.skip("no MediaPipe: MIXNET_TF_MEDIAPIPE names no Python")
    return path


def compared(python: str, bundle: Path, images: Path) -> dict:
    command = [python, ROOT / "tests" / "bench" / "mediapipe_check.py", bundle, "--images", images, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_float(result: dict) -> None:
    """MediaPipe's float32 kernels are LiteRT's: what differs is the pixels, and only those of a region."""
    ways = result["ways"]
    assert ways[CUT]["pixels"] == 0
    assert ways[CUT][FLOAT]["same_class"] == 1 and ways[CUT][FLOAT]["largest"] < 1e-5
    assert all(row["on_equal_pixels"] < 1e-5 for row in ways.values())


def test_a_small_network(python, nano_mobile, nano_mobile_float32, digits, tmp_path):
    for name, path in ((INT8, nano_mobile), (FLOAT, nano_mobile_float32)):
        shutil.copy(path, tmp_path / name)
    (tmp_path / "images").mkdir()
    for index, image in enumerate([*digits.splits["test"].images, *digits.splits["train"].images][:400]):
        Image.fromarray(image).save(tmp_path / "images" / f"{index}.png")
    result = compared(python, tmp_path, tmp_path / "images")
    assert (result["images"], result["labels"]) == (400, DIGITS)
    check_float(result)
    assert result["ways"][CUT][INT8]["same_class"] >= 0.98


@pytest.fixture(scope="module")
def trashnet(shared, tmp_path_factory) -> Path:
    """The test images as files of 144 x 192 pixels."""
    folder = tmp_path_factory.mktemp("trashnet")
    subprocess.run([sys.executable, shared / "data" / "unpack.py", "trashnet", folder], check=True, capture_output=True)
    return folder / "test"


def test_a_trained_network_on_photographs(python, trained_s, trashnet):
    result = compared(python, trained_s / "bundle", trashnet)
    labels = (trained_s / "bundle" / "labels.txt").read_text().split()
    assert (result["images"], result["labels"]) == (400, labels)
    check_float(result)
    ways = result["ways"]
    # its int8 kernels round in other places: by less than int8 itself differs from float32
    assert ways[CUT][INT8]["mean"] < result["quantization"]["mean"]
    assert ways[CUT][INT8]["same_class"] > result["quantization"]["same_class"]
    # the region has the right place: what is left is the filter, and photos are not square
    assert ways[REGION]["pixels"] < 2 < 10 < ways[SQUARE]["pixels"] < ways[WHOLE]["pixels"]
    assert ways[REGION][FLOAT]["same_class"] > ways[SQUARE][FLOAT]["same_class"]
