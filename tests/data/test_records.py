"""TFRecord shards, written by TensorFlow: every image is the one that went in, and what is wrong is one line."""

import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mixnet_tf.data import records
from mixnet_tf.data.batches import evaluation_batches, fingerprint, training_dataset
from mixnet_tf.data.decoding import read_image
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import DataError

ALL = ("train", "val", "test")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mixnet_tf"


def example(**features: object) -> bytes:
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    encoded = {}
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        kind = kinds[type(values[0])]
        message = {
            "bytes_list": tf.train.BytesList,
            "int64_list": tf.train.Int64List,
            "float_list": tf.train.FloatList,
        }[kind]
        encoded[name.replace("__", "/")] = tf.train.Feature(**{kind: message(value=values)})
    return tf.train.Example(features=tf.train.Features(feature=encoded)).SerializeToString()


def write(path: Path, examples: Iterable[bytes], options: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for content in examples:
            writer.write(content)
    return path


def pictures(folder: Path) -> list[tuple[Path, int]]:
    """Return the files of a split with their labels, in the order of `load_data`."""
    names = sorted(path.name for path in folder.iterdir())
    return [(path, label) for label, name in enumerate(names) for path in sorted((folder / name).iterdir())]


def in_shards(photographs: Path, target: Path, *, shards: int = 3, first: int = 0, text: bool = False) -> Path:
    """Write an image folder as TensorFlow Datasets does."""
    names = {"train": "train", "val": "validation", "test": "test"}
    for split in (split for split in ALL if (photographs / split).is_dir()):
        files = pictures(photographs / split)
        for number, part in enumerate(np.array_split(np.arange(len(files)), shards)):
            write(
                target / f"pets-{names[split]}.tfrecord-{number:05}-of-{shards:05}",
                (
                    example(
                        image=files[i][0].read_bytes(),
                        label=files[i][1] + first,
                        file_name=files[i][0].name.encode(),
                        **({"image__class__text": files[i][0].parent.name.encode()} if text else {}),
                    )
                    for i in part
                ),
            )
    return target


@pytest.fixture
def shards(photographs, tmp_path) -> Path:
    folder = in_shards(photographs, tmp_path / "pets")
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    (folder / "features.json").write_text("{}")
    return folder


def test_the_images_are_those_that_went_in(photographs, shards):
    data, files = load_data(shards), load_data(photographs)
    assert (data.name, data.class_names, data.crop_fraction) == ("pets", ("cat", "dog"), 0.875)
    assert data.held_out == files.held_out == ("val",)
    for name in ALL:
        split, expected = data.splits[name], files.splits[name]
        np.testing.assert_array_equal(split.labels, expected.labels)
        for image, file in zip(split.images, expected.images, strict=True):
            with Image.open(file) as picture:
                np.testing.assert_array_equal(read_image(image), np.asarray(picture.convert("RGB")))
    assert data.splits["test"].name(0).startswith("pets-test.tfrecord-00000-of-00003/")


def test_batches_are_those_of_the_folder(photographs, shards):
    """The same seed, the same order of images: the same pixels, whatever holds them."""
    sources = load_data(photographs), load_data(shards).checked(*ALL)
    settings = {"image_size": 12, "batch_size": 5, "seed": 3, "first_epoch": 1, "epochs": 3}
    trained = [list(training_dataset(data, **settings).as_numpy_iterator()) for data in sources]
    evaluated = [list(evaluation_batches(data, "test", image_size=12, batch_size=3)) for data in sources]
    assert len(trained[0]) == 8 and len(evaluated[0]) == 3
    for first, second in (*zip(*trained, strict=True), *zip(*evaluated, strict=True)):
        for array, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(array, other)
    assert [count for count, _ in fingerprint(sources[0]).values()] == [22, 2, 8]


@pytest.mark.parametrize(
    ("first", "text", "labels", "expected"),
    [
        (0, False, None, ("0", "1")),
        (1, False, None, ("1", "2")),
        (1, True, None, ("cat", "dog")),
        (1, True, "Katze\nHund\n", ("Katze", "Hund")),
    ],
)
def test_where_the_names_of_the_classes_come_from(photographs, tmp_path, first, text, labels, expected):
    folder = in_shards(photographs, tmp_path / "pets", first=first, text=text)
    if labels:
        (folder / "labels.txt").write_text(labels)
    data = load_data(folder)
    assert data.class_names == expected
    assert np.bincount(data.splits["test"].labels).tolist() == [4, 4]


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"),
        ("train.tfrecord", "val.tfrecord", "test.tfrecord"),
        ("train/00-224x224-8.tfrec", "val/00-224x224-8.tfrec", "test/00-224x224-8.tfrec"),
        ("Pets_Train_01.tfrecords", "Pets_Valid_01.tfrecords", "Pets_Test_01.tfrecords"),
    ],
)
def test_how_shards_may_be_called(photographs, tmp_path, names):
    files = pictures(photographs / "train")
    for number, name in enumerate(names):
        content = [example(image__encoded=path.read_bytes(), image__class__label=y) for path, y in files[number::3]]
        write(tmp_path / "pets" / name, content)
    data = load_data(tmp_path / "pets")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "val": 8, "test": 8}
    assert data.held_out == ()
    assert all(name.split("/")[0] in data.splits["val"].images[0] for name in names[1:2])


