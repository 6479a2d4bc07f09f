"""One process is the identity; of several, each has its part, and the first speaks."""

import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.accuracy import PaddedAccuracy
from mixnet_tf.data import making
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.batches import evaluation_dataset, training_dataset
from mixnet_tf.data.sources import load_data
from mixnet_tf.distribution import launch, processes
from mixnet_tf.distribution.processes import (
    by_first,
    check_equal,
    first_only,
    joined,
    mean_logs,
    merged,
    own_part,
    own_part_of_batches,
)
from mixnet_tf.errors import MixNetError
from mixnet_tf.training.callbacks import DropoutSeeds
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.parts import check_parts, validation_part, without_padding


@pytest.mark.slow
def test_one_process_does_not_import_pytorch():
    code = (
        "import sys; from mixnet_tf.distribution.processes import *; from mixnet_tf.optimizer import AveragingAdamW\n"
    )
    code += "with joined(): assert by_first(lambda: 3) == 3 and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_parts_are_equal_different_and_everything(one_of_several):
    order, parts = np.random.default_rng(0).permutation(24), []
    for rank in range(4):
        one_of_several(rank, 4)
        parts.append(own_part_of_batches(order, 3).reshape(3, 2))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1).reshape(-1), order)
    whole = []
    for rank in range(3):
        one_of_several(rank, 3)
        whole += own_part(range(10))
    assert sorted(whole) == list(range(10))


def test_each_process_reads_its_part_of_the_same_batches(one_of_several, images, monkeypatch):
    data, read, opened = load_data(images), [], making.open_image

    def noting(image, **settings):
        read[-1].append(image.tobytes())
        return opened(image, **settings)

    monkeypatch.setattr(making, "open_image", noting)

    def batches():
        read.append([])
        dataset = training_dataset(data, image_size=16, batch_size=16, seed=0, first_epoch=1, epochs=3)
        return [(pixels.numpy(), labels.numpy()) for pixels, labels in dataset]

    whole, parts = batches(), []
    for rank in range(2):
        one_of_several(rank, 2)
        parts.append(batches())
    assert len(whole) == 6
    for (pixels, labels), *shares in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(pixels, np.concatenate([share for share, _ in shares]))
        np.testing.assert_array_equal(labels, np.concatenate([share for _, share in shares]))
    assert all(len(pixels) == 8 for pixels, _ in parts[0])
    assert sorted(read[0]) == sorted(read[1] + read[2])  # each reads no other image
    assert len(read[1]) == len(read[2]) == 6 * 8


def test_validation_is_shared_and_its_mean_counts_images(one_of_several, images):
    data, names = load_data(images), []
    for rank in range(4):
        one_of_several(rank, 4)
        names += [
            data.own_part("val").splits["val"].images[i].tobytes()
            for i in range(len(data.own_part("val").splits["val"]))
        ]
    assert sorted(names) == sorted(image.tobytes() for image in data.splits["val"].images)
    group = processes.processes()
    group.gather = lambda value: [value, ({"loss": 4.0}, 1), ({"loss": 0.0}, 0), ({"loss": 1.0}, 2)]
    assert mean_logs({"loss": 2.0}, 3) == {"loss": (3 * 2 + 4 + 2) / 6}


def test_masks_differ_between_processes(one_of_several):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, seed=7), keras.layers.Dense(2)])
    seen = set()
    for rank in range(2):
        one_of_several(rank, 2)
        callback = DropoutSeeds(steps=3)
        callback.set_model(model)
        callback.set_params({"epochs": 2})
        for epoch in range(2):
            callback.on_epoch_begin(epoch)
            first = int(model.layers[0].seed_generator.state[1])
            seen |= set(range(first, first + 3))
    assert seen == set(range(12))


def test_the_first_works_and_all_know(one_of_several):
    assert by_first(lambda: 3) == 3 and first_only("log") == ("log",)
    one_of_several(1, 2)
    processes.processes().broadcast = lambda value: ("of the first", None)
    assert by_first(lambda: pytest.fail("not the first")) == "of the first" and first_only("log") == ()
    processes.processes().broadcast = lambda value: (None, MixNetError("no such file"))
    with pytest.raises(MixNetError, match="no such file"):
        by_first(lambda: 3)
    processes.processes().gather = lambda value: [{"a": "bad"}, value]
    assert merged({"b": "worse"}) == {"a": "bad", "b": "worse"}


def test_what_must_be_equal_is(one_of_several):
    check_equal("epoch", 3)
    one_of_several(0, 2)
    processes.processes().gather = lambda value: [value, 4]
    with pytest.raises(MixNetError, match="epoch: found 3 in process 0 and 4 in process 1, expected the same"):
        check_equal("epoch", 3)


def test_the_first_difference_of_two_commands_is_named(one_of_several):
    one_of_several(1, 2)
    ours = {"data": "photos", "training": {"epochs": 3, "learning_rate": 0.1}, "size": [8, 8]}
    theirs = {**ours, "training": {"epochs": 3, "learning_rate": 0.2}}
    processes.processes().gather = lambda value: [theirs, value]
    message = r"^run\.training\.learning_rate: found 0\.1 in process 1 and 0\.2 in process 0, expected the same"
    with pytest.raises(MixNetError, match=message):
        check_equal("run", ours)
    theirs["training"] = ours["training"] | {"seed": 1}
    with pytest.raises(MixNetError, match=r"^run\.training\.seed: found None in process 1 and 1 in process 0"):
        check_equal("run", ours)


