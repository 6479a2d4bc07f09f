"""The main job on the embedded digits: its accuracy floor, and a report that can be recomputed."""

import json

import pytest

from mixnet_tf.cli import main

FILES = ["model.keras", "model_float32.tflite", "model_float16.tflite", "model_int8.tflite"]


@pytest.fixture(scope="module")
def report(main_job):
    return json.loads((main_job / "report.json").read_text())


def test_accuracy_floor(report):
    top1 = {own["file"]: own["evaluation"]["top1"] for own in report["results"]}
    assert list(top1) == FILES
    assert top1["model.keras"] >= 0.97
    assert top1["model_int8.tflite"] >= top1["model.keras"] - 0.01


def test_files(main_job, report):
    names = {path.name for path in main_job.iterdir()}
    assert {*FILES, "labels.txt", "report.md", "report.json", "confusion.png", "latency.png"} <= names
    assert (main_job / "labels.txt").read_text().split() == list("0123456789")
    for own in report["results"]:
        assert own["size_bytes"] == (main_job / own["file"]).stat().st_size
    assert (main_job / "confusion.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("file", FILES)
def test_every_number_can_be_recomputed(main_job, report, file, capsys):
    arguments = ["evaluate", str(main_job / file), "--data", "digits", "--json"]
    if file != "model.keras":
        arguments += ["--reference", str(main_job / "model.keras")]
    assert main(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    reported = next(own["evaluation"] for own in report["results"] if own["file"] == file)
    assert {key: again[key] for key in reported} == reported
    assert f"| {file} |" in (main_job / "report.md").read_text()


def test_int8_is_int8_throughout(main_job, report):
    from mixnet_tf.litert.runtime import LiteModel

    model = LiteModel(main_job / "model_int8.tflite")
    assert model.input["dtype"].__name__ == model.output["dtype"].__name__ == "int8"
    kinds = {detail["dtype"].__name__ for detail in model._interpreter.get_tensor_details() if detail["name"]}
    assert kinds <= {"int8", "int32"}


def test_report_reads_well(main_job):
    text = (main_job / "report.md").read_text()
    assert text.startswith("# mixnet_nano on digits\n") and "mixnet-tf evaluate" in text and "Weakest class" in text
