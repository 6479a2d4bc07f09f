"""The folder of a run: hostile folders, what may be continued, and what an earlier run left."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mixnet_tf.errors import MixNetError
from mixnet_tf.training.run_folder import (
    best_epoch,
    can_continue,
    check_folder,
    cut_history,
    holds_run,
    open_run,
    read_curves,
    start_run,
)

REQUEST = {"data": "digits", "image_size": (16, 20), "training": {"epochs": 3, "seed": 0}, "images": {"val": [1, 2]}}


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_folders_a_run_may_use(tmp_path):
    for folder in (tmp_path / "new", write(tmp_path / "empty")):
        for resume in (False, True):
            check_folder(folder, resume=resume, overwrite=False)
    run = write(tmp_path / "run", training__json="{}")
    check_folder(run, resume=True, overwrite=False)
    check_folder(run, resume=False, overwrite=True)
    check_folder(write(tmp_path / "mine", x__txt=""), resume=False, overwrite=True)


def test_folders_a_run_may_not_use(tmp_path):
    run, mine = write(tmp_path / "run", training__json="{}"), write(tmp_path / "mine", history__csv="mine")
    for folder, resume, message in (
        (run, False, "run: holds a training run; give --resume to continue it, or --overwrite to restart"),
        (mine, False, "mine: holds files already; give an empty folder, or --overwrite to let a run replace them"),
        (mine, True, "mine: holds files already"),
        (mine / "history.csv", False, "history.csv: is a file, expected a folder for the run"),
    ):
        with pytest.raises(MixNetError, match=message) as raised:
            check_folder(folder, resume=resume, overwrite=False)
        assert "\n" not in str(raised.value)
    with pytest.raises(MixNetError, match="is a file"):
        check_folder(mine / "history.csv", resume=False, overwrite=True)


def test_a_new_run_deletes_what_a_run_left_and_nothing_else(tmp_path):
    mine = dict.fromkeys(("notes__txt", "my_model__keras", "model__tflite"), "mine")
    left = ("last__keras", "best__keras", "model__keras", "history__csv", "labels__txt", "report__md", "report__json")
    left += ("model_int8__tflite", "model_int8__quantization__json", "confusion__png", "latency__png")
    folder = write(tmp_path / "run", training__json="{}", **mine, **dict.fromkeys(left, "old"))
    write(folder / "logs", events="old")
    start_run(folder, REQUEST)
    assert {path.name for path in folder.iterdir()} == {"training.json", "notes.txt", "my_model.keras", "model.tflite"}
    assert json.loads((folder / "training.json").read_text())["training"] == {"epochs": 3, "seed": 0}


def test_a_new_run_leaves_a_folder_alone_that_held_none(tmp_path):
    folder = write(tmp_path / "mine", history__csv="mine", last__keras="mine")
    write(folder / "logs", mine="mine")
    start_run(folder, REQUEST)
    assert {path.name for path in folder.iterdir()} == {"history.csv", "last.keras", "logs", "training.json"}
    assert (folder / "history.csv").read_text() == "mine" and (folder / "logs" / "mine").is_file()


def test_a_link_to_logs_is_removed_and_not_what_it_leads_to(tmp_path):
    mine = write(tmp_path / "mine", events="mine")
    folder = write(tmp_path / "run", training__json="{}")
    (folder / "logs").symlink_to(mine)
    start_run(folder, REQUEST)
    assert not (folder / "logs").exists() and (mine / "events").is_file()


def test_what_a_killed_run_was_writing_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = write(tmp_path / "run", training__json="{}")
    (folder / f".best-{dead.pid}-0123abcd.part.keras").write_text("half")
    (folder / f".f-{os.getppid()}-0123abcd.part.tflite").write_text("an export that is at work")
    (folder / ".mine").write_text("mine")
    with open_run(folder, resume=True, overwrite=False):
        pass
    assert {path.name for path in folder.iterdir()} == {
        "training.json", ".mine", f".f-{os.getppid()}-0123abcd.part.tflite",
    }  # fmt: skip


def test_a_run_that_was_killed_at_its_start_leaves_nothing_that_matters(tmp_path):
    (tmp_path / ".lock").write_text("1234")
    (tmp_path / ".training-1234-0123abcd.part.json").write_text("{")
    check_folder(tmp_path, resume=False, overwrite=False)


HOLDER = """
import sys
from pathlib import Path
from mixnet_tf.training.run_folder import open_run
with open_run(Path(sys.argv[1]), resume=True, overwrite=True if sys.argv[2:] else False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder ``run`` until it is killed."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_two_runs_do_not_write_to_one_folder(holder, tmp_path):
    (tmp_path / "link").symlink_to("run")
    for folder in (
        tmp_path / "run",
        tmp_path / "link",
        tmp_path / "run",
    ):  # a refusal must not hide the holder's number
        with (
            pytest.raises(
                MixNetError, match=f"{folder.name}: another run \\(process {holder.pid}\\) writes there; wait"
            ),
            open_run(folder, resume=True, overwrite=False),
        ):
            pytest.fail("let in")
    holder.kill()
    holder.wait()
    with open_run(tmp_path / "run", resume=False, overwrite=False):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_thread_is_another_run_and_what_is_inside_is_not(tmp_path):
    def second():
        with open_run(tmp_path, resume=True, overwrite=True):
            return "let in"

    with open_run(tmp_path, resume=False, overwrite=True):
        with open_run(tmp_path, resume=False, overwrite=True):
            assert (tmp_path / ".lock").exists()
        assert (tmp_path / ".lock").exists()
        with ThreadPoolExecutor(1) as pool, pytest.raises(MixNetError, match="writes there"):
            pool.submit(second).result()
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert second() == "let in" and list(tmp_path.iterdir()) == []


def test_a_folder_that_stays_empty_is_not_left(tmp_path):
    with pytest.raises(ZeroDivisionError), open_run(tmp_path / "a" / "b", resume=False, overwrite=False):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with open_run(tmp_path / "mine", resume=False, overwrite=False):
        pass
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSYS, "Function not implemented"), (errno.EOPNOTSUPP, "Operation not supported"), (errno.EROFS, "Read")],
)
def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch, number, reason):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(MixNetError, match=f"run: cannot be locked for this run: {reason}"),
        open_run(tmp_path / "run", resume=False, overwrite=False),
    ):
        pytest.fail("let in")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/proc/x", "cannot be locked for this run: No such file"),
        ("/dev/null", "is a file, expected a folder"),
        ("/dev/null/x", "cannot be locked for this run: "),
        ("nowhere", "is a link that leads nowhere"),
        (" ", "expected a name that is not blank"),
        ("a\0b", "without NUL"),
        ("\udcff", "is not UTF-8"),
        ("x" * 256, "File name too long"),
    ],
)
def test_folders_that_cannot_be(tmp_path, name, message):
    (tmp_path / "nowhere").symlink_to("nothing")
    with pytest.raises(MixNetError, match=message), open_run(tmp_path / name, resume=True, overwrite=True):
        pytest.fail("let in")
    assert [path.name for path in tmp_path.iterdir()] == ["nowhere"]


