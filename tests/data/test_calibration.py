"""Calibration images: which, in which order, as often as asked, and what is said about them."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from mixnet_tf.data import calibration as room
from mixnet_tf.data import dataset
from mixnet_tf.data.batches import evaluation_dataset
from mixnet_tf.data.calibration import CalibrationSet, Manifest, take_turns
from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import ArgumentError, DataError


def deal(labels: list[int], seed: int) -> list[int]:
    """Deal one shuffled pile a label, round after round: the same order, by another way."""
    shuffled = np.random.default_rng(seed).permutation(len(labels)).tolist()
    piles = [[i for i in shuffled if labels[i] == label] for label in sorted(set(labels))]
    place = {index: position for position, index in enumerate(shuffled)}
    rounds = itertools.zip_longest(*piles)
    return [i for turn in rounds for i in sorted((i for i in turn if i is not None), key=place.get)]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_dealt_from_one_pile_a_class(seed):
    labels = [0] * 7 + [2] * 3 + [1] + [5] * 9
    random.Random(seed).shuffle(labels)
    assert take_turns(np.array(labels), seed).tolist() == deal(labels, seed)


def test_the_digits_that_calibrate_stay_the_same():
    """Recorded before the choice became a class of its own: another choice would make other int8 files."""
    names = CalibrationSet.choose(load_data("digits"), image_size=32, count=12).names
    assert names == (234, 329, 1139, 694, 957, 907, 1011, 720, 689, 118, 12, 251)


def pixels_of(data: ImageData, split: str, size: int) -> list[bytes]:
    """Return the bytes of every image of a split, preprocessed as for evaluation, in the order of its listing."""
    images = evaluation_dataset(data, split, image_size=size, batch_size=1).map(lambda image, label: image)
    return [image.numpy().tobytes() for image in images]


@pytest.mark.parametrize("source", ["photographs", "digits"])
def test_images_are_those_of_evaluation_in_turns(photographs, source):
    data = load_data(photographs if source == "photographs" else source)
    split = data.splits["test"]
    every = pixels_of(data, "test", 14)
    for seed in (0, 1):
        chosen = CalibrationSet.choose(data, image_size=14, count=7, seed=seed, split="test")
        order = deal(split.labels.tolist(), seed)[:7]
        assert [image.tobytes() for image in chosen] == [every[i] for i in order]
        assert chosen.labels == tuple(split.labels[order])
        assert all(image.shape == (1, 14, 14, 3) and image.dtype == np.uint8 for image in chosen)
        names = order if source == "digits" else ["/".join(split.images[i].split("/")[-2:]) for i in order]
        assert chosen.names == tuple(names)
        assert chosen.manifest() == Manifest(data=data.name, seed=seed, images=chosen.names)


def test_any_first_images_are_spread_over_the_classes(photographs):
    for seed in range(6):
        labels = CalibrationSet.choose(load_data(photographs), image_size=14, count=8, seed=seed).labels
        assert [sorted(labels[i : i + 2]) for i in range(0, 8, 2)] == [[0, 1]] * 4


def test_all_images_where_more_are_wanted(photographs):
    data = load_data(photographs)
    chosen = CalibrationSet.choose(data, image_size=14, count=1000)
    assert len(chosen) == len(data.splits["train"])
    assert sorted(image.tobytes() for image in chosen) == sorted(pixels_of(data, "train", 14))


def test_iterating_changes_nothing(photographs):
    chosen = CalibrationSet.choose(load_data(photographs), image_size=14, count=6)
    first = list(chosen)
    partly = iter(chosen)
    next(partly)
    for image in chosen:
        with pytest.raises(ValueError, match="read-only"):
            image[:] = 0
    for images in (chosen, [*first[:1], *partly]):
        np.testing.assert_array_equal(list(images), first)


@pytest.mark.parametrize("kept", [0, 2 * 3 * 14 * 20, 10**9])
def test_what_is_not_kept_is_decoded_again(photographs, monkeypatch, kept):
    data, arguments = load_data(photographs), {"image_size": (14, 20), "count": 5}
    expected = list(CalibrationSet.choose(data, **arguments))
    monkeypatch.setattr(room, "_KEPT_BYTES", kept)
    chosen = CalibrationSet.choose(data, **arguments)
    assert len(chosen.pixels) == min(5, kept // (3 * 14 * 20))
    np.testing.assert_array_equal(list(chosen), expected)
    np.testing.assert_array_equal(list(chosen.part(1, 4)), expected[1:4])


def test_every_candidate_is_decoded_once(photographs, spoil, monkeypatch):
    spoil()
    paths, decode = [], dataset.decode
    monkeypatch.setattr(dataset, "decode", lambda path, **how: (paths.append(path), decode(path, **how))[1])
    chosen = CalibrationSet.choose(load_data(photographs, on_bad_image="skip"), image_size=14, count=10)
    list(chosen), list(chosen.part(0, 3))
    assert len(paths) == len(set(paths)) == 10 + len(chosen.skipped)


def test_parts(photographs):
    chosen = CalibrationSet.choose(load_data(photographs), image_size=14, count=10)
    images = list(chosen)
    for start, stop in ((0, 4), (4, 10), (8, 20), (10, 20), (3, 3)):
        part = chosen.part(start, stop)
        assert len(part) == len(images[start:stop])
        np.testing.assert_array_equal(np.array(list(part)), np.array(images[start:stop]))
        assert (part.names, part.labels) == (chosen.names[start:stop], chosen.labels[start:stop])
    assert list(chosen.part(2, 8).part(1, 3).names) == list(chosen.names[3:5])
    for start, stop, message in ((-1, 3, "start: found -1"), (3, 2, "stop: found 2"), (0, None, "stop: found None")):
        with pytest.raises(ArgumentError, match=message):
            chosen.part(start, stop)


def gray(counts: list[int]) -> ImageData:
    """As many gray images of each class."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    split = Split(np.zeros((len(labels), 4, 4, 3), np.uint8), labels)
    return ImageData("gray", ("a", "b"), dict.fromkeys(("train", "val", "test"), split))


