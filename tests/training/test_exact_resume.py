"""Every option of training at once: a run that is cut and resumed ends with the same weights, bit for bit."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from marks import exhaustive, slow
from quick_run import TINY, history

from mixnet_tf.config import load_config
from mixnet_tf.saving import load_model
from mixnet_tf.training import callbacks
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.fit import train

ALL = {
    "batch_size": 16,
    "epochs": 4,
    "learning_rate": 0.01,
    "base_batch": 64,
    "warmup_epochs": 0.5,
    "schedule": "step",
    "clip_norm": 1.0,
    "accumulate": 2,  # of three batches an epoch: a half step is carried over
    "drop_path": 0.4,
    "initial_scale": 0.5,
    "balance": True,
    "weight_decay": 0.01,
}
CASES = [*slow(("adamw", "float32"), ("sgd", "float16")), *exhaustive(("rmsprop", "bfloat16"))]


def cut(monkeypatch, epoch: int) -> None:
    """Let the next run die in an epoch, once its log is written and its checkpoint is not."""
    save = callbacks.LastModel.on_epoch_end

    def interrupted(self, current, logs=None):
        if current == epoch:
            raise KeyboardInterrupt
        save(self, current, logs)

    monkeypatch.setattr(callbacks.LastModel, "on_epoch_end", interrupted)


def weights(folder: Path, name: str) -> list[np.ndarray]:
    model = load_model(folder / name)
    optimizer = getattr(model, "optimizer", None)
    return [np.asarray(variable) for variable in (*model.weights, *getattr(optimizer, "variables", ()))]


@pytest.mark.parametrize(("optimizer", "precision"), CASES)
def test_with_every_option_on(optimizer, precision, data, tmp_path, monkeypatch):
    training = TrainingConfig(**ALL, optimizer=optimizer, precision=precision)
    varied = dataclasses.replace(data.augmentation, mixup=0.2, cutmix=1.0, erase=0.5, rand_level=9)
    arguments = {"training": training, "augmentation": varied}
    config = load_config(TINY)
    train(config, data, tmp_path / "whole", **arguments)
    with monkeypatch.context() as patch:
        cut(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(config, data, tmp_path / "cut", **arguments)
    assert not (tmp_path / "cut" / "model.keras").exists()
    train(config, data, tmp_path / "cut", **arguments, resume=True)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    for name in ("last.keras", "model.keras"):
        for ours, theirs in zip(weights(tmp_path / "cut", name), weights(tmp_path / "whole", name), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    policies = {layer.compute_dtype for layer in load_model(tmp_path / "whole" / "last.keras").layers[2:-1]}
    assert policies == {precision}
    assert {layer.compute_dtype for layer in load_model(tmp_path / "whole" / "model.keras").layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_a_run_without_progress_ends_and_stays_ended(config, data, tmp_path, monkeypatch):
    """The first epoch is the best: the validation's answers are set."""
    best_first = iter([0.9, 0.5, 0.6, 0.7])
    accuracy = callbacks.BestModel.on_test_end

    def answered(self, logs=None):
        logs["accuracy"] = 0.5
        accuracy(self, logs)

    def logged(self, epoch, logs=None):
        logs["val_accuracy"] = next(best_first)

    monkeypatch.setattr(callbacks.BestModel, "on_test_end", answered)
    monkeypatch.setattr(callbacks.RawAccuracy, "on_epoch_end", logged)
    training = TrainingConfig(batch_size=16, epochs=9, patience=2)
    train(config, data, tmp_path, training=training)
    assert [row["val_accuracy"] for row in history(tmp_path)] == [0.9, 0.5, 0.6]
    (tmp_path / "model.keras").unlink()
    train(config, data, tmp_path, training=training, resume=True)
    assert len(history(tmp_path)) == 3 and (tmp_path / "model.keras").is_file()
    assert json.loads((tmp_path / "training.json").read_text())["training"]["patience"] == 2