def test_a_run_is_continued_from_its_last_epoch(tmp_path):
    assert not holds_run(tmp_path / "run") and not can_continue(tmp_path / "run", REQUEST)
    start_run(tmp_path / "run", REQUEST)
    assert holds_run(tmp_path / "run") and not can_continue(tmp_path / "run", REQUEST)
    (tmp_path / "run" / "last.keras").touch()
    assert can_continue(tmp_path / "run", REQUEST)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"data": "mine"}, "data digits, expected the same now, found mine"),
        ({"image_size": (16, 24)}, r"image_size \[1\] 20, expected the same now, found 24"),
        ({"image_size": (16, 20, 3)}, r"image_size \[16, 20\], expected the same now, found \[16, 20, 3\]"),
        ({"training": {"epochs": 3, "seed": 1}}, "training seed 0, expected the same now, found 1"),
        ({"images": {"val": [1, 3]}}, r"images val \[1\] 2, expected the same now, found 3"),
        ({"padding": "same"}, "padding None, expected the same now, found same"),
        ({"data": "x" * 1000}, "data digits, expected the same now, found x{60}$"),
        ({"training": {"epochs": 3}}, "training seed 0, expected the same now, found None"),
    ],
)
def test_another_run_is_not_continued(tmp_path, changes, difference):
    start_run(tmp_path, REQUEST)
    with pytest.raises(MixNetError, match=f"training.json: the run was started with {difference}") as raised:
        can_continue(tmp_path, REQUEST | changes)
    assert "\n" not in str(raised.value)


