"""Training: exact resume, checkpoints, the schedule, what is frozen, and what is refused."""

import dataclasses
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import slow
from PIL import Image
from quick_run import EPOCHS, TINY, history

from mixnet_tf.config import LossConfig, load_config, to_dict
from mixnet_tf.data.batches import evaluation_dataset, steps_per_epoch
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import DataError, MixNetError
from mixnet_tf.model import create_model
from mixnet_tf.saving import load_model
from mixnet_tf.training import callbacks, fit
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.fit import train
from mixnet_tf.training.phases import Phase
from mixnet_tf.training.preparation import prepare_phase


def test_a_run_leaves_its_files(whole_run):
    names = {path.name for path in whole_run.iterdir()}
    assert names == {"model.keras", "best.keras", "last.keras", "labels.txt", "history.csv", "training.json", "logs"}
    assert (whole_run / "labels.txt").read_text() == "0\n1\n"
    assert [row["epoch"] for row in history(whole_run)] == list(range(EPOCHS))
    assert list((whole_run / "logs").rglob("events.out.tfevents.*"))
    model = load_model(whole_run / "model.keras")
    assert model.output_shape == (None, 2) and not hasattr(model, "optimizer")


@pytest.mark.slow
def test_a_network_by_its_file_and_images_as_a_program_holds_them(one_epoch, tmp_path):
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 256, (40, 16, 16, 3), np.uint8), np.arange(40) % 2
    model = train(Path(__file__).parents[1] / "tiny.yaml", pair, tmp_path / "run", training=one_epoch)
    assert model.input_shape == (None, 16, 16, 3) and model.output_shape == (None, 2)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["images"]["train"][0] == 32  # 4 and 4 held out


def test_a_run_says_what_was_asked(whole_run, config, data, quick):
    asked = json.loads((whole_run / "training.json").read_text())
    assert load_config(asked.pop("config")) == config
    assert {name: count for name, (count, _) in asked.pop("images").items()} == {"train": 58, "val": 6, "test": 16}
    assert asked == {
        "data": "images",
        "class_names": ["0", "1"],
        "crop_fraction": 1.0,
        "image_size": [16, 16],
        "padding": "symmetric",
        "training": dataclasses.asdict(quick),
        "augmentation": dataclasses.asdict(data.augmentation),
        "weights": None,
        "freeze_backbone": False,
        "unfreeze": None,
    }


def test_best_is_the_average_that_was_validated(whole_run, data):
    """Scoring best.keras by itself gives the best val_accuracy of the log, so the EMA weights were saved."""
    model, last = load_model(whole_run / "best.keras"), load_model(whole_run / "last.keras")

    def top1(model):
        batches = evaluation_dataset(data, "val", image_size=16, batch_size=16)
        return np.concatenate([np.argmax(model(images), axis=1) == labels for images, labels in batches]).mean()

    assert top1(model) == pytest.approx(max(row["val_accuracy"] for row in history(whole_run)))
    assert top1(last) == pytest.approx(history(whole_run)[-1]["val_accuracy_raw"])  # which goes on without the average
    raw, average = last.trainable_variables[0], last.optimizer._model_variables_moving_average[0]
    assert np.abs(np.asarray(raw) - np.asarray(average)).max() > 0


