"""What commands report: as JSON, whose keys are a promise, and for readers."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, results, shown

from mixnet_tf.cli import main

TINY = Path(__file__).parents[1] / "tiny.yaml"
ABOUT = ["notes", "skipped_images"]
EVALUATED = ["model", "split", "count", "top1", "top5", "per_class", "reference", "agreement", "snr_db"]
COMPARED = ["a", "b", "split", "count", "top1_a", "top1_b", "top5_a", "top5_b"]
COMPARED += ["only_a_right", "only_b_right", "p_value", "agreement", "agreement_low", "agreement_high"]
COMPARED += ["measured", "snr_db", "snr_median_db", "snr_low_db", "cosine"]
EXPORTED = {"path", "size_bytes", "notes", "skipped_images"}  # of the commands that export once was
EXPORTED |= {"sha256", "recipe", "backend", "calibration", "emphasis", "equalization_error", "fallback", "outputs"}
EXPORTED |= {"versions"}


def test_list_and_summary(capsys):
    listed = results(capsys, "list")
    configs = listed["configs"]
    assert configs["mixnet_s"]["parameters"] == 4_134_606 and "mixnet_nano" in configs
    summary = results(capsys, "summary", "mixnet_s")
    assert list(summary) == ["name", "image_size", "classes", "parameters", "macs", "stages"]
    assert summary["parameters"] == 4_134_606 and round(summary["macs"] / 1e6, 1) == 239.2
    stages = {row["name"]: row for row in summary["stages"]}
    assert (stages["stage3"]["height"], stages["stage3"]["channels"]) == (14, 120)
    text = shown(capsys, "summary", summary)
    assert "4,134,606" in text and "239.17 M" in text and "14x14" in text
    recipe = "int8 throughout, input and output too, for the smallest and fastest file."
    assert listed["recipes"]["int8"] == {"description": recipe}
    assert all(entry["description"].endswith(".") for kind in listed.values() for entry in kind.values())
    lines = shown(capsys, "list", listed).splitlines()
    (network,) = [line for line in lines if line.startswith(" mixnet_s ")]
    assert network.split() == ["mixnet_s", "MixNet-S", "(arXiv:1907.09595).", "4,134,606", "239.2", "M"]
    starts = {line.index(entry["description"]) for entry in listed["recipes"].values() for line in lines
              if line.rstrip().endswith(entry["description"])}  # fmt: skip
    assert len(starts) == 1


@pytest.fixture(scope="module")
def by_hand(job, few_digits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test images, Keras' outputs for them, and their labels: without this package."""
    from mixnet_tf.saving import load_model

    with np.load(few_digits) as arrays:
        pixels, labels = arrays["x_test"], arrays["y_test"]
    return pixels, np.asarray(load_model(job / "model.keras")(pixels, training=False)), labels


def test_evaluate_counts_by_hand(job, few_digits, by_hand, capsys):
    _, outputs, labels = by_hand
    result = results(capsys, "evaluate", job / "model.keras", "--data", few_digits)
    assert list(result) == [*EVALUATED, *ABOUT]
    assert result["count"] == 60 and result["split"] == "test"
    assert result["top1"] == pytest.approx(np.mean(outputs.argmax(1) == labels))
    five = [label in np.argsort(row)[-5:] for row, label in zip(outputs, labels, strict=True)]
    assert result["top5"] == pytest.approx(np.mean(five))
    assert result["reference"] is result["agreement"] is result["snr_db"] is None
    assert f"top-1 {result['top1']:.2%}" in shown(capsys, "evaluate", result)


def test_compare_counts_by_hand(job, few_digits, by_hand, capsys):
    from mixnet_tf.litert.runtime import LiteModel

    images, expected, labels = by_hand
    outputs = LiteModel(job / "model_int8.tflite")(images)
    result = results(capsys, "compare", job / "model.keras", job / "model_int8.tflite", "--data", few_digits)
    assert list(result) == [*COMPARED, *ABOUT]
    assert result["top1_a"]["value"] == pytest.approx(np.mean(expected.argmax(1) == labels))
    assert result["top1_b"]["value"] == pytest.approx(np.mean(outputs.argmax(1) == labels))
    assert result["top1_b"]["low"] < result["top1_b"]["value"] <= result["top1_b"]["high"]
    assert result["agreement"] == pytest.approx(np.mean(outputs.argmax(1) == expected.argmax(1)))
    power = 10 * np.log10(np.mean(expected**2) / np.mean((expected - outputs) ** 2))
    assert result["snr_db"] == pytest.approx(power, abs=1e-3)
    text = shown(capsys, "compare", result)
    assert f"SNR of the logits {result['snr_db']:.1f} dB, of the median image {result['snr_median_db']:.1f} dB" in text
    assert (
        f"agreement {result['agreement']:.2%} ({result['agreement_low']:.2%} to {result['agreement_high']:.2%})" in text
    )


