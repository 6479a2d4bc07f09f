"""What has been decoded once is not decoded again, unless it has changed; and the list of it can do no harm."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFile

from mixnet_tf.data import dataset, known_good
from mixnet_tf.data.batches import lost_images
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import DataError


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """Where the list is kept, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mixnet_tf" / "good-images"


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    paths, decode = [], dataset.decode
    monkeypatch.setattr(dataset, "decode", lambda path: (paths.append(path), decode(path))[1])
    return paths


def check(folder: Path, decoded: list[str], **how: str) -> list[str]:
    """Check a data set as a new process does; return what was decoded."""
    decoded.clear()
    load_data(folder, **how).checked("train", "val", "test")
    return sorted(decoded)


def test_a_second_start_decodes_what_has_changed(photographs, cache, decoded):
    assert len(check(photographs, decoded)) == 32
    assert check(photographs, decoded) == []
    path = photographs / "train" / "cat" / "05.png"
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # its size and date are those of before
    assert check(photographs, decoded) == [str(path)]
    (photographs / "test" / "dog" / "new.png").write_bytes(content)
    assert check(photographs, decoded) == [str(photographs / "test" / "dog" / "new.png")]
    path.unlink()
    path.symlink_to(photographs / "train" / "cat" / "04.png")
    assert check(photographs, decoded) == [str(path)]


def test_a_file_that_is_spoilt_after_the_first_start_is_refused(photographs, cache, decoded):
    check(photographs, decoded)
    path = photographs / "train" / "cat" / "05.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"05\.png: not a readable image"):
        check(photographs, decoded)


def test_bad_images_are_never_taken_for_good(photographs, spoil, cache, decoded):
    bad = spoil()
    for _ in range(2):
        with pytest.raises(DataError, match="and 2 more"):
            check(photographs, decoded)
    check(photographs, decoded, on_bad_image="skip")
    assert check(photographs, decoded, on_bad_image="skip") == bad


def test_a_start_that_is_interrupted_goes_on(photographs, cache, monkeypatch):
    monkeypatch.setattr(dataset, "_PIECE", 4)
    monkeypatch.setattr(dataset.os, "cpu_count", lambda: 1)
    paths, decode = [], dataset.decode

    def interrupted(path):
        if len(paths) == 10:
            raise KeyboardInterrupt
        paths.append(path)
        return decode(path)

    monkeypatch.setattr(dataset, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_data(photographs).checked("train")
    monkeypatch.setattr(dataset, "decode", lambda path: (paths.append(path), decode(path))[1])
    load_data(photographs).checked("train")
    assert len(paths) == 24 + 2 - len(load_data(photographs).splits["val"])  # two of the third piece are read twice


@pytest.mark.parametrize("content", [b"", b"text", bytes(16), b"\xff" * 800, b"1234567"])
def test_a_damaged_list_is_made_anew(photographs, cache, decoded, content):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    assert len(check(photographs, decoded)) == 32
    assert check(photographs, decoded) == []


def test_a_folder_in_the_place_of_the_list(photographs, cache, decoded):
    cache.mkdir(parents=True)
    for _ in range(2):
        assert len(check(photographs, decoded)) == 32


def test_what_decides_otherwise_asks_again(photographs, spoil, cache, decoded, monkeypatch):
    """A program that lets Pillow take half images must not decide for one that does not."""
    (truncated,) = [path for path in spoil() if "truncated" in path]
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    check(photographs, decoded, on_bad_image="skip")
    assert truncated not in check(photographs, decoded, on_bad_image="skip")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    assert truncated in check(photographs, decoded, on_bad_image="skip")


def test_an_image_that_is_bad_after_all_makes_the_list_be_forgotten(photographs, cache, decoded):
    check(photographs, decoded)
    with pytest.raises(DataError), lost_images("; put it back"):
        raise RuntimeError("{{node map}} DataError: a.png: no such file")
    assert len(check(photographs, decoded)) == 32


def test_processes_check_a_part_each(photographs, spoil, cache, decoded, one_of_several):
    """Each goes by its own list, as hosts may hold other files: nobody answers for another's."""
    bad = spoil()
    for _ in range(2):
        parts = []
        for rank in range(2):
            one_of_several(rank, 2)
            parts.append(check(photographs, decoded, on_bad_image="skip"))
    assert sorted(parts[0] + parts[1]) == bad


@pytest.mark.parametrize("folder", ["/dev/null/nowhere", None], ids=["no folder", "no home"])
def test_without_a_place_for_the_list_all_is_decoded(photographs, decoded, monkeypatch, folder):
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setenv("XDG_CACHE_HOME", folder or "")
    for _ in range(2):
        assert len(check(photographs, decoded)) == 32


def test_the_list_forgets_what_came_first(cache, monkeypatch):
    monkeypatch.setattr(known_good, "_MOST", 3)
    for first in (1, 5, 9):
        known_good.remember(np.arange(first, first + 4, dtype=np.uint64))
    known = known_good.are_known(np.arange(20, dtype=np.uint64))
    assert np.flatnonzero(known).tolist() == [6, 7, 8, 9, 10, 11, 12]


def test_what_is_not_there_is_not_known(cache, tmp_path):
    for _ in range(2):
        marks = known_good.marks([str(tmp_path / "missing.png"), "nul\0"])
        known_good.remember(marks)
        assert not known_good.are_known(marks).any()
