"""What bad input gets: one line, exit status 2, nothing written."""

from pathlib import Path

import numpy as np
import pytest
from command_line import refused

from mixnet_tf.cli import main

KERAS, LITE = "model.keras", "model_int8.tflite"
EXPORT = ["--recipe", "float32", "--output", "{tmp}/x.tflite"]
MISTAKES = [
    # arguments (names of files in braces), what the line must say
    (["summary", "mixnet_q"], "did you mean"),
    (["summary", "no/such.yaml"], "no/such.yaml: No such file"),
    (["summary", "mixnet_s", "--image-size", "-3"], "--image-size"),
    (["summary", "mixnet_s", "--classes", "many"], "--classes: found 'many', expected an integer"),
    (["fly"], "found 'fly', expected one of list, summary"),
    (["quantize"], "found 'quantize', expected one of list, summary"),
    (["train", "mixnet_nano", "--data", "digits"], "--output"),
    (["train", "mixnet_nano", "--data", "digitz", "--output", "{tmp}/x"], "did you mean 'digits'"),
    (["train", "mixnet_nano", "--data", "{tmp}", "--output", "{tmp}/x"], "{tmp}"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/file"], "is a file"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{job}"], "holds files already"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--weights", "{tmp}/none"], "none"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--min-area", "7"], "--min-area: found 7"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--epochs", "0"], "--epochs: found 0"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--epochs", "x"], "--epochs: found 'x'"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--jitter", "nan"], "--jitter: found nan"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--weights", "{tmp}/same.keras"], "padding"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--epochs", "9" * 30], "--epochs: found 9"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--learning-rate", "0"], "number above 0"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--learning-rate", "nan"], "--learning-rate"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--resume", "--overwrite"], "not allowed"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--freeze-backbone"], "needs weights"),
    (["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--freeze-epochs", "3"], "without unfreeze"),
    (
        ["train", "mixnet_nano", "--data", "digits", "--output", "{tmp}/x", "--weights", "w", "--unfreeze", "9"],
        "1 to 7",
    ),
    (["evaluate", "{tmp}/none.keras", "--data", "digits"], "none.keras: no such file"),
    (["evaluate", "{tmp}/none.keras", "--data", "{tmp}/no-data"], "none.keras: no such file"),
    (["evaluate", "{tmp}/none.tflite", "--data", "digits"], "none.tflite: no such file"),
    (["evaluate", "{tmp}/file", "--data", "digits"], "expected a .keras or a .tflite file"),
    (["evaluate", "{tmp}/half.tflite", "--data", "digits"], "half.tflite: truncated or damaged .tflite"),
    (["evaluate", "{tmp}/half.keras", "--data", "digits"], "half.keras: not a readable .keras model"),
    (["evaluate", "{job}/model.keras", "--data", "{folder}"], "has 10 classes, but"),
    (["evaluate", "{job}/model_int8.tflite", "--data", "digits", "--image-size", "40"], "takes images of 32 x 32"),
    (["evaluate", "{tmp}/nan.keras", "--data", "{few}"], "not finite"),
    (["evaluate", "{tmp}/vector.keras", "--data", "digits"], "expected RGB images"),
    (["evaluate", "{tmp}/features.keras", "--data", "digits"], "3 outputs"),
    (["evaluate", "{job}/model.keras", "--data", "digits", "--reference", "{job}/model.keras"], "--reference"),
    (["compare", "{job}/model.keras", "{tmp}/half.tflite", "--data", "digits"], "half.tflite"),
    (["export", "{job}/model.keras", "--recipe", "int8", "--output", "{tmp}/x.tflite"], "--data"),
    (["export", "{job}/model.keras", "--recipe", "int9", "--output", "{tmp}/x.tflite"], "did you mean 'int8'"),
    (["export", "{job}/model.keras", "--recipe", "dynamic", "--output", "{tmp}/x.tflite"], "dynamic-range int8"),
    (["export", "{job}/model_int8.tflite", *EXPORT], "cannot be quantized with recipe float32"),
    (["export", "{tmp}/half.keras", *EXPORT], "half.keras"),
    (["export", "{job}/model.keras", "--recipe", "float32", "--output", "{tmp}"], "ends in .tflite"),
    (["export", "{job}/model.keras", "--recipe", "float32", "--output", "{tmp}/folder.tflite"], "is a folder"),
    (["export", "{job}/model_float32.tflite", "--recipe", "float32", "--output", "/dev/full/x.tflite"], "/dev/full"),
    (["export", "{job}/model.keras", "--recipe", "float32", "--output", "{tmp}/x.keras"], "ends in .tflite"),
    (["export", "{job}/model.keras", "--recipe", "float32", "--output", "{job}/model_int8.tflite"], "exists already"),
    (["export", "{tmp}/vector.keras", *EXPORT], "expected one image"),
    (["export", "{job}/model.keras", *EXPORT, "--image-size", "99999"], "4096"),
    (["export", "{job}/model.keras", *EXPORT, "--min-agreement", "2"], "--min-agreement"),
    (["export", "{job}/model.keras", *EXPORT, "--report", "{tmp}/r"], "a report needs a recipe with int8 arithmetic"),
    (["benchmark", "{tmp}/half.tflite"], "half.tflite: truncated or damaged .tflite"),
    (["benchmark", "{job}/model_int8.tflite", "--threads", "0"], "--threads"),
    (["benchmark", "{job}/model_int8.tflite", "--threads", "99999"], "--threads"),
    (["benchmark", "{job}/labels.txt"], "labels.txt: not a .tflite"),
    (["import-weights", "{tmp}/none", "--config", "mixnet_s", "--output", "{tmp}/x.keras"], "none"),
    (["import-weights", "{job}/model.keras", "--config", "mixnet_s", "--output", "{tmp}/x.keras"], "missing"),
    (["import-weights", "{job}/model.keras", "--config", "mixnet_nano", "--output", "{tmp}/x"], "ends in .keras"),
    (["import-weights", "{tmp}/nan.keras", "--config", "mixnet_nano", "--output", "{tmp}/x.keras"], "NaN"),
    (["inspect", "{tmp}/half.tflite"], "half.tflite"),
    (["evaluate", "{tmp}", "--data", "digits"], "a folder without model.keras; expected a .keras or a .tflite file"),
    (["compare", "{job}", "{tmp}", "--data", "digits"], "{tmp}: a folder without model.keras"),
    (["inspect", "{job}"], "{job}: holds model_float32.tflite, model_int8.tflite; name one of them"),
    (["benchmark", "{job}/model_int8.tflite", "{job}"], "{job}: holds model_float32.tflite, model_int8.tflite; name"),
    (["benchmark", "{folder}"], "holds no .tflite file; `mixnet-tf export {folder} --recipe float32"),
    (["benchmark", "{job}/model.keras"], "expected a .tflite file, which `mixnet-tf export {job}/model.keras"),
    (["inspect", "{job}/model.keras"], "expected a .tflite file, which `mixnet-tf export {job}/model.keras"),
    (["inspect", "{job}/labels.txt"], "labels.txt"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory, job) -> Path:
    """A folder with a truncated .tflite and .keras, models of other kinds, and a file that is none of these."""
    import keras

    from mixnet_tf.model import create_feature_extractor, create_model

    root = tmp_path_factory.mktemp("broken")
    for name, source in (("half.tflite", LITE), ("half.keras", KERAS)):
        content = (job / source).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])
    (root / "file").write_text("a file\n")
    (root / "folder.tflite").mkdir()
    model = keras.models.load_model(job / KERAS)
    model.get_layer("predictions").bias.assign(np.full(10, np.nan))
    model.save(root / "nan.keras")
    create_feature_extractor("mixnet_nano").save(root / "features.keras")
    create_model("mixnet_nano", classes=10, padding="same").save(root / "same.keras")
    vector = keras.Input((4,))
    keras.Model(vector, keras.layers.Dense(10)(vector), name="vector").save(root / "vector.keras")
    return root


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else ""
)
def test_a_mistake_gets_one_line_and_writes_nothing(arguments, message, broken, job, folder, few_digits, capsys):
    names = {"tmp": broken, "job": job, "folder": folder, "few": few_digits}
    before = sorted([*broken.rglob("*"), *job.rglob("*")])
    line = refused(capsys, *(argument.format(**names) for argument in arguments))
    assert message.format(**names) in line
    assert sorted([*broken.rglob("*"), *job.rglob("*")]) == before


def test_a_resume_without_a_run_says_that_it_starts_one(tmp_path, capsys):
    arguments = ["train", "mixnet_nano", "--data", "digits", "--output", tmp_path / "new", "--resume"]
    assert main([*map(str, arguments), "--weights", str(tmp_path / "none.npz")]) == 2
    first, *_, last = capsys.readouterr().err.strip().splitlines()
    assert first == f"{tmp_path / 'new'}: holds no run to resume; starting one"
    assert last.startswith("mixnet-tf train: error: ") and "none.npz: no such file" in last
