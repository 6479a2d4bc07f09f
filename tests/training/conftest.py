"""A quick run: one block, 64 random images of two classes."""

import dataclasses
from pathlib import Path

import pytest
from quick_run import EPOCHS, one_block, write_images

from mixnet_tf.config import ModelConfig, load_config
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.sources import load_data
from mixnet_tf.training import fit
from mixnet_tf.training.config import TrainingConfig


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """The ``.npz`` of 80 images of 16 x 16; 58 are left for training."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def data(images: Path) -> ImageData:
    return load_data(images)


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """The second block of tiny.yaml, with dropout, whose seeds a resumed run must continue."""
    return load_config(one_block(dropout_rate=0.2))


@pytest.fixture(scope="session")
def quick() -> TrainingConfig:
    """Three batches per epoch."""
    return TrainingConfig(batch_size=16, epochs=EPOCHS)


@pytest.fixture(scope="session")
def one_epoch(quick: TrainingConfig) -> TrainingConfig:
    return dataclasses.replace(quick, epochs=1)


@pytest.fixture
def eagerly(monkeypatch) -> None:
    """Train without a graph, which one epoch is not worth."""
    prepare = fit.prepare_phase

    def prepare_eagerly(model, *arguments):
        prepare(model, *arguments)
        model.run_eagerly = True

    monkeypatch.setattr(fit, "prepare_phase", prepare_eagerly)


@pytest.fixture(scope="session")
def whole_run(config: ModelConfig, data: ImageData, quick: TrainingConfig, tmp_path_factory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    fit.train(config, data, folder, training=quick)
    return folder
