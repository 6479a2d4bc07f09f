"""Folders in place of model files."""

import json
import shutil

import pytest
from command_line import refused, results

from mixnet_tf.training import run_models


@pytest.fixture
def run(job, tmp_path):
    """A run's folder whose training has ended, without a ``.tflite``."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("model.keras", "labels.txt"):
        shutil.copyfile(job / name, folder / name)
    (folder / "training.json").write_text(json.dumps({}))
    return folder


@pytest.mark.slow
def test_a_run_stands_for_its_model(run, few_digits, capsys):
    evaluated = results(capsys, "evaluate", run, "--data", few_digits)
    assert evaluated["model"] == str(run / "model.keras") and evaluated["count"] == 60


@pytest.mark.slow
def test_compare_takes_runs_too(run, few_digits, capsys):
    compared = results(capsys, "compare", run, run / "model.keras", "--data", few_digits)
    assert compared["a"] == compared["b"] == str(run / "model.keras") and compared["agreement"] == 1


def test_export_finds_the_model_of_a_run(run, tmp_path, capsys):
    """Before it looks for anything else: this file exists already."""
    (tmp_path / "x.tflite").touch()
    arguments = ["--recipe", "float32", "--output", tmp_path / "x.tflite"]
    assert "x.tflite: exists already" in refused(capsys, "export", run, *arguments)
    (run / "model.keras").unlink()
    assert f"{run}: its training has not ended" in refused(capsys, "export", run, *arguments)


@pytest.mark.parametrize("command", ["inspect", "benchmark"])
def test_a_folder_with_one_tflite_stands_for_it(command, run, job, capsys):
    shutil.copyfile(job / "model_int8.tflite", run / "model_int8.tflite")
    result = results(capsys, command, run, *(["--rounds", "1"] if command == "benchmark" else []))
    (result,) = result if command == "benchmark" else [result]
    assert result["path"] == str(run / "model_int8.tflite")


def test_a_file_stands_for_itself(job, tmp_path):
    for path in (job / "model.keras", job / "model_int8.tflite", tmp_path / "none.keras"):
        assert run_models.keras_or_lite(path) == path
    assert run_models.lite(job / "model_int8.tflite") == job / "model_int8.tflite"
