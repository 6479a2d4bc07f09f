"""The numbers of a training run: which are refused, and what the command line reads from the fields."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.errors import ArgumentError
from mixnet_tf.training.config import TrainingConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": "3"},
        {"epochs": True},
        {"epochs": 10**23},
        {"batch_size": 2.5},
        {"batch_size": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"weight_decay": -0.1},
        {"range_penalty": -1},
        {"warmup_epochs": None},
        {"warmup_epochs": float("inf")},
        {"ema_epochs": False},
        {"accumulate": 0},
        {"clip_norm": -1.0},
        {"decay_rate": 0},
        {"drop_path": 1},
        {"freeze_epochs": -1},
        {"freeze_epochs": 1.5},
    ],
)
def test_impossible_numbers(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ArgumentError, match=f"^{name}: found {value!r}, expected an? (integer|number) ") as raised:
        TrainingConfig(**wrong)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["optimizer", "schedule"])
def test_a_name_that_is_none_of_those_allowed(name):
    with pytest.raises(ArgumentError, match=rf"^{name}: found 'adm', expected one of \w+, \w+"):
        TrainingConfig(**{name: "adm"})


@pytest.mark.parametrize("freeze_epochs", [3, 4])
def test_epochs_must_be_left_after_those_of_the_head(freeze_epochs):
    assert TrainingConfig(epochs=3, freeze_epochs=2).freeze_epochs == 2
    with pytest.raises(
        ArgumentError, match=rf"^freeze_epochs: found {freeze_epochs}, expected fewer than all .*\(3\)$"
    ):
        TrainingConfig(epochs=3, freeze_epochs=freeze_epochs)


def test_numbers_of_numpy_are_taken_and_can_be_written():
    config = TrainingConfig(epochs=np.int64(3), learning_rate=np.float32(0.5), warmup_epochs=np.int32(1))
    assert config == TrainingConfig(epochs=3, learning_rate=0.5, warmup_epochs=1)
    assert json.loads(json.dumps(dataclasses.asdict(config)))["epochs"] == 3


@pytest.mark.parametrize("cls", [TrainingConfig, Augmentation])
def test_every_field_says_what_it_is(cls):
    fields = dataclasses.fields(cls)
    assert all(field.type in (int, float, bool, str) and field.metadata["help"] for field in fields)
    assert cls() == cls(**{field.name: field.default for field in fields})


def test_reading_the_fields_imports_neither_numpy_nor_tensorflow():
    code = (
        "import sys, mixnet_tf.training.config, mixnet_tf.training.run_folder, mixnet_tf.data.augmentation\n"
        "print({'numpy', 'keras', 'tensorflow'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
