"""The phases of a run: what trains when, how fast, and what makes no sense."""

import dataclasses
import functools
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from quick_run import TINY, history

from mixnet_tf.config import load_config, to_dict
from mixnet_tf.errors import MixNetError
from mixnet_tf.model import create_model
from mixnet_tf.saving import load_model
from mixnet_tf.training import callbacks
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.fit import train
from mixnet_tf.training.phases import Phase, plan_phases
from mixnet_tf.training.preparation import prepare_phase
from mixnet_tf.training.resume import restore

RATE, EPOCHS = 0.01, 5


def plan(**arguments) -> list[tuple]:
    settings = {"freeze_epochs": arguments.pop("freeze_epochs", 0), "epochs": EPOCHS, "learning_rate": RATE}
    phases = plan_phases(load_config(TINY), TrainingConfig(**settings), **arguments)
    return [(phase.epochs, pytest.approx(phase.learning_rate), phase.unfreeze) for phase in phases]


def test_what_trains_when():
    weights = {"weights": "w.keras"}
    assert plan() == plan(**weights) == [(range(5), RATE, None)]
    assert plan(**weights, freeze_backbone=True) == [(range(5), RATE, 0)]
    assert plan(**weights, unfreeze="stage1") == [(range(5), RATE, "stage1")]
    two = plan(**weights, unfreeze=np.int64(2), freeze_epochs=4)
    assert two == [(range(4), RATE, 0), (range(4, 5), RATE / 10, 2)] and type(two[1][2]) is int


def test_the_configuration_can_freeze_and_have_the_weights():
    config = to_dict(load_config(TINY))
    config["model"] |= {"freeze_backbone": True, "checkpoint": {"path": "w.keras"}}
    assert plan_phases(load_config(config), TrainingConfig(epochs=3)) == (Phase(range(3), 2e-3, 0),)
    with pytest.raises(MixNetError, match=r"^freeze_backbone and unfreeze: found both"):
        plan_phases(load_config(config), TrainingConfig(), unfreeze="stage1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unfreeze": "stage1"}, "unfreeze: needs weights to start from: without them, what is frozen stays random"),
        ({"freeze_backbone": True}, "freeze_backbone: needs weights to start from"),
        ({"weights": "w", "freeze_epochs": 2}, "freeze_epochs: found 2 without unfreeze, which says what trains after"),
        ({"weights": "w", "freeze_epochs": 2, "freeze_backbone": True}, "freeze_epochs: found 2 without unfreeze"),
        (
            {"weights": "w", "freeze_epochs": 5, "unfreeze": 1},
            r"freeze_epochs: found 5, expected fewer than all epochs",
        ),
        ({"weights": "w", "freeze_backbone": True, "unfreeze": 1}, "freeze_backbone and unfreeze: found both"),
        ({"weights": "w", "unfreeze": 0}, "unfreeze: found 0, expected one of stem, stage1, last_conv, a block of "),
        ({"weights": "w", "unfreeze": "stage2"}, r"unfreeze: found 'stage2', .*\(did you mean 'stage1'\?\)$"),
        ({"weights": "w", "unfreeze": ...}, "unfreeze: found Ellipsis, expected one of stem"),
    ],
)
def test_what_makes_no_sense(arguments, message):
    with pytest.raises(MixNetError, match=f"^{message}") as raised:
        plan(**arguments)
    assert "\n" not in str(raised.value)


def test_nonsense_is_refused_before_an_image_is_read(config, tmp_path):
    with pytest.raises(MixNetError, match=r"^unfreeze: needs weights"):
        train(config, _Unread(), tmp_path / "run", unfreeze="stage1", image_size=16)
    assert not (tmp_path / "run").exists()


class _Unread:
    """Data of which nothing is known but that it is there."""

    image_size = augmentation = None


@pytest.fixture
def two_phases(config, quick, tmp_path) -> dict:
    """Arguments: an epoch of the head alone, and two from the last convolution on."""
    weights = tmp_path / "weights.keras"
    create_model(config, classes=3, input_shape=(16, 16, 3)).save(weights)
    training = dataclasses.replace(quick, epochs=3, freeze_epochs=1, learning_rate=0.1)
    return {"training": training, "weights": weights, "unfreeze": "last_conv"}


@pytest.fixture
def snapshots(monkeypatch) -> list[Path]:
    """A copy of the folder ``whole`` of a run after every epoch: what a kill at that moment leaves."""
    copies, save = [], callbacks.LastModel.on_epoch_end

    def copied(self, epoch, logs=None):
        save(self, epoch, logs)
        if self.path.parent.name == "whole":
            copies.append(shutil.copytree(self.path.parent, self.path.parents[1] / f"after{epoch}"))

    monkeypatch.setattr(callbacks.LastModel, "on_epoch_end", copied)
    return copies


