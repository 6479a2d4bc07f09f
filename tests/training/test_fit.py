"""Training: exact resume after kill -9, checkpoints, hostile folders and data."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from mixnet_tf.cli import main
from mixnet_tf.config import LossConfig, load_config, to_dict
from mixnet_tf.errors import MixNetError
from mixnet_tf.model import create_model
from mixnet_tf.saving import load_model
from mixnet_tf.training import fit as training
from mixnet_tf.training.fit import TrainingRecipe, train

EPOCHS = 4
CONFIG = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Arguments of a quick run: 64 random images of two classes, in a folder of its own."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (80, 16, 16, 3), dtype=np.uint8), np.arange(80) % 2
    x[y == 1, :8] //= 2
    np.savez(folder / "tiny.npz", x_train=x[:64], y_train=y[:64], x_test=x[64:], y_test=y[64:])
    return [str(CONFIG), "--data", str(folder / "tiny.npz"), "--batch-size", "16", "--epochs", str(EPOCHS)]


@pytest.fixture(scope="module")
def whole_run(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert main(["train", *tiny, "--output", str(folder)]) == 0
    return folder


def history(folder: Path) -> list[dict]:
    with (folder / "history.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_run_leaves_its_files(whole_run):
    names = {path.name for path in whole_run.iterdir()}
    assert names == {"model.keras", "best.keras", "last.keras", "labels.txt", "history.csv", "training.json", "logs"}
    assert (whole_run / "labels.txt").read_text() == "0\n1\n"
    assert [row["epoch"] for row in history(whole_run)] == [str(i) for i in range(EPOCHS)]
    assert list((whole_run / "logs").rglob("events.out.tfevents.*"))
    model = load_model(whole_run / "model.keras")
    assert model.output_shape == (None, 2) and not hasattr(model, "optimizer")


def test_best_is_the_average_that_was_validated(whole_run, tiny):
    """Scoring best.keras by itself gives the best val_accuracy of the log, so the EMA weights were saved."""
    from mixnet_tf.data.batches import load_data
    from mixnet_tf.evidence.evaluation import evaluate

    own = evaluate(whole_run / "best.keras", load_data(tiny[2]), split="val")
    assert own.top1 == pytest.approx(max(float(row["val_accuracy"]) for row in history(whole_run)), abs=1e-6)
    last = load_model(whole_run / "last.keras")
    raw = last.trainable_variables[0]
    average = last.optimizer._model_variables_moving_average[0]
    assert np.abs(np.asarray(raw) - np.asarray(average)).max() > 0


def kill_after_epoch(arguments: list[str], folder: Path, epochs: int) -> None:
    process = subprocess.Popen([sys.executable, "-m", "mixnet_tf", "train", *arguments, "--output", str(folder)])
    log = folder / "history.csv"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (log.is_file() and log.read_text().count("\n") > epochs):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_resume_after_kill_9_continues_exactly(whole_run, tiny, tmp_path):
    folder = tmp_path / "killed"
    kill_after_epoch(tiny, folder, 2)
    assert not (folder / "model.keras").exists()
    kept = int(load_model(folder / "last.keras").optimizer.iterations) // 3  # 57 images are left for training
    assert 1 <= kept < EPOCHS
    (folder / ".best-0.part.keras").write_bytes(b"half")  # what a kill in the middle of a save would leave
    assert main(["train", *tiny, "--output", str(folder), "--resume"]) == 0
    assert not list(folder.glob(".*.part*"))
    for killed, whole in zip(history(folder), history(whole_run), strict=True):
        for key in whole:
            assert float(killed[key]) == pytest.approx(float(whole[key]), rel=1e-5, abs=1e-6), key
    ours, theirs = load_model(folder / "model.keras"), load_model(whole_run / "model.keras")
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_resumed_dropout_draws_what_it_would_have_drawn(tiny, tmp_path, monkeypatch):
    config = to_dict(load_config(CONFIG))
    config["model"]["architecture"]["backbone"]["params"]["dropout_rate"] = 0.5
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    arguments = ["train", str(tmp_path / "c.yaml"), *tiny[1:-1], "2", "--output"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    real = training._LastModel.on_epoch_end

    def interrupted(self, epoch, logs=None):
        real(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._LastModel, "on_epoch_end", interrupted)
        assert main([*arguments, str(tmp_path / "cut")]) == 130
    assert len(history(tmp_path / "cut")) == 1
    assert main([*arguments, str(tmp_path / "cut"), "--resume"]) == 0
    losses = [[float(row["loss"]) for row in history(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_best_epoch_is_the_later_of_equals(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,val_accuracy\n0,0.5\n1,0.75\n2,0.75\n3,0.7\n")
    assert training.best_epoch(tmp_path) == (2, 0.75)


def test_a_short_run_warms_up_for_half_of_it():
    model = create_model(CONFIG, classes=2, input_shape=(32, 32, 3))
    training._compile(model, LossConfig(), TrainingRecipe(epochs=2, learning_rate=0.5), steps=10)
    rates = [float(model.optimizer._learning_rate(step)) for step in range(21)]
    assert max(rates) == rates[10] == 0.5 and rates[20] == 0


def test_a_range_penalty_is_in_the_loss_and_not_in_the_model(whole_run, tiny, tmp_path):
    assert main(["train", *tiny, "--output", str(tmp_path / "run"), "--range-penalty", "100", "--epochs", "1"]) == 0
    plain, penalized = (float(history(folder)[0]["loss"]) for folder in (whole_run, tmp_path / "run"))
    assert penalized > plain + 100  # a tensor's penalty is about 1.1 at least
    model = load_model(tmp_path / "run" / "model.keras")
    model(np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])))
    assert not model.losses


def test_resume_of_a_finished_run_changes_nothing(whole_run, tiny):
    before = (whole_run / "history.csv").read_bytes()
    assert main(["train", *tiny, "--output", str(whole_run), "--resume"]) == 0
    assert (whole_run / "history.csv").read_bytes() == before


def test_decay_is_on_kernels_and_scales():
    model = create_model(CONFIG, classes=3, input_shape=(32, 32, 3), classifier_activation=None)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    recipe = TrainingRecipe(learning_rate=0.1, weight_decay=0.5, warmup_epochs=0)
    training._compile(model, LossConfig(), recipe, 10)
    model.optimizer.apply([np.zeros(v.shape, "float32") for v in model.trainable_variables], model.trainable_variables)
    found = {(v.name, round(float(np.max(v)), 4)) for v in model.trainable_variables}
    assert found == {("kernel", 0.95), ("gamma", 0.95), ("beta", 1.0), ("bias", 1.0)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": "3"},
        {"batch_size": 2.5},
        {"seed": -1},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"weight_decay": -0.1},
        {"range_penalty": -1},
        {"warmup_epochs": None},
    ],
)
def test_impossible_recipes(wrong):
    (name,) = wrong
    with pytest.raises(MixNetError, match=f"^{name}="):
        TrainingRecipe(**wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "--resume"),
        (["--resume", "--learning-rate", "0.5"], "learning_rate"),
        (["--resume", "--image-size", "20"], "image_size"),
        (["--epochs", "0"], "--epochs"),
        (["--learning-rate", "0", "--overwrite"], "learning_rate=0"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--weights", "missing.safetensors", "--overwrite"], "missing.safetensors"),
        (["--resume", "--overwrite"], "not allowed with"),
        (["--resume", "--padding", "same"], "padding"),
        (["--epochs", "1" + "0" * 23], "--epochs"),
    ],
)
def test_refused(whole_run, tiny, changes, message, capsys):
    before = (whole_run / "model.keras").read_bytes()
    try:
        status = main(["train", *tiny, "--output", str(whole_run), *changes])
    except SystemExit as error:  # argparse's own way out
        status = error.code
    errors = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and message in errors[-1]
    assert (whole_run / "model.keras").read_bytes() == before


def test_divergence_is_named_and_leaves_no_model(tiny, tmp_path):
    from mixnet_tf.data.batches import load_data

    recipe = TrainingRecipe(epochs=2, batch_size=16, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(MixNetError, match="training diverged"):
        train(load_config(CONFIG), load_data(tiny[2]), tmp_path / "run", image_size=16, recipe=recipe)
    assert not list((tmp_path / "run").glob("*.keras"))


def test_frozen_backbone(tiny, whole_run, tmp_path):
    arguments = [*tiny[:-1], "1", "--output", str(tmp_path), "--freeze-backbone", "--learning-rate", "0.1"]
    assert main(["train", *arguments, "--weights", str(whole_run / "model.keras")]) == 0
    before, after = load_model(whole_run / "model.keras"), load_model(tmp_path / "model.keras")
    for a, b in zip(before.variables, after.variables, strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b)) == (not a.path.startswith("predictions")), a.path


def test_frozen_runs_resume_and_load_frozen(tiny, tmp_path):
    arguments = [*tiny[:-1], "1", "--output", str(tmp_path), "--freeze-backbone"]
    assert main(["train", *arguments]) == 0
    frozen = load_model(tmp_path / "last.keras")
    assert [variable.path for variable in frozen.trainable_variables] == ["predictions/kernel", "predictions/bias"]
    assert main(["train", *arguments, "--resume"]) == 0


def test_the_configuration_can_freeze_and_name_weights(tiny, whole_run, tmp_path):
    data = to_dict(load_config(CONFIG))
    data["model"] |= {"freeze_backbone": True, "checkpoint": {"path": str(whole_run / "model.keras")}}
    (tmp_path / "c.yaml").write_text(json.dumps(data))
    assert main(["train", str(tmp_path / "c.yaml"), *tiny[1:-1], "1", "--output", str(tmp_path / "run")]) == 0
    before, after = (load_model(folder / "model.keras") for folder in (whole_run, tmp_path / "run"))
    np.testing.assert_array_equal(np.asarray(before.variables[0]), np.asarray(after.variables[0]))


def test_files_of_the_user_are_not_touched(tiny, tmp_path, capsys):
    (tmp_path / "history.csv").write_text("mine\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.txt").write_text("mine")
    for resume in ([], ["--resume"]):
        assert main(["train", *tiny, "--output", str(tmp_path), *resume]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "holds files already" in line
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "logs"}
    assert (tmp_path / "history.csv").read_text() == "mine\n"
    assert main(["train", *tiny[:-1], "1", "--output", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "logs" / "mine.txt").read_text() == "mine"  # only what a run left is deleted
    assert main(["train", *tiny[:-1], "1", "--output", str(tmp_path / "new"), "--resume"]) == 0
    assert "new: holds no run to resume; starting one" in capsys.readouterr().err


def test_resume_refuses_other_images_and_damaged_files(tiny, whole_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder)
    arrays = dict(np.load(tiny[2]))
    np.savez(tmp_path / "tiny.npz", **(arrays | {"x_train": arrays["x_train"][::-1]}))
    other = [*tiny[:2], str(tmp_path / "tiny.npz"), *tiny[3:]]
    assert main(["train", *other, "--output", str(folder), "--resume"]) == 2
    assert "the run was started with images" in capsys.readouterr().err
    for name, content in (("history.csv", "epoch,loss\nx,1\n"), ("training.json", "[1]")):
        (folder / name).write_text(content)
        assert main(["train", *tiny, "--output", str(folder), "--resume"]) == 2
        assert f"{name}: " in capsys.readouterr().err


def test_images_that_are_not_square(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (40, 16, 20, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "wide.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    arguments = [
        str(CONFIG),
        "--data",
        str(tmp_path / "wide.npz"),
        "--epochs",
        "1",
        "--output",
        str(tmp_path / "run"),
    ]
    assert main(["train", *arguments]) == 0
    assert load_model(tmp_path / "run" / "model.keras").input_shape == (None, 16, 20, 3)


def test_class_weights_count_must_fit(tiny, tmp_path, capsys):
    data = to_dict(load_config(CONFIG))
    data["model"]["losses"][0]["weight"] = [1, 2, 3]
    (tmp_path / "c.yaml").write_text(json.dumps(data))
    assert main(["train", str(tmp_path / "c.yaml"), *tiny[1:], "--output", str(tmp_path / "run")]) == 2
    assert "losses[0].weight: found 3 numbers, expected one for each of 2 classes" in capsys.readouterr().err


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


def test_schedule_warms_up_and_ends_at_zero(whole_run):
    model = load_model(whole_run / "last.keras")
    schedule, steps = model.optimizer._learning_rate, 3
    assert isinstance(schedule, keras.optimizers.schedules.CosineDecay)
    assert float(schedule(0)) == 0
    assert float(schedule(EPOCHS // 2 * steps)) == pytest.approx(2e-3)  # 3 epochs were asked for, more than half
    assert float(schedule(EPOCHS * steps)) == pytest.approx(0, abs=1e-9)
