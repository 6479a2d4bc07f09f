"""What happens between epochs, one callback at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import slow

from mixnet_tf.errors import MixNetError
from mixnet_tf.optimizer import AveragingAdamW
from mixnet_tf.training import callbacks
from mixnet_tf.training.callbacks import BestModel, DropoutSeeds, LastModel, Progress, RawAccuracy, StopOnNaN
from mixnet_tf.training.meter import Meter


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, seed=7), keras.layers.Dense(2)])


def test_a_line_stays_of_every_epoch(model, capsys, monkeypatch):
    moments = iter([10.0, 22.4, 30.0, 31.0])
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(moments))
    meter = Meter(32)
    meter.waited, meter._batches, meter._last = 0.03, 10, 2.0
    progress = Progress(meter)
    model.compile(keras.optimizers.SGD(0.0123))
    progress.set_model(model)
    progress.set_params({"epochs": 3, "steps": 2})
    for epoch, accuracy in ((1, 0.875), (2, 1.0)):  # a resumed run
        progress.on_epoch_begin(epoch)
        for batch in range(2):
            progress.on_train_batch_end(batch, {"loss": 0.5})
        progress.on_test_begin()
        progress.on_test_end()
        progress.on_epoch_end(epoch, {"loss": 0.25, "val_accuracy": accuracy})
    progress.close()
    speed = "learning rate 0.012, 160 images/s, 3% of the time waiting for them"
    assert capsys.readouterr().err.splitlines() == [
        f"epoch 2/3: loss 0.2500, top-1 on val 87.50%, 12 s, {speed}, about 1 min left",
        f"epoch 3/3: loss 0.2500, top-1 on val 100.00%, 1 s, {speed}",
    ]


def test_dropout_begins_an_epoch_after_the_steps_of_those_before(model):
    def seeds() -> list[list[int]]:
        return [np.asarray(v).tolist() for v in model.variables if "seed_generator" in v.path]

    kernel = np.asarray(model.layers[-1].kernel)
    callback = DropoutSeeds(steps=3)
    callback.set_model(model)
    assert seeds() == [[7, 0]]
    for epoch, counted in ((0, 0), (2, 6), (5, 15)):
        callback.on_epoch_begin(epoch)
        assert seeds() == [[7, counted]]
    np.testing.assert_array_equal(model.layers[-1].kernel, kernel)


def test_the_best_model_is_saved_and_the_later_of_equals(model, monkeypatch, tmp_path):
    saved = []
    monkeypatch.setattr(callbacks, "save_model", lambda model, path: saved.append((model, path)))
    callback = BestModel(tmp_path / "best.keras", best=0.4)
    callback.set_model(model)
    counts = []
    for accuracy in (0.3, 0.5, 0.4, 0.5, 0.45, 0.6):
        callback.on_test_end({"accuracy": accuracy})
        counts.append(len(saved))
    assert counts == [0, 1, 1, 2, 2, 3] and set(saved) == {(model, tmp_path / "best.keras")}


def test_both_accuracies_are_logged(model, tmp_path):
    """Of weights that always say 1, where a quarter of the labels are, and of an average that always says 0."""
    images, labels = np.ones((8, 4), "float32"), np.eye(2, dtype="float32")[[0, 0, 0, 1] * 2]
    optimizer = keras.optimizers.SGD(0.0, use_ema=True, ema_momentum=1.0)
    model.compile(optimizer, "mse", metrics=["accuracy"], run_eagerly=True)
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(1)  # Keras' average begins with the first step's weights
    for (kernel, bias), answer in (
        (model.trainable_variables, [0, 1]), (optimizer._model_variables_moving_average, [1, 0]),
    ):  # fmt: skip
        kernel.assign(np.zeros((4, 2)))
        bias.assign(answer)
    validation = tf.data.Dataset.from_tensors((images, labels))
    order = [keras.callbacks.SwapEMAWeights(), RawAccuracy(validation), keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    model.fit(images, labels, validation_data=validation, verbose=0, callbacks=order)
    names, values = (line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines())
    row = dict(zip(names, map(float, values), strict=True))
    assert (row["val_accuracy"], row["val_accuracy_raw"]) == (0.75, 0.25)


def test_the_last_model_is_saved_whole_or_not_at_all(model, tmp_path, monkeypatch):
    callback = LastModel(tmp_path / "last.keras")
    callback.set_model(model)
    callback.on_epoch_end(0)
    whole = (tmp_path / "last.keras").read_bytes()

    def die(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save", die)
    with pytest.raises(KeyboardInterrupt):
        callback.on_epoch_end(1)
    assert (tmp_path / "last.keras").read_bytes() == whole and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(loss):
    StopOnNaN().on_train_batch_end(0, {"loss": 1e30})
    with pytest.raises(MixNetError, match=f"^training diverged: the loss is {loss} at batch 3; lower the learning"):
        StopOnNaN().on_train_batch_end(3, {"loss": loss})


@pytest.mark.parametrize(("average_from", "validations"), [(3, 2), (4, 1), *slow((0, 2), (100, 1))])
def test_weights_without_an_average_are_validated_once(model, average_from, validations):
    """One epoch of four steps: the average begins at the step `average_from`, counted from 0."""
    images, labels = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.eye(2)[np.arange(8) % 2]
    validation = tf.data.Dataset.from_tensors((images, labels))
    optimizer = AveragingAdamW(0.1, average_from=average_from, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "mse", metrics=["accuracy"])
    begun, logs = [], {}
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, seen: logs.update(seen))
    evaluate, model.evaluate = model.evaluate, lambda *args, **kwargs: (begun.append(1), evaluate(*args, **kwargs))[1]
    order = [keras.callbacks.SwapEMAWeights(), RawAccuracy(validation), spy]
    model.fit(images, labels, batch_size=2, validation_data=validation, verbose=0, callbacks=order)
    assert len(begun) == validations
    if validations == 1:  # else `fit` has put the average into the model by now
        assert logs["val_accuracy_raw"] == evaluate(validation, verbose=0, return_dict=True)["accuracy"]
