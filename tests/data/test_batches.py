"""Training and evaluation batches: pixels, order, determinism."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from flat_images import PLAIN, assert_same, flat_data, gray_values, train_batches
from PIL import Image

from mixnet_tf.data import making
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.batches import evaluation_dataset, lost_images, steps_per_epoch, training_dataset
from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.making import maker
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import ArgumentError, DataError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# (width, height) of the image, the asked size, and what timm 1.0.31 resizes to before it crops (crop_pct 0.875)
TIMM_RESIZES = [
    ((192, 144), 112, (170, 128)),
    ((144, 192), 224, (256, 341)),
    ((192, 144), 96, (145, 109)),
    ((133, 97), 33, (50, 37)),
    ((300, 301), 112, (128, 128)),
    ((192, 144), (96, 128), (146, 110)),
    ((144, 192), (96, 128), (146, 195)),
    ((640, 333), (65, 97), (142, 74)),
]


@pytest.mark.parametrize(("source", "image_size", "resized"), TIMM_RESIZES)
def test_evaluation_and_calibration_resize_and_crop_as_timm(tmp_path, source, image_size, resized):
    pixels = noise(source[1], source[0])
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{i}.png")
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    top, left = round((resized[1] - height) / 2), round((resized[0] - width) / 2)
    large = np.asarray(Image.fromarray(pixels).resize(resized, Image.Resampling.BICUBIC))
    expected = large[top : top + height, left : left + width]

    data = ImageData(
        "pair",
        ("a", "b"),
        {"train": Split(tuple(map(str, sorted(tmp_path.rglob("*.png")))), np.array([0, 0, 1, 1], np.int32))},
        crop_fraction=0.875,
    )
    images, _ = next(iter(evaluation_dataset(data, "train", image_size=image_size, batch_size=4)))
    assert images.dtype == tf.uint8
    assert images.shape == (4, height, width, 3)
    np.testing.assert_array_equal(images[3], expected)
    calibration = next(iter(CalibrationSet.choose(data, image_size=image_size, count=1)))
    assert calibration.dtype == np.uint8
    np.testing.assert_array_equal(calibration, expected[None])


def test_evaluation_keeps_order_and_every_image():
    batches = list(evaluation_dataset(flat_data(10), "test", image_size=8, batch_size=4))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate([gray_values(x) for x, _ in batches]), np.arange(10), atol=0.01)
    assert batches[0][1].dtype == tf.int32
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), np.arange(10) % 2)


def test_training_sees_every_image_once_an_epoch_with_its_label():
    batches = train_batches(flat_data(12), augmentation=PLAIN, epochs=2)
    values = np.concatenate([gray_values(x) for x, _ in batches]).round().astype(int)
    labels = np.concatenate([y for _, y in batches])
    np.testing.assert_array_equal(labels, values % 2)
    first, second = values[:12], values[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert list(first) != list(second) != list(range(12))


@pytest.mark.parametrize(
    ("count", "batch_size", "steps", "size"), [(10, 4, 2, 4), (8, 4, 2, 4), (3, 8, 1, 3), (5, 1, 5, 1), (7, 4, 1, 4)]
)
def test_steps_per_epoch_is_what_the_dataset_delivers(count, batch_size, steps, size):
    data = flat_data(count)
    assert steps_per_epoch(data, batch_size=batch_size) == steps
    batches = train_batches(data, batch_size=batch_size, epochs=3)
    assert [len(y) for _, y in batches] == [size] * (3 * steps)
    dataset = training_dataset(data, image_size=8, batch_size=batch_size, seed=0, first_epoch=1, epochs=3)
    assert int(dataset.cardinality()) == 2 * steps


def test_an_epoch_is_the_same_in_every_build_and_after_resuming(photographs):
    data, again = load_data(photographs), load_data(photographs)
    both = train_batches(data, image_size=16, epochs=2)
    steps = len(both) // 2
    assert_same(both, train_batches(again, image_size=16, epochs=2))
    assert_same(both[steps:], train_batches(again, image_size=16, first_epoch=1, epochs=2))
    assert not np.array_equal(both[0][0], both[steps][0])
    assert not np.array_equal(both[0][0], train_batches(data, image_size=16, seed=1)[0][0])


def test_every_image_of_every_epoch_is_varied_differently():
    same = np.tile(noise(8, 8)[None], (12, 1, 1, 1))
    data = ImageData("same", ("a", "b"), {"train": Split(same, (np.arange(12) % 2).astype(np.int32))})
    images = np.concatenate([x for x, _ in train_batches(data, epochs=2)])
    assert len({image.tobytes() for image in images}) == 24


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.3, "cutmix": 1.0}])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_epoch_is_that_of_a_data_set_of_its_size(photographs, mixing, workers):
    data, sizes = load_data(photographs), ((8, 12), (8, 12), (16, 24))
    varied = Augmentation(erase=0.5, rand_level=9, **mixing)
    settings = {"batch_size": 4, "seed": 3, "augmentation": varied}
    with maker(workers, 4, sizes[-1], varied) as make:
        growing = training_dataset(data, image_size=sizes.__getitem__, first_epoch=0, epochs=3, make=make, **settings)
        assert growing.element_spec[0].shape == (4, None, None, 3)
        batches = list(growing.as_numpy_iterator())
    fixed = [
        batch
        for epoch, size in enumerate(sizes)
        for batch in training_dataset(data, image_size=size, first_epoch=epoch, epochs=epoch + 1, **settings)
    ]
    assert len({images.shape for images, _ in batches}) == 2
    for (images, labels), (same_images, same_labels) in zip(batches, fixed, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)


def test_batches_do_not_depend_on_threads(photographs, monkeypatch):
    data, arguments = (
        load_data(photographs),
        {"image_size": 16, "batch_size": 1, "seed": 3, "first_epoch": 0, "epochs": 2},
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    one_thread = [(x.numpy(), y.numpy()) for x, y in training_dataset(data, **arguments).with_options(options)]
    open_image, delays, threads = making.open_image, np.random.default_rng(0), set()

    def open_late(image, **kwargs):
        threads.add(threading.get_ident())
        time.sleep(delays.uniform(0, 0.01))
        return open_image(image, **kwargs)

    monkeypatch.setattr(making, "open_image", open_late)
    assert_same(one_thread, train_batches(data, **arguments))
    assert len(threads) > 1


def test_fit_runs_all_epochs_and_resumes_without_a_warning():
    data = flat_data(10)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for first_epoch, epochs in ((0, 2), (2, 3)):
        dataset = training_dataset(data, image_size=8, batch_size=4, seed=0, first_epoch=first_epoch, epochs=epochs)
        steps = steps_per_epoch(data, batch_size=4)
        history = model.fit(
            dataset, initial_epoch=first_epoch, epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0
        )
        assert history.epoch == list(range(first_epoch, epochs))
    assert int(model.optimizer.iterations) == 3 * 2


LOST = {
    "gone": (Path.unlink, "no such file"),
    "cut": (
        lambda path: path.write_bytes(path.read_bytes()[:700]),
        r"not a readable image \(image file is truncated\)",
    ),
    "emptied": (lambda path: path.write_bytes(b""), r"not a readable image \(expected one of JPEG, PNG, .*\)"),
    "a pipe now": (lambda path: (path.unlink(), os.mkfifo(path)), r"not a readable image \(no regular file\)"),
    "a strip now": (
        lambda path: Image.new("1", (900, 1)).save(path),
        "900x1 pixels, expected an aspect ratio up to 100",
    ),
}


@pytest.mark.parametrize(("kind", "use"), [*((kind, "train") for kind in LOST), ("gone", "test")])
def test_an_image_that_is_lost_after_it_was_checked_is_named(photographs, kind, use):
    data = load_data(photographs)
    if use == "train":
        dataset = training_dataset(data, image_size=8, batch_size=4, seed=0, first_epoch=0, epochs=1)
    else:
        dataset = evaluation_dataset(data, "test", image_size=8, batch_size=4)
    lose, message = LOST[kind]
    path = Path(data.splits[use].images[0])
    lose(path)
    with pytest.raises(DataError, match=rf"^{path}: {message}; put it back$"), lost_images("; put it back"):
        list(dataset)


def test_nothing_but_lost_images_is_translated():
    for error in (ValueError("DataErrors: x"), RuntimeError(""), DataError("a: DataError: b"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, lost_images("; put it back"):
            raise error
        assert raised.value is error


BAD_ARGUMENTS = [
    (lambda d: train_batches(d, image_size=0), "image_size: found 0"),
    (lambda d: train_batches(d, image_size=(8, 8, 3)), "image_size"),
    (lambda d: train_batches(d, image_size="8"), "image_size"),
    (lambda d: train_batches(d, image_size=8.0), "image_size"),
    (lambda d: train_batches(d, image_size=True), "image_size"),
    (lambda d: train_batches(d, batch_size=0), "batch_size: found 0"),
    (lambda d: train_batches(d, seed=-1), "seed: found -1"),
    (lambda d: train_batches(d, first_epoch=-1), "first_epoch: found -1"),
    (lambda d: train_batches(d, epochs="2"), "epochs: found '2'"),
    (lambda d: steps_per_epoch(d, batch_size=None), "batch_size: found None"),
    (lambda d: evaluation_dataset(d, "tset", image_size=8, batch_size=1), r"split: found 'tset'.*mean 'test'\?"),
    (lambda d: evaluation_dataset(d, None, image_size=8, batch_size=1), "split: found None"),
    (lambda d: evaluation_dataset(d, "test", image_size=8, batch_size=-1), "batch_size: found -1"),
]


@pytest.mark.parametrize(("call", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_one_line_errors(call, message):
    with pytest.raises(ArgumentError, match=message) as raised:
        call(flat_data(4))
    assert "\n" not in str(raised.value)


def test_loading_and_its_errors_do_not_import_tensorflow(photographs):
    code = (
        "import sys; from mixnet_tf.data.batches import steps_per_epoch\n"
        "from mixnet_tf.data.calibration import CalibrationSet; from mixnet_tf.data.sources import load_data\n"
        f"data = load_data({str(photographs)!r}); steps_per_epoch(data, batch_size=2)\n"
        "next(iter(CalibrationSet.choose(data, image_size=8, count=1)))\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules and 'sklearn' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
