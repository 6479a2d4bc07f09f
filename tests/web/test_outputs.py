"""A trained MixNet-S in headless Chromium, against the same files in Python."""

import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest
from chromium import browse, serving

from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.parts import up_to
from mixnet_tf.litert.runtime import LiteModel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle() -> Path:
    """The bundle that tests/bench/trained.py makes."""
    trained = Path(os.environ.get("MIXNET_TF_TRAINED", Path.home() / ".cache" / "mixnet_tf" / "trained"))
    if not (trained / "bundle" / "manifest.json").is_file():
        pytest.skip(f"no {trained / 'bundle'}: python tests/bench/trained.py")
    return trained / "bundle"


@pytest.fixture(scope="module")
def pictures(bundle) -> np.ndarray:
    """The golden photographs, and what becomes of them turned, mirrored, darkened and with noise: (n, h, w, 3)."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    shape = (*manifest["image_size"], 3)
    goldens = np.stack(
        [np.frombuffer((bundle / each["image"]).read_bytes(), np.uint8).reshape(shape) for each in manifest["goldens"]]
    )
    noise = np.random.default_rng(7).integers(-20, 21, goldens.shape)
    noisy = np.clip(goldens + noise, 0, 255).astype(np.uint8)
    return np.concatenate([goldens, goldens[:, ::-1], goldens[:, :, ::-1], goldens // 2, noisy, 255 - goldens])


@pytest.fixture(scope="module")
def url(bundle, chromium):
    with serving(bundle) as url:
        yield url


def in_browser(url: str, files: list[Path], pictures: np.ndarray) -> list[np.ndarray]:
    pixels = [base64.b64encode(picture.tobytes()).decode() for picture in pictures]
    results = browse(url, "raw", files=list(map(str, files)), pixels=pixels, shape=[1, *pictures.shape[1:]])
    return [np.asarray(outputs, np.float32) for outputs in results]


def in_python(file: Path, pictures: np.ndarray) -> np.ndarray:
    model = LiteModel(file)
    return np.concatenate([model(picture[None]) for picture in pictures])


def test_int8_logits_are_equal(url, bundle, pictures, tmp_path):
    """The file ends in DEQUANTIZE and SOFTMAX: cut off the latter, and equal floats are equal int8 values."""
    graph = FlatGraph.read(bundle / "model.tflite")
    *_, dequantize, softmax = graph.ops
    assert (dequantize.name, softmax.name) == ("DEQUANTIZE", "SOFTMAX")
    (tmp_path / "logits.tflite").write_bytes(up_to(graph, dequantize.outputs))
    (logits,) = in_browser(url, [tmp_path / "logits.tflite"], pictures)
    np.testing.assert_array_equal(logits, in_python(tmp_path / "logits.tflite", pictures))
    assert len(np.unique(logits)) > 20


def test_probabilities_are_equal_but_for_rounding(url, bundle, pictures):
    files = [bundle / "model.tflite", bundle / "model_float32.tflite"]
    for file, outputs in zip(files, in_browser(url, files, pictures), strict=True):
        assert np.abs(outputs - in_python(file, pictures)).max() <= 1e-5, file.name


def test_the_goldens_are_met(url, bundle, pictures):
    goldens = json.loads((bundle / "manifest.json").read_text())["goldens"]
    names = ("model.tflite", "model_float32.tflite")
    for name, outputs in zip(names, in_browser(url, [bundle / name for name in names], pictures), strict=True):
        expected = [np.frombuffer((bundle / golden[name]).read_bytes(), "<f4") for golden in goldens]
        assert np.abs(outputs[: len(goldens)] - expected).max() <= 1e-5, name
