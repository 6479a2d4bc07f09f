"""Files that say how to train: those that ship, how flags go before them, and what is refused in one line."""

import argparse
import dataclasses

import pytest

from mixnet_tf.commands import train
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.errors import ConfigError
from mixnet_tf.schema import shipped_files
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.files import read_training


def test_small_data_is_what_happens_without_a_file():
    said = read_training("small_data")
    assert TrainingConfig(**said["training"]) == TrainingConfig()
    assert Augmentation(**said["augmentation"]) == Augmentation()


def test_imagenet_is_the_recipe_of_timm():
    """--sched step --epochs 450 --decay-epochs 2.4 --decay-rate .969 --opt rmsproptf --weight-decay 1e-5
    --drop-path 0.2 --model-ema-decay 0.9999 --aa rand-m9-mstd0.5 --reprob 0.3 --amp --lr .016, twice -b 128.
    """
    assert set(shipped_files("training_configs")) == {"small_data", "imagenet"}
    said = read_training("imagenet")
    training, augmentation = TrainingConfig(**said["training"]), Augmentation(**said["augmentation"])
    assert (training.schedule, training.epochs, training.decay_epochs, training.decay_rate) == ("step", 450, 2.4, 0.969)
    assert (training.optimizer, training.weight_decay, training.drop_path) == ("rmsprop", 1e-5, 0.2)
    assert training.peak_rate == 0.016 and dataclasses.replace(training, batch_size=64).peak_rate == 0.004
    assert 1 - 1 / (training.ema_epochs * (1_281_167 // 256)) == pytest.approx(0.9999, abs=1e-6)
    assert (augmentation.rand_level, augmentation.rand_deviation, augmentation.erase) == (9, 0.5, 0.3)


def parsed(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser.parse_args(["mixnet_nano", "--data", "digits", "--output", "nowhere", *flags])


def test_flags_go_before_a_file_and_a_file_before_what_suits_the_data(digits, tmp_path):
    path = tmp_path / "how.yaml"
    path.write_text("training: {epochs: 7, learning_rate: 0.5, optimizer: sgd}\naugmentation: {jitter: 0.4}\n")
    made = train.training_arguments(parsed("--training-config", str(path), "--epochs", "9", "--erase", "1"), digits)
    assert made["training"] == TrainingConfig(epochs=9, learning_rate=0.5, optimizer="sgd")
    assert made["augmentation"] == dataclasses.replace(digits.augmentation, jitter=0.4, erase=1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3", r"epochs: unknown key; valid keys: training, augmentation"),
        ("[1]", r"found \[1\], expected a mapping with the keys training, augmentation"),
        ("training: 3", "training: found 3, expected a mapping with the keys epochs, "),
        ("training: {epoch: 3}", r"training.epoch: unknown key \(did you mean 'epochs'\?\); valid keys: epochs, "),
        ("training: {epochs: 0}", "training.epochs: found 0, expected an integer from 1 to 1000000"),
        ("training: {optimizer: adm}", "training.optimizer: found 'adm', expected one of adamw, sgd, rmsprop"),
        ("training: {optimizer: [x]}", r"training.optimizer: found \['x'\], expected one of"),
        ("training: {balance: 1}", "training.balance: found 1, expected True or False"),
        ("augmentation: {mixup: .nan}", "augmentation.mixup: found nan, expected a number from 0 to 100"),
        ("augmentation: {1: 2}", "augmentation.1: unknown key; valid keys: min_area, "),
        ("training: !x {}", "line 1: the tag '!x'; expected values without tags"),
        ("training: {epochs: 1, epochs: 2}", "line 1: the key 'epochs' stands twice"),
        ("training: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file(text, message, tmp_path, capsys):
    path = tmp_path / "how.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: .*{message}") as raised:
        read_training(path)
    assert "\n" not in str(raised.value)
    with pytest.raises(SystemExit):
        parsed("--training-config", str(path))
    assert f"argument --training-config: {raised.value}" in capsys.readouterr().err


def test_no_such_file_and_no_such_name(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file"):
        read_training(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"no training_config called 'imagnet' \(did you mean 'imagenet'\?\)"):
        read_training("imagnet")