def test_equal_outputs(job, few_digits, capsys):
    result = results(capsys, "compare", *[job / "model_int8.tflite"] * 2, "--data", few_digits)
    assert result["snr_db"] is None and result["agreement"] == 1
    assert "equal logits" in shown(capsys, "compare", result)


def test_inspect(job, fixtures, capsys):
    result = results(capsys, "inspect", job / "model_int8.tflite")
    assert result["size_bytes"] == (job / "model_int8.tflite").stat().st_size
    assert result["path"] == str(job / "model_int8.tflite")
    assert result["inputs"][0]["shape"] == [1, 32, 32, 3] and result["inputs"][0]["dtype"] == "int8"
    assert all(op["delegated"] and not op["cliff"] for op in result["ops"])
    large = fixtures / "ops" / "float32_depthwise_7x7.tflite"
    result = results(capsys, "inspect", large)
    (cliff,) = [op for op in result["ops"] if op["cliff"]]
    assert cliff["inputs"][1][1] == 7
    lines = shown(capsys, "inspect", result).splitlines()
    assert lines[0] == f"{large}: 0.00 MB" and len(lines) == 4
    assert lines[-1] == "3 ops: 3 on XNNPACK, 1 of them slow, and 0 outside it; --ops says which, and why"


def test_inspect_shows_why_an_op_is_slow(fixtures, capsys):
    path = fixtures / "ops" / "float32_cumsum.tflite"
    assert main(["inspect", str(path), "--ops"]) == 0
    text = capsys.readouterr().out
    (row,) = [line for line in text.splitlines() if "CUMSUM" in line]
    assert "1x8x8x8" in row and "NO: XNNPACK does not take this op" in row
    assert "\n3 ops: 2 on XNNPACK, 0 of them slow, and 1 outside it\n" in text
    assert main(["inspect", str(path)]) == 0
    assert "CUMSUM" not in capsys.readouterr().out
    assert results(capsys, "inspect", path, "--ops") == results(capsys, "inspect", path)


def test_inspect_shows_what_int8_input_means(job, capsys):
    result = results(capsys, "inspect", job / "model_int8.tflite")
    image = result["inputs"][0]
    assert image["scale"] > 0
    line = f"int8 1x32x32x3, scale {image['scale']:.6g}, zero point {image['zero_point']}"
    assert line in shown(capsys, "inspect", result)


def test_inspect_predicts_costs(job, fixtures, tmp_path, capsys):
    path = job / "model_int8.tflite"
    result = results(capsys, "inspect", path, "--cost", "--save-plot", tmp_path / "costs.svg")
    cost = result["cost"]
    keys = {"core", "litert", "instructions", "unknown", "kinds", "blocks", "peak_bytes", "peak_op", "cliffs", "ops"}
    assert set(cost) == keys and [op["name"] for op in cost["ops"]] == [op["name"] for op in result["ops"]]
    assert set(cost["ops"][0]) == {"index", "name", "block", "instructions", "moved_bytes", "weight_bytes"}
    assert "stage2_block1" in (tmp_path / "costs.svg").read_text() and "CONV_2D" in (tmp_path / "costs.svg").read_text()
    text = shown(capsys, "inspect", result)
    assert f"\n{cost['instructions'] / 1e6:.1f} M instructions per image, predicted: Cortex-A76, one thread" in text
    assert "cost" not in results(capsys, "inspect", path)
    assert "exists already" in refused(capsys, "inspect", path, "--save-plot", tmp_path / "costs.svg")
    assert "a plot is one of .png" in refused(capsys, "inspect", path, "--save-plot", tmp_path / "costs.txt")


def test_inspect_names_cliffs_and_what_it_does_not_know(fixtures, capsys):
    result = results(capsys, "inspect", fixtures / "ops" / "float32_depthwise_7x7.tflite", "--cost")
    (cliff,) = result["cost"]["cliffs"]
    assert f"waste {cliff['wasted'] / 1e6:.1f} M of them (ops {cliff['index']})" in shown(capsys, "inspect", result)
    assert main(["inspect", str(fixtures / "ops" / "float32_cumsum.tflite"), "--cost", "--ops"]) == 0
    text = capsys.readouterr().out
    assert "not known, and in no sum: CUMSUM (1 of 3 ops)" in text
    (row,) = [line for line in text.splitlines() if "1 CUMSUM" in line]
    assert row.rstrip().endswith("unknown")


