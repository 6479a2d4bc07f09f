"""The whole path: a tiny run of it, what it passes on, and (slow) the README's main job."""

import csv
import dataclasses
import json
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixnet_tf import pipeline
from mixnet_tf.cli import main
from mixnet_tf.config import load_config
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import DataError
from mixnet_tf.evidence.classifier import Classifier
from mixnet_tf.evidence.comparison import compare, compare_outputs
from mixnet_tf.evidence.evaluation import Evaluation, evaluate
from mixnet_tf.evidence.results import ModelResult
from mixnet_tf.pipeline import Measured, run_pipeline
from mixnet_tf.training.config import TrainingConfig

FILES = ["model.keras", "model_float32.tflite", "model_float16.tflite", "model_mobile.tflite"]
WRITTEN = {*FILES, "labels.txt", "report.html", "report.md", "report.json", "confusion.png", "latency.png"}
MEASURED = ("count", "top1", "top5", "per_class")
GRAPHS = types.SimpleNamespace(image_size=(32, 24), result=None)
TINY = Path(__file__).with_name("tiny.yaml")


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    """A folder of images {train,val}/{cat,dog}, cats in red and dogs in green, and one file that is no image."""
    root, rng = tmp_path_factory.mktemp("data") / "pets", np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for channel, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (24, 24, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    (root / "val" / "cat" / "bad.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def tiny_run(pets, tmp_path_factory):
    """The report and the folder of a run of one epoch of two blocks."""
    output = tmp_path_factory.mktemp("run") / "pets"
    report = run_pipeline(
        TINY,
        load_data(pets, on_bad_image="skip"),
        output,
        data_source=str(pets),
        image_size=24,
        training=TrainingConfig(epochs=1, batch_size=8),
    )
    return report, output


@pytest.mark.slow
def test_a_tiny_run_leaves_its_files_and_says_what_it_did(tiny_run, pets):
    report, output = tiny_run
    assert {path.name for path in output.iterdir()} >= WRITTEN
    assert (output / "labels.txt").read_text().split() == ["cat", "dog"] == list(report.class_names)
    assert [result.file for result in report.results] == FILES
    assert (report.data, report.data_source, report.image_size, report.epochs) == ("pets", str(pets), 24, 1)
    assert report.test_is_val and report.skipped_images == (str(pets / "val" / "cat" / "bad.png"),)
    assert any(note.startswith("calibrated on 24 images") for note in report.notes)
    content = json.loads((output / "report.json").read_text())
    assert content == json.loads(json.dumps(report.to_dict()))


@pytest.mark.slow
def test_a_tiny_run_measures_what_its_page_needs(tiny_run, pets):
    report, output = tiny_run
    with (output / "history.csv").open(newline="") as handle:
        (epoch,) = csv.DictReader(handle)
    assert report.history == {name: (float(value),) for name, value in epoch.items()} and report.best_epoch == 0
    distance = compare(output / FILES[1], output / FILES[3], load_data(pets, on_bad_image="skip"))
    assert report.comparison == distance
    wrong = round(distance.count * (1 - distance.top1_b.value))
    assert sum(pair.count for pair in report.confusions) == wrong
    assert [score.recall for score in report.classes] == list(report.results[-1].evaluation.per_class.values())
    assert [block.block for block in report.blocks if block.block] == [
        *("stem", "stage1_block1", "stage1_block2", "last_conv"),
    ]
    assert report.block_images == 8 and all(5 < block.lowest_db <= block.snr_db for block in report.blocks)
    page = (output / "report.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == min(wrong, 4 * len(report.confusions))
    assert report.verdict.sentence in page and report.verdict.sentence in (output / "report.md").read_text()


@pytest.mark.slow
def test_every_number_of_a_tiny_run_can_be_measured_again(tiny_run, pets):
    report, output = tiny_run
    check_numbers(
        [dataclasses.asdict(result) for result in report.results], output, load_data(pets, on_bad_image="skip")
    )


def check_numbers(results: list[dict], output: Path, data: ImageData) -> None:
    """Hold the results of a report against ``evaluate`` and ``compare``, and the files on the disk."""
    reference = output / "model.keras"
    for result in results:
        path, measured = output / result["file"], result["evaluation"]
        assert result["size_bytes"] == path.stat().st_size
        again = dataclasses.asdict(evaluate(path, data))
        assert {key: measured[key] for key in MEASURED} == {key: again[key] for key in MEASURED}
        if path == reference:
            assert measured["reference"] is measured["agreement"] is result["latency"] is None
        else:
            distance = compare(reference, path, data)
            assert (measured["reference"], measured["agreement"]) == (str(reference), distance.agreement)
            assert measured["snr_db"] == distance.snr_db
            assert result["latency"]["path"] == str(path)
            assert 0 < result["latency"]["min_ms"] <= result["latency"]["p95_ms"]


@pytest.fixture
def steps(monkeypatch, trained_nano):
    """What each step is given, by its name; instead of their work they do nothing."""
    given = {"train": [], "source": [], "export": [], "measure": [], "report": [], "bundle": []}
    evaluation = Evaluation(model="m", split="test", count=1, top1=1.0, top5=1.0, per_class={"0": 1.0})

    def train(config, data, output, **arguments):
        given["train"].append({"config": config, "data": data, "output": output, **arguments})
        (output / "history.csv").write_text("epoch,accuracy,val_accuracy\n0,0.25,0.5\n1,0.5,0.375\n")
        return types.SimpleNamespace(input_shape=(None, 32, 24, 3))

    def export(model, output, **arguments):
        given["export"].append((model, output, arguments))
        return types.SimpleNamespace(path=str(output), notes=(f"made with {arguments['recipe']}",))

    def measure(reference, files, data):
        given["measure"].append((reference, files, data))
        results = [ModelResult(file=path.name, size_bytes=1, evaluation=evaluation) for path in (reference, *files)]
        outputs = np.eye(10)[(data.splits["test"].labels + 1) % 10]  # all wrong
        same = Classifier("", np.asarray, (32, 24), 10, "logits")
        compared = compare_outputs(same, same, outputs, outputs, data.splits["test"].labels, split="test")
        confusion = np.diag(np.arange(10))
        return Measured(results=tuple(results), comparison=compared, confusion=confusion, outputs=outputs)

    def source(model, **arguments):
        given["source"].append(arguments)
        return GRAPHS

    for name, step in (("train", train), ("export", export), ("_measure", measure), ("KerasSource", source)):
        monkeypatch.setattr(pipeline, name, step)
    monkeypatch.setattr(pipeline, "write_report", lambda *arguments: given["report"].append(arguments))
    monkeypatch.setattr(pipeline, "bundle", lambda *names, **arguments: given["bundle"].append((names, arguments)))
    return given


PLAIN_FILES = {"float32": "float32", "float16": "float16", "int8": "int8_baseline"}
DEPLOY_FILES = {"float32": "mobile_float32", "float16": "float16", "mobile": "mobile"}


@pytest.mark.parametrize(("graph", "recipes"), [("deploy", DEPLOY_FILES), ("plain", PLAIN_FILES)])
def test_what_is_passed_on(graph, recipes, steps, digits, tmp_path):
    asked = {
        "image_size": (32, 24),
        "training": TrainingConfig(epochs=2),
        "augmentation": Augmentation(jitter=0.0),
        "padding": "same",
        "weights": "w.keras",
        "freeze_backbone": True,
        "unfreeze": None,
        "resume": True,
        "overwrite": False,
    }
    config = load_config("mixnet_nano")
    report = run_pipeline(config, digits, tmp_path, data_source="d", graph=graph, **asked)
    (training,) = steps["train"]
    data = training.pop("data")
    assert data.checked_splits == {"train", "val", "test"}  # once, before anything else
    assert training == {"config": config, "output": tmp_path, "profile": 0, "workers": 0, **asked}
    assert steps["source"] == [{"graph": graph}]  # once: the recipes share what is computed of the model
    recipes = {f"model_{name}.tflite": recipe for name, recipe in recipes.items()}
    arguments = {"data": data, "overwrite": True}
    assert steps["export"] == [
        (GRAPHS, tmp_path / file, {"recipe": recipe, **arguments}) for file, recipe in recipes.items()
    ]
    assert steps["measure"] == [(tmp_path / FILES[0], [tmp_path / file for file in recipes], data)]
    assert report.notes == tuple(f"made with {recipe}" for recipe in recipes.values())
    assert (report.image_size, report.epochs, report.test_is_val) == ((32, 24), 2, False)
    assert [result.file for result in report.results] == [FILES[0], *recipes]
    names = (tmp_path / "model_mobile.tflite", tmp_path / "bundle")
    more = {"data": data, "float32": tmp_path / "model_float32.tflite", "trained_on": "digits: 1295 images"}
    assert steps["bundle"] == ([(names, more | {"overwrite": True})] if graph == "deploy" else [])
    assert report.history == {"epoch": (0, 1), "accuracy": (0.25, 0.5), "val_accuracy": (0.5, 0.375)}
    assert report.best_epoch == 0 and [score.count for score in report.classes] == list(range(10))
    ((written, folder, confusion, pictures),) = steps["report"]
    assert written is report and folder == tmp_path and confusion.trace() == 45 and pictures == ()


def test_names_and_arrays_are_enough(steps, tmp_path):
    report = run_pipeline("mixnet_nano", "digits", tmp_path / "named")
    assert steps["train"][0]["config"] == load_config("mixnet_nano") and report.data_source == "digits"
    pair = np.tile(np.arange(256, dtype=np.uint8), (100, 32, 1))[:, :, :32], np.arange(100) % 10
    report = run_pipeline("mixnet_nano", pair, tmp_path / "arrays")
    assert report.data == report.data_source == "arrays" and len(steps["train"][1]["data"].splits["train"]) == 80


def test_bad_images_come_to_light_before_the_training(steps, pets, tmp_path):
    with pytest.raises(DataError, match=r"bad\.png"):
        run_pipeline(TINY, pets, tmp_path / "run")
    assert not any(steps.values()) and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def main_report(main_job) -> dict:
    return json.loads((main_job / "report.json").read_text())


@pytest.mark.slow
def test_accuracy_floor(main_report):
    top1 = {result["file"]: result["evaluation"]["top1"] for result in main_report["results"]}
    assert list(top1) == FILES
    assert top1["model.keras"] >= 0.97
    assert top1["model_mobile.tflite"] >= top1["model.keras"] - 0.01


@pytest.mark.slow
def test_files_of_the_main_job(main_job):
    assert {path.name for path in main_job.iterdir()} >= WRITTEN
    assert (main_job / "labels.txt").read_text().split() == list("0123456789")
    text = (main_job / "report.md").read_text()
    assert text.startswith("# mixnet_nano on digits\n") and "mixnet-tf compare" in text and "Weakest class" in text


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_number_of_the_main_job_can_be_recomputed(main_job, main_report, file, capsys):
    """By the commands that its report names."""
    reported = next(result["evaluation"] for result in main_report["results"] if result["file"] == file)
    assert main(["evaluate", str(main_job / file), "--data", "digits", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {key: again[key] for key in MEASURED} == {key: reported[key] for key in MEASURED}
    if file != "model.keras":
        files = [str(main_job / "model.keras"), str(main_job / file)]
        assert main(["compare", *files, "--data", "digits", "--json"]) == 0
        again = json.loads(capsys.readouterr().out)
        assert (again["agreement"], again["snr_db"]) == (reported["agreement"], reported["snr_db"])
        assert again["top1_b"]["value"] == reported["top1"]
    assert f"| {file} |" in (main_job / "report.md").read_text()


@pytest.mark.slow
def test_the_file_to_ship_of_the_main_job_is_int8_between_pixels_and_probabilities(main_job):
    from mixnet_tf.litert.runtime import LiteModel

    model = LiteModel(main_job / "model_mobile.tflite")
    assert [model.input["dtype"], model.output["dtype"]] == [np.uint8, np.float32]
    kinds = [detail["dtype"].__name__ for detail in model.interpreter.get_tensor_details() if detail["name"]]
    assert set(kinds) <= {"uint8", "int8", "int32", "float32"}
    assert (kinds.count("uint8"), kinds.count("float32")) == (1, 2)  # the pixels; logits and probabilities
