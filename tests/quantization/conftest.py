"""Small graphs whose right answers can be worked out by hand: tests/fixtures/make.py says what is in each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixnet_tf.litert.flatgraph import FlatGraph


@pytest.fixture
def tiny(fixtures: Path) -> Callable[[str], FlatGraph]:
    """Open one of tests/fixtures/tiny by its name."""
    return lambda name: FlatGraph((fixtures / "tiny" / f"{name}.tflite").read_bytes(), name)


@pytest.fixture(scope="session")
def patches() -> list[np.ndarray]:
    """Eight normal images of 4 x 4 pixels for the tiny graphs; the last is four times as large."""
    images = np.random.default_rng(0).standard_normal((8, 1, 4, 4, 3)).astype(np.float32)
    return [*images[:7], 4 * images[7]]
