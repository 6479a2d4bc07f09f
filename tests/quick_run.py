"""Names that the tests of training share."""

import csv
from pathlib import Path

import numpy as np

from mixnet_tf.config import load_config, to_dict

TINY = Path(__file__).parent / "tiny.yaml"
EPOCHS = 4


def history(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log."""
    with (folder / "history.csv").open(newline="") as handle:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(handle)]


def write_images(folder: Path) -> Path:
    """Write the ``.npz`` of 80 random images of 16 x 16, of two classes; 58 are left for training."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (80, 16, 16, 3), dtype=np.uint8), np.arange(80) % 2
    x[y == 1, :8] //= 2
    np.savez(folder / "images.npz", x_train=x[:64], y_train=y[:64], x_test=x[64:], y_test=y[64:])
    return folder / "images.npz"


def one_block(dropout_rate: float) -> dict:
    """Return the configuration of the second block of tiny.yaml alone."""
    config = to_dict(load_config(TINY))
    backbone = config["model"]["architecture"]["backbone"]
    backbone["params"]["dropout_rate"] = dropout_rate
    backbone["stage_params"] = [{name: values[1:] for name, values in backbone["stage_params"][0].items()}]
    return config
