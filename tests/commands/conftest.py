"""Files that commands are given."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def job(tmp_path_factory, trained_nano, nano_float32, nano_int8) -> Path:
    """A folder as a run leaves it: the trained network, its files, and the names of its classes."""
    root = tmp_path_factory.mktemp("job")
    sources = {"model.keras": trained_nano, "model_float32.tflite": nano_float32, "model_int8.tflite": nano_int8}
    for name, source in sources.items():
        shutil.copyfile(source, root / name)
    (root / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    return root


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory, digits) -> Path:
    """An .npz of 40 digits to train on and 60 to test on, 32 x 32 pixels."""
    train, test = digits.splits["train"], digits.splits["test"]
    chosen = np.concatenate([np.flatnonzero(train.labels == digit)[:4] for digit in range(10)])
    arrays = {"x_train": train.images[chosen], "y_train": train.labels[chosen]}
    arrays |= {"x_test": test.images[:60], "y_test": test.labels[:60]}
    path = tmp_path_factory.mktemp("few") / "few.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def tiny_keras(tmp_path_factory) -> Path:
    """Two blocks with weights by chance, which are rewritten and converted in a third of the time of `job`'s."""
    import keras

    from mixnet_tf.model import create_model

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "model.keras"
    config = Path(__file__).parents[1] / "tiny.yaml"
    create_model(config, classes=10, input_shape=(32, 32, 3), classifier_activation=None).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of images {train,test}/{cat,dog}, which a test may change."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / name / f"{i}.jpg")
    return tmp_path / "pets"


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory) -> Path:
    """A .keras file that tells two classes apart, by chance, on images of any size."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    means = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    root = tmp_path_factory.mktemp("two_classes")
    keras.Model(image, keras.layers.Dense(2)(means)).save(root / "model.keras")
    (root / "labels.txt").write_text("cat\ndog\n")
    return root / "model.keras"
