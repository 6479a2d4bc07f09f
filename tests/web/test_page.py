"""The page in headless Chromium, on models that give next to nothing away: what it does, says and looks like."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from chromium import RUNTIME, browse, serving
from PIL import Image
from web_bundle import LABELS, mobile, write_bundle

from mixnet_tf.demo.runtime import packages
from mixnet_tf.evidence.classifier import predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, nano_int8, nano_float32) -> Path:
    return write_bundle(tmp_path_factory.mktemp("page") / "bundle", nano_int8, nano_float32)


@pytest.fixture(scope="module")
def url(bundle, chromium):
    with serving(bundle) as url:
        yield url


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(7).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def expected_rows(bundle: Path, name: str, photo: Path) -> list[list[str]]:
    (scores,) = predict(bundle / name, photo)
    return [[LABELS[i], f"{100 * scores[i]:.1f} %"] for i in np.argsort(-scores, kind="stable")[:5]]


def test_the_keyboard_alone_is_enough(url, bundle, photo):
    seen = browse(url, "keyboard", picture=str(photo), name="photo.png")
    assert seen["order"] == ["choose", "start-camera", "picture 0", "picture 1"]
    files = ("model.tflite", "model_plain.tflite", "model_float32.tflite")
    for card, name in zip(seen["chosen"]["cards"], files, strict=True):
        assert [row[:2] for row in card["rows"]] == expected_rows(bundle, name, photo)
        for _, percent, width in card["rows"]:
            assert float(width.rstrip("%")) == pytest.approx(float(percent.rstrip(" %")), abs=0.051)
        assert card["file"] == f"{name} · {(bundle / name).stat().st_size / 1e6:.1f} MB"
        assert re.match(r"\d+\.\d+ ms", card["time"])
    best, percent = expected_rows(bundle, files[0], photo)[0]
    assert seen["chosen"]["status"] == f"photo.png: {best}, {percent}"
    assert (seen["focus"], seen["outline"]) == ("choose", "solid")
    assert seen["example"]["status"].startswith("example 1 (picture 0): ")


def test_the_ratio_is_that_of_the_plain_file_of_the_same_kind(url):
    """Here both plain and float32 are the same float file, and model.tflite is int8."""
    int8, plain, float32 = browse(url, "example")["cards"]
    assert [int8["title"], plain["title"], float32["title"]] == [
        "Deployed, int8",
        "Plain conversion",
        "Deployed, float32",
    ]
    assert "plain" not in int8["time"] + plain["time"]
    milliseconds = [float(card["time"].split(" ms")[0]) for card in (plain, float32)]
    ratio = float(re.search(r"([\d.]+) × as fast as plain", float32["time"])[1])
    assert ratio == pytest.approx(milliseconds[0] / milliseconds[1], rel=0.02, abs=0.06)


def test_what_is_no_picture_is_said_and_harms_nothing(url, tmp_path, photo):
    files = {
        "notes.txt": b"hello",
        "broken.png": photo.read_bytes()[:100],
        "strip.png": None,
        "short.rgb": bytes(100),
        "whole.rgb": bytes(3 * 32 * 32),
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    Image.new("RGB", (201, 2)).save(tmp_path / "strip.png")
    seen = browse(url, "drop", files=[str(tmp_path / name) for name in ["photo.png", *files, "photo.png"]])
    problems = [each["problem"] for each in seen]
    assert problems == [
        "",
        "notes.txt: not a picture that this browser can read.",
        "broken.png: not a picture that this browser can read.",
        "strip.png: 201 x 2 pixels, expected an aspect ratio up to 100.",
        "short.rgb: 100 bytes, expected the 32 x 32 x 3 = 3072 bytes of a picture as the model takes it.",
        "",
        "",
    ]
    assert all(each["status"].startswith("photo.png: ") for each in [*seen[:5], seen[6]])
    assert seen[5]["status"].startswith("whole.rgb: ")


def test_it_works_without_a_network_once_it_is_loaded(url, photo):
    online = browse(url, "drop", files=[str(photo)])
    offline = browse(url, "offline", picture=str(photo), name="photo.png")
    assert offline["said"].endswith("works without a network.") and not offline["reachable"]
    assert offline["status"] == online[0]["status"] and offline["problems"] == []


def test_it_works_when_the_server_is_gone_and_forgets_what_the_next_one_lacks(bundle, tmp_path, chromium):
    """Another bundle may come to the same address, without a plain file: its old one must not come back."""
    profile, other = str(tmp_path / "profile"), shutil.copytree(bundle, tmp_path / "bundle")
    with serving(bundle) as url:
        kept = browse(url, "visit", profile=profile)["kept"]
        assert {url, f"{url}bundle/model_plain.tflite"} <= set(kept)
    assert len(browse(url, "example", profile=profile)["cards"]) == 3
    (other / "model_plain.tflite").unlink()
    port = url.rstrip("/").rpartition(":")[2]
    with serving(other, port=port) as url:
        assert f"{url}bundle/model_plain.tflite" not in browse(url, "visit", profile=profile)["kept"]
    gone = browse(url, "example", profile=profile)
    assert len(gone["cards"]) == 2 and gone["problems"] == []


BROKEN = {
    "text": (lambda content: b"hello", "not a .tflite file"),
    "half a file": (lambda content: content[: len(content) // 2], "LiteRT.js cannot run it (Failed to load"),
    "an empty file": (lambda content: b"", "not a .tflite file"),
    "zeros behind the header": (
        lambda content: content[:8] + bytes(len(content) - 8),
        "LiteRT.js cannot run it (Abort",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_model_is_said_and_the_others_work(bundle, tmp_path, chromium, kind):
    """The server has checked them: the file breaks under it."""
    copy, (spoil, line) = shutil.copytree(bundle, tmp_path / "bundle"), BROKEN[kind]
    with serving(copy) as url:
        (copy / "model.tflite").write_bytes(spoil((copy / "model.tflite").read_bytes()))
        seen = browse(url, "example")
    (problem,) = seen["problems"]
    assert problem.startswith(f"model.tflite: {line}")
    assert [card["title"] for card in seen["cards"]] == ["Plain conversion", "Deployed, float32"]
    assert all(len(card["rows"]) == 5 for card in seen["cards"])


def test_without_any_model_the_page_says_so(bundle, tmp_path, chromium):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    with serving(copy) as url:
        for path in copy.glob("*.tflite"):
            path.write_bytes(b"hello")
        seen = browse(url, "load")
    assert len(seen["problems"]) == 3 and not seen["usable"] and seen["status"] == "No model can be run."


def test_a_page_without_its_runtime_says_so(bundle, tmp_path, chromium):
    """On a web server without node_modules, say."""
    for package in packages():
        (tmp_path / package.name).mkdir(parents=True)
        (tmp_path / package.name / "package.json").write_text(json.dumps({"version": package.version}))
    with serving(bundle, runtime=tmp_path) as url:
        seen = browse(url, "load")
    assert seen["problems"][0].startswith("LiteRT.js cannot be loaded (Failed to fetch dynamically imported module")
    assert not seen["usable"] and seen["status"] == "No model can be run."


def test_a_model_without_labels_or_with_others_is_said(bundle, tmp_path, nano_int8, nano_float32, chromium):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    with serving(copy) as url:
        (copy / "model.tflite").write_bytes(mobile(nano_int8, labels=None))
        (copy / "model_plain.tflite").write_bytes(mobile(nano_float32, labels=LABELS[:9]))
        (copy / "model_float32.tflite").write_bytes(nano_float32.read_bytes())
        seen = browse(url, "example")
    assert seen["problems"] == [
        "model.tflite: holds no labels, so its classes are shown by number.",
        "model_plain.tflite: 9 labels for 10 classes",
        "model_float32.tflite: its outputs are no probabilities; export it with --recipe mobile",
    ]
    assert all(re.fullmatch(r"class \d", row[0]) for row in seen["cards"][0]["rows"])


def test_a_file_that_takes_or_gives_something_else_is_said(bundle, tmp_path, nano_int8, fixtures, chromium):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    with serving(copy) as url:
        (copy / "model_plain.tflite").write_bytes(nano_int8.read_bytes())
        shutil.copyfile(fixtures / "tiny" / "classifier.tflite", copy / "model_float32.tflite")
        seen = browse(url, "example")
    assert "INT8 is not supported" in seen["problems"][0]
    assert seen["problems"][1].startswith("model_float32.tflite: ")
    assert len(seen["cards"]) == 1


def test_the_camera_takes_a_picture_and_is_off_again(url):
    seen = browse(url, "camera", allowed=True, flags=["--use-fake-ui-for-media-stream"])
    assert seen["status"].startswith("the camera's picture: ") and len(seen["cards"][0]["rows"]) == 5
    assert seen["track"] == "ended" and seen["focus"] == "start-camera"


def test_a_camera_that_is_not_allowed_is_said(url):
    seen = browse(url, "camera", allowed=False, flags=["--deny-permission-prompts"])
    assert seen["problem"].startswith("the camera was not allowed") and seen["visible"]


def test_it_reads_well_at_two_widths_light_and_dark(url):
    """By axe-core: contrast, names, roles, order of headings, and more."""
    seen = browse(url, "audit", widths=[1280, 390])
    assert len(seen) == 8
    for name, each in seen.items():
        assert each["violations"] == [], name
        assert each["overflow"] == 0, f"{name}: wider than the window"
        assert each["low"] == 0, f"{name}: a button is lower than 44 pixels"
    backgrounds = {name.rpartition("-")[2]: each["background"] for name, each in seen.items()}
    assert backgrounds["light"] != backgrounds["dark"]


def test_what_npm_installs_is_what_is_pinned():
    """The archives that serve-demo downloads are those of the installed packages."""
    if not RUNTIME.is_dir():
        pytest.skip("no node_modules: npm ci --prefix tflite/web")
    lock = json.loads((RUNTIME / ".package-lock.json").read_text())["packages"]
    pinned = json.loads((RUNTIME.parent / "package-lock.json").read_text())["packages"]
    for name, entry in lock.items():
        assert entry["integrity"] == pinned[name]["integrity"]
