"""The types of arguments, and flags that are made from dataclasses."""

import argparse
import dataclasses
import inspect

import pytest

from mixnet_tf.commands import arguments, export, train
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("count", "1", 1),
        ("count", "1000000", 1_000_000),
        ("pixels", "4096", 4096),
        ("threads", "256", 256),
        ("seed", "0", 0),
        ("seed", "2147483647", 2**31 - 1),
        ("fraction", "0", 0.0),
        ("fraction", "1", 1.0),
        ("fraction", "5e-1", 0.5),
        ("whole", "-3", -3),
        ("real", "1e-3", 0.001),
    ],
)
def test_values(kind, text, value):
    read = getattr(arguments, kind)(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("count", "0", "found 0, expected an integer from 1 to 1000000"),
        ("count", "1000001", "found 1000001, expected an integer from 1 to 1000000"),
        ("count", "1.5", "found '1.5', expected an integer"),
        ("count", "", "found '', expected an integer"),
        ("pixels", "4097", "found 4097, expected an integer from 1 to 4096"),
        ("threads", "99999", "found 99999, expected an integer from 1 to 256"),
        ("seed", "-1", "found -1, expected an integer from 0 to 2147483647"),
        ("seed", "2147483648", "found 2147483648, expected an integer from 0 to"),
        ("fraction", "1.01", "found 1.01, expected a number from 0 to 1"),
        ("fraction", "nan", "found nan, expected a number from 0 to 1"),
        ("fraction", "-inf", "found -inf, expected a number from 0 to 1"),
        ("real", "ten", "found 'ten', expected a number"),
        ("whole", "9" * 5000, "expected an integer"),
        ("count", "\u0663", "found '\u0663', expected an integer"),  # ARABIC-INDIC DIGIT THREE
        ("fraction", "\uff11", "found '\uff11', expected a number"),  # FULLWIDTH DIGIT ONE
    ],
)
def test_wrong_values(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        getattr(arguments, kind)(text)
    assert message in str(caught.value) and len(str(caught.value)) < 200


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser.parse_args(["mixnet_nano", "--data", "digits", "--output", "run", *flags])


def test_every_field_of_training_and_augmentation_has_its_flag():
    given = parsed()
    for cls in (TrainingConfig, Augmentation):
        for field in dataclasses.fields(cls):
            assert getattr(given, field.name) is None, "what is not given is the dataclass's to say"


def test_flags_become_arguments_of_training(digits, tmp_path):
    flags = (
        "--epochs 7 --learning-rate 0.01 --weight-decay 0 --seed 3 --no-flip --jitter 0 --image-size 48 --padding same"
    )
    given = parsed(*flags.split(), "--weights", "w.keras", "--freeze-backbone", "--overwrite")
    given.output = tmp_path
    expected = {
        "image_size": 48,
        "training": TrainingConfig(epochs=7, learning_rate=0.01, weight_decay=0, seed=3),
        "augmentation": dataclasses.replace(digits.augmentation, flip=False, jitter=0),
        "weights": "w.keras",
        "freeze_backbone": True,
        "unfreeze": None,
        "padding": "same",
        "resume": False,
        "overwrite": True,
        "profile": 0,
        "workers": 0,
    }
    assert train.training_arguments(given, digits) == expected


@pytest.mark.parametrize(
    ("alias", "name", "text"),
    [("--lr", "--learning-rate", "0.01"), ("--batch", "--batch-size", "7"), ("--wd", "--weight-decay", "0.5"),
     ("--imgsz", "--image-size", "48")],
)  # fmt: skip
def test_what_others_call_a_flag(alias, name, text):
    assert parsed(alias, text) == parsed(name, text) != parsed()


@pytest.mark.parametrize(("text", "value"), [("stage4", "stage4"), ("2", 2), ("-2", "-2"), ("9" * 5000, "9" * 5000)])
def test_a_place_to_unfreeze_from_is_a_name_or_a_number(text, value, digits, tmp_path):
    given = parsed(f"--unfreeze={text}")
    given.output = tmp_path
    assert train.training_arguments(given, digits)["unfreeze"] == value


def test_flags_that_are_not_given_leave_everything_as_it_is(digits, tmp_path):
    given = parsed()
    given.output = tmp_path
    made = train.training_arguments(given, digits)
    assert made["training"] == TrainingConfig() and made["augmentation"] == digits.augmentation
    assert made["image_size"] is None and not made["resume"] and not made["overwrite"]


def test_flags_of_export_have_the_defaults_of_the_function():
    from mixnet_tf import exporting

    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    given = parser.parse_args(["m.keras", "--output", "f.tflite"])
    given.about = arguments.about(given)
    for name, parameter in inspect.signature(exporting.export).parameters.items():
        if name not in ("model", "output"):
            assert getattr(given, name) == parameter.default, name