def assert_same_run(folder: Path, whole: Path) -> None:
    for ours, theirs in zip(history(folder), history(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    ours, theirs = (load_model(path / "model.keras").get_weights() for path in (folder, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.fixture
def cut_run(config, data, quick, tmp_path, monkeypatch) -> Path:
    """A run that ended after its second epoch, in the third of which the log was ahead of the checkpoint."""
    save = callbacks.LastModel.on_epoch_end

    def interrupted(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        save(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.LastModel, "on_epoch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, data, tmp_path / "cut", training=quick)
    return tmp_path / "cut"


@pytest.mark.slow
def test_resume_continues_exactly(cut_run, whole_run, config, data, quick):
    """Batches, learning rates, dropout, EMA and the best model up to now are those of a run that nothing cut."""
    assert len(history(cut_run)) == 3 and not (cut_run / "model.keras").exists()
    log = cut_run / "history.csv"
    names, *rows = log.read_text().splitlines()
    assert names.split(",")[3] == "val_accuracy"
    rows[2] = ",".join([*rows[2].split(",")[:3], "2.0", *rows[2].split(",")[4:]])  # an epoch that does not count
    log.write_text("\n".join([names, *rows]) + "\n")
    (cut_run / f".best-{10**9}-0123abcd.part.keras").write_bytes(
        b"half"
    )  # what a kill in the middle of a save would leave
    train(config, data, cut_run, training=quick, resume=True)
    assert not list(cut_run.glob(".*.part*"))
    assert_same_run(cut_run, whole_run)


KILLED = """
import sys
from mixnet_tf.config import load_config
from mixnet_tf.data.sources import load_data
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.fit import train
config, data, output = sys.argv[1:]
train(load_config(config), load_data(data), output, training=TrainingConfig(batch_size=16, epochs={EPOCHS}))
"""


@pytest.mark.slow
def test_resume_after_kill_9_continues_exactly(whole_run, config, images, data, quick, tmp_path):
    folder, log = tmp_path / "killed", tmp_path / "killed" / "history.csv"
    (tmp_path / "c.yaml").write_text(json.dumps(to_dict(config)))
    code = KILLED.replace("{EPOCHS}", str(EPOCHS))
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "c.yaml"), str(images), str(folder)])
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (log.is_file() and log.read_text().count("\n") > 2):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "model.keras").exists()
    kept = int(load_model(folder / "last.keras").optimizer.iterations) // 3
    assert 1 <= kept < EPOCHS
    train(config, data, folder, training=quick, resume=True)
    assert_same_run(folder, whole_run)


@pytest.mark.slow
def test_resume_of_a_finished_run_changes_nothing(whole_run, config, data, quick):
    before = (whole_run / "history.csv").read_bytes()
    train(config, data, whole_run, training=quick, resume=True)
    assert (whole_run / "history.csv").read_bytes() == before


def test_resume_refuses_another_run_and_damaged_files(whole_run, config, data, quick, tmp_path):
    arguments = {"training": quick, "resume": True}
    train_split = data.splits["train"]
    turned = dataclasses.replace(train_split, images=train_split.images[::-1])
    for changes, message in (
        ({"training": dataclasses.replace(quick, learning_rate=0.5)}, "training learning_rate 0.002"),
        ({"image_size": 20}, r"image_size \[0\] 16"),
        ({"padding": "same"}, "padding symmetric"),
        ({"augmentation": dataclasses.replace(data.augmentation, jitter=0.3)}, "augmentation jitter 0.2"),
        ({"data": dataclasses.replace(data, splits={**data.splits, "train": turned})}, r"images train \[1\]"),
        ({"freeze_backbone": True, "weights": "w.keras"}, "weights None, expected the same now, found w.keras"),
    ):
        with pytest.raises(MixNetError, match=f"training.json: the run was started with {message}"):
            train(config, changes.pop("data", data), whole_run, **arguments | changes)
    with pytest.raises(MixNetError, match="holds a training run; give --resume"):
        train(config, data, whole_run, training=quick)
    for name, content in (("history.csv", "epoch,loss\nx,1\n"), ("training.json", "[1]")):
        folder = shutil.copytree(whole_run, tmp_path / name.split(".")[0])
        (folder / name).write_text(content)
        with pytest.raises(MixNetError, match=f"{name}: "):
            train(config, data, folder, **arguments)


def test_files_of_the_user_are_not_touched(config, data, one_epoch, tmp_path):
    (tmp_path / "history.csv").write_text("mine\n")
    for resume in (False, True):
        with pytest.raises(MixNetError, match="holds files already"):
            train(config, data, tmp_path, training=one_epoch, resume=resume)
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv"}
    assert (tmp_path / "history.csv").read_text() == "mine\n"


def test_weights_that_are_missing_leave_an_earlier_run_as_it_is(config, data, quick, whole_run):
    before = (whole_run / "model.keras").read_bytes()
    with pytest.raises(MixNetError, match=r"missing\.safetensors"):
        train(config, data, whole_run, training=quick, weights="missing.safetensors", overwrite=True)
    assert (whole_run / "model.keras").read_bytes() == before


def test_schedule_warms_up_and_ends_at_zero(whole_run):
    model = load_model(whole_run / "last.keras")
    schedule, steps = model.optimizer._learning_rate, 3
    assert isinstance(schedule, keras.optimizers.schedules.CosineDecay)
    assert float(schedule(0)) == 0
    assert float(schedule(EPOCHS // 2 * steps)) == pytest.approx(2e-3)  # 3 epochs were asked for, more than half
    assert float(schedule(EPOCHS * steps)) == pytest.approx(0, abs=1e-9)


def test_a_short_run_warms_up_for_half_of_it():
    model = create_model(TINY, classes=2, input_shape=(32, 32, 3))
    prepare_phase(model, LossConfig(), TrainingConfig(), 10, Phase(range(2), 0.5, None))
    rates = [float(model.optimizer._learning_rate(step)) for step in range(21)]
    assert max(rates) == rates[10] == 0.5 and rates[20] == 0


def test_decay_is_on_kernels_and_scales():
    model = create_model(TINY, classes=3, input_shape=(32, 32, 3), classifier_activation=None)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    prepare_phase(model, LossConfig(), TrainingConfig(warmup_epochs=0), 10, Phase(range(40), 0.1, None))
    model.optimizer.apply([np.zeros(v.shape, "float32") for v in model.trainable_variables], model.trainable_variables)
    after = {(v.name, round(float(np.max(v)), 4)) for v in model.trainable_variables}
    assert after == {("kernel", 0.95), ("gamma", 0.95), ("beta", 1.0), ("bias", 1.0)}


@pytest.mark.parametrize(("ema_epochs", "momentum"), [(0, 0.0), (0.05, 0.0), (2, 0.95), (50, 0.998)])
def test_the_average_looks_back_so_many_epochs(ema_epochs, momentum):
    model = create_model(TINY, classes=2, input_shape=(16, 16, 3))
    prepare_phase(model, LossConfig(), TrainingConfig(ema_epochs=ema_epochs), 10, Phase(range(40), 0.1, None))
    assert model.optimizer.use_ema and model.optimizer.ema_momentum == pytest.approx(momentum)
    assert model.optimizer.average_from == 300  # of 400 steps


@pytest.mark.exhaustive
def test_a_range_penalty_is_in_the_loss_and_not_in_the_model(config, data, one_epoch, tmp_path, eagerly):
    for weight in (0, 100):
        training = dataclasses.replace(one_epoch, range_penalty=weight)
        train(config, data, tmp_path / str(weight), training=training)
    plain, penalized = (history(tmp_path / weight)[0]["loss"] for weight in ("0", "100"))
    assert penalized > plain + 100  # a tensor's penalty is about 1.1 at least
    model = load_model(tmp_path / "100" / "model.keras")
    model(np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])))
    assert not model.losses


@pytest.mark.slow
def test_batches_are_profiled_and_the_speed_is_for_tensorboard(config, data, one_epoch, tmp_path, eagerly):
    train(config, data, tmp_path / "run", training=one_epoch, profile=1)
    assert list((tmp_path / "run" / "logs").rglob("plugins/profile/*/*.xplane.pb"))
    (events,) = (tmp_path / "run" / "logs" / "train").glob("events.out.tfevents.*")
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}
    assert {"epoch_images_per_second", "epoch_data_wait", "epoch_learning_rate"} <= tags
    assert not {"images_per_second", "data_wait"} & history(tmp_path / "run")[0].keys()  # no two runs have the same


