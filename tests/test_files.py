"""Files that appear whole or not at all: what is refused, what a race, a kill or a full disk leaves."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mixnet_tf import files
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import check_free, remove_parts, whole_file, whole_files


def write(path: Path, content: str, **settings) -> None:
    with whole_file(path, **settings) as part:
        part.write_text(content)


@pytest.fixture(params=["links", "no links"])
def links(request, monkeypatch) -> None:
    """File systems with hard links, and without (FAT, some network folders)."""

    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("links")
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "f.txt"
    with (
        pytest.raises(MixNetError, match=r"f\.txt: exists already; give --overwrite"),
        whole_file(path, overwrite=False) as part,
    ):
        part.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and list(tmp_path.iterdir()) == [path]
    write(tmp_path / "g.txt", "mine", overwrite=False)
    assert (tmp_path / "g.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_refused(tmp_path, overwrite):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # a socket's path may have about 100 bytes
        server.bind("socket")
        for name, message in (
            ("pipe", "is a pipe, socket or device, expected the name of a file"),
            ("socket", "is a pipe, socket or device"),
            ("/dev/null", "is a pipe, socket or device"),
            ("/dev/full", "is a pipe, socket or device"),
            ("folder", "is a folder"),
            ("nowhere", "is a link that leads nowhere"),
            ("loop", "is a link that leads nowhere"),
            ("file/x", "file is no folder"),
            ("nul\0", "expected a name that is not blank, without NUL"),
            ("  ", "expected a name that is not blank"),
            ("\t.txt", "expected a name that is not blank"),
            ("\udcff.txt", "is not UTF-8"),
            ("x" * 256, "File name too long"),
        ):
            with pytest.raises(MixNetError, match=message) as raised, whole_file(name, overwrite=overwrite):
                pytest.fail("let in")
            assert "\n" not in str(raised.value)
    assert not (tmp_path / "nothing").exists() and len(list(tmp_path.iterdir())) == 6


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path) -> None:
    """Come back from wherever a test goes."""
    monkeypatch.chdir(tmp_path)


def test_a_folder_that_cannot_be_written_is_known_before_the_work(tmp_path, monkeypatch):
    """Root may write everywhere, so the system's answer is made up."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(MixNetError, match=f"f.txt: cannot be written: {tmp_path} is read-only"):
        check_free(tmp_path / "new" / "f.txt", overwrite=True)
    with pytest.raises(MixNetError, match="cannot be written"):
        check_free("/proc/x/f.txt", overwrite=True) or whole_file("/proc/x/f.txt").__enter__()


@pytest.mark.parametrize("name", ["x" * 251 + ".txt", "ü" * 125 + ".txt", "\U0001f600" * 62 + ".txt", ".x" * 100])
def test_names_as_long_as_names_may_be(tmp_path, name):
    write(tmp_path / name, "all", overwrite=False)
    write(tmp_path / name, "more")
    assert (tmp_path / name).read_text() == "more" and len(list(tmp_path.iterdir())) == 1


def test_permissions(tmp_path):
    """A new file has what the umask says; a replaced one keeps what it had."""
    umask = os.umask(0o027)
    try:
        for overwrite in (False, True):
            write(tmp_path / f"{overwrite}.txt", "new", overwrite=overwrite)
            assert stat.S_IMODE((tmp_path / f"{overwrite}.txt").stat().st_mode) == 0o640
        (tmp_path / "True.txt").chmod(0o604)
        write(tmp_path / "True.txt", "newer")
        assert stat.S_IMODE((tmp_path / "True.txt").stat().st_mode) == 0o604
    finally:
        os.umask(umask)


def test_a_link_to_a_file_stays(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "f.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("far/f.txt")
    with pytest.raises(MixNetError, match=r"link\.txt: exists already"):
        write(tmp_path / "link.txt", "new", overwrite=False)
    write(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "far" / "f.txt").read_text() == "new"


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    """And the name before the end, so that nothing is lost in a power cut afterwards."""
    steps, sync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: steps.append(os.fstat(number).st_ino) or sync(number))
    monkeypatch.setattr(Path, "replace", lambda path, target: steps.append("name") or replace(path, target))
    write(tmp_path / "f.txt", "all")
    assert steps == [(tmp_path / "f.txt").stat().st_ino, "name", tmp_path.stat().st_ino]


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [False, True])
def test_several_files_appear_together_or_not_at_all(tmp_path, monkeypatch, error, old):
    names = [tmp_path / name for name in ("a.json", "b.json", "c.bin")]
    if old:
        for path in names:
            path.write_text("old")
    place = files._place

    def fail(part, target, overwrite):
        if target.name == "c.bin":
            raise error
        place(part, target, overwrite)

    monkeypatch.setattr(files, "_place", fail)
    with pytest.raises((MixNetError, KeyboardInterrupt)), whole_files(*names, overwrite=old) as parts:
        for part in parts:
            part.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {path.name: "old" for path in names if old}
    monkeypatch.undo()
    with whole_files(*names, overwrite=old) as parts:
        for part in parts:
            part.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {path.name: "new" for path in names}


def test_ctrl_c_after_the_last_of_several_files_keeps_all(tmp_path, monkeypatch):
    names, place = [tmp_path / "a.json", tmp_path / "b.bin"], files._place
    for path in names:
        path.write_text("old")

    def interrupted(part, target, overwrite):
        place(part, target, overwrite)
        if target.name == "b.bin":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "_place", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_files(*names) as parts:
        for part in parts:
            part.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "new", "b.bin": "new"}


def test_only_what_the_dead_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = {f".best-{process}-0123abcd.part.keras" for process in (dead.pid, os.getpid(), 10**30)}
    left.add(f".record-{dead.pid}-0123abcd.part.json.old")
    kept = {f".best-{os.getppid()}-0123abcd.part.keras", ".mine.part.txt", "-1-0123abcd.part.keras", ".mine"}
    for name in left | kept:
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