def test_a_run_from_before_a_field_existed_had_its_default(tmp_path):
    start_run(tmp_path, REQUEST)
    (tmp_path / "last.keras").touch()
    now = REQUEST["training"] | {"initial_scale": 1.0}
    assert can_continue(tmp_path, REQUEST | {"training": now})
    with pytest.raises(MixNetError, match=r"training initial_scale 1\.0, expected the same now, found 0\.5"):
        can_continue(tmp_path, REQUEST | {"training": now | {"initial_scale": 0.5}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "training.json: found a list, expected a mapping; start anew with --overwrite"),
        (b"{", "training.json: not valid JSON: .*; start anew with --overwrite"),
        (b"", "training.json: not valid JSON"),
        (b"[" * 100_000, "training.json: not valid JSON"),
        (b"9" * 5000, "training.json: not valid JSON"),
        (b"\xff\xfe\xfd", "training.json: not valid JSON"),
        (b"{}", "the run was started with data None, expected the same now"),
    ],
)
def test_a_damaged_request_is_named(tmp_path, content, message):
    (tmp_path / "training.json").write_bytes(content)
    with pytest.raises(MixNetError, match=message):
        can_continue(tmp_path, REQUEST)


HISTORY = "epoch,loss,val_accuracy\n0,2.0,0.5\n1,1.5,0.75\n2,1.0,0.9\n"


def test_rows_of_epochs_to_come_are_cut(tmp_path):
    folder = write(tmp_path, history__csv=HISTORY)
    assert cut_history(folder, 3) == 0.9 and (folder / "history.csv").read_text() == HISTORY
    assert cut_history(folder, 2) == 0.75
    assert (folder / "history.csv").read_text() == HISTORY[: HISTORY.index("2,1.0")]
    assert cut_history(folder, 0) == 0 and not (folder / "history.csv").exists()
    assert cut_history(folder, 0) == 0


def test_half_a_row_of_a_full_disk_does_not_count(tmp_path):
    write(tmp_path, history__csv=HISTORY + "3,0.5,0.8")
    assert cut_history(tmp_path, 3) == 0.9 and (tmp_path / "history.csv").read_text() == HISTORY


@pytest.mark.parametrize(
    "content",
    [
        "epoch,loss\nx,1\n",
        "epoch,val_accuracy\n0,x\n",
        "loss,val_accuracy\n1,1\n",
        "epoch,val_accuracy\n0\n",
        "epoch,val_accuracy\n0,0.5\n1,0.5,7\n2,0.5\n",
        "epoch,val_accuracy\n0,nan\n1,0.5\n2,0.5\n",
        "epoch,val_accuracy\n0,2\n1,0.5\n2,0.5\n",
        "epoch,val_accuracy\n0,0.5\n2,0.5\n",
        "epoch,val_accuracy\n1,0.5\n0,0.5\n2,0.5\n",
        "epoch,val_accuracy\n" + "0" * 200_000 + ",0.5\n",
        "",
        None,
        b"\xff\xfe",
        "folder",
    ],
)
def test_a_damaged_history_is_named(tmp_path, content):
    path = tmp_path / "history.csv"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        MixNetError, match=r"history.csv: not the history of a run .*; start anew with --overwrite"
    ) as raised:
        cut_history(tmp_path, 3)
    assert "\n" not in str(raised.value)
    assert not isinstance(content, str) or path.is_dir() or path.read_text() == content


def test_the_best_epoch_is_the_later_of_equals(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,val_accuracy\n0,0.5\n1,0.75\n2,0.75\n3,0.7\n")
    assert best_epoch(tmp_path) == (2, 0.75)


def test_curves_are_the_columns_of_the_history(tmp_path):
    assert read_curves(tmp_path) == {}
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n0,2.5,nan\n1,inf,x\n")
    assert read_curves(tmp_path) == {"epoch": (0, 1), "loss": (2.5, None), "val_loss": (None, None)}