@pytest.mark.exhaustive
def test_summary_predicts_costs(capsys):
    result = results(capsys, "summary", "mixnet_nano", "--classes", 10, "--image-size", 32, "--cost")
    assert list(result["costs"]) == ["float32", "int8"]
    floats, ints = (cost["instructions"] for cost in result["costs"].values())
    assert ints < floats
    text = shown(capsys, "summary", result)
    assert "deploy graph, int8:" in text and f"{ints / 1e6:.1f} M instructions per image" in text


def test_benchmark(job, capsys):
    files = [str(job / f"model_{name}.tflite") for name in ("float32", "int8")]
    rows = results(capsys, "benchmark", *files, "--rounds", 3, "--threads", 2)
    assert [list(row) for row in rows] == [
        ["path", "min_ms", "median_ms", "p95_ms", "ratio", "start_ms", "peak_bytes"]
    ] * 2
    assert [row["path"] for row in rows] == files
    assert all(0 < row["min_ms"] <= row["median_ms"] <= row["p95_ms"] for row in rows) and rows[0]["ratio"] == 1
    assert all(row["start_ms"] > 0 for row in rows)
    text = shown(capsys, "benchmark", rows)
    assert all(file in text for file in files) and "first result ms" in text


@pytest.mark.slow
def test_export_of_a_float_tflite(job, tmp_path, capsys):
    """The shortest way to an int8 file; its record says the same as the command."""
    path = tmp_path / "made" / "f.tflite"
    arguments = ["export", job / "model_float32.tflite", "--recipe", "int8_uint8_io", "--output", path]
    result = results(capsys, *arguments, "--data", "digits", "--images", 8, "--seed", 3)
    assert set(result) == EXPORTED
    assert result["size_bytes"] == path.stat().st_size
    assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["recipe"]["name"] == "int8_uint8_io" and result["calibration"]["seed"] == 3
    assert len(result["calibration"]["images"]) == 8 and result["skipped_images"] == []
    assert any(note.startswith("calibrated on 8 images") for note in result["notes"])
    assert sorted(item.name for item in path.parent.iterdir()) == ["f.quantization.json", "f.tflite"]
    text = shown(capsys, "export", result)
    assert "note: calibrated on 8 images" in text and f"{path}: 0.15 MB, recipe int8_uint8_io" in text
    record = json.loads((path.parent / "f.quantization.json").read_text())
    assert {key: result[key] for key in record} == record
    assert "exists already" in refused(capsys, *arguments, "--data", "digits")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["float16", "int8"])
def test_export(recipe, tiny_keras, folder, tmp_path, capsys):
    path = tmp_path / "made" / "f.tflite"
    data = ["--data", folder, "--images", 8] if recipe == "int8" else []
    result = results(capsys, "export", tiny_keras, "--recipe", recipe, *data, "--output", path)
    assert result["size_bytes"] == path.stat().st_size
    assert sorted(item.name for item in path.parent.iterdir()) == ["f.quantization.json", "f.tflite"]
    assert [note.split(";")[0] for note in result["notes"]] == (["calibrated on 8 images"] if recipe == "int8" else [])
    assert not any(op["cliff"] for op in results(capsys, "inspect", path)["ops"])


@pytest.mark.exhaustive
def test_export_at_another_size_and_of_another_graph(job, tmp_path, capsys):
    from mixnet_tf.litert.runtime import LiteModel

    path = tmp_path / "f.tflite"
    arguments = ["export", job / "model.keras", "--recipe", "float32", "--output", path]
    results(capsys, *arguments, "--image-size", 40)
    assert LiteModel(path).image_size == (40, 40)
    results(capsys, *arguments, "--graph", "plain", "--overwrite")
    assert LiteModel(path).image_size == (32, 32)
    result = results(capsys, "inspect", path)
    cliffs = [op for op in result["ops"] if op["cliff"]]
    assert [op["inputs"][1][1] for op in cliffs] == [7, 7, 9]  # mixnet_nano's kernels above 25 taps
    assert "3 of them slow" in shown(capsys, "inspect", result)