@pytest.mark.slow
def test_who_reads_the_images_changes_nothing(config, data, one_epoch, tmp_path, eagerly, monkeypatch):
    helpers, prepare = [], fit.prepare_phase

    def noting(model, *arguments):
        helpers.append(len(multiprocessing.active_children()))
        prepare(model, *arguments)

    monkeypatch.setattr(fit, "prepare_phase", noting)
    for workers in (0, 1):
        train(config, data, tmp_path / str(workers), training=one_epoch, workers=workers)
    assert history(tmp_path / "0") == history(tmp_path / "1")
    assert helpers == [0, 1] and not multiprocessing.active_children()


def test_divergence_is_named_and_leaves_no_model(config, data, tmp_path, eagerly):
    training = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(MixNetError, match=r"training diverged: the loss is nan at batch .*; lower the learning rate"):
        train(config, data, tmp_path / "run", training=training)
    assert not list((tmp_path / "run").glob("*.keras"))


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("CSVLogger.on_epoch_end", OSError(28, "No space left on device"), "run: No space left on device"),
        *slow(
            (
                "TensorBoard.on_test_end",
                tf.errors.ResourceExhaustedError(None, None, "{{node}} x; full [Op:W]"),
                "x; full",
            ),
            ("TensorBoard.on_epoch_end", MemoryError(), "memory ran out"),
        ),
    ],
)
@pytest.mark.usefixtures("eagerly")
def test_a_run_that_must_stop_says_how_to_go_on(method, error, message, config, data, quick, tmp_path, monkeypatch):
    """And the logs, which cannot be closed then either, do not hide why."""
    cls, method = method.split(".")

    def fail(self, *arguments, **settings):
        raise error

    for name in (method, "on_train_end"):
        monkeypatch.setattr(getattr(keras.callbacks, cls), name, fail)
    with pytest.raises(MixNetError) as raised:
        train(config, data, tmp_path / "run", training=quick)
    assert re.fullmatch(
        f"{tmp_path}/run: the run stopped: .*{message}; mend that and continue with --resume", str(raised.value)
    )


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_says_how_to_go_on(config, data, quick, tmp_path, eagerly, monkeypatch):
    """Keras raises a callback's errors without their cause."""

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    def full(self, epoch, logs=None):
        monkeypatch.setattr(os, "fsync", fail)

    monkeypatch.setattr(keras.callbacks.CSVLogger, "on_epoch_end", full)  # stands before the last model's
    with pytest.raises(MixNetError, match=r"last\.keras: cannot be written: No space left.*; mend that and continue"):
        train(config, data, tmp_path / "run", training=quick)
    assert not (tmp_path / "run" / "last.keras").exists() and not list((tmp_path / "run").glob(".*"))


