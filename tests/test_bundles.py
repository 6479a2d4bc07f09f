"""A folder to hand over: what is in it, what it is checked for, and which files it is not made of."""

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mixnet_tf
from mixnet_tf import files
from mixnet_tf.bundles.making import bundle
from mixnet_tf.bundles.verification import verify
from mixnet_tf.cli import main
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import MixNetError
from mixnet_tf.exporting import export
from mixnet_tf.litert.description import about_of, describe
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel

NAMES_OF_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAMES = ("model.tflite", "model_float32.tflite", "labels.txt", "README.md", "manifest.json")


@pytest.fixture(scope="session")
def mobile(nano_mobile, nano_mobile_float32):
    """The trained network as a file to ship, and its twin."""
    return nano_mobile, nano_mobile_float32


@pytest.fixture(scope="session")
def made(mobile, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "to ship"
    bundle(mobile[0], folder, data="digits", float32=mobile[1], trained_on="digits: 1295 images")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A bundle of one's own, to be damaged."""
    return shutil.copytree(made, tmp_path / "bundle")


def test_the_manifest_names_every_file_by_its_hash(made):
    manifest = json.loads((made / "manifest.json").read_text())
    written = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == written >= set(NAMES[:-1])
    for name, record in manifest["files"].items():
        content = (made / name).read_bytes()
        assert record == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert (manifest["name"], manifest["version"], manifest["image_size"]) == ("digit | reader", "1.2", [32, 32])


def test_the_goldens_are_test_pictures_and_what_the_files_make_of_them(made, digits):
    manifest = json.loads((made / "manifest.json").read_text())
    images, used = digits.splits["test"], []
    for golden in manifest["goldens"]:
        pixels = np.frombuffer((made / golden["image"]).read_bytes(), np.uint8).reshape(32, 32, 3)
        (index,) = [i for i in range(len(images)) if (np.asarray(images.images[i]) == pixels).all()]
        used.append(images.labels[index])
        assert NAMES_OF_DIGITS[images.labels[index]] == golden["label"]
        for name in NAMES[:2]:
            expected = LiteModel(made / name)(pixels[None])[0]
            outputs = np.frombuffer((made / golden[name]).read_bytes(), "<f4")
            np.testing.assert_array_equal(outputs, expected)
            assert outputs.sum() == pytest.approx(1, abs=1e-5)
    assert len(set(used)) == 4  # of different classes


def test_the_card_has_the_numbers(made, digits):
    card = (made / "README.md").read_text()
    test = digits.splits["test"]
    right = (LiteModel(made / "model.tflite")(np.stack(list(test.images))).argmax(axis=1) == test.labels).mean()
    assert f"| model.tflite | {right:.2%} (" in card
    assert "| trained on | digits: 1295 images |" in card and "359 images, the test split of digits." in card
    assert "# digit \\| reader" in card and "| author | Ada \\<b\\> |" in card  # a name cannot break the table
    assert "ratio, until it covers 32 x 32 (height" in card  # digits are not cropped
    size = (made / "model.tflite").stat().st_size
    assert f"| size | {size / 1e6:.2f} MB |" in card
    millions = float(re.search(r"\| cost \| (\S+) M instructions per image on a Cortex-A76", card)[1])
    assert millions == pytest.approx(0.583, abs=0.05)  # counted: tests/bench/count_arm.py


def test_a_whole_bundle_is_whole(made, capsys):
    model, twin = verify(made)
    assert (model.pictures, model.difference, twin.difference) == (4, 0, 0)
    assert main(["verify", str(made)]) == 0
    assert capsys.readouterr().out.endswith(f"{made}: whole\n")


def test_two_bundles_of_the_same_are_equal(made, mobile, tmp_path):
    bundle(mobile[0], tmp_path / "again", data="digits", float32=mobile[1], trained_on="digits: 1295 images")
    for path in made.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(made)).read_bytes()


@pytest.mark.parametrize("name", ["model.tflite", "labels.txt", "README.md", "goldens/2.rgb", "goldens/0.model.f32"])
def test_a_changed_byte_is_told(name, folder):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(MixNetError, match=f"{name}: has changed since the bundle was made"):
        verify(folder)


