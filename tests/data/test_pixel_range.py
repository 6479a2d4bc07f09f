"""Which range the pixels of an .npz have: certain, asked for, or refused; and what becomes of them."""

import warnings

import numpy as np
import pytest
from PIL import Image

from mixnet_tf import npz
from mixnet_tf.cli import _parser, main
from mixnet_tf.commands.arguments import load_images
from mixnet_tf.data import pixel_range
from mixnet_tf.data.pixel_range import to_uint8_rgb
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import ArgumentError, DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), np.uint8)
PIXELS[0, 0, 0] = 0, 1, 255
LABELS = np.arange(40) % 2
MASKS = (PIXELS > 127).astype(np.uint8)
CERTAIN = {
    "bytes": (PIXELS, PIXELS),
    "wide integers": (PIXELS.astype(np.int64), PIXELS),
    "floats": (PIXELS.astype("f4"), PIXELS),
    "dark floats": (PIXELS / 100, np.rint(PIXELS / 100)),
    "fractions": (PIXELS / 255, PIXELS),
    "fractions of 32 bits": (PIXELS.astype("f4") / np.float32(255), PIXELS),
    "fractions of 16 bits": (PIXELS.astype("f2") / np.float16(255), PIXELS),
    "fractions of 128 bits": (PIXELS.astype(np.longdouble) / 255, PIXELS),
    "big-endian fractions": ((PIXELS / 255).astype(">f8"), PIXELS),
    "Fortran's order": (np.asfortranarray(PIXELS / 255), PIXELS),
}


def pair(x_train: np.ndarray, x_test: np.ndarray | None = None) -> dict[str, np.ndarray]:
    return {"x_train": x_train, "x_test": x_train[:10] if x_test is None else x_test}


@pytest.mark.parametrize("part", [2**24, 250], ids=["at once", "in parts"])
@pytest.mark.parametrize("kind", CERTAIN)
def test_what_is_certain_is_taken(kind, part, monkeypatch):
    monkeypatch.setattr(pixel_range, "_PART", part)
    images, expected = CERTAIN[kind]
    result = to_uint8_rgb("x.npz", pair(images))
    assert {array.dtype.name for array in result.values()} == {"uint8"}
    np.testing.assert_array_equal(result["x_train"], expected)
    np.testing.assert_array_equal(result["x_test"], expected[:10])


def test_gray_becomes_rgb():
    result = to_uint8_rgb("x.npz", pair(PIXELS[..., :1] / 255))
    np.testing.assert_array_equal(result["x_train"], PIXELS[..., [0, 0, 0]])


