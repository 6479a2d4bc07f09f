"""Digits, image folders and .npz files: what is found, how it is split, and what is refused."""

import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import ArgumentError, DataError


def make_folder(root: Path, counts: dict[str, int]) -> Path:
    """Create files ``root/<key>/000.png``, each with its own pixels; no file for a count of 0."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (2, 2), (i, len(folder), 0)).save(root / folder / f"{i:03}.png")
    return root


def per_class(data) -> dict[str, list[int]]:
    classes = len(data.class_names)
    return {name: np.bincount(split.labels, minlength=classes).tolist() for name, split in data.splits.items()}


BOTH = {"train/a": 40, "train/b": 20, "val/a": 3, "val/b": 4, "test/a": 5, "test/b": 6}
LAYOUTS = {
    "all": (BOTH, {"train": [40, 20], "val": [3, 4], "test": [5, 6]}),
    "no val": ({k: v for k, v in BOTH.items() if "val" not in k}, {"train": [36, 18], "val": [4, 2], "test": [5, 6]}),
    "no test": ({k: v for k, v in BOTH.items() if "test" not in k}, {"train": [40, 20], "val": [3, 4], "test": [3, 4]}),
    "only train": ({"train/a": 40, "train/b": 20}, {"train": [32, 16], "val": [4, 2], "test": [4, 2]}),
    "one level": ({"a": 100, "b": 50}, {"train": [80, 40], "val": [10, 5], "test": [10, 5]}),
    "smallest": ({"a": 3, "b": 3}, {"train": [1, 1], "val": [1, 1], "test": [1, 1]}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_layouts_and_their_stratified_splits(tmp_path, layout):
    counts, expected = LAYOUTS[layout]
    data = load_data(str(make_folder(tmp_path / "pets", counts)))
    assert (data.name, data.class_names, data.image_size, data.crop_fraction) == ("pets", ("a", "b"), None, 0.875)
    assert list(data.splits) == ["train", "val", "test"]
    assert per_class(data) == expected
    for split in data.splits.values():
        folders = [Path(path).parent.name for path in split.images]
        assert [data.class_names.index(name) for name in folders] == split.labels.tolist()
    used = Counter(path for name in ("train", "val", "test") for path in data.splits[name].images)
    assert sorted(used) == sorted(map(str, tmp_path.rglob("*.png")))
    assert set(used.values()) == ({1, 2} if layout == "no test" else {1})


def test_splits_follow_the_seed(tmp_path):
    make_folder(tmp_path, {"a": 40, "b": 20})
    first, again, other = (load_data(tmp_path, seed=seed) for seed in (0, 0, 1))
    for name in ("train", "val", "test"):
        assert first.splits[name].images == again.splits[name].images
        assert first.splits[name].images != other.splits[name].images


def test_hidden_files_are_ignored_and_others_are_not(tmp_path):
    make_folder(tmp_path, {"a": 4, "b": 4, ".git": 2, "__MACOSX": 1})
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "a" / name).write_text("x")
    (tmp_path / "README.txt").write_text("beside the classes, not inside one")
    data = load_data(tmp_path)
    assert data.class_names == ("a", "b")
    assert per_class(data) == {"train": [2, 2], "val": [1, 1], "test": [1, 1]}
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert sum(map(sum, per_class(load_data(tmp_path)).values())) == 9


def test_classes_are_sorted_and_links_are_followed(tmp_path):
    make_folder(tmp_path / "elsewhere", {"x": 3})
    make_folder(tmp_path / "pets", {"b": 3, "B": 3, "10": 3, "9": 3})
    (tmp_path / "pets" / "c").symlink_to(tmp_path / "elsewhere" / "x")
    assert load_data(tmp_path / "pets").class_names == ("10", "9", "B", "b", "c")


def test_digits_are_scikit_learns_enlarged_and_split_by_class():
    data, source = load_data("digits"), load_digits()
    assert (data.name, data.image_size, data.crop_fraction) == ("digits", 32, 1.0)
    assert data.class_names == tuple("0123456789")
    assert not data.augmentation.flip
    counts, total = per_class(data), np.bincount(source.target)
    np.testing.assert_array_equal(np.sum(list(counts.values()), axis=0), total)
    assert np.abs(counts["test"] - 0.2 * total).max() <= 0.5
    assert np.abs(np.array(counts["val"]) - 0.08 * total).max() <= 1
    for split in data.splits.values():
        assert split.images.shape == (len(split), 32, 32, 3)
        assert split.images.dtype == np.uint8
        assert split.images.max() == 255
    # Every original is there once: averaging 4x4 blocks of an enlarged digit nearly gives back its 8x8 pixels.
    images = np.concatenate([split.images for split in data.splits.values()])
    labels = np.concatenate([split.labels for split in data.splits.values()])
    reduced = images[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)
    originals = source.data * 255 / 16
    distances = (reduced**2).sum(1)[:, None] + (originals**2).sum(1) - 2 * reduced @ originals.T
    nearest = distances.argmin(1)
    assert len(set(nearest)) > 1790
    np.testing.assert_array_equal(labels, source.target[nearest])
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_the_digits_to_test_on_do_not_follow_the_seed():
    first, other = load_data("digits"), load_data("digits", seed=1)
    np.testing.assert_array_equal(first.splits["test"].images, other.splits["test"].images)
    assert not np.array_equal(first.splits["val"].images, other.splits["val"].images)


LABELS = np.arange(40) % 2
GRAY = np.random.default_rng(0).integers(0, 256, (40, 5, 4), np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (40, 6, 6, 3), np.uint8)


def save_npz(path: Path, **changes) -> Path:
    """Write a valid file, but for `changes` (None leaves an array out); x_test and y_test are the first 10 rows."""
    x, y = changes.pop("x", COLOR), changes.pop("y", LABELS)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:10], "y_test": y[:10]} | changes
    np.savez(path / "set.npz", **{key: array for key, array in arrays.items() if array is not None})
    return path / "set.npz"


ACCEPTED = {
    "uint8 RGB": ({}, COLOR, 6, True),
    "gray": ({"x": GRAY}, np.stack([GRAY] * 3, -1), (5, 4), False),
    "gray, one channel": ({"x": GRAY[..., None]}, np.stack([GRAY] * 3, -1), (5, 4), False),
    "fractions": ({"x": np.clip(COLOR - 0.4, 0, None) / 255}, COLOR, 6, True),
    "floats 0..255": ({"x": COLOR.astype(float)}, COLOR, 6, True),
    "wide integers": ({"x": COLOR.astype(np.int64)}, COLOR, 6, True),
    "labels in a column": ({"y": LABELS[:, None].astype(np.uint8)}, COLOR, 6, True),
    "one-hot labels": ({"y": np.eye(2)[LABELS]}, COLOR, 6, True),
    "labels of floats": ({"y": LABELS * 1.0}, COLOR, 6, True),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_npz_files(tmp_path, kind):
    changes, pixels, image_size, flip = ACCEPTED[kind]
    data = load_data(save_npz(tmp_path, **changes))
    assert (data.name, data.class_names, data.crop_fraction) == ("set", ("0", "1"), 1.0)
    assert (data.image_size, data.augmentation.flip) == (image_size, flip)
    assert per_class(data) == {"train": [18, 18], "val": [2, 2], "test": [5, 5]}
    assert data.splits["test"].images.dtype == np.uint8
    np.testing.assert_array_equal(data.splits["test"].images, pixels[:10])
    by_pixels = {image.tobytes(): label for image, label in zip(pixels, LABELS, strict=True)}
    held = [data.splits[name] for name in ("train", "val")]
    found = {image.tobytes(): label for split in held for image, label in zip(split.images, split.labels, strict=True)}
    assert found == by_pixels


def _truncated_npz(path: Path) -> Path:
    file = save_npz(path)
    file.write_bytes(file.read_bytes()[:-600])
    return file


def _damaged_npz(path: Path) -> Path:
    file = save_npz(path)
    content = bytearray(file.read_bytes())
    content[2000] ^= 255  # inside the pixels of x_train: the checksum no longer holds
    file.write_bytes(content)
    return file


def _written(path: Path, name: str, content: bytes) -> Path:
    (path / name).write_bytes(content)
    return path / name


def _numpy_file(path: Path) -> Path:
    np.save(path / "set.npy", COLOR)
    return (path / "set.npy").rename(path / "set.npz")


NAN = COLOR / 255
NAN[7, 3, 2, 1] = np.nan
REFUSED = {
    "misspelt digits": (lambda p: "digit", r"digit: no such folder or file \(did you mean 'digits'\?\)"),
    "missing": (lambda p: p / "nowhere", "nowhere: no such folder or file"),
    "missing npz": (lambda p: p / "no.npz", "no.npz: no such folder or file"),
    "empty text": (lambda p: "", "found '', expected 'digits', a folder, a .npz file or a pair"),
    "none": (lambda p: None, "found None"),
    "number": (lambda p: 3, "found 3"),
    "null character": (lambda p: "a\0b", "no such folder or file"),
    "too long a name": (lambda p: p / ("x" * 300), "File name too long"),
    "other file": (lambda p: _written(p, "x.csv", b"1,2"), "x.csv: not a data set; expected"),
    "empty folder": (lambda p: p, "no class folders"),
    "loose images": (lambda p: _written(p, "a.png", b"").parent, "no class folders"),
    "train without classes": (lambda p: make_folder(p, {"train": 2, "test/a": 1}), "train: no class folders"),
    "empty class": (lambda p: make_folder(p, {"a": 3, "b": 0}), "b: empty class folder"),
    "empty test class": (
        lambda p: make_folder(p, {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 0}),
        "test/b: empty class folder",
    ),
    "class with hidden files only": (
        lambda p: _written(make_folder(p, {"a": 3, "b": 0}) / "b", ".DS_Store", b"").parents[1],
        "b: empty class folder",
    ),
    "one class": (lambda p: make_folder(p, {"a": 3}), "found only the class 'a', expected at least 2"),
    "class missing from test": (
        lambda p: make_folder(p, {"train/a": 3, "train/b": 3, "train/c": 3, "test/a": 1}),
        "test: lacks 'b', 'c'; expected the classes of train",
    ),
    "class only in val": (
        lambda p: make_folder(p, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1, "val/x": 1}),
        "val: adds 'x'; expected the classes of train",
    ),
    "many classes missing": (
        lambda p: make_folder(p, {f"train/{c}": 2 for c in "abcdefgh"} | {"test/a": 1}),
        "lacks 'b', 'c', 'd', 'e', 'f' and 2 more",
    ),
    "no train": (lambda p: make_folder(p, {"val/a": 1, "test/a": 1}), "has 'test', 'val' but no train folder"),
    "misspelt val": (
        lambda p: make_folder(p, {"train/a": 2, "train/b": 2, "vall/a": 1}),
        r"vall: beside train, expected only val and test \(did you mean 'val'\?\)",
    ),
    "folders too deep": (lambda p: make_folder(p, {"x/a": 2, "y/a": 2}), "x/a: a folder inside a class folder"),
    "too few to split": (lambda p: make_folder(p, {"a": 2, "b": 3}), "class 'a': too few training images"),
    "npz without y_test": (
        lambda p: save_npz(p, y_test=None),
        "lacks y_test; expected x_train.*found 'x_test', 'x_train'",
    ),
    "npz truncated": (_truncated_npz, "set.npz: not a readable .npz file"),
    "npz damaged": (_damaged_npz, "set.npz: not a readable .npz file .*CRC"),
    "npz empty": (lambda p: _written(p, "set.npz", b""), "set.npz: not a readable"),
    "npz of text": (lambda p: _written(p, "set.npz", b"hello"), "set.npz: not a readable .*; expected plain"),
    "npz that is a pickle": (lambda p: _written(p, "set.npz", pickle.dumps([1])), "not a zip file"),
    "npz that is an npy": (_numpy_file, r"set.npz: not a readable .npz file \(File is not a zip file\)"),
    "npz of objects": (
        lambda p: save_npz(p, x_train=np.array([1, "a", None], object)),
        "'x_train.npy' holds pickled Python objects",
    ),
    "npz of texts": (
        lambda p: save_npz(p, y_train=np.array(["a"] * 40)),
        "'y_train.npy' holds '<U1', expected numbers",
    ),
    "flat images": (lambda p: save_npz(p, x_train=GRAY.reshape(40, -1)), r"x_train: found shape \(40, 20\), expected"),
    "two channels": (lambda p: save_npz(p, x=np.zeros((40, 4, 4, 2), "u1")), r"x_train: found shape \(40, 4, 4, 2\)"),
    "channels first": (lambda p: save_npz(p, x=np.zeros((40, 3, 8, 8), "u1")), r"x_train: found shape \(40, 3, 8, 8\)"),
    "no pixels": (lambda p: save_npz(p, x=np.zeros((40, 0, 4, 3), "u1")), r"x_train: found shape \(40, 0, 4, 3\)"),
    "no images": (lambda p: save_npz(p, x_test=COLOR[:0], y_test=LABELS[:0]), r"x_test: found shape \(0, 6, 6, 3\)"),
    "sizes differ": (lambda p: save_npz(p, x_test=COLOR[:10, :5]), r"x_test has images of shape \(5, 6, 3\), expected"),
    "negative pixels": (
        lambda p: save_npz(p, x=COLOR / 127.5 - 1),
        "x_train: found float64 from -1 to 1, expected 0..255",
    ),
    "16-bit pixels": (
        lambda p: save_npz(p, x=COLOR * np.uint16(257)),
        "x_train: found uint16 from 0 to 65535, expected 0..255",
    ),
    "NaN pixels": (lambda p: save_npz(p, x_train=NAN), "x_train: image 7 has the pixel nan, expected finite"),
    "complex pixels": (lambda p: save_npz(p, x=COLOR * 1j), "x_train: found complex128"),
    "fewer labels": (
        lambda p: save_npz(p, y_train=LABELS[:39]),
        r"y_train: found int\d+ of shape \(39,\), expected 40 whole numbers",
    ),
    "soft labels": (lambda p: save_npz(p, y=np.eye(2)[LABELS] / 2), r"y_train: found float64 of shape \(40, 2\)"),
    "fractional labels": (lambda p: save_npz(p, y=LABELS / 2), "y_train: found float64"),
    "labels from 1": (lambda p: save_npz(p, y=LABELS + 1), "y_train has the label 1, expected 0"),
    "negative label": (lambda p: save_npz(p, y=LABELS - 1), "y_train: found the label -1, expected numbers from 0"),
    "huge label": (
        lambda p: save_npz(p, y=LABELS * 2**60),
        f"y_train: found the label {2**60}, expected numbers from 0 to",
    ),
    "label only in test": (lambda p: save_npz(p, y_test=LABELS[:10] * 2), "y_test has the label 2, expected 0..1"),
    "negative in test": (
        lambda p: save_npz(p, y_test=-LABELS[:10]),
        "y_test: found the label -1, expected numbers from 0",
    ),
    "one label": (lambda p: save_npz(p, y=LABELS * 0), "found only the class '0'"),
    "one image of a label": (lambda p: save_npz(p, y_train=np.arange(40) // 39), "class '1': too few"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_data_set_is_refused_in_one_line(tmp_path, kind):
    make, message = REFUSED[kind]
    with pytest.raises(DataError, match=message) as raised:
        load_data(make(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", [-1, 0.5, "0", None, True])
def test_seeds_are_whole_numbers(seed):
    with pytest.raises(ArgumentError, match="seed: found"):
        load_data("digits", seed=seed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_permission_is_named(tmp_path):
    make_folder(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "b").chmod(0)
    with pytest.raises(DataError, match="b: Permission denied"):
        load_data(tmp_path)


ODD_FILES = {
    "loop": (lambda path: path.symlink_to(path), "not a readable image .Too many levels of symbolic links"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "pipe": (os.mkfifo, "not a readable image .no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a readable image .no regular file"),
    "folder": (lambda path: path.mkdir(), "not a readable image .a folder"),
}


@pytest.mark.parametrize("name", ["00x.jpg", "00\n\x1b[31m.JPG"])
@pytest.mark.parametrize("kind", ODD_FILES)
def test_what_is_no_file_is_a_bad_image(tmp_path, kind, name):
    make_folder(tmp_path, {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    make, message = ODD_FILES[kind]
    make(tmp_path / "train" / "a" / name)
    with pytest.raises(DataError, match=message) as raised:
        load_data(tmp_path).checked("train")
    shown = f"{tmp_path}/train/a/" + name.replace("\n", r"\n").replace("\x1b", r"\x1b")
    assert str(raised.value).startswith(shown) and str(raised.value).isprintable()
    data = load_data(tmp_path, on_bad_image="skip").checked("train")
    assert data.skipped == (shown,) and len(data.splits["train"]) == 8


HOSTILE = "a\nb\x1b[31m"


@pytest.mark.parametrize(
    "make",
    [
        lambda p: p / HOSTILE,
        lambda p: _written(p, HOSTILE, b""),
        lambda p: _written(p, HOSTILE + ".npz", b""),
        lambda p: make_folder(p / HOSTILE, {"train/a": 1}),
        lambda p: make_folder(p / HOSTILE, {"val/a": 1}),
        lambda p: make_folder(p / HOSTILE, {"train/a": 1, "train/b": 1, "test/a": 1}),
        lambda p: make_folder(p / HOSTILE, {"train/a": 0, "train/b": 1}),
        lambda p: make_folder(p, {"train/a": 1, "train/b": 1, f"{HOSTILE}/a": 1}),
        lambda p: make_folder(p, {"a": 2, f"a/{HOSTILE}": 1, "b": 2}),
        lambda p: save_npz(p, x=COLOR * 2.0).rename(p / (HOSTILE + ".npz")),
        lambda p: save_npz(p, y=LABELS + 1).rename(p / (HOSTILE + ".npz")),
    ],
)
def test_a_message_shows_hostile_names_on_one_line(tmp_path, make):
    with pytest.raises(DataError) as raised:
        load_data(make(tmp_path))
    assert str(raised.value).isprintable() and r"a\nb\x1b[31m" in str(raised.value)


def test_the_name_of_a_data_set_is_printable(tmp_path):
    make_folder(tmp_path / HOSTILE, {"a": 3, "b": 3})
    assert load_data(tmp_path / HOSTILE).name == r"a\nb\x1b[31m"


@pytest.mark.parametrize("changes", [{"\x1b[31m": LABELS}, {"x" * 5000: LABELS}, {str(i): LABELS for i in range(99)}])
def test_names_of_arrays_are_shown_briefly(tmp_path, changes):
    with pytest.raises(DataError, match="lacks y_test; expected") as raised:
        load_data(save_npz(tmp_path, y_test=None, **changes))
    assert str(raised.value).isprintable() and len(str(raised.value)) < 600
