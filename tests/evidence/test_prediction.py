"""Labels and probabilities of single pictures, in Python and on the command line."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mixnet_tf import Predictor
from mixnet_tf.cli import main
from mixnet_tf.errors import MixNetError
from mixnet_tf.evidence.prediction import pictures
from mixnet_tf.litert.runtime import LiteModel

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def model(nano_mobile):
    return nano_mobile


@pytest.fixture(scope="module")
def photos(digits, tmp_path_factory):
    """The first ten test images as files."""
    folder = tmp_path_factory.mktemp("photos")
    split = digits.splits["test"]
    for i in range(10):
        Image.fromarray(split.images[i]).save(folder / f"{i}.png")
    return folder


def softmax(logits):
    likely = np.exp(logits - logits.max())
    return likely / likely.sum()


def test_what_a_picture_shows(model, photos, digits):
    """As LiteRT gives it for the same pixels, and mostly what the data says."""
    predictor, split = Predictor(model), digits.splits["test"]
    outputs, right = LiteModel(model)(np.stack(list(split.images[:10]))), 0
    for i in range(10):
        rows = predictor(photos / f"{i}.png")
        assert [p for _, p in rows] == pytest.approx(np.sort(outputs[i])[:-6:-1])
        assert all(outputs[i, NAMES.index(name)] == pytest.approx(p) for name, p in rows)  # equal ones in any order
        right += rows[0][0] == NAMES[split.labels[i]]
    assert right >= 9


def test_a_file_an_array_and_an_image_are_the_same(model, photos):
    predictor, path = Predictor(model), photos / "3.png"
    image = Image.open(path)
    assert predictor(path) == predictor(str(path)) == predictor(np.asarray(image)) == predictor(image.convert("RGBA"))


def test_an_image_is_what_its_file_is(model, tmp_path):
    """Turned as its camera was held, and 16 bits of gray are not clipped at 255."""
    predictor, rng = Predictor(model), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (48, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray((257 * pixels).astype(np.uint16)).save(tmp_path / "gray.png")
    for name in ("turned.jpg", "gray.png"):
        with Image.open(tmp_path / name) as image:
            size = image.size
            assert predictor(image) == predictor(tmp_path / name) and image.size == size, name
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes()[:-500])
    with Image.open(tmp_path / "cut.jpg") as cut, pytest.raises(MixNetError, match="image: not readable"):
        predictor(cut)


def test_logits_become_probabilities(nano_float32, photos, digits):
    (row,) = Predictor(nano_float32, labels=NAMES)(photos / "0.png", top=1)
    (logits,) = LiteModel(nano_float32)(digits.splits["test"].images[:1])
    # the fixture is older than the record of the crop: 0.875 of the picture is looked at
    assert row[0] in NAMES and 0 < row[1] <= 1
    assert softmax(logits).sum() == pytest.approx(1)


def test_the_file_says_how_much_of_a_picture_it_looks_at(model, photos):
    """Digits are not cropped; whoever crops them gets other numbers."""
    image = Image.open(photos / "5.png")
    cropped = image.crop((2, 2, 30, 30)).resize((32, 32), Image.Resampling.BICUBIC)
    predictor = Predictor(model)
    assert predictor(image) != predictor(cropped)
    (outputs,) = LiteModel(model)(np.asarray(image)[None])
    assert predictor(image)[0][1] == pytest.approx(outputs.max())


def test_without_labels_classes_are_numbers(nano_float32, photos):
    assert Predictor(nano_float32)(photos / "0.png", top=1)[0][0] in map(str, range(10))


def test_labels_that_do_not_fit(model):
    with pytest.raises(MixNetError, match="labels: found 2, expected 10"):
        Predictor(model, labels=["a", "b"])


@pytest.mark.parametrize("image", [3, np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), None])
def test_what_is_no_picture(image, model):
    with pytest.raises(MixNetError, match=r"image: found .*, expected a file, a Pillow image, or uint8 pixels"):
        Predictor(model)(image)


def test_names_of_pictures(photos, tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a.jpg", "deep/b.PNG", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert pictures([str(tmp_path)]) == [str(tmp_path / "a.jpg"), str(tmp_path / "deep" / "b.PNG")]
    assert pictures([str(tmp_path / "*.txt")]) == [str(tmp_path / "notes.txt")]
    assert pictures([str(tmp_path / "**" / "b.*")]) == [str(tmp_path / "deep" / "b.PNG")]
    assert pictures(["no/such.jpg"]) == ["no/such.jpg"]  # told when it is read
    for name in (str(tmp_path / "*.gif"), str(tmp_path / "empty")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(MixNetError, match="no pictures there"):
            pictures([name])


def test_the_command(model, photos, digits, tmp_path, capsys):
    plot = tmp_path / "plot.png"
    classes = LiteModel(model)(np.stack(list(digits.splits["test"].images[:10]))).argmax(axis=1)
    assert main(["predict", str(model), str(photos), "--top", "2", "--json", "--save-plot", str(plot)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in rows] == [str(photos / f"{i}.png") for i in range(10)]
    for row, label in zip(rows, classes.tolist(), strict=True):
        best, second = row["predictions"]
        assert (best["label"], best["index"]) == (NAMES[label], label)
        assert best["probability"] >= second["probability"]
    with Image.open(plot) as image:
        assert image.size == (4 * 288, 3 * 348)  # three rows of four, 120 pixels an inch
    assert main(["predict", str(model), str(photos / "0.png"), "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{photos / '0.png'}: {NAMES[classes[0]]} ")


def test_unreadable_pictures_do_not_hide_the_others(model, photos, tmp_path, capsys):
    folder, plot = tmp_path / "pictures", tmp_path / "plot.png"
    folder.mkdir()
    shutil.copyfile(photos / "3.png", folder / "b.png")
    for name in ("a.png", "c.png", "d.png"):
        (folder / name).write_text("no picture")
    assert main(["predict", str(model), str(folder), "--json", "--save-plot", str(plot)]) == 2
    captured = capsys.readouterr()
    assert [row["image"] for row in json.loads(captured.out)] == [str(folder / "b.png")] and plot.exists()
    line = captured.err.strip().splitlines()[-1]
    assert line.startswith(f"mixnet-tf predict: error: {folder / 'a.png'}: not a readable image (")
    assert line.endswith("), and 2 more pictures")
    (folder / "b.png").unlink()
    assert main(["predict", str(model), str(folder), "--json"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}/none.png"], "none.png: no such file"),
        (["{text}"], "notes.png: not a readable image"),
        (["{photos}", "--save-plot", "{text}"], "exists already"),
        (["{photos}", "--save-plot", "p.tif"], "p.tif: a plot is one of .png, .jpg, .svg, .pdf"),
        (["{photos}", "{photos}", "{photos}", "--save-plot", "p.png"], "a plot shows 24 pictures at most, found 30"),
        (["{photos}", "--labels", "{text}"], "found 1, expected 10"),
        (["{photos}", "--top", "0"], "--top"),
    ],
)
def test_mistakes(arguments, message, model, photos, tmp_path, capsys):
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    given = [argument.format(photos=photos, text=text) for argument in arguments]
    try:
        status = main(["predict", str(model), *given])
    except SystemExit as exit:
        status = exit.code
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and message in line
