"""The folder of a run: hostile folders, what may be continued, and what an earlier run left."""

import json
from pathlib import Path

import pytest

from mixnet_tf.errors import MixNetError
from mixnet_tf.training.run_folder import (
    best_epoch,
    can_continue,
    check_folder,
    cut_history,
    holds_run,
    remove_parts,
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
    folder = write(tmp_path / "run", training__json="{}")
    (folder / ".best-0123abcd.part.keras").write_text("half")
    (folder / ".mine").write_text("mine")
    remove_parts(folder)
    assert {path.name for path in folder.iterdir()} == {"training.json", ".mine"}


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
    ],
)
def test_another_run_is_not_continued(tmp_path, changes, difference):
    start_run(tmp_path, REQUEST)
    with pytest.raises(MixNetError, match=f"training.json: the run was started with {difference}") as raised:
        can_continue(tmp_path, REQUEST | changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "training.json: found a list, expected a mapping; start anew with --overwrite"),
        (b"{", "training.json: not valid JSON: .*; start anew with --overwrite"),
        (b"", "training.json: not valid JSON"),
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
    assert cut_history(folder, 2) == 0


@pytest.mark.parametrize(
    "content", ["epoch,loss\nx,1\n", "epoch,val_accuracy\n0,x\n", "loss,val_accuracy\n1,1\n", "epoch,val_accuracy\n0\n"]
)
def test_a_damaged_history_is_named(tmp_path, content):
    write(tmp_path, history__csv=content)
    with pytest.raises(MixNetError, match=r"history.csv: not the history of a run .*; start anew with --overwrite"):
        cut_history(tmp_path, 3)
    assert (tmp_path / "history.csv").read_text() == content


def test_the_best_epoch_is_the_later_of_equals(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,val_accuracy\n0,0.5\n1,0.75\n2,0.75\n3,0.7\n")
    assert best_epoch(tmp_path) == (2, 0.75)