def test_half_precision_on_jax_is_refused(images, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(MixNetError, match="precision: found 'float16', expected float32 or bfloat16 on JAX"):
        check_parts(TrainingConfig(precision="float16"), load_data(images), Augmentation())


@pytest.mark.parametrize("address", ["", "localhost", "localhost:port", ":1"])
def test_an_address_without_a_port_is_refused(address, monkeypatch):
    jax_processes = pytest.importorskip("mixnet_tf.distribution.jax_processes", exc_type=ImportError)
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", address)
    with pytest.raises(MixNetError, match=f"JOB_ADDRESSES: found '{address}' in the environment, expected host:port"):
        jax_processes.JaxProcesses(0, 2)


@pytest.mark.parametrize(
    ("settings", "count", "message"),
    [
        ({"batch_size": 15}, 2, "batch_size: found 15, expected a multiple of 2 processes$"),
        ({"batch_size": 64}, 4, "batch_size: found 64, expected a multiple of 4 processes, at most the 58 images"),
        ({"batch_size": 16, "range_penalty": 0.2}, 2, "range_penalty: found 0.2, expected 0 in 2 processes"),
        (
            {"batch_size": 16, "precision": "float16"},
            2,
            "precision: found 'float16', expected float32 or bfloat16 in 2",
        ),
        ({"batch_size": 16, "mixup": 0.2}, 2, r"augmentation\.mixup: found 0\.2, expected 0 in 2 processes"),
        ({"batch_size": 16, "cutmix": 1.0}, 2, r"augmentation\.cutmix: found 1\.0, expected 0 in 2 processes"),
        ({"batch_size": 16}, 8, "images: found 6 images in val, expected one for each of 8 processes at least"),
    ],
)
def test_what_cannot_be_shared_is_refused(settings, count, message, one_of_several, images):
    mixing = {name: settings.pop(name) for name in ("mixup", "cutmix") if name in settings}
    data, training, augmentation = load_data(images), TrainingConfig(**settings), Augmentation(**mixing)
    check_parts(training, data, augmentation)
    one_of_several(0, count)
    with pytest.raises(MixNetError, match=message):
        check_parts(training, data, augmentation)


def test_a_loss_scale_of_each_process_is_refused(one_of_several, images):
    one_of_several(0, 2)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(
            MixNetError, match="precision: found 'float16', expected float32 or bfloat16 in 2 processes"
        ):
            check_parts(TrainingConfig(batch_size=16), load_data(images), Augmentation())
    finally:
        keras.config.set_dtype_policy(policy)
    check_parts(TrainingConfig(batch_size=16), load_data(images), Augmentation())


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: found 'two' in the environment, expected a number from 1"),
        ({"WORLD_SIZE": "2"}, "found 2 processes .* with Keras on tensorflow, expected torch: set KERAS_BACKEND=torch"),
        (
            {"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"},
            "found 2 processes .*_NUM_PROCESSES. with Keras on tensorflow, expected jax: set KERAS_BACK",
        ),
    ],
)
def test_an_environment_that_cannot_be(variables, message, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MixNetError, match=message), joined():
        pytest.fail("let in")


def test_a_rank_beyond_the_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("2", "-1", ""):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(MixNetError, match="RANK: found "):
            launch.started_rank()


def test_a_padded_validation_counts_its_images_alone(one_of_several, images, monkeypatch):
    data = load_data(images)  # 6 images in val
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2, name="logits")])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)

    def evaluated(metric):
        validation = evaluation_dataset(validation_part(data), "val", image_size=16, batch_size=4)
        validation = validation.map(lambda x, y: (tf.cast(x, tf.float32) / 255, tf.one_hot(y, 2)))
        model.compile(loss=loss, metrics=[metric])
        return model.evaluate(without_padding(validation, 6), verbose=0, return_dict=True)

    plain = evaluated("accuracy")
    monkeypatch.setattr(keras.distribution, "distribution", lambda: SimpleNamespace(num_model_replicas=4))
    assert evaluated(PaddedAccuracy()) == pytest.approx(plain, abs=1e-6)
    parts = []
    for rank in range(2):
        one_of_several(rank, 2)
        parts.append(validation_part(data).splits["val"].labels.tolist())
    assert [len(part) for part in parts] == [4, 4] and [*parts[0], *parts[1]].count(-1) == 2


def test_masks_of_whole_batches_are_the_same_in_all_processes(one_of_several):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, seed=7), keras.layers.Dense(2)])
    one_of_several(1, 2)
    processes.processes().whole = True
    callback = DropoutSeeds(steps=3)
    callback.set_model(model)
    callback.set_params({"epochs": 2})
    callback.on_epoch_begin(1)
    assert int(model.layers[0].seed_generator.state[1]) == 3


def test_only_training_works_in_several(monkeypatch):
    launch.check_single("pipeline")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MixNetError, match=r"pipeline: found 2 processes .* only train works in several"):
        launch.check_single("pipeline")
