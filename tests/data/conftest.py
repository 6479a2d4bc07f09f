"""A small folder of photographs, whole and spoilt."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two classes in train and test, 12 and 4 lossless images each, of three sizes."""
    folder = tmp_path / "photographs"
    for split, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                height, width = [(20, 30), (40, 25), (17, 17)][i % 3]
                image = noise(height, width, seed=i + 100 * len(split) + ord(name[0]))
                image.save(folder / split / name / f"{i:02}.png")
    return folder


@pytest.fixture
def spoil(photographs: Path) -> Callable[[], list[str]]:
    """Puts three bad images into train/cat when it is called, and returns their paths."""

    def spoil() -> list[str]:
        folder = photographs / "train" / "cat"
        noise(64, 64).save(folder / "whole.jpg")
        (folder / "truncated.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:1000])
        (folder / "whole.jpg").unlink()
        (folder / "text.jpg").write_text("not an image")
        (folder / "empty.jpg").touch()
        return [str(folder / name) for name in ("empty.jpg", "text.jpg", "truncated.jpg")]

    return spoil
