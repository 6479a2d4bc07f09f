"""The command line: what it prints, and what bad input gets: one line, exit status 2, nothing written."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixnet_tf.cli import main


def run(*arguments, **kwargs):
    command = [sys.executable, "-m", "mixnet_tf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **kwargs)


def results(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    """Run a command that must fail; return its one line."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as error:  # argparse's own way out
        status = error.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    *progress, line = re.split("[\r\n]+", captured.err.strip())
    assert not any("Traceback" in text for text in progress)
    assert line.startswith("mixnet-tf")
    return line


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of images {train,test}/{cat,dog}."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")
    return root


def test_help_answers_without_tensorflow():
    code = "import sys; from mixnet_tf.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "--data" in done.stdout
    assert "scales (default: 0.5)" in " ".join(done.stdout.split())


def test_list_and_summary(capsys):
    configs = results(capsys, "list")["configs"]
    assert configs["mixnet_s"]["parameters"] == 4_134_606 and "mixnet_nano" in configs
    summary = results(capsys, "summary", "mixnet_s")
    assert summary["parameters"] == 4_134_606 and round(summary["macs"] / 1e6, 1) == 239.2
    stages = {row["name"]: row for row in summary["stages"]}
    assert (stages["stage3"]["height"], stages["stage3"]["channels"]) == (14, 120)
    assert main(["summary", "mixnet_s"]) == 0
    text = capsys.readouterr().out
    assert "4,134,606" in text and "239.17 M" in text and "14x14" in text


