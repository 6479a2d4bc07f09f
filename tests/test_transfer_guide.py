"""The README's guide to transfer learning, run on crops of two photographs, with a small network and few steps."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import mixnet_tf

README = Path(__file__).resolve().parents[1] / "README.md"
QUICKLY = {
    "(224, 224)": "(32, 32)",
    "(224, 224, 3)": "(32, 32, 3)",
    "epochs=10": "epochs=1",
    'MixNetS(weights="imagenet"': 'create_model("mixnet_nano", weights="nano.safetensors"',
    '"stage4"': '"stage3"',
}


def guide() -> str:
    """Return the Python of the guide, for a small network, small images and one epoch."""
    (section,) = re.findall(r"<!-- begin: (transfer learning) -->(.*)<!-- end: \1 -->", README.read_text(), re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    for long, short in QUICKLY.items():
        assert long in code
        code = code.replace(long, short)
    return code


def make_photos(folder: Path) -> None:
    """Write crops of a temple and of a flower: 16 of each to train on, and 4 to validate with."""
    rng = np.random.default_rng(0)
    for name, photo in zip(("temple", "flower"), load_sample_images().images, strict=True):
        for split, count in (("train", 16), ("val", 4)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                top, left = rng.integers(0, 427 - 160), rng.integers(0, 640 - 160)
                Image.fromarray(photo[top : top + 160, left : left + 160]).save(folder / split / name / f"{i}.jpg")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # Keras says so of every dataset that is fitted
def test_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos")
    backbone, names = mixnet_tf.create_model("mixnet_nano"), {}
    mixnet_tf.export_state_dict(backbone, "timm", "nano.safetensors")
    exec(compile(guide(), str(README), "exec"), names)
    tuned = names["model"].layers[0]
    for before in backbone.layers:
        if before.name.startswith(("stem", "stage", "last_conv")):
            pairs = zip(before.get_weights(), tuned.get_layer(before.name).get_weights(), strict=True)
            changed = [not np.array_equal(old, new) for old, new in pairs]
            assert any(changed) == before.name.startswith(("stage3", "last_conv")), before.name
    photos = mixnet_tf.load_data("photos")
    same = mixnet_tf.compare("photos.keras", "photos.tflite", photos)
    assert same.agreement >= 0.75  # of 8 crops, which two barely trained classes may share