def set_steps(path: Path, steps: int) -> None:
    model = load_model(path)
    model.optimizer.iterations.assign(steps)
    model.save(path)


DAMAGES = {
    "last.keras: not of this run's network": lambda run: shutil.copyfile(run / "best.keras", run / "last.keras"),
    "best.keras: not of this run's network": lambda run: shutil.copyfile(run / "last.keras", run / "best.keras"),
    "best.keras: no such file": lambda run: (run / "best.keras").unlink(),
    "best.keras: not a readable": lambda run: (run / "best.keras").write_bytes(b"PK"),
    "last.keras: not a readable": lambda run: (run / "last.keras").write_bytes(b""),
    "last.keras: not from the end of an epoch": lambda run: set_steps(run / "last.keras", 4),
    "last.keras: not from the end of an epoch of": lambda run: set_steps(run / "last.keras", 3 * EPOCHS + 3),
    "history.csv: not the history of a run": lambda run: (run / "history.csv").unlink(),
}


QUICK = ("best.keras: no such file", "last.keras: not a readable", "history.csv: not the history of a run")


@pytest.mark.parametrize("message", [*QUICK, *slow(*(message for message in DAMAGES if message not in QUICK))])
def test_a_damaged_run_is_not_continued(message, config, data, quick, whole_run, tmp_path):
    run = shutil.copytree(whole_run, tmp_path / "run")
    DAMAGES[message](run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(MixNetError, match=f"{message}.*; start anew with --overwrite") as raised:
        train(config, data, run, training=quick, resume=True)
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_nobody_may_disturb(config, data, quick, tmp_path, monkeypatch, stop_before_fitting):
    """Training holds the folder before it reads an image."""
    held = []
    monkeypatch.setattr(fit, "fingerprint", lambda data: held.append((tmp_path / "run" / ".lock").is_file()) or {})
    with pytest.raises(StoppedError):
        train(config, data, tmp_path / "run", training=quick)
    assert held == [True] and not (tmp_path / "run" / ".lock").exists()


@pytest.mark.slow
def test_a_frozen_backbone_stays_resumes_and_loads_frozen(config, data, one_epoch, whole_run, tmp_path, eagerly):
    arguments = {
        "training": dataclasses.replace(one_epoch, learning_rate=0.1),
        "weights": whole_run / "model.keras",
        "freeze_backbone": True,
    }
    train(config, data, tmp_path, **arguments)
    before, after = load_model(whole_run / "model.keras"), load_model(tmp_path / "model.keras")
    for a, b in zip(before.variables, after.variables, strict=True):
        if "seed_generator" not in a.path:
            assert np.array_equal(np.asarray(a), np.asarray(b)) == (not a.path.startswith("predictions")), a.path
    frozen = load_model(tmp_path / "last.keras")
    assert [variable.path for variable in frozen.trainable_variables] == ["predictions/kernel", "predictions/bias"]
    train(config, data, tmp_path, **arguments, resume=True)


class StoppedError(Exception):
    """A run got as far as its first epoch."""


@pytest.fixture
def stop_before_fitting(monkeypatch) -> list[keras.Model]:
    """Ends a run where its model is ready, and keeps the model."""
    models = []

    def stop(model, *arguments):
        models.append(model)
        raise StoppedError

    monkeypatch.setattr(fit, "_fit", stop)
    return models


def test_the_configuration_can_freeze_and_name_weights(config, data, whole_run, tmp_path, stop_before_fitting):
    whole = to_dict(config)
    whole["model"] |= {"freeze_backbone": True, "checkpoint": {"path": str(whole_run / "model.keras")}}
    with pytest.raises(StoppedError):
        train(load_config(whole), data, tmp_path)
    (model,) = stop_before_fitting
    assert [variable.path for variable in model.trainable_variables] == ["predictions/kernel", "predictions/bias"]
    expected = load_model(whole_run / "model.keras")
    np.testing.assert_array_equal(model.trainable_variables[0], expected.get_layer("predictions").kernel)
    asked = json.loads((tmp_path / "training.json").read_text())
    assert asked["freeze_backbone"] and asked["weights"] == str(whole_run / "model.keras")


def make_folder(root: Path, bad: int = 0) -> Path:
    """Ten images each of two classes, `bad` of them of the first class no images."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (20, 30), (i, 0, 0)).save(root / name / f"{i}.png")
    for i in range(bad):
        (root / "a" / f"{i}.png").write_bytes(b"")
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_that_loses_an_image_says_how_to_go_on(config, tmp_path, split):
    data = load_data(make_folder(tmp_path / "data")).checked("train", "val", "test")
    training, loss = TrainingConfig(epochs=1, batch_size=4), config.losses[0]
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image)), name="small")
    prepare_phase(model, loss, training, 4, Phase(range(1), 0.1, None))
    datasets = fit._datasets(data, (8, 8), training, data.augmentation, None, None, 0)
    lost = Path(data.splits[split].images[0])
    lost.unlink()
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError, match=f"^{lost}: no such file; put it back, and continue with --resume$"):
        fit._fit(model, datasets, tmp_path / "run", range(1), 4, 0.0, callbacks.Patience(tmp_path / "run", 0, 0))


def test_images_of_many_sizes_are_trained_at_224_pixels(config, tmp_path, stop_before_fitting):
    with pytest.raises(StoppedError):
        train(config, load_data(make_folder(tmp_path / "data")), tmp_path / "run")
    assert stop_before_fitting[0].input_shape == (None, 224, 224, 3)


def test_the_data_says_what_becomes_of_bad_images(config, tmp_path, stop_before_fitting):
    source = make_folder(tmp_path / "data", bad=2)
    with pytest.raises(DataError, match="not a readable image"):
        train(config, load_data(source), tmp_path / "run", image_size=16)
    assert not (tmp_path / "run").exists()
    data = load_data(source, on_bad_image="skip")
    with pytest.raises(StoppedError):
        train(config, data, tmp_path / "run", image_size=16)
    asked = json.loads((tmp_path / "run" / "training.json").read_text())["images"]
    assert sum(count for count, _ in asked.values()) == 18


@pytest.mark.parametrize("image_size", [0, (16,), "16", True])
def test_wrong_image_sizes(config, data, tmp_path, image_size):
    with pytest.raises(MixNetError, match="image_size: found"):
        train(config, data, tmp_path / "run", image_size=image_size)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_images_that_are_not_square_and_class_weights(config, one_epoch, tmp_path, eagerly):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (40, 16, 20, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "wide.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    data, weighted = load_data(tmp_path / "wide.npz"), to_dict(config)
    weighted["model"]["losses"][0]["weight"] = [1e-6, 1e-6]
    train(load_config(weighted), data, tmp_path / "run", training=one_epoch)
    assert load_model(tmp_path / "run" / "model.keras").input_shape == (None, 16, 20, 3)
    assert steps_per_epoch(data, batch_size=16) == 1
    (row,) = history(tmp_path / "run")
    assert row["loss"] < 1e-5 < 0.1 < row["val_loss"]  # the classes' weights are in the loss of training alone


def test_class_weights_count_must_fit(data, tmp_path):
    config = to_dict(load_config(TINY))
    config["model"]["losses"][0]["weight"] = [1, 2, 3]
    with pytest.raises(MixNetError, match=r"^losses\[0\].weight: found 3 numbers, expected one for each of 2 classes"):
        train(load_config(config), data, tmp_path / "run")


def test_balanced_classes_weigh_the_same(config, data):
    labels = np.array([0] * 30 + [1] * 10, np.int32)
    split = dataclasses.replace(data.splits["train"], images=data.splits["train"].images[:40], labels=labels)
    skewed = dataclasses.replace(data, splits={**data.splits, "train": split})
    weights = fit.class_weights(config, skewed, TrainingConfig(balance=True))
    np.testing.assert_allclose(weights, [40 / 60, 40 / 20])
    assert fit.class_weights(config, skewed, TrainingConfig()) is None
    mixing = dataclasses.replace(data.augmentation, mixup=0.4)
    training = TrainingConfig(epochs=1, batch_size=40)
    batches, validation = fit._datasets(skewed, (8, 8), training, mixing, weights, None, 0)
    _, shares, each = next(iter(batches))
    np.testing.assert_allclose(each, np.asarray(shares) @ weights, rtol=1e-6)
    assert len(np.unique(np.asarray(each).round(4))) > 2 and len(next(iter(validation))) == 2


def test_classes_are_not_weighted_twice(data, tmp_path):
    config = to_dict(load_config(TINY))
    config["model"]["losses"][0]["weight"] = [1, 2]
    with pytest.raises(MixNetError, match=r"^balance: found True with losses\[0\].weight in the configuration"):
        train(load_config(config), data, tmp_path / "run", training=TrainingConfig(balance=True))
    assert not (tmp_path / "run").exists()


def test_class_weights_are_counted_before_an_image_is_read(tmp_path):
    config = to_dict(load_config(TINY))
    config["model"]["losses"][0]["weight"] = [1, 2, 3]
    data = load_data(make_folder(tmp_path / "data", bad=1))
    with pytest.raises(MixNetError, match=r"^losses\[0\].weight: found 3 numbers"):
        train(load_config(config), data, tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)])
def test_broken_keras_files(content, tmp_path):
    path = tmp_path / "broken.keras"
    path.write_bytes(content)
    with pytest.raises(MixNetError, match=r"broken\.keras: not a readable \.keras model"):
        load_model(path)


def test_truncated_keras_file(whole_run, tmp_path):
    content = (whole_run / "model.keras").read_bytes()
    for size in (len(content) // 2, len(content) - 100):
        (tmp_path / "half.keras").write_bytes(content[:size])
        with pytest.raises(MixNetError, match=r"half\.keras: not a readable \.keras model"):
            load_model(tmp_path / "half.keras")