@pytest.mark.slow
def test_export_and_its_report(job, tmp_path, capsys):
    path, report = tmp_path / "pixels.tflite", tmp_path / "report"
    arguments = ["export", job / "model_float32.tflite", "--recipe", "int8_uint8_io", "--data", "digits"]
    result = results(capsys, *arguments, "--images", 40, "--output", path, "--report", report)
    assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(result["calibration"]["images"]) == 40
    measured = json.loads((report / "report.json").read_text())
    assert measured["comparison"]["count"] == 359 and measured["comparison"]["agreement"] > 0.97
    stem = next(tensor for tensor in measured["tensors"] if tensor["block"])
    assert stem["block"] == "stem" and stem["snr_db"] > 30
    gains = [block["gain_db"] for block in measured["sensitivity"]]
    assert len(gains) == 8 and gains == sorted(gains, reverse=True) and gains[0] > 0
    assert f"| {measured['sensitivity'][0]['block']} | {gains[0]:+.1f} dB |" in (report / "report.md").read_text()
    assert (report / "report.md").is_file() and (report / "error.png").is_file()
    again = results(capsys, "compare", job / "model_float32.tflite", path, "--data", "digits")
    assert again["agreement"] == pytest.approx(measured["comparison"]["agreement"], abs=0.01)


@pytest.mark.slow
def test_import_weights(job, few_digits, tmp_path, capsys):
    """Out in timm's names and layouts, and in again: the same outputs."""
    from PIL import Image

    import mixnet_tf

    state, image = tmp_path / "timm.safetensors", tmp_path / "noise.png"
    mixnet_tf.export_state_dict(mixnet_tf.load_model(job / "model.keras"), "timm", state)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(image)
    arguments = ["import-weights", state, "--config", "mixnet_nano", "--output", tmp_path / "again.keras"]
    result = results(capsys, *arguments, "--image-size", 32, "--check", image)
    assert list(result) == ["path", "classes", "best"] and result["classes"] == 10 and len(result["best"]) == 5
    assert result["best"][0]["score"] == max(best["score"] for best in result["best"]) <= 1
    assert "exists already" in refused(capsys, *arguments)
    same = results(capsys, "compare", job / "model.keras", tmp_path / "again.keras", "--data", few_digits)
    assert same["agreement"] == 1 and (same["snr_db"] is None or same["snr_db"] > 100)


@pytest.mark.slow
def test_fine_tuning_starts_from_the_weights(job, tmp_path, capsys):
    before = results(capsys, "evaluate", job / "model.keras", "--data", "digits")
    training = ["train", "mixnet_nano", "--data", "digits", "--output", tmp_path / "run", "--epochs", 1]
    results(capsys, *training, "--weights", job / "model.keras", "--freeze-backbone", "--learning-rate", "1e-6")
    tuned = results(capsys, "evaluate", tmp_path / "run" / "model.keras", "--data", "digits")
    assert tuned["top1"] == pytest.approx(before["top1"], abs=0.01)


@pytest.mark.exhaustive
def test_training_counts_skipped_images(folder, tmp_path, capsys):
    bad = folder / "train" / "cat" / "bad.jpg"
    bad.write_bytes(b"not an image")
    arguments = [TINY, "--data", folder, "--image-size", 24, "--epochs", 1, "--batch-size", 4]
    result = results(capsys, "train", *arguments, "--output", tmp_path / "run", "--on-bad-image", "skip")
    assert result["skipped_images"] == [str(bad)]
    with (tmp_path / "run" / "history.csv").open() as handle:
        (epoch,) = csv.DictReader(handle)
    assert (result["best_epoch"], result["val_top1"]) == (0, float(epoch["val_accuracy"]))
    evaluated = results(capsys, "evaluate", result["model"], "--data", folder)
    assert evaluated["count"] == 8 and set(evaluated["per_class"]) == {"cat", "dog"}


def test_train_reports_its_best_epoch(folder, tmp_path, monkeypatch, capsys):
    """With a training that only writes down how it went."""
    from mixnet_tf.training import fit

    bad = folder / "train" / "cat" / "bad.jpg"
    bad.write_bytes(b"not an image")
    given = []

    def train(config, data, output, *, training, resume, **arguments):
        given.append((config.name, data.checked_splits, len(data.splits["train"]), training.epochs, resume))
        (output / "history.csv").write_text("epoch,val_accuracy\n0,0.5\n1,0.75\n2,0.75\n3,0.25\n")

    monkeypatch.setattr(fit, "train", train)
    arguments = ["train", TINY, "--data", folder, "--output", tmp_path / "run", "--epochs", 4]
    result = results(capsys, *arguments, "--on-bad-image", "skip")
    assert list(result) == ["model", "best_epoch", "val_top1", "skipped_images"]
    assert result["model"] == str(tmp_path / "run" / "model.keras")
    assert (result["best_epoch"], result["val_top1"]) == (2, 0.75)  # of equals, the later
    assert result["skipped_images"] == [str(bad)]
    assert given == [("mixnet", {"train", "val", "test"}, 24 - 2, 4, False)]  # 2 are held out for val


