"""ImageData: really frozen; bad images are found once, and are an error or left out."""

import copy
import dataclasses
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixnet_tf.data import dataset
from mixnet_tf.data.batches import evaluation_dataset, fingerprint, steps_per_epoch, training_dataset
from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import ArgumentError, DataError

TRAINING = {"image_size": 8, "batch_size": 4, "seed": 0, "first_epoch": 0, "epochs": 1}


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Paths in the order in which checking decodes them."""
    paths, decode = [], dataset.decode
    monkeypatch.setattr(dataset, "decode", lambda path, **how: (paths.append(path), decode(path, **how))[1])
    return paths


def test_nothing_in_a_data_set_can_be_changed():
    images, labels = np.zeros((4, 2, 2, 3), np.uint8), np.arange(4) % 2
    splits = {"train": Split(images, labels)}
    data = ImageData("x", ("a", "b"), splits, bad_images={})
    for change in (
        lambda: setattr(data, "name", "y"),
        lambda: data.splits.update(train=None),
        lambda: data.splits.__setitem__("val", splits["train"]),
        lambda: data.bad_images.__setitem__("a.png", "bad"),
        lambda: data.checked_splits.add("train"),
        lambda: setattr(data.splits["train"], "images", images),
        lambda: data.splits["train"].images.__setitem__(0, 1),
        lambda: data.splits["train"].labels.__setitem__(0, 1),
        lambda: Split(["a.png"], labels[:1]).images.__setitem__(0, "b.png"),
    ):
        with pytest.raises((AttributeError, TypeError, ValueError)):
            change()
    splits["val"] = splits["train"]  # the mapping was copied
    assert list(data.splits) == ["train"]
    images[0] = labels[0] = 1  # the caller's own arrays stay writable, and are the caller's alone
    assert data.splits["train"].images.max() == 0 and data.splits["train"].labels.tolist() == [0, 1, 0, 1]
    assert dataclasses.replace(data, name="y").name == "y"


def test_read_only_arrays_are_not_copied():
    images = np.zeros((4, 2, 2, 3), np.uint8)
    images.flags.writeable = False
    split = Split(images, np.arange(4))
    assert split.images is images and dataclasses.replace(split).labels is split.labels
    assert not split.take([1]).images.flags.writeable


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))], ids=["copy", "pickle"]
)
def test_a_data_set_is_copied_and_pickled(photographs, spoil, again):
    spoil()
    (photographs / "test").rename(photographs / "val")
    for data in (load_data("digits"), load_data(photographs, on_bad_image="skip").checked("train", "val", "test")):
        copied = again(data)
        for field in dataclasses.fields(data):
            value = getattr(copied, field.name)
            assert type(value) is type(getattr(data, field.name))
            if field.name != "splits":
                assert value == getattr(data, field.name), field.name
        for name, split in data.splits.items():
            np.testing.assert_array_equal(copied.splits[name].images, split.images)
            np.testing.assert_array_equal(copied.splits[name].labels, split.labels)
            assert (copied.splits[name].listed is None) == (split.listed is None)
            with pytest.raises(ValueError, match="read-only"):
                copied.splits[name].labels[0] = 1
        with pytest.raises(TypeError):
            copied.bad_images["x"] = "y"
        assert fingerprint(copied) == fingerprint(data) and copied.test_is_val == data.test_is_val


def test_a_data_set_is_shown_on_one_line(photographs):
    assert repr(load_data("digits")) == "<ImageData 'digits': 10 classes, 1295 train, 143 val, 359 test>"
    data = load_data(photographs)
    assert repr(data) == "<ImageData 'photographs': 2 classes, 22 train, 2 val, 8 test>"
    assert repr(data.splits["val"]) == "<Split of 2 images>"
    assert len(repr(dataclasses.replace(data, name="n" * 255))) < 140


@pytest.mark.parametrize("value", ["skp", None, True, "Error"])
def test_the_policy_is_error_or_skip(value):
    for make in (lambda: load_data("digits", on_bad_image=value), lambda: ImageData("x", (), {}, on_bad_image=value)):
        with pytest.raises(ArgumentError, match=rf"^on_bad_image: found {value!r}, expected one of error, skip"):
            make()


def test_the_policy_is_that_of_the_data(photographs):
    assert load_data(photographs).on_bad_image == load_data("digits").on_bad_image == "error"
    assert load_data(photographs, on_bad_image="skip").on_bad_image == "skip"


def test_checking_reads_every_file_once(photographs, decoded):
    data = load_data(photographs)
    train = data.checked("train")
    assert sorted(decoded) == sorted(data.splits["train"].images)
    assert (data.checked_splits, train.checked_splits) == (frozenset(), {"train"})
    assert train.checked("train") is train
    both = train.checked("train", "test", "test")
    assert sorted(decoded) == sorted([*data.splits["train"].images, *data.splits["test"].images])
    assert both.checked_splits == {"train", "test"}
    for use in (
        lambda: steps_per_epoch(both, batch_size=4),
        lambda: evaluation_dataset(both, "test", image_size=8, batch_size=4),
        lambda: training_dataset(both, **TRAINING),
    ):
        count = len(decoded)
        use()
        assert len(decoded) == count


def test_a_split_that_stands_in_for_another_is_read_once(tmp_path, photographs, decoded):
    (photographs / "test").rename(photographs / "val")
    data = load_data(photographs).checked("val", "test")
    assert data.splits["test"] is not data.splits["train"] and len(decoded) == len(data.splits["test"]) == 8


def test_arrays_need_no_check(decoded):
    data = load_data("digits")
    checked = data.checked("train", "val", "test")
    assert decoded == [] and checked.splits["train"] is data.splits["train"]


@pytest.mark.parametrize(
    "use",
    [
        lambda data: data.checked("train"),
        lambda data: list(training_dataset(data, **TRAINING)),
        lambda data: steps_per_epoch(data, batch_size=4),
        lambda data: list(evaluation_dataset(data, "train", image_size=8, batch_size=4)),
        fingerprint,
    ],
    ids=["checked", "training", "steps", "evaluation", "fingerprint"],
)
def test_bad_images_are_an_error_that_names_the_first_and_counts_the_rest(photographs, spoil, use):
    bad = spoil()
    with pytest.raises(DataError, match="not a readable image") as raised:
        use(load_data(photographs))
    assert str(raised.value).startswith(bad[0])
    assert str(raised.value).endswith(", and 2 more; remove bad images, or skip them (on_bad_image)")
    assert "\n" not in str(raised.value)


def test_bad_images_are_left_out_and_recorded(photographs, spoil, decoded):
    clean = load_data(photographs)
    bad = spoil()
    train = clean.splits["train"]
    train = Split((bad[2], *train.images, *bad[:2]), np.array([0, *train.labels, 0, 0], np.int32))
    whole = dataclasses.replace(clean, splits={**clean.splits, "train": train}, on_bad_image="skip")
    data = whole.checked("train")
    assert data.splits["train"].images == clean.splits["train"].images
    np.testing.assert_array_equal(data.splits["train"].labels, clean.splits["train"].labels)
    assert data.splits["train"].listed is train and data.splits["test"] is clean.splits["test"]
    assert sorted(data.bad_images) == sorted(bad) and data.skipped == tuple(sorted(bad))
    assert all(reason.startswith(path) for path, reason in data.bad_images.items())
    assert whole.skipped == () and len(whole.splits["train"]) == len(train)
    count = len(decoded)
    assert data.checked("train") is data and len(decoded) == count
    assert fingerprint(data) == fingerprint(clean)
    assert steps_per_epoch(whole, batch_size=4) == steps_per_epoch(clean, batch_size=4)
    for ours, theirs in zip(training_dataset(whole, **TRAINING), training_dataset(clean, **TRAINING), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_a_bad_image_of_two_splits_is_left_out_of_both(photographs):
    (photographs / "test").rename(photographs / "val")
    (photographs / "val" / "cat" / "00.png").write_bytes(b"")
    data = load_data(photographs, on_bad_image="skip")
    for checked in (data, data.checked("val"), data.checked("test", "val")):
        assert checked.test_is_val
    assert len(checked.splits["val"]) == len(checked.splits["test"]) == 7 and len(checked.skipped) == 1
    assert not load_data("digits").test_is_val


def test_a_class_without_a_readable_image_is_an_error(photographs):
    for file in (photographs / "test" / "dog").iterdir():
        file.write_bytes(b"")
    data = load_data(photographs, on_bad_image="skip")
    with pytest.raises(DataError, match="test has no readable image of class 'dog'"):
        evaluation_dataset(data, "test", image_size=8, batch_size=4)
    data.checked("train", "val")


def test_skipped_paths_are_for_people(photographs):
    name = os.fsdecode(b"\xff.png")
    try:
        Path(photographs / "train" / "cat" / name).touch()
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    (photographs / "train" / "cat" / "a.png").touch()
    (photographs / "train" / "cat" / "b\n\x1b[31m.png").touch()
    data = load_data(photographs, on_bad_image="skip").checked("train", "val")
    names = ("a.png", "b\\n\\x1b[31m.png", "\\xff.png")
    assert data.skipped == tuple(f"{photographs}/train/cat/{name}" for name in names)


def test_unknown_splits_are_named():
    with pytest.raises(ArgumentError, match=r"^split: found 'tset', .*did you mean 'test'\?"):
        load_data("digits").checked("train", "tset")


def test_a_split_is_opened_and_cut(photographs):
    split = load_data(photographs).splits["test"]
    part = split.take([5, 0])
    assert part.images == (split.images[5], split.images[0]) and part.labels.tolist() == [1, 0]
    with Image.open(split.images[5]) as image:
        np.testing.assert_array_equal(part.open(0), image)
    assert len(split.take([])) == len(split.take(range(0))) == 0
    array = Split(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), np.array([0, 1]))
    np.testing.assert_array_equal(array.take([1]).open(0), array.images[1])
    assert array.take([]).images.shape == (0, 2, 2, 3)