def rewrite(folder, change, **files: bytes) -> None:
    """Change the manifest, and files with their hashes in it: only what they say may be wrong."""
    path = folder / "manifest.json"
    manifest = change(json.loads(path.read_text()))
    for name, content in files.items():
        (folder / name).write_bytes(content)
        manifest["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


def test_a_manifest_of_other_pictures_is_told(folder):
    rewrite(folder, lambda manifest: {**manifest, "image_size": [48, 32]})
    with pytest.raises(MixNetError, match=r"model\.tflite: takes images of 32 x 32, not 48 x 32"):
        verify(folder)


def test_a_manifest_of_another_crop_is_told(folder):
    """Made by an earlier version, say: C and the page would look at different parts of a picture."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"crop_fraction": 0.875}))
    with pytest.raises(MixNetError, match=r"wants 1 of a resized picture, but the manifest says 0\.875"):
        verify(folder)


@pytest.mark.parametrize(("name", "size"), [("goldens/0.model.f32", 40), ("goldens/0.rgb", 3072)])
def test_a_golden_of_another_size_is_told(name, size, folder):
    """One number would be compared with each."""
    rewrite(folder, lambda manifest: tolerating(manifest, 1), **{name: bytes(4)})
    with pytest.raises(MixNetError, match=f"{name}: holds 4 bytes, expected {size}"):
        verify(folder)


def test_a_golden_that_is_no_number_is_told_without_a_warning(folder):
    signaling = bytes.fromhex("0100a07f") * 10  # subtracting from it is invalid
    rewrite(folder, lambda manifest: manifest, **{"goldens/0.model.f32": signaling})
    with pytest.raises(MixNetError, match=r"0\.rgb gives probabilities that differ by nan from the golden ones"):
        verify(folder)


def test_a_missing_file_is_told(folder):
    (folder / "goldens" / "1.rgb").unlink()
    with pytest.raises(MixNetError, match=r"goldens/1\.rgb: missing; the manifest names it"):
        verify(folder)


def test_other_outputs_are_told(folder):
    """As on a processor that computes something else: the file is the one of the manifest, its outputs are not."""
    path = folder / "goldens" / "0.model_float32.f32"
    outputs = np.frombuffer(path.read_bytes(), "<f4").copy()
    outputs[3] += 0.01
    path.write_bytes(outputs.tobytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["goldens/0.model_float32.f32"]["sha256"] = hashlib.sha256(outputs.tobytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        MixNetError, match=r"0\.rgb gives probabilities that differ by 0\.01 .* expected 0\.0001 at most"
    ):
        verify(folder)


def tolerating(manifest, most):
    return {**manifest, "tolerances": {name: {"litert": most} for name in NAMES[:2]}}


def test_a_tolerance_may_be_an_integer(folder):
    rewrite(folder, lambda manifest: tolerating(manifest, 0))
    assert [row.tolerance for row in verify(folder)] == [0, 0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: [],
        lambda manifest: {**manifest, "format": 2},
        lambda manifest: {**manifest, "files": {}},
        lambda manifest: {**manifest, "goldens": [{"image": "goldens/0.rgb"}]},
        lambda manifest: {**manifest, "tolerances": {}},
        lambda manifest: {**manifest, "files": {"../secret": {"sha256": ""}} | manifest["files"]},
        *(
            lambda manifest, size=size: {**manifest, "image_size": size}
            for size in (32, ["a", "b"], [True, 32], [0, 32])
        ),
        *(lambda manifest, part=part: {**manifest, "crop_fraction": part} for part in (0, 1.5, "1", None, math.nan)),
        lambda manifest: {**manifest, "goldens": []},
        lambda manifest: {**manifest, "goldens": 3},
        *(lambda manifest, most=most: tolerating(manifest, most) for most in (-0.1, math.nan, math.inf, "0", True)),
    ],
)
def test_a_damaged_manifest_is_one_line(damage, folder):
    path = folder / "manifest.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(MixNetError, match=r"manifest\.json: damaged, or no manifest of a bundle") as error:
        verify(folder)
    assert "\n" not in str(error.value)


def test_no_bundle(tmp_path):
    with pytest.raises(MixNetError, match=r"no bundle: it has no manifest\.json; `mixnet-tf bundle` makes one"):
        verify(tmp_path)


def test_a_folder_with_other_files_is_left_alone(mobile, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(MixNetError, match="holds files that are no bundle"):
        bundle(mobile[0], tmp_path, data="digits", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_a_full_disk_or_a_kill_left_is_no_obstacle(mobile, tmp_path, monkeypatch):
    """Folders without a file, and half files; the process that wrote them is gone."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", full_disk)
        with pytest.raises(MixNetError, match=r"manifest\.json: cannot be written: No space left on device"):
            bundle(mobile[0], tmp_path / "made", data="digits")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["goldens"]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for folder in ("", "goldens"):
        (tmp_path / "made" / folder / f".model-{gone.pid}-0123abcd.part.tflite").touch()
    made = bundle(mobile[0], tmp_path / "made", data="digits")
    written = {str(path.relative_to(made.path)) for path in Path(made.path).rglob("*") if path.is_file()}
    assert written == set(made.files)