def test_bad_images_are_named_before_anything_is_trained(folder, tmp_path, capsys):
    arguments = [TINY, "--data", folder, "--image-size", 24, "--epochs", 1, "--output", tmp_path / "run"]
    late = folder / "test" / "dog" / "late.jpg"  # would be met only after training
    late.write_bytes(b"")
    assert str(late) in refused(capsys, "pipeline", *arguments)
    bad = folder / "train" / "cat" / "bad.jpg"
    bad.write_bytes(b"not an image")
    assert str(bad) in refused(capsys, "train", *arguments)
    assert not (tmp_path / "run").exists()


def test_notes_about_the_images(folder, two_classes, tmp_path, capsys):
    result = results(capsys, "evaluate", two_classes, "--data", folder)
    assert result["count"] == 8 and set(result["per_class"]) == {"cat", "dog"} and result["notes"] == []
    result = results(capsys, "evaluate", two_classes, "--data", folder / "train")
    assert result["notes"] == [
        f"train has no test split: {result['count']} of its images are held out, always the same"
    ]
    (tmp_path / "two").mkdir()
    for name, split in (("train", "train"), ("val", "test")):
        (tmp_path / "two" / name).symlink_to(folder / split)
    arguments = ["evaluate", two_classes, "--data", tmp_path / "two"]
    assert "its val stands in" in results(capsys, *arguments)["notes"][0]
    bad = folder / "test" / "cat" / "bad.jpg"
    bad.write_bytes(b"")
    result = results(capsys, *arguments, "--on-bad-image", "skip")
    assert "its val stands in" in result["notes"][0] and len(result["skipped_images"]) == 1
    text = shown(capsys, "evaluate", result)
    assert "note: two has no test split" in text and "skipped 1 unreadable images: " in text


def test_classes_are_those_of_the_labels_beside_the_model(folder, two_classes, capsys):
    (folder / "train" / "dog").rename(folder / "train" / "wolf")
    line = refused(capsys, "evaluate", two_classes, "--data", folder / "train")
    assert "model.keras: class 1 is 'dog' in its labels, but 'wolf' in train; expected the same" in line


def test_what_blocks_in_float_cost_is_shown(capsys):
    fallback = {"blocks": ["stem"], "images": 143, "agreement": 0.993, "size_ratio": 1.02, "latency_ratio": 1.1}
    made = {"path": "f.tflite", "size_bytes": 150_000, "recipe": {"name": "int8_mixed"}, "fallback": fallback}
    lines = shown(capsys, "export", made | {"notes": [], "skipped_images": [], "outputs": []}).splitlines()
    assert lines == [
        "blocks kept in float32: stem; 99.30% of 143 validation images agree; "
        "size 1.02 and latency 1.10 of the file all in int8",
        "f.tflite: 0.15 MB, recipe int8_mixed",
    ]


def test_training_shows_the_best_epoch_as_people_count(capsys):
    trained = {
        "model": "run/model.keras",
        "best_epoch": 0,
        "val_top1": 0.5,
        "skipped_images": ["a", "b", "c", "d", "e", "f"],
    }
    assert shown(capsys, "train", trained).splitlines() == [
        "skipped 6 unreadable images: a, b, c, d, e …",
        "trained model: run/model.keras, top-1 50.00% on the validation images, in epoch 1",
    ]


def test_a_pipeline_shows_its_table(capsys):
    measured = {"top1": 0.875, "agreement": None}
    row = {"file": "model.keras", "size_bytes": 1_230_000, "evaluation": measured, "latency": None}
    lite = {"file": "f.tflite", "size_bytes": 50_000, "evaluation": {"top1": 0.75, "agreement": 0.5}}
    rows = [row, lite | {"latency": {"median_ms": 1.25}}]
    text = shown(
        capsys, "pipeline", {"notes": ["few"], "skipped_images": [], "results": rows, "report": "run/report.md"}
    )
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[0] == ["note:", "few"] and lines[-1] == ["report:", "run/report.md"]
    assert ["model.keras", "1.23", "87.50%"] in lines and ["f.tflite", "0.05", "75.00%", "50.00%", "1.25"] in lines