@pytest.mark.parametrize(
    ("counts", "wanted", "notes"),
    [
        ([30, 30], 60, []),
        ([30, 30], 32, []),
        ([30, 30], 31, ["calibrated on 31 images; 100 to 500 are usual, below 32 ranges are chance"]),
        ([30, 30], 61, ["calibrated on 60 images, all that gray has to train on; 61 were wanted"]),
        ([3, 3], 200, ["calibrated on 6 images; 100 to 500 are usual, below 32 ranges are chance"]),
        ([40], 40, ["all calibration images are of one class; the ranges of the others are guessed"]),
    ],
)
def test_notes(counts, wanted, notes):
    assert CalibrationSet.choose(gray(counts), image_size=4, count=wanted).notes == tuple(notes)


def test_a_part_is_all_that_was_wanted_of_it():
    assert CalibrationSet.choose(gray([30, 30]), image_size=4, count=200).part(0, 40).notes == ()


def test_bad_images_are_replaced_whether_the_data_set_was_checked_or_not(photographs, spoil):
    bad = spoil()
    data = load_data(photographs, on_bad_image="skip")
    in_train = [path for path in data.splits["train"].images if path in bad]
    expected = [
        "/".join(Path(data.splits["train"].images[i]).parts[-2:])
        for i in deal(data.splits["train"].labels.tolist(), 0)
        if data.splits["train"].images[i] not in bad
    ]
    chosen = CalibrationSet.choose(data, image_size=8, count=100)
    assert list(chosen.names) == expected and len(in_train) >= 1
    assert chosen.skipped == chosen.data.skipped == tuple(in_train) and data.skipped == ()
    checked = CalibrationSet.choose(data.checked("train", "val"), image_size=8, count=100)
    assert (checked.names, checked.labels) == (chosen.names, chosen.labels)
    assert checked.skipped == tuple(bad)
    np.testing.assert_array_equal(list(checked), list(chosen))


def test_a_bad_image_is_an_error_at_once(photographs, spoil):
    spoil()
    with pytest.raises(DataError, match="not a readable image"):
        CalibrationSet.choose(load_data(photographs), image_size=8, count=100)


def test_no_readable_image_to_calibrate_with(photographs):
    for file in photographs.rglob("train/*/*"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="photographs: no readable image in train"):
        CalibrationSet.choose(load_data(photographs, on_bad_image="skip"), image_size=8, count=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count: found 0"),
        ({"count": True}, "count: found True"),
        ({"seed": 0.5}, "seed: found 0.5"),
        ({"seed": -1}, "seed: found -1"),
        ({"image_size": 0}, "image_size: found 0"),
        ({"split": "tain"}, r"split: found 'tain'.*did you mean 'train'\?"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ArgumentError, match=message) as raised:
        CalibrationSet.choose(gray([3, 3]), **{"image_size": 4, "count": 1} | changes)
    assert "\n" not in str(raised.value)