def test_a_shard_is_read_once(shards, monkeypatch, cache):
    first, read = load_data(shards), records._read
    paths: list[Path] = []
    monkeypatch.setattr(records, "_read", lambda path: (paths.append(path), read(path))[1])
    again = load_data(shards)
    assert not paths
    for name in ALL:
        assert again.splits[name].images == first.splits[name].images
        np.testing.assert_array_equal(again.splits[name].labels, first.splits[name].labels)
    changed = shards / "pets-test.tfrecord-00001-of-00003"
    content = changed.read_bytes()
    changed.write_bytes(content)
    load_data(shards)
    assert paths == [changed]
    for kept in (cache / "shards-1").iterdir():  # damaged: as if they were not there
        kept.write_bytes(kept.read_bytes()[:300])
    load_data(shards)
    assert len(paths) == 7


def test_without_a_cache_shards_are_read_each_time(shards, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert len(load_data(shards).splits["test"]) == 8


def damage(change):
    """Return what changes the bytes of a shard."""

    def apply(folder: Path, png: bytes) -> None:
        shard = folder / "train.tfrecord"
        shard.write_bytes(change(shard.read_bytes()))

    return apply


def add(*examples: dict, name: str = "train.tfrecord"):
    """Return what writes a shard of other examples; the text PNG stands for an image."""

    def apply(folder: Path, png: bytes) -> None:
        filled = [{key: png if value == "PNG" else value for key, value in content.items()} for content in examples]
        write(folder / name, [example(**content) for content in filled])

    return apply


def label(value: int) -> dict:
    return {"image": "PNG", "label": value}


VALIDATION = ("val", "valid")
SETS = ("00000-of-00001", "00000-of-00002", "00001-of-00002")


def huge_record() -> bytes:
    """Return the beginning of a record of a terabyte: TensorFlow, which finds its checksum right, would crash."""
    start, crc = struct.pack("<Q", 2**40), 2**32 - 1
    for byte in start:  # CRC-32C, bit by bit
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 2**32 - 1
    return start + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


REFUSED = {
    "flipped": (
        damage(lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:]),
        "train.tfrecord: damaged or compressed, from byte 12 on",
    ),
    "cut": (damage(lambda content: content[:-3]), "train.tfrecord: damaged or compressed, from byte"),
    "empty": (damage(lambda content: b""), "train.tfrecord: an empty TFRecord shard, expected images"),
    "text": (damage(lambda content: b"hello, world" * 9), "train.tfrecord: damaged or compressed, from byte 0 on"),
    "compressed": (
        lambda folder, png: write(folder / "train.tfrecord", [example(image=png, label=0)] * 9, "GZIP"),
        "train.tfrecord: damaged or compressed, from byte 0 on",
    ),
    "no example": (
        lambda folder, png: write(folder / "train.tfrecord", [b"\xff\xff\xff"]),
        "train.tfrecord: record 0: no tf.train.Example",
    ),
    "no label": (
        add({"image": "PNG", "y": 3}),
        "record 0: found the features 'image', 'y', expected as its label one of label, image/class/label, class",
    ),
    "no image": (add({"picture": "PNG", "label": 1}), "found the features 'label', 'picture', expected as its image"),
    "nothing": (add({}), "found the features none, expected as its image one of image, image/encoded"),
    "two labels": (add({"image": "PNG", "label": [0, 1]}), "record 0: found 2 values of label, expected one"),
    "two images": (add({"image": "PNG", "image__encoded": "PNG", "label": 1}), "expected as its image one of"),
    "blank image": (add({"image": b"", "label": 1}), "record 0: image is empty, expected the bytes of an image file"),
    "float label": (add({"image": "PNG", "label": 1.0}), "expected as its label one of"),
    "gap": (add(label(0), label(2)), "pets: train has the label 2, expected 1: no gaps, from 0 or from 1"),
    "negative": (add(label(-1), label(0)), "pets: train has the label -1, expected 0: no gaps"),
    "from 2": (add(label(2), label(3)), "pets: train has the label 2, expected 0: no gaps"),
    "one class": (add(label(0), label(0)), "pets: train has only the label 0, expected at least 2 classes"),
    "new class": (add(label(2), name="test.tfrecord"), "pets: test has the label 2, expected 0 to 1 as in train"),
    "unlabelled": (add(label(-1), name="test.tfrecord"), "pets: test has the label -1, expected 0 to 1 as in train"),
    "other name": (
        add({**label(0), "image__class__text": b"a"}, {**label(0), "image__class__text": b"b"}, label(1)),
        "pets: the label 0 has the names [b'a', b'b'], expected one",
    ),
    "name of two lines": (
        add({**label(0), "image__class__text": b"a\nb"}, {**label(1), "image__class__text": b"c"}),
        r"labels: label 0 is 'a\nb', expected a text of one line",
    ),
    "labels.txt": (
        lambda folder, png: (folder / "labels.txt").write_text("a\nb\nc\n"),
        "labels.txt: found 3, expected 2: one for each class",
    ),
    "missing shard": (
        lambda folder, png: (folder / "train.tfrecord").rename(folder / "train.tfrecord-00001-of-00004"),
        "pets/train.tfrecord: found 1 of the 4 TFRecord shards that their names count",
    ),
    "numbers from 1": (
        lambda folder, png: (folder / "train.tfrecord").rename(folder / "train.tfrecord-00001-of-00001"),
        "pets/train.tfrecord: found 0 of the 1 TFRecord shards that their names count",
    ),
    "far too many": (
        lambda folder, png: (folder / "train.tfrecord").rename(folder / f"train.tfrecord-00000-of-{10**15}"),
        f"pets/train.tfrecord: found 1 of the {10**15} TFRecord shards that their names count",
    ),
    "two sets": (
        lambda folder, png: [shutil.copy(folder / "train.tfrecord", folder / f"train-{n}") for n in SETS],
        "pets/train: found sets of 1 and of 2 TFRecord shards, expected one of the two",
    ),
    "val twice": (
        lambda folder, png: [
            shutil.copy(folder / "train.tfrecord", folder / f"{n}.tfrecord") for n in ("val", "valid")
        ],
        "pets: found TFRecord shards of valid and val, expected one of the two",
    ),
    "length": (
        damage(lambda content: huge_record() + content),
        "train.tfrecord: damaged or compressed, from byte 0 on",
    ),
    "no split": (
        lambda folder, png: (folder / "train.tfrecord").rename(folder / "training.tfrecord"),
        "training.tfrecord: a TFRecord shard, expected train, val or test in its name",
    ),
    "two splits": (
        lambda folder, png: (folder / "train.tfrecord").rename(folder / "train_test.tfrecord"),
        "train_test.tfrecord: a TFRecord shard, expected train, val or test in its name",
    ),
    "no train": (
        lambda folder, png: (folder / "train.tfrecord").rename(folder / "test.tfrecord"),
        "pets: has TFRecord shards of test, but none of train",
    ),
    "folders, too": (
        lambda folder, png: (folder / "train").mkdir(),
        "pets: found TFRecord shards ('train.tfrecord') and folders ('train'), expected one of the two",
    ),
    "pipe": (
        lambda folder, png: ((folder / "train.tfrecord").unlink(), os.mkfifo(folder / "train.tfrecord")),
        "train.tfrecord: no regular file, expected a TFRecord shard",
    ),
    "link": (
        lambda folder, png: ((folder / "train.tfrecord").unlink(), (folder / "train.tfrecord").symlink_to("x")),
        "train.tfrecord: no regular file, expected a TFRecord shard",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(photographs, tmp_path, case):
    change, message = REFUSED[case]
    png = (photographs / "train" / "cat" / "00.png").read_bytes()
    folder = tmp_path / "pets"
    write(folder / "train.tfrecord", [example(image=png, label=i % 2) for i in range(6)])
    change(folder, png)
    with pytest.raises(DataError) as error:
        load_data(folder)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["val", "test"])
@pytest.mark.parametrize("kind", ["loop", "dangling", "empty", "file"])
def test_a_split_that_cannot_be_read_is_not_taken_for_missing(photographs, tmp_path, name, kind):
    png = (photographs / "train" / "cat" / "00.png").read_bytes()
    write(tmp_path / "pets" / "train" / "0.tfrecord", [example(image=png, label=i % 2) for i in range(6)])
    place = tmp_path / "pets" / name
    make = {
        "loop": lambda: place.symlink_to(place),
        "dangling": lambda: place.symlink_to(tmp_path / "unmounted"),
        "empty": place.mkdir,
        "file": place.touch,
    }
    make[kind]()
    with pytest.raises(DataError, match=rf"pets/{name}: (Too many|No such|Not a directory|holds no TFRecord shard)"):
        load_data(tmp_path / "pets")


def test_names_that_two_classes_share_are_told_apart(photographs, tmp_path):
    folder = in_shards(photographs, tmp_path / "pets", first=1)
    (folder / "labels.txt").write_text("crane\ncrane\n")
    assert load_data(folder).class_names == ("crane (1)", "crane (2)")


def test_a_folder_of_tensorflow_datasets_is_called_by_its_set(photographs, tmp_path):
    assert load_data(in_shards(photographs, tmp_path / "pets" / "4.0.0")).name == "pets"


def test_a_folder_whose_name_is_no_utf8(photographs, tmp_path):
    folder = in_shards(photographs, tmp_path / "pets")
    strange = tmp_path / os.fsdecode(b"caf\xe9")
    folder.rename(strange)
    assert len(load_data(strange).splits["test"]) == 8


def test_a_bad_image_in_a_shard_is_named_or_left_out(photographs, tmp_path):
    files = pictures(photographs / "train")
    contents = [path.read_bytes() for path, _ in files]
    contents[3] = b"no image"
    folder = tmp_path / "pets"
    write(folder / "train.tfrecord", [example(image=content, label=i % 2) for i, content in enumerate(contents)])
    with pytest.raises(DataError, match=r"train\.tfrecord/\d+\+8: not a readable image \(expected one of JPEG"):
        load_data(folder).checked(*ALL)
    data = load_data(folder, on_bad_image="skip").checked(*ALL)
    assert len(data.skipped) == 1 and sum(map(len, data.splits.values())) == len(files) - 1


def test_a_shard_that_has_become_shorter_is_named(shards):
    data = load_data(shards)
    image = data.splits["test"].images[-1]
    shard = Path(image).parent
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"/\d+\+\d+: not a readable image \(the file ends \d+ bytes too early\)"):
        read_image(image)