def test_module_and_quiet_stderr(main_job):
    done = run("evaluate", main_job / "model_int8.tflite", "--data", "digits", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["count"] == 359
    assert done.stderr == ""  # no progress where nobody looks, and no chatter of native libraries


def test_evaluate(main_job, capsys):
    own = results(capsys, "evaluate", main_job / "model_int8.tflite", "--data", "digits",
                  "--reference", main_job / "model.keras")  # fmt: skip
    assert own["top1"] <= own["top5"] <= 1 and own["count"] == 359
    assert own["agreement"] > 0.95 and 10 < own["snr_db"] < 60
    assert main(["evaluate", str(main_job / "model.keras"), "--data", "digits"]) == 0
    assert "top-1" in capsys.readouterr().out


def test_evaluate_counts_by_hand(main_job, capsys):
    """Top-1 and agreement recomputed with scikit-learn's data, Keras' predict and numpy."""
    import keras

    from mixnet_tf.data.batches import evaluation_dataset, load_data
    from mixnet_tf.litert.runtime import LiteModel

    batches = list(evaluation_dataset(load_data("digits"), "test", image_size=32, batch_size=359).as_numpy_iterator())
    (images, labels), model = batches[0], keras.models.load_model(main_job / "model.keras")
    expected = model.predict(images, verbose=0)
    outputs = LiteModel(main_job / "model_int8.tflite")(images)
    own = results(capsys, "evaluate", main_job / "model_int8.tflite", "--data", "digits",
                  "--reference", main_job / "model.keras")  # fmt: skip
    assert own["top1"] == pytest.approx(np.mean(outputs.argmax(1) == labels))
    assert own["agreement"] == pytest.approx(np.mean(outputs.argmax(1) == expected.argmax(1)))
    power = 10 * np.log10(np.mean(expected**2) / np.mean((expected - outputs) ** 2))
    assert own["snr_db"] == pytest.approx(power, abs=1e-3)
    five = [label in np.argsort(row)[-5:] for row, label in zip(expected, labels, strict=True)]
    assert results(capsys, "evaluate", main_job / "model.keras", "--data", "digits")["top5"] == pytest.approx(
        np.mean(five)
    )


def test_quantize_and_its_report(main_job, tmp_path, capsys):
    path, report = tmp_path / "pixels.tflite", tmp_path / "report"
    arguments = ["quantize", main_job / "model.keras", "--recipe", "int8_uint8_io", "--calibration", "digits"]
    own = results(capsys, *arguments, "--images", 40, "--output", path, "--report", report)
    assert own["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(own["calibration"]["images"]) == 40
    measured = json.loads((report / "report.json").read_text())
    assert measured["comparison"]["count"] == 359 and measured["comparison"]["agreement"] > 0.97
    assert measured["tensors"][0]["block"] == "stem" and measured["tensors"][0]["snr_db"] > 30
    gains = [block["gain_db"] for block in measured["sensitivity"]]
    assert len(gains) == 7 and gains == sorted(gains, reverse=True) and gains[0] > 0
    assert f"| {measured['sensitivity'][0]['block']} | {gains[0]:+.1f} dB |" in (report / "report.md").read_text()
    assert (report / "report.md").is_file() and (report / "error.png").is_file()
    again = results(capsys, "compare", main_job / "model_float32.tflite", path, "--data", "digits")
    assert again["agreement"] == pytest.approx(measured["comparison"]["agreement"], abs=0.01)


def test_inspect(main_job, tmp_path, capsys):
    own = results(capsys, "inspect", main_job / "model_int8.tflite")
    assert own["size_bytes"] == (main_job / "model_int8.tflite").stat().st_size
    assert own["inputs"][0]["shape"] == [1, 32, 32, 3] and own["inputs"][0]["dtype"] == "int8"
    assert all(op["delegated"] and not op["cliff"] for op in own["ops"])
    plain = tmp_path / "plain.tflite"
    export = ["export", main_job / "model.keras", "--recipe", "float32", "--output", plain]
    results(capsys, *export, "--graph", "plain")
    cliffs = [op for op in results(capsys, "inspect", plain)["ops"] if op["cliff"]]
    assert [op["inputs"][1][1] for op in cliffs] == [7, 7, 9]  # mixnet_nano's kernels above 25 taps
    assert main(["inspect", str(plain)]) == 0
    assert "3 performance cliffs" in capsys.readouterr().out


def test_benchmark(main_job, capsys):
    files = [str(main_job / f"model_{name}.tflite") for name in ("float32", "int8")]
    rows = results(capsys, "benchmark", *files, "--rounds", 3, "--threads", 2)
    assert [row["path"] for row in rows] == files
    assert all(0 < row["min_ms"] <= row["median_ms"] <= row["p95_ms"] for row in rows) and rows[0]["ratio"] == 1


@pytest.mark.parametrize("recipe", ["float32", "float16", "int8"])
def test_export(recipe, main_job, folder, tmp_path, capsys):
    path = tmp_path / "made" / "f.tflite"
    data = ["--calibration", folder, "--images", 8] if recipe == "int8" else []
    own = results(capsys, "export", main_job / "model.keras", "--recipe", recipe, *data, "--output", path)
    assert own["size_bytes"] == path.stat().st_size
    assert sorted(item.name for item in path.parent.iterdir()) == ["f.quantization.json", "f.tflite"]
    assert [note.split(";")[0] for note in own["notes"]] == (["calibrated on 8 images"] if recipe == "int8" else [])
    arguments = ["export", main_job / "model.keras", "--recipe", recipe, *data, "--output", path]
    assert "exists already" in refused(capsys, *arguments)
    results(capsys, *arguments, "--overwrite", "--image-size", 40)
    from mixnet_tf.litert.runtime import LiteModel

    assert LiteModel(path).image_size == (40, 40)
    results(capsys, *arguments, "--overwrite", "--graph", "plain")
    assert [item.name for item in path.parent.iterdir()] == ["f.tflite"]  # no record of another file


def test_import_weights_and_fine_tune(main_job, tmp_path, capsys):
    """Out in timm's names and layouts, in again, and on: the same accuracy; then training starts from the file."""
    import mixnet_tf

    state = tmp_path / "timm.safetensors"
    mixnet_tf.export_state_dict(mixnet_tf.load_model(main_job / "model.keras"), "timm", state)
    arguments = ["import-weights", state, "--config", "mixnet_nano", "--output", tmp_path / "again.keras"]
    own = results(capsys, *arguments, "--image-size", 32, "--check", main_job / "confusion.png")
    assert own["classes"] == 10 and len(own["best"]) == 5
    assert own["best"][0]["score"] == max(best["score"] for best in own["best"]) <= 1
    assert "exists already" in refused(capsys, *arguments)
    before = results(capsys, "evaluate", main_job / "model.keras", "--data", "digits")
    after = results(capsys, "evaluate", tmp_path / "again.keras", "--data", "digits")
    assert after["top1"] == before["top1"]
    training = ["train", "mixnet_nano", "--data", "digits", "--output", tmp_path / "run", "--epochs", 1]
    results(capsys, *training, "--weights", state, "--freeze-backbone", "--learning-rate", "1e-6")
    tuned = results(capsys, "evaluate", tmp_path / "run" / "model.keras", "--data", "digits")
    assert tuned["top1"] == pytest.approx(before["top1"], abs=0.01)


def test_skipped_images_are_counted(folder, main_job, tmp_path, capsys):
    """Two classes do not fit the digits; a model of two classes is made by a single epoch on the folder."""
    bad = folder / "train" / "cat" / "bad.jpg"
    bad.write_bytes(b"not an image")
    config = Path(__file__).with_name("tiny.yaml")
    arguments = [config, "--data", folder, "--image-size", 24, "--epochs", 1, "--batch-size", 4]
    try:
        line = refused(capsys, "train", *arguments, "--output", tmp_path / "a")
        assert str(bad) in line and not (tmp_path / "a").exists()
        late = folder / "test" / "dog" / "late.jpg"  # would be met only after training
        late.write_bytes(b"")
        bad.rename(tmp_path / "aside")
        assert str(late) in refused(capsys, "pipeline", *arguments, "--output", tmp_path / "a")
        assert not (tmp_path / "a").exists()
        late.unlink()
        (tmp_path / "aside").rename(bad)
        own = results(capsys, "train", *arguments, "--output", tmp_path / "b", "--on-bad-image", "skip")
    finally:
        bad.unlink()
    assert own["skipped_images"] == [str(bad)]
    with (tmp_path / "b" / "history.csv").open() as handle:
        (epoch,) = csv.DictReader(handle)
    assert (own["best_epoch"], own["val_top1"]) == (0, float(epoch["val_accuracy"]))
    model = tmp_path / "b" / "model.keras"
    own = results(capsys, "evaluate", model, "--data", folder)
    assert own["count"] == 8 and set(own["per_class"]) == {"cat", "dog"} and own["notes"] == []
    own = results(capsys, "evaluate", model, "--data", folder / "train")
    assert own["notes"] == [f"train has no test split: {own['count']} of its images are held out, always the same"]
    for name, split in (("train", "train"), ("val", "test")):
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / "two" / name).symlink_to(folder / split)
    assert "its val stands in" in results(capsys, "evaluate", model, "--data", tmp_path / "two")["notes"][0]
    (folder / "train" / "dog").rename(folder / "train" / "wolf")
    line = refused(capsys, "evaluate", model, "--data", folder / "train")
    assert "model.keras: class 1 is 'dog' in the labels.txt beside it, but 'wolf' in train; expected the same" in line
    (folder / "train" / "wolf").rename(folder / "train" / "dog")
    (tmp_path / "b" / "labels.txt").write_text("0\n1\n")  # no names: nothing to compare
    assert results(capsys, "evaluate", model, "--data", folder)["count"] == 8


KERAS, LITE = "model.keras", "model_int8.tflite"
MISTAKES = [
    # arguments (names of main job files in braces), what the line must say
    (["summary", "mixnet_q"], "did you mean"),
    (["summary", "no/such.yaml"], "no/such.yaml: No such file"),
    (["summary", "mixnet_s", "--image-size", "-3"], "--image-size"),
    (["fly"], "invalid choice: 'fly'"),
    (["train", "mixnet_nano", "--data", "digits"], "--output"),
    (["train", "mixnet_nano", "--data", "digitz", "--output", "{tmp}/x"], "did you mean 'digits'"),
    (["train", "mixnet_nano", "--data", "{tmp}", "--output", "{tmp}/x"], "{tmp}"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/file"], "is a file"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--weights", "{tmp}/none"], "none"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--min-area", "7"], "min_area"),
    (["evaluate", "{tmp}/none.keras", "--data", "digits"], "none.keras: no such file"),
    (["evaluate", "{tmp}/none.tflite", "--data", "digits"], "none.tflite: no such file"),
    (["evaluate", "{tmp}/file", "--data", "digits"], "expected a .keras or a .tflite file"),
    (["evaluate", "{tmp}/half.tflite", "--data", "digits"], "half.tflite: LiteRT cannot load it"),
    (["evaluate", "{tmp}/half.keras", "--data", "digits"], "half.keras: not a readable .keras model"),
    (["evaluate", "{job}/model.keras", "--data", "{folder}"], "has 10 classes, but"),
    (["evaluate", "{job}/model_int8.tflite", "--data", "digits", "--image-size", "40"], "takes images of 32 x 32"),
    (["evaluate", "{tmp}/nan.keras", "--data", "digits"], "not finite"),
    (["export", "{job}/model.keras", "--recipe", "int8", "--output", "{tmp}/x.tflite"], "--calibration"),
    (["export", "{job}/model.keras", "--recipe", "int4", "--output", "{tmp}/x.tflite"], "invalid choice: 'int4'"),
    (
        ["export", "{job}/model_int8.tflite", "--recipe", "float32", "--output", "{tmp}/x.tflite"],
        "is converted already",
    ),
    (["export", "{tmp}/half.keras", "--recipe", "float32", "--output", "{tmp}/x.tflite"], "half.keras"),
    (["export", "{job}/model.keras", "--recipe", "float32", "--output", "{tmp}"], "is a folder"),
    (["export", "{job}/model.keras", "--recipe", "float32", "--output", "/dev/full/x.tflite"], "/dev/full"),
    (["benchmark", "{tmp}/half.tflite"], "half.tflite: LiteRT cannot load it"),
    (["benchmark", "{job}/model_int8.tflite", "--threads", "0"], "--threads"),
    (["benchmark", "{job}/labels.txt"], "labels.txt: LiteRT cannot load it"),
    (["import-weights", "{tmp}/none", "--config", "mixnet_s", "--output", "{tmp}/x.keras"], "none"),
    (["import-weights", "{job}/model.keras", "--config", "mixnet_s", "--output", "{tmp}/x.keras"], "missing"),
    (["import-weights", "{job}/model.keras", "--config", "mixnet_nano", "--output", "{tmp}/x"], "ends in .keras"),
    (["import-weights", "{tmp}/nan.keras", "--config", "mixnet_nano", "--output", "{tmp}/x.keras"], "NaN"),
    (["export", "{job}/model.keras", "--recipe", "float32", "--output", "{tmp}/x.keras"], "ends in .tflite"),
    (["export", "{tmp}/vector.keras", "--recipe", "float32", "--output", "{tmp}/x.tflite"], "expected one image"),
    (
        ["export", "{job}/model.keras", "--recipe", "int8", "--output", "{tmp}/x.tflite", "--image-size", "99999"],
        "4096",
    ),
    (["evaluate", "{tmp}/vector.keras", "--data", "digits"], "expected RGB images"),
    (["evaluate", "{tmp}/features.keras", "--data", "digits"], "3 outputs"),
    (["benchmark", "{job}/model_int8.tflite", "--threads", "99999"], "--threads"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--weights", "{tmp}/same.keras"], "padding"),
    (["compare", "{job}/model.keras", "{tmp}/half.tflite", "--data", "digits"], "half.tflite"),
    (["quantize", "{job}/model.keras", "--recipe", "int9", "--output", "{tmp}/x.tflite"], "did you mean 'int8'"),
    (["quantize", "{job}/model.keras", "--recipe", "int8", "--output", "{tmp}/x.tflite"], "images"),
    (["inspect", "{tmp}/half.tflite"], "half.tflite"),
    (["inspect", "{job}/labels.txt"], "labels.txt"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory, main_job) -> Path:
    """A folder with a truncated .tflite and .keras, a model full of NaN, and a file that is none of these."""
    import keras

    root = tmp_path_factory.mktemp("broken")
    for name, source in (("half.tflite", LITE), ("half.keras", KERAS)):
        content = (main_job / source).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])
    (root / "file").write_text("a file\n")
    model = keras.models.load_model(main_job / KERAS)
    model.get_layer("predictions").bias.assign(np.full(10, np.nan))
    model.save(root / "nan.keras")
    from mixnet_tf.model import create_feature_extractor, create_model

    create_feature_extractor("mixnet_nano").save(root / "features.keras")
    create_model("mixnet_nano", classes=10, padding="same").save(root / "same.keras")
    vector = keras.Input((4,))
    keras.Model(vector, keras.layers.Dense(10)(vector), name="vector").save(root / "vector.keras")
    return root


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else ""
)
def test_a_mistake_gets_one_line_and_writes_nothing(arguments, message, broken, main_job, folder, capsys):
    names = {"tmp": broken, "job": main_job, "folder": folder}
    before = sorted(broken.rglob("*"))
    line = refused(capsys, *(argument.format(**names) for argument in arguments))
    assert message.format(**names) in line
    assert sorted(broken.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "source", "options"),
    [
        ("export", KERAS, ["--recipe", "float32", "--graph", "plain"]),
        ("quantize", "model_float32.tflite", ["--recipe", "weight_int8"]),
    ],
)
def test_a_full_disk_leaves_nothing(main_job, tmp_path, command, source, options):
    """A file-size limit stands in for the full disk: the write itself fails in the kernel."""
    module = {"export": "exporting", "quantize": "quantization.quantize"}[command]
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"import mixnet_tf.cli as cli, mixnet_tf.{module} as module\n"
        "real = module.whole_file\n"
        "def limited(*a, **k):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); return real(*a, **k)\n"
        "module.whole_file = limited\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    path = tmp_path / "f.tflite"
    arguments = [command, main_job / source, *options, "--output", path]
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"mixnet-tf {command}: error: {path}: cannot be written")
    assert list(tmp_path.iterdir()) == []


def test_kill_9_during_export_leaves_no_half_file(main_job, tmp_path):
    path = tmp_path / "f.tflite"
    command = [
        sys.executable,
        "-m",
        "mixnet_tf",
        "export",
        str(main_job / KERAS),
        "--recipe",
        "float32",
        "--output",
        str(path),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob(".f-*.part.tflite")):
        time.sleep(0.0005)  # until the file is being written
    process.kill()
    process.wait()
    assert list(tmp_path.iterdir()), "the export ended without a trace of its file"
    assert not path.exists() or path.stat().st_size == (main_job / "model_float32.tflite").stat().st_size


def test_ctrl_c_says_how_to_go_on(tmp_path):
    import signal

    command = [sys.executable, "-m", "mixnet_tf", "train", "mixnet_nano", "--data", "digits", "--output", str(tmp_path)]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a shell's `&` makes it ignored
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **heard)
    deadline = time.monotonic() + 240
    while not (tmp_path / "last.keras").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130 and errors.strip().endswith("mixnet-tf train: interrupted; continue with --resume")
    assert "Traceback" not in errors


def test_a_closed_pipe_is_not_an_error():
    command = f"{sys.executable} -m mixnet_tf list --json | (exec <&-; sleep 3)"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and done.stderr == ""
