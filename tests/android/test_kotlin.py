"""The Kotlin of the Android sample, its very sources on a JVM: against Pillow, Python's LiteRT, and numbers by hand.

It needs java, JNA (Debian: libjna-java) and the jars of a Kotlin 2 compiler, in the folder that MIXNET_TF_KOTLIN names:
`lib` of a kotlinc, or what PyPI has:

    pip install --no-deps --target KOTLIN kotlin-jupyter-kernel==0.19.0.944
    MIXNET_TF_KOTLIN=KOTLIN/run_kotlin_kernel/jars pytest -m slow tests/android
"""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import ai_edge_litert
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.litert.attachments import attachments, with_attachments
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "tflite" / "android" / "classifier-core" / "src" / "main" / "kotlin"
JNA = Path("/usr/share/java/jna.jar")
LITERT = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # of two short runs
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Program = Callable[..., list[list[str]]]


def compiled(jars: Path, folder: Path) -> Path:
    """Compile the core of the sample and the program of the tests; one worker does it, and the others wait."""
    program = folder / "program.jar"
    with (folder / "program.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            path = os.pathsep.join(map(str, [*jars.glob("kotlin-stdlib*.jar"), JNA]))
            main = ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-Werror"]
            command = ["java", *QUICK, "-cp", f"{jars}/*", *main, "-cp", path, "-jvm-target", "17", "-d", str(program)]
            done = subprocess.run([*command, str(CORE), *map(str, HERE.glob("*.kt"))], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Runs lines of words, and returns the words of the answers."""
    jars = Path(os.environ.get("MIXNET_TF_KOTLIN", ""))
    if not list(jars.glob("kotlin-stdlib*.jar")):
        pytest.skip("no Kotlin compiler: MIXNET_TF_KOTLIN names no folder with its jars")
    if shutil.which("java") is None or not JNA.exists():
        pytest.skip(f"no java, or no {JNA}")
    root = tmp_path_factory.getbasetemp()
    jar = compiled(jars, root.parent if "PYTEST_XDIST_WORKER" in os.environ else root)

    def run(*lines: Sequence[object]) -> list[list[str]]:
        path = os.pathsep.join([str(jar), str(JNA), f"{jars}/*"])
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        command = ["java", *QUICK, "-cp", path, "ProgramKt", str(LITERT)]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answers = [line.split("\t") for line in done.stdout.splitlines()]
        assert len(answers) == len(lines), done.stdout
        return answers

    return run


def photographs() -> list[Image.Image]:
    """Two real photographs, and parts of them that are upright, square, odd and smaller than a network's input."""
    wide, other = (Image.fromarray(image) for image in sklearn.datasets.load_sample_images().images)
    upright = other.transpose(Image.Transpose.ROTATE_90)
    return [wide, upright, wide.crop((3, 5, 61, 88)), other.crop((100, 50, 201, 151)), other.resize((128, 128))]


def test_pixels_are_pillows(program, tmp_path):
    lines, expected = [], []
    for photo in photographs():
        for height, width in ((112, 112), (224, 224), (33, 33), (48, 96), (97, 61)):
            image, output = (tmp_path / f"{len(lines)}.{suffix}" for suffix in ("rgb", "out"))
            image.write_bytes(photo.tobytes())
            lines.append(("pixels", *photo.size, width, height, image, output, 0.875))
            expected.append((output, evaluation_pixels(photo, (height, width), 0.875)))
    program(*lines)
    for output, pixels in expected:
        assert np.array_equal(np.fromfile(output, np.uint8).reshape(pixels.shape), pixels)


@pytest.mark.parametrize(
    ("photo", "network", "fraction", "region"),
    [
        ((144, 192), (112, 112), 0.875, (8 / 128, 29 / 170, 120 / 128, 141 / 170)),  # 192 * 128 / 144 = 170.7
        ((640, 427), (224, 224), 0.875, (80 / 383, 16 / 256, 304 / 383, 240 / 256)),  # 383.7; 79.5 is even
        ((100, 100), (96, 48), 0.875, (6 / 109, 30 / 109, 102 / 109, 78 / 109)),  # 96 / 0.875 = 109.7; 6.5, 30.5
        ((640, 427), (224, 224), 1.0, (56 / 335, 0, 280 / 335, 1)),  # 640 * 224 / 427 = 335.7, 55.5 is even
    ],
)
def test_region_is_the_crop_in_fractions(program, photo, network, fraction, region):
    ((*answer,),) = program(("region", *photo, *network, fraction))
    assert [float(word) for word in answer] == pytest.approx(region, abs=1e-6)


def test_size_and_labels_come_from_the_file(program, nano_mobile, tmp_path):
    content = nano_mobile.read_bytes()
    bare = content[: content.index(b"PK\x03\x04")]
    more = with_attachments(bare, {"other.txt": b"no labels", **attachments(content, "model.tflite")})
    (tmp_path / "more.tflite").write_bytes(more)
    assert program(("describe", nano_mobile), ("describe", tmp_path / "more.tflite")) == 2 * [["32", "32", *DIGITS]]


def recording(source: Path, output: Path, record: bytes | None) -> Path:
    """Write a file again with another record of the part of a picture that it wants to see."""
    graph = FlatGraph.read(source)
    graph.describe("mixnet_tf.crop_fraction", record, graph.attachments)
    output.write_bytes(graph.content())
    return output


def test_the_file_says_how_much_of_a_photo_is_seen(program, nano_mobile, tmp_path):
    photo, records = photographs()[0], (b"1", b"0.875", b"0.6", b"0.01", None)
    (tmp_path / "photo").write_bytes(photo.tobytes())
    models = [recording(nano_mobile, tmp_path / f"{record}.tflite", record) for record in records]
    answers = program(*(("seen", path, *photo.size, tmp_path / "photo", path.with_suffix(".out")) for path in models))
    for path, record, (_, top, _, bottom) in zip(models, records, answers, strict=True):
        fraction = float(record or 0.875)
        expected = evaluation_pixels(photo, (32, 32), fraction)
        assert np.array_equal(np.fromfile(path.with_suffix(".out"), np.uint8).reshape(expected.shape), expected)
        assert float(bottom) - float(top) == pytest.approx(32 / int(32 / fraction), abs=1e-6)


def test_another_record_is_refused(program, nano_mobile, tmp_path):
    records = ("0", "0.009", "1.001", "nan", "half", "")
    models = [recording(nano_mobile, tmp_path / f"{record}.tflite", record.encode()) for record in records]
    message = "error: the file's crop fraction is '{}'; expected a number from 0.01 to 1"
    assert program(*(("describe", path) for path in models)) == [[message.format(record)] for record in records]


def test_other_files_are_refused_in_one_line(program, nano_mobile, nano_int8, nano_float32, fixtures, tmp_path):
    content = nano_mobile.read_bytes()
    (tmp_path / "bare.tflite").write_bytes(content[: content.index(b"PK\x03\x04")])
    files = [tmp_path / "bare.tflite", nano_int8, nano_float32, fixtures / "nano.keras"]
    answers = [answer for (answer,) in program(*(("describe", path) for path in files))]
    assert "no labels.txt" in answers[0] and "no .tflite" in answers[3]
    assert all("uint8: recipe mobile" in answer for answer in answers[1:3])
    assert all(answer.startswith("error: ") for answer in answers)


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_outputs_that_are_no_numbers_are_refused(program, value):
    answers = program(("best", 0.25, 0.5, 0.125), ("best", 0.25, value, 0.125))
    expected = "error: the network gives outputs that are not finite (NaN or infinity)"
    assert answers == [["1=0.5", "0=0.25", "2=0.125"], [expected]]


def check_outputs(program: Program, path: Path, labels: Sequence[str], images: Sequence[np.ndarray], folder: Path):
    """Run Kotlin over the pixels of images, and compare with Python, whose LiteRT is the same library."""
    model, lines = LiteModel(path.read_bytes()), []
    for index, pixels in enumerate(images):
        (folder / f"{index}.rgb").write_bytes(pixels.tobytes())
        lines.append(("classify", path, folder / f"{index}.rgb", folder / f"{index}.f32"))
    for index, (answer, pixels) in enumerate(zip(program(*lines), images, strict=True)):
        probabilities = model.run_raw(pixels[None]).reshape(-1)
        assert np.array_equal(np.fromfile(folder / f"{index}.f32", "<f4"), probabilities)
        best = np.argsort(-probabilities, kind="stable")[:3]
        assert [word.split("=")[0] for word in answer] == [labels[label] for label in best]


def test_outputs_are_pythons(program, nano_mobile, digits, tmp_path):
    check_outputs(program, nano_mobile, DIGITS, digits.splits["test"].images[:8], tmp_path)


def test_outputs_of_a_trained_network_are_pythons(program, trained_s, tmp_path):
    bundle = trained_s / "bundle"
    manifest = json.loads((bundle / "manifest.json").read_text())
    size, labels = manifest["image_size"], (bundle / "labels.txt").read_text().split("\n")
    images = [np.fromfile(bundle / golden["image"], np.uint8).reshape(*size, 3) for golden in manifest["goldens"]]
    check_outputs(program, bundle / "model.tflite", labels, images, tmp_path)
    for index, golden in enumerate(manifest["goldens"]):
        expected, tolerance = (
            np.fromfile(bundle / golden["model.tflite"], "<f4"),
            manifest["tolerances"]["model.tflite"],
        )
        assert np.fromfile(tmp_path / f"{index}.f32", "<f4") == pytest.approx(expected, abs=tolerance["litert"])