def kernels(path: Path) -> dict[str, np.ndarray]:
    return {variable.path: np.array(variable) for variable in load_model(path).weights}


@pytest.mark.slow
def test_a_phase_begins_with_the_average_that_the_one_before_ended_with(config, quick, tmp_path):
    """As `fit` leaves it; inside a phase, a run goes on with the weights themselves."""
    phases = plan_phases(config, dataclasses.replace(quick, epochs=3, freeze_epochs=1), weights="w", unfreeze=1)
    made, fresh = (create_model(config, classes=2, input_shape=(16, 16, 3)) for _ in range(2))
    made.save(tmp_path / "best.keras")
    for phase, epoch, expected in ((phases[0], 1, 7.0), (phases[1], 2, 5.0), (phases[1], 3, 7.0)):
        prepare_phase(made, config.losses[0], quick, 2, phase)
        made.optimizer.iterations.assign(2 * (epoch - phase.epochs.start))
        for variables, number in ((made.trainable_variables, 5.0), (made.optimizer._model_variables_moving_average, 7)):
            for variable in variables:
                variable.assign(np.full(variable.shape, number))
        made.save(tmp_path / "last.keras")
        prepare = functools.partial(prepare_phase, fresh, config.losses[0], quick, 2)
        assert restore(fresh, tmp_path, phases, 2, prepare) == epoch
        assert fresh.optimizer.name == phase.name
        for variable in fresh.trainable_variables:
            np.testing.assert_array_equal(variable, np.full(variable.shape, expected))


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_two_phases_go_on_exactly_wherever_they_are_killed(config, data, two_phases, snapshots, tmp_path):
    train(config, data, tmp_path / "whole", **two_phases)
    names = [load_model(folder / "last.keras").optimizer.name for folder in snapshots]
    assert names == ["from_epoch_0", "from_epoch_1", "from_epoch_1"]
    log = history(tmp_path / "whole")
    assert [row["epoch"] for row in log] == [0, 1, 2]

    start, first, last = (
        kernels(path) for path in (two_phases["weights"], *(f / "last.keras" for f in snapshots[::2]))
    )
    for path in start:
        if not path.startswith("predictions"):  # three classes became two
            assert np.array_equal(start[path], first[path]), path
            assert np.array_equal(first[path], last[path]) == (path != "last_conv/conv/kernel"), path
    for folder in snapshots[:2]:
        train(config, data, folder, **two_phases, resume=True)
        assert history(folder) == log
        for ours, theirs in zip(
            *(kernels(run / "last.keras").values() for run in (folder, tmp_path / "whole")), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    frozen = load_model(tmp_path / "whole" / "model.keras")
    assert {v.path.split("/")[0] for v in frozen.trainable_variables} <= {"last_conv", "predictions"}


def test_the_second_phase_warms_up_to_a_tenth_and_falls(config, quick):
    model = create_model(config, classes=2, input_shape=(16, 16, 3))
    training = dataclasses.replace(quick, epochs=8, freeze_epochs=2, learning_rate=0.5, warmup_epochs=1)
    for phase, peak, rise, end in zip(
        plan_phases(config, training, weights="w", unfreeze=1), (0.5, 0.05), (10, 10), (20, 60), strict=True
    ):
        prepare_phase(model, config.losses[0], training, 10, phase)
        rates = [float(model.optimizer._learning_rate(step)) for step in range(end + 1)]
        assert np.argmax(rates) == rise and max(rates) == pytest.approx(peak) and rates[0] == rates[end] == 0
        assert int(model.optimizer.iterations) == 0
    assert [variable.path.split("/")[0] for variable in model.trainable_variables] == [
        "last_conv",
        *["predictions"] * 2,
    ]


def test_batch_norm_looks_back_on_few_steps_while_a_run_trains(config, quick):
    """And on a hundred in the file, as the architecture has it."""
    model = create_model(config, classes=2, input_shape=(16, 16, 3))
    prepare_phase(model, config.losses[0], quick, 3, Phase(range(4), 0.1, None))
    block = model.get_layer("stage1_block1")
    assert {norm.momentum for norm in block.batch_norms} == {0.9}
    again = keras.models.clone_model(model).get_layer("stage1_block1")
    assert {norm.momentum for norm in again.batch_norms} == {0.99}