UNCLEAR = {
    "a little more than 1": (PIXELS / 255 * 1.0002, "float64 from 0 to 1.0002, "),
    "a little less than 0": (PIXELS / 255 - 1e-4, "float64 from -0.0001 to 0.9999, "),
    "twice divided": (PIXELS / 255 / 255, "float64 from 0 to 0.00392157, "),
    "masks": (MASKS, "uint8 from 0 to 1, "),
    "wide masks": (MASKS.astype(np.int64), "int64 from 0 to 1, "),
    "masks of floats": (MASKS.astype("f4"), "float32 from 0 to 1, "),
    "black": (MASKS * 0, "uint8 from 0 to 0, "),
    "black floats": (MASKS * 0.0, "float64 from 0 to 0, "),
    "white of fractions": (MASKS * 0.0 + 1, "float64 from 1 to 1, "),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_what_is_not_certain_is_asked_for(kind):
    images, message = UNCLEAR[kind]
    with pytest.raises(DataError) as raised:
        to_uint8_rgb("x.npz", pair(images))
    hint = "expected 0..255 or fractions 0..1, for certain; name the range (--pixel-range): 0..1"
    assert str(raised.value).startswith(f"x.npz: x_train: found {message}{hint}")
    as_fractions = to_uint8_rgb("x.npz", pair(images), "0..1")["x_train"]
    np.testing.assert_array_equal(as_fractions, np.rint(np.clip(images * 255.0, 0, 255)))
    if images.min() >= 0:
        assert str(raised.value).endswith("0..1 or 0..255")
        as_numbers = to_uint8_rgb("x.npz", pair(images), "0..255")["x_train"]
        np.testing.assert_array_equal(as_numbers, np.rint(images))


def test_an_answer_is_taken_as_far_as_resizing_goes():
    """Corners of a step: the worst that a bicubic resize makes, by Pillow and by the sharper kernel of OpenCV."""
    step = np.zeros((1, 16, 16), np.float32)
    step[0, :8, :8] = 1
    resized = np.asarray(Image.fromarray(step[0]).resize((51, 51), Image.Resampling.BICUBIC))[None, ..., None]
    assert resized.min() < -0.05 and resized.max() > 1.1
    with pytest.raises(DataError, match=r"name the range \(--pixel-range\): 0..1 or 0..255|--pixel-range\): 0..1$"):
        to_uint8_rgb("x.npz", pair(resized))
    result = to_uint8_rgb("x.npz", pair(resized), "0..1")["x_train"]
    np.testing.assert_array_equal(result[0, ..., 0], np.rint(resized[0, ..., 0].clip(0, 1).astype(float) * 255))
    scaled = (resized * 255).round().astype(np.int16)
    with pytest.raises(DataError, match=r"name the range \(--pixel-range\): 0..255$"):
        to_uint8_rgb("x.npz", pair(scaled))
    np.testing.assert_array_equal(
        to_uint8_rgb("x.npz", pair(scaled), "0..255")["x_train"], scaled.clip(0, 255)[..., [0] * 3]
    )
    sharpest = 0.75 * (1 / 3) * (1 - 1 / 3) ** 2  # the kernel with a = -0.75 beside a step, where it is lowest
    assert (1 + sharpest) ** 2 - 1 < pixel_range.OVERSHOOT


def test_only_what_is_possible_is_offered():
    for images, offered in ((MASKS * 2, "0..255"), (PIXELS - np.float32(9), "0..255"), (PIXELS / 250 - 0.01, "0..1")):
        with pytest.raises(DataError, match=rf"\(--pixel-range\): {offered}$"):
            to_uint8_rgb("x.npz", pair(images))


NEITHER = {
    "from -1 to 1": PIXELS / 127.5 - 1,
    "standardized": (PIXELS - 120.0) / 60,
    "of 16 bits": PIXELS * np.uint16(257),
    "infinitely large": PIXELS * np.longdouble("1e4000"),
    "the largest integers": PIXELS * np.uint64(2**56),
}


@pytest.mark.parametrize("kind", NEITHER)
def test_what_is_of_neither_range_is_refused_whatever_is_asked(kind):
    for asked in (None, "0..1", "0..255"):
        with pytest.raises(
            DataError, match=rf"x_train: found {NEITHER[kind].dtype} from \S+ to \S+, expected"
        ) as raised:
            to_uint8_rgb("x.npz", pair(NEITHER[kind]), asked)
        assert "pixel-range" not in str(raised.value)


def test_an_answer_that_is_wrong_is_refused():
    with pytest.raises(DataError, match=r"x_train: found uint8 from 0 to 255, expected 0\.\.1, or a quarter beyond"):
        to_uint8_rgb("x.npz", pair(PIXELS), "0..1")
    with pytest.raises(DataError, match=r"x_test: found float64 from 0 to 510, expected 0\.\.255, or a quarter beyond"):
        to_uint8_rgb("x.npz", pair(PIXELS, PIXELS * 2.0), "0..255")


def test_the_arrays_must_agree():
    for images in (pair(PIXELS / 255, PIXELS), pair(PIXELS, PIXELS / 255)):
        with pytest.raises(DataError, match=r"x.npz: x_train and x_test differ: one holds fractions"):
            to_uint8_rgb("x.npz", images)
    with pytest.raises(DataError, match=r"x_test: found uint8 from 0 to 1, expected .* 0..255$"):
        to_uint8_rgb("x.npz", pair(PIXELS, MASKS))
    for images in (PIXELS, PIXELS / 255):  # black is black
        assert not to_uint8_rgb("x.npz", pair(images, PIXELS * 0))["x_test"].any()


@pytest.mark.parametrize("flaw", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "g"])
def test_the_first_image_that_is_not_finite_is_named(flaw, kind, monkeypatch):
    monkeypatch.setattr(pixel_range, "_PART", 6 * 6 * 3 * 4)
    images = (PIXELS / 255).astype(kind)
    images[30, 1, 2, 0] = images[7, 5, 5, 2] = flaw
    for asked in (None, "0..1", "0..255"):
        with pytest.raises(DataError, match=rf"^x.npz: x_test: image 7 has the pixel {flaw}, expected finite numbers$"):
            to_uint8_rgb("x.npz", pair(PIXELS / 255, images), asked)


