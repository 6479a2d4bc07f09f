"""tflite/native: the same pixels as Pillow, the same outputs as LiteRT in Python, and one line for what is wrong."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from native_builds import SOURCES, make
from native_pictures import PHOTOS, write_pictures
from PIL import Image

from mixnet_tf import Predictor
from mixnet_tf.data.decoding import decode
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.errors import MixNetError
from mixnet_tf.litert.attachments import with_attachments
from mixnet_tf.litert.description import About, describe
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.io_types import set_types

XNNPACK = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
"""What LiteRT itself says, once a model is opened."""

OTHER_PROCESSORS = ("arm64", "valgrind")  # int8 rounds differently where XNNPACK has other kernels
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIZES = [(32, 32, 0.875), (37, 53, 0.875), (64, 48, 1.0), (224, 224, 0.95)]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[Path]:
    """Real photographs, and a part of one in many forms."""
    return [*PHOTOS, *write_pictures(tmp_path_factory.mktemp("pictures"))]


@pytest.mark.parametrize(("height", "width", "crop"), SIZES)
def test_pixels_are_those_of_pillow(built, pictures, height, width, crop):
    images = np.frombuffer(built.probe("pixels", height, width, crop, *pictures), np.uint8)
    images = images.reshape(len(pictures), height, width, 3)
    for path, image in zip(pictures, images, strict=True):
        np.testing.assert_array_equal(image, evaluation_pixels(decode(path), (height, width), crop), path.name)


def check_outputs(built, model: Path, images: np.ndarray, folder: Path) -> None:
    """Compare with Python: bit for bit on the same processor, to two int8 steps on another one."""
    images.tofile(folder / "images.rgb")
    here = LiteModel(model)(images)
    outputs = built.outputs(model, folder / "images.rgb").reshape(here.shape)
    if built.variant == "arm64":
        np.testing.assert_array_equal(outputs.ravel(), built.arm_outputs(model, folder / "images.rgb"))
    if built.variant not in OTHER_PROCESSORS:
        np.testing.assert_array_equal(outputs, here)
    elif (step := inspect_model(model).logit_step) is None:
        np.testing.assert_allclose(outputs, here, atol=1e-5)
    else:  # logits are known but for a constant: how far they moved apart
        moved = np.ptp(np.log(outputs.astype(float) / here) / step, axis=1)
        assert moved.max() < 4.01


@pytest.mark.parametrize("name", ["model.tflite", "model_float32.tflite"])
def test_outputs_are_those_of_python(built, models, digits, name, tmp_path):
    check_outputs(built, models[name], digits.splits["test"].images[:40], tmp_path)


@pytest.mark.parametrize("name", ["model.tflite", "model_float32.tflite"])
def test_outputs_of_a_network_of_photographs_are_those_of_python(built, trained_s, name, tmp_path):
    folder = trained_s / "bundle"
    done = built.run("--goldens", folder)
    assert done.returncode == 0 and done.stdout.count(": good\n") == 2, done.stdout
    size = LiteModel(folder / name).image_size
    boxes = [(64 * i, 32 * i, 64 * i + 240, 32 * i + 200) for i in range(4)]
    parts = [Image.open(photo).crop(box) for photo in PHOTOS for box in boxes]
    check_outputs(built, folder / name, np.stack([evaluation_pixels(part, size, 0.875) for part in parts]), tmp_path)


def test_a_picture_gets_the_labels_and_probabilities_of_python(built, models, pictures):
    for crop in (0.875, 1.0):
        path = edited(models["model_float32.tflite"], built.folder / "crop.tflite", crop=crop)
        for picture in (PHOTOS[0], *(path for path in pictures if path.name == "turned_6.jpg")):
            expected = Predictor(path)(picture, top=3)
            lines = built.run(path, picture, "--top", 3).stdout.splitlines()
            rows = [re.fullmatch(r"(\d\.\d{6})  (.*)", line).groups() for line in lines]
            assert [label for _, label in rows] == [label for label, _ in expected]
            np.testing.assert_allclose([float(p) for p, _ in rows], [p for _, p in expected], atol=1e-5)


def edited(source: Path, output: Path, *edits: Callable[[FlatGraph], None], crop: float | None = None) -> Path:
    """Write a file again, with the digits in words as labels, once `edits` have been made to its graph."""
    graph = FlatGraph.read(source)
    for edit in edits:
        edit(graph)
    describe(graph, About(name="digits"), LABELS, crop)
    output.write_bytes(graph.content())
    return output


def test_five_classes_are_printed_and_no_more_than_there_are(built, models):
    assert len(built.run(models["model.tflite"], PHOTOS[0]).stdout.splitlines()) == 5
    lines = built.run(models["model.tflite"], PHOTOS[0], "--top", 99).stdout.splitlines()
    assert sorted(line.split("  ")[1] for line in lines) == sorted(LABELS)


def test_labels_cannot_steer_the_terminal(built, models, tmp_path):
    content = models["model.tflite"].read_bytes()
    flatbuffer = content[: content.index(b"PK\3\4")]
    labels = "".join(f"\x1b[2J{i} ä\r\n" for i in range(10)).encode()
    path = tmp_path / "model.tflite"
    path.write_bytes(with_attachments(flatbuffer, {"readme.txt": b"first", "labels.txt": labels}))
    lines = built.run(path, PHOTOS[0]).stdout.splitlines()
    assert all(re.fullmatch(r"\d\.\d{6}  \?\[2J\d ä", line) for line in lines) and len(lines) == 5


@pytest.mark.parametrize("name", ["model.tflite", "model_float32.tflite"])
def test_goldens_are_met(built, made, name):
    done = built.run("--goldens", made)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name}: "))
    difference = float(re.fullmatch(r".*: 4 images, largest difference (\S+), allowed \S+: good", line)[1])
    assert built.variant in OTHER_PROCESSORS or difference == 0


@pytest.mark.parametrize("value", [0.25, np.nan])
def test_other_goldens_are_not(built, made, tmp_path, value):
    folder = shutil.copytree(made, tmp_path / "bundle")
    golden = folder / "goldens" / "1.model.f32"
    outputs = np.fromfile(golden, "<f4")
    outputs[3] = outputs[3] + value
    outputs.tofile(golden)
    done = built.run("--goldens", folder)
    assert done.returncode == 1
    far, near = done.stdout.splitlines()
    assert re.match(f"model.tflite: 4 images, largest difference {value:g}", far) and far.endswith("TOO FAR")
    assert near.endswith("good")


def refused(built, *arguments) -> str:
    """Run the program, which must refuse its arguments; return its one line."""
    done = built.run(*arguments)
    assert done.returncode == 2 and done.stdout == "", done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line != XNNPACK)
    return line.removeprefix("classify: error: ")


@pytest.fixture(scope="session")
def mistakes(models, nano_int8, nano_float32, fixtures, tmp_path_factory) -> dict[str, Path]:
    """Files that are no models for this program, by name, and some that are no images."""
    folder = tmp_path_factory.mktemp("mistakes")

    def write(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    def unrecorded(graph: FlatGraph) -> None:
        graph.input_format = None

    cropped = FlatGraph.read(models["model.tflite"])
    cropped.describe("mixnet_tf.crop_fraction", b"0.5 of it", cropped.attachments)
    ten = {"labels.txt": "".join(f"{label}\n" for label in LABELS).encode()}
    model = models["model.tflite"].read_bytes()
    odd = ("two_outputs", "two_inputs", "batch_of_two", "dynamic_size", "three_subgraphs", "int16")
    files = {
        name: write(name, with_attachments((fixtures / "odd" / f"{name}.tflite").read_bytes(), ten)) for name in odd
    }
    files |= {
        "no_labels": nano_float32,
        "nine_labels": write("nine", with_attachments(model[: model.index(b"PK\3\4")], {"labels.txt": b"a\n" * 9})),
        "cut": write("cut", model[: len(model) // 2]),
        "cut_labels": write("cut_labels", model[:-40]),
        "empty": write("empty", b""),
        "int8": edited(nano_int8, folder / "int8"),
        "logits": edited(nano_float32, folder / "logits"),
        "rounded": edited(nano_int8, folder / "rounded", lambda graph: set_types(graph, "uint8", "uint8")),
        "unknown": edited(models["model_float32.tflite"], folder / "unknown", unrecorded),
        "cropped": write("cropped", cropped.content()),
        "text": write("text", b"no picture"),
        "cut_photo": write("cut_photo", PHOTOS[0].read_bytes()[:20000]),
    }
    Image.new("CMYK", (40, 40)).save(folder / "cmyk.jpg")
    Image.new("RGB", (40, 40)).save(folder / "whole.png")
    Image.new("L", (4001, 40)).save(folder / "long.png")
    files["cut_png"] = write("cut.png", (folder / "whole.png").read_bytes()[:-30])
    return files | {name: folder / name for name in ("cmyk.jpg", "long.png")} | {"folder": folder}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing: No such file or directory"),
        ("folder", "no regular file"),
        ("empty", "not a .tflite"),
        ("text", "not a .tflite"),
        ("cut", "no labels.txt inside, or cut short; export it with --recipe mobile"),
        ("cut_labels", "no labels.txt inside, or cut short; export it with --recipe mobile"),
        ("no_labels", "no labels.txt inside, or cut short; export it with --recipe mobile"),
        ("nine_labels", "9 labels for 10 classes"),
        ("two_outputs", "has 1 inputs and 2 outputs, expected one of each"),
        ("two_inputs", "has 2 inputs and 1 outputs, expected one of each"),
        ("batch_of_two", "its input is no image, expected shape (1, height, width, 3)"),
        ("dynamic_size", "its input is no image, expected shape (1, height, width, 3)"),
        ("int16", "its input is no image, expected shape (1, height, width, 3)"),
        ("int8", "its input is no pixels in uint8 or float32; export it with --recipe mobile"),
        ("rounded", "its output is no float32 (1, classes); export it with --recipe mobile"),
        ("logits", "its output is no probabilities; export it with --recipe mobile"),
        ("cropped", "its crop fraction is damaged, expected a number from 0.01 to 1"),
        ("unknown", "does not say what its floats are; export it with --recipe mobile"),
    ],
)
def test_a_model_that_does_not_fit_costs_one_line(built, mistakes, name, message):
    path = mistakes.get(name, Path("missing"))
    assert refused(built, path, PHOTOS[0]).removeprefix(f"{path}: ") in (message, message.removeprefix("missing: "))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_cost_one_line(built, models, tmp_path, value):
    def spoiled(graph: FlatGraph) -> None:
        last = next(op for op in graph.ops if op.name == "FULLY_CONNECTED")
        graph.set_constant(last, 2, np.full(10, value))

    path = edited(models["model_float32.tflite"], tmp_path / "model.tflite", spoiled)
    assert refused(built, path, PHOTOS[0]) == f"{path}: gives outputs that are not finite (NaN or infinity)"
    with pytest.raises(MixNetError, match="gives outputs that are not finite"):
        Predictor(path)(PHOTOS[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing: No such file or directory"),
        ("folder", "no regular file"),
        ("empty", "not a readable image (expected a JPEG or a PNG)"),
        ("text", "not a readable image (expected a JPEG or a PNG)"),
        ("cut_photo", "not a readable image (Premature end of JPEG file)"),
        ("cut_png", "not a readable image (image file is truncated)"),
        ("cmyk.jpg", "not a readable image (colours in CMYK, expected RGB or gray)"),
        ("long.png", "not a readable image (4001x40 pixels, expected up to 89478485, and an aspect ratio up to 100)"),
    ],
)
def test_a_picture_that_cannot_be_read_costs_one_line(built, models, mistakes, name, message):
    path = mistakes.get(name, Path("missing"))
    line = refused(built, models["model.tflite"], path)
    assert line.removeprefix(f"{path}: ") in (message, message.removeprefix("missing: "))


@pytest.mark.parametrize(
    "arguments", [(), ("a",), ("a", "b", "c"), ("--golden", "b"), ("a", "b", "--top"), ("-h", "b")]
)
def test_other_arguments_cost_one_line(built, arguments):
    assert refused(built, *arguments) == "expected MODEL.tflite IMAGE [--top 5], or --goldens BUNDLE"


@pytest.mark.parametrize("top", ["0", "-1", "five", "", "3x"])
def test_top_is_a_count(built, models, top):
    line = refused(built, models["model.tflite"], PHOTOS[0], "--top", top)
    assert line == f"--top: found '{top}', expected a whole number from 1 on"


def test_help_says_how_to_call_it(built):
    done = built.run("--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: classify MODEL.tflite IMAGE [--top 5]")


def test_what_is_no_bundle_costs_one_line(built, made, tmp_path):
    def manifest(**entries) -> Path:
        folder = shutil.copytree(made, tmp_path / str(len(list(tmp_path.iterdir()))))
        content = json.loads((folder / "manifest.json").read_text()) | entries
        (folder / "manifest.json").write_text(json.dumps(content))
        return folder

    assert refused(built, "--goldens", tmp_path) == f"{tmp_path}/manifest.json: No such file or directory"
    for folder in (manifest(goldens=[]), manifest(tolerances={}), manifest(goldens=7)):
        assert "no goldens and tolerances in it; expected a bundle of mixnet-tf" in refused(built, "--goldens", folder)
    assert "says not how far model.tflite may be off" in refused(
        built, "--goldens", manifest(tolerances={"model.tflite": {}})
    )
    assert "a golden without the name of its file" in refused(built, "--goldens", manifest(goldens=[{}]))
    folder = manifest()
    (folder / "goldens" / "0.rgb").write_bytes(b"short")
    assert refused(built, "--goldens", folder) == f"{folder}/goldens/0.rgb: 5 bytes, expected 3072"
    (folder / "manifest.json").write_text("{")
    assert "no goldens and tolerances in it" in refused(built, "--goldens", folder)


def test_damaged_files_are_read_or_refused(built, models, pictures, tmp_path):
    """What a sanitizer or valgrind finds has another exit status."""
    rng = np.random.default_rng(0)
    count = {"c": 6, "sanitized": 40}.get(built.variant, 3)
    model = models["model.tflite"].read_bytes()
    archive = model.index(b"PK\3\4")
    names = ("turned_6.jpg", "turned_6.png", "P.png", "xmp_element.jpg", "xmp_element.png")
    sources = [path.read_bytes() for path in pictures if path.name in names]
    for _ in range(count):
        for content in sources:
            (tmp_path / "picture").write_bytes(damaged(content, 0, rng))
            done = built.run(models["model.tflite"], tmp_path / "picture")
            assert done.returncode in (0, 2), done.stderr
        (tmp_path / "model.tflite").write_bytes(damaged(model, archive, rng))
        done = built.run(tmp_path / "model.tflite", PHOTOS[0])
        assert done.returncode in (0, 2), done.stderr


def damaged(content: bytes, start: int, rng: np.random.Generator) -> bytes:
    """Change some bytes from `start` on, and cut every other file short."""
    bytes_ = bytearray(content)
    for at in rng.integers(start, len(content), rng.integers(1, 8)):
        bytes_[at] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    return bytes(bytes_[: rng.integers(start, len(content))] if rng.random() < 0.3 else bytes_)


def test_make_says_what_is_missing(built):
    done = make(SOURCES, {"LITERT": "/nowhere/libLiteRt.so"})
    assert done.returncode == 2
    assert "libLiteRt.so: not found at '/nowhere/libLiteRt.so'; pip install" in done.stderr


def test_the_readme_is_short():
    assert len((SOURCES / "README.md").read_text().splitlines()) <= 50  # a page