def full_disk(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("manifest", ['{"short_name": "app", "icons": []}', None])
def test_only_a_bundle_is_replaced(manifest, folder, mobile):
    """An application for the web has a manifest.json, too; a damaged bundle may hold anything."""
    if manifest is None:
        rewrite(folder, lambda manifest: {**manifest, "goldens": []})
    else:
        (folder / "manifest.json").write_text(manifest)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(MixNetError, match="holds files that are no bundle, or a damaged one") as error:
        bundle(mobile[0], folder, data="digits", overwrite=True)
    assert "\n" not in str(error.value) and "expected a new or an empty folder" in str(error.value)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["README.md", "goldens"])
def test_nothing_is_written_through_a_link(name, folder, mobile, tmp_path):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MixNetError, match=f"{name}: is a link, which would be written through"):
        bundle(mobile[0], folder, data="digits", overwrite=True)


def test_a_bundle_is_replaced_only_if_asked(folder, mobile):
    with pytest.raises(MixNetError, match="holds a bundle already; give --overwrite"):
        bundle(mobile[0], folder, data="digits")
    bundle(mobile[0], folder, data="digits", overwrite=True)  # without a twin: nothing of the old one is left
    assert not list(folder.rglob("*float32*")) and [row.file for row in verify(folder)] == ["model.tflite"]


def test_files_that_are_not_to_ship(nano_int8, nano_float32, trained_nano, tmp_path):
    for file, message in (
        (nano_float32, "has no labels inside; export it again"),
        (nano_int8, "takes int8 pixels, expected uint8 or float32 pixels"),
        (trained_nano, "expected a .tflite, which `mixnet-tf export"),
        (tmp_path / "none.tflite", "no such file"),
    ):
        with pytest.raises(MixNetError, match=message):
            bundle(file, tmp_path / "b", data="digits")
    export(nano_float32, tmp_path / "logits.tflite", recipe="float32", labels=NAMES_OF_DIGITS)
    with pytest.raises(MixNetError, match="gives logits, expected float probabilities"):
        bundle(tmp_path / "logits.tflite", tmp_path / "b", data="digits")
    assert not (tmp_path / "b").exists()


@pytest.fixture(scope="module")
def other_twins(mobile, tmp_path_factory):
    """Twins that do not belong to the model: of another crop, with other labels, for another size."""
    folder, twins = tmp_path_factory.mktemp("twins"), {}
    for name, labels, crop in (("crop", NAMES_OF_DIGITS, 0.875), ("labels", NAMES_OF_DIGITS[::-1], 1.0)):
        graph = FlatGraph.read(mobile[1])
        describe(graph, about_of(graph), labels, crop)
        twins[name] = folder / f"{name}.tflite"
        twins[name].write_bytes(graph.content())
    twins["size"] = folder / "size.tflite"
    model = mixnet_tf.create_model("mixnet_nano", classes=10, input_shape=(48, 48, 3))
    export(model, twins["size"], recipe="mobile_float32", data="digits", labels=NAMES_OF_DIGITS)
    return twins


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crop", r"crop fraction is 0\.875, but 1\.0 in"),
        ("labels", "class 0 is 'nine', but 'zero' in"),
        ("size", r"image size is \(48, 48\), but \(32, 32\) in"),
    ],
)
def test_a_twin_of_another_model_is_refused_before_it_runs(name, message, mobile, other_twins, tmp_path, monkeypatch):
    monkeypatch.setattr("mixnet_tf.bundles.making.outputs_of", lambda *arguments: pytest.fail("ran over the images"))
    with pytest.raises(MixNetError, match=rf"{name}\.tflite: {message} .*; expected a twin exported from the same"):
        bundle(mobile[0], tmp_path / "b", data="digits", float32=other_twins[name])


def test_data_of_another_crop_is_refused(mobile, digits, tmp_path):
    """The accuracy would be that of other pixels than those that the card and the file ask for."""
    graph = FlatGraph.read(mobile[0])
    describe(graph, about_of(graph), NAMES_OF_DIGITS, 0.875)
    (tmp_path / "photos.tflite").write_bytes(graph.content())
    line = r"photos\.tflite: keeps 0\.875 of a picture, but digits is evaluated with 1; expected equal fractions"
    with pytest.raises(MixNetError, match=line):
        bundle(tmp_path / "photos.tflite", tmp_path / "b", data="digits")
    bundle(tmp_path / "photos.tflite", tmp_path / "b", data=dataclasses.replace(digits, crop_fraction=0.875))
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["crop_fraction"] == 0.875
    assert "until it covers 36 x 36 (height" in (tmp_path / "b" / "README.md").read_text()


def test_data_of_other_classes_is_refused(mobile, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (40, 40), (i, i, i)).save(tmp_path / "pets" / "train" / name / f"{i}.png")
    with pytest.raises(MixNetError, match="has 10 classes, but pets has 2"):
        bundle(mobile[0], tmp_path / "b", data=load_data(tmp_path / "pets"))
    assert not (tmp_path / "b").exists()