@pytest.mark.parametrize("kind", ["?", "c16"])
def test_pixels_are_numbers(kind):
    with pytest.raises(DataError, match=f"x_train: found {np.dtype(kind)}, expected numbers"):
        to_uint8_rgb("x.npz", pair(MASKS.astype(kind)), "0..1")


def save(path, x_train, x_test=None):
    test = x_train[:10] if x_test is None else x_test
    np.savez_compressed(path, x_train=x_train, y_train=LABELS[: len(x_train)], x_test=test, y_test=LABELS[: len(test)])
    return path


def test_a_data_set_remembers_what_was_said(tmp_path):
    path = save(tmp_path / "set.npz", MASKS)
    with pytest.raises(DataError, match=r"set.npz: x_train: found uint8 from 0 to 1"):
        load_data(path)
    data = load_data(path, pixel_range="0..1")
    assert data.pixel_range == "0..1" and data.checked("test").pixel_range == "0..1"
    np.testing.assert_array_equal(data.splits["test"].images, MASKS[:10] * 255)
    assert load_data("digits").pixel_range is None


@pytest.mark.parametrize("value", ["0-1", "", 1, ("0..1",)])
def test_there_are_two_ranges(value):
    with pytest.raises(ArgumentError, match=r"^pixel_range: found .*, expected one of 0\.\.1, 0\.\.255"):
        load_data("digits", pixel_range=value)


def test_only_an_npz_has_a_range(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for source in ("digits", tmp_path, tmp_path / "folder.npz"):
        with pytest.raises(ArgumentError, match=rf"^pixel_range: found '0..1' for {source}, expected it for a \.npz"):
            load_data(source, pixel_range="0..1")


def test_what_does_not_fit_into_memory_is_not_read(tmp_path, monkeypatch):
    path = save(tmp_path / "set.npz", np.zeros((40, 64, 64), "f4"))
    needed = 50 * 64 * 64 * (4 + 2 * 3) + 50 * 8  # floats; their RGB bytes twice; labels
    monkeypatch.setattr(npz, "memory", lambda: needed - 1)
    monkeypatch.setattr(npz, "_read", None)
    with pytest.raises(DataError, match=rf"set.npz: takes {needed} bytes of memory, but this machine has {needed - 1}"):
        load_data(path)


def test_running_out_of_memory_is_one_line(tmp_path, monkeypatch):
    def read(*arguments):
        raise MemoryError

    monkeypatch.setattr(npz, "_read", read)
    with pytest.raises(DataError, match=r"set.npz: not a readable .npz file \(MemoryError\); expected plain arrays"):
        load_data(save(tmp_path / "set.npz", PIXELS))


def test_no_warning_comes_with_an_error(tmp_path):
    with warnings.catch_warnings(), pytest.raises(DataError, match="the pixel"):
        warnings.simplefilter("error")
        load_data(save(tmp_path / "set.npz", np.full((40, 4, 4), np.nan, "f2")))


COMMANDS = {
    "train": ["mixnet_nano", "--output", "run"],
    "pipeline": ["mixnet_nano", "--output", "run"],
    "evaluate": ["a.keras"],
    "compare": ["a.keras", "b.tflite"],
    "export": ["a.keras", "--recipe", "int8", "--output", "f.tflite"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_reads_images_takes_the_range(name, tmp_path):
    path = save(tmp_path / "set.npz", MASKS)
    source = "--data"
    args = _parser().parse_args([name, *COMMANDS[name], source, str(path), "--pixel-range", "0..1"])
    data = load_images(args.data, args)
    assert data.splits["train"].images.max() == 255 and data.pixel_range == "0..1"


def test_the_command_line_says_what_to_do(tmp_path, capsys):
    path, model = save(tmp_path / "set.npz", MASKS), tmp_path / "model.tflite"
    model.touch()
    assert main(["evaluate", str(model), "--data", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: x_train: found uint8 from 0 to 1, expected" in line and "--pixel-range" in line
