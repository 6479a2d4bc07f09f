"""HDF5 is read in a process of its own: what crashes, hangs or lies there is one line here."""

import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from mixnet_tf.weights import h5_copy, h5_files
from mixnet_tf.weights.h5_files import clean_copy

ARRAY = "layers/conv/vars/0"


def written(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv/vars")
        group.attrs["name"] = "stem"
        group["0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as caught, clean_copy(path):
        pass
    assert str(caught.value).isprintable()
    return str(caught.value)


def refused_here(path: Path) -> str:
    """Do without the process, which takes a third of a second."""
    with (
        pytest.raises(ValueError) as caught,
        h5py.File(path) as file,
        h5py.File(path.with_name("copy.h5"), "w") as copy,
    ):
        h5_copy._Copier(path.stat().st_size).group(file, copy)
    return str(caught.value)


def test_what_is_refused_there_is_refused_here(tmp_path):
    make, reason = HOSTILE["a soft link"]
    assert reason in refused(replace(tmp_path / "a.h5", make))
    (tmp_path / "noise.h5").write_bytes(bytes(1000))
    assert "file signature not found" in refused(tmp_path / "noise.h5")


def test_a_copy_holds_what_the_file_holds(tmp_path):
    with clean_copy(written(tmp_path / "a.h5")) as path, h5py.File(path) as file:
        assert np.array_equal(file[ARRAY], [[0, 1, 2], [3, 4, 5]]) and file[ARRAY].dtype == np.float32
        assert file["layers/conv/vars"].attrs["name"] == "stem"
    assert not path.exists()


def test_every_kind_of_number_is_copied(tmp_path):
    from ml_dtypes import bfloat16

    with h5py.File(tmp_path / "a.h5", "w") as file:
        for kind in ("f2", "f4", "f8", "u4", "i8", "?"):
            file[kind] = np.ones(3, kind)
        file["half"] = np.ones(3, bfloat16)
        file["half"].attrs["dtype"] = "bfloat16"
        file["empty"], file["scalar"] = np.zeros((0, 4)), np.float32(7)
    with clean_copy(tmp_path / "a.h5") as path, h5py.File(path) as copy, h5py.File(tmp_path / "a.h5") as file:
        assert set(copy) == set(file) and copy["half"].attrs["dtype"] == "bfloat16"
        assert all(np.array_equal(copy[name], file[name]) and copy[name].dtype == file[name].dtype for name in file)


def replace(path: Path, make) -> Path:
    with h5py.File(written(path), "r+") as file:
        del file[ARRAY]
        make(file)
    return path


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "layers", (8,))
    file.create_virtual_dataset(ARRAY, layout)


def link(target):
    return lambda file: file.__setitem__(ARRAY, target(file) if callable(target) else target)


def array(*arguments, **options):
    return lambda file: file.create_dataset(ARRAY, *arguments, **options)


def deep(file: h5py.File) -> None:
    file.create_group("layers" + "/x" * 1000)


HOSTILE = {
    "a soft link": (link(h5py.SoftLink("/layers")), "refers to another place or file"),
    "a soft link to itself": (link(h5py.SoftLink(f"/{ARRAY}")), "refers to another place or file"),
    "a link to another file": (link(h5py.ExternalLink("/etc/passwd", "/a")), "refers to another place or file"),
    "a group in itself": (link(lambda file: file["layers"]), "more than 32 deep"),
    "groups in groups": (deep, "more than 32 deep"),
    "bytes of another file": (array((8,), "f4", external=[("/etc/passwd", 0, 32)]), "refers to another file"),
    "an array of another file": (virtual, "refers to another file"),
    "an array that is not there": (array((2**40,), "f4"), "larger than what the file has left"),
    "a small one that grows": (array((10**7,), "f4", chunks=True, compression="gzip"), "larger than what the file"),
    "references": (array((2,), h5py.ref_dtype), "expected numbers"),
    "texts": (array((2,), h5py.string_dtype()), "expected numbers"),
    "lists": (array((2,), h5py.vlen_dtype("f4")), "expected numbers"),
    "records": (array((2,), "i4,f4"), "expected numbers"),
    "nothing": (array(dtype="f4", data=h5py.Empty("f4")), "expected numbers"),
    "a type": (link(np.dtype("f4")), "neither a group nor an array"),
    "a name that is a number": (lambda file: file["layers/conv/vars"].attrs.__setitem__("name", 7), "name is no text"),
}


@pytest.mark.parametrize("crime", HOSTILE)
def test_hostile_objects_are_refused(tmp_path, crime):
    make, reason = HOSTILE[crime]
    assert reason in refused_here(replace(tmp_path / "a.h5", make))


def test_one_group_under_many_names_is_no_bomb(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("0")
        for level in range(1, 20):  # 2^19 arrays, in the 30 KB of 20 groups
            outer = file.create_group(str(level))
            outer["a"], outer["b"] = group, group
            group = outer
    started = time.monotonic()
    assert "larger than what the file has left" in refused_here(tmp_path / "a.h5")
    assert time.monotonic() - started < 5


ENDS = {
    "dies": ("import os; os.abort()", "crashed or did not return (signal 6)"),
    "takes all the time": ("while True: pass", "crashed or did not return (signal "),
    "sleeps": ("import time; time.sleep(60)", "did not return within 2 s"),
    "says nothing": ("raise SystemExit(3)", "unknown reason"),
    "fails": ("raise OSError('first line\\nsecond \\x1b line')", "second \\x1b line"),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_becomes_of_the_process_is_one_line(tmp_path, monkeypatch, end):
    code, reason = ENDS[end]
    limits = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\n"
    (tmp_path / "copy.py").write_text(limits + code)
    monkeypatch.setattr(h5_files, "_COPY", tmp_path / "copy.py")
    monkeypatch.setattr(h5_files, "_PATIENCE", 2 if end == "sleeps" else 30)
    assert reason in refused(written(tmp_path / "a.h5"))


def test_the_process_limits_its_time_and_memory(tmp_path):
    script = f"""
import resource, runpy, sys
sys.argv = ["h5_copy.py", "no such file", "nowhere"]
try:
    runpy.run_path({h5_copy.__file__!r}, run_name="__main__")
finally:
    print(resource.getrlimit(resource.RLIMIT_CPU)[0], resource.getrlimit(resource.RLIMIT_DATA)[0])
    print([name for name in ("tensorflow", "keras", "mixnet_tf") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-2:] == [f"{h5_copy.SECONDS} {h5_copy.MEMORY}", "[]"]


def test_a_module_beside_the_copier_does_not_shadow_another(tmp_path, monkeypatch):
    (tmp_path / "copy.py").write_text(Path(h5_copy.__file__).read_text())
    (tmp_path / "h5py.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.setattr(h5_files, "_COPY", tmp_path / "copy.py")
    with clean_copy(written(tmp_path / "a.h5")) as path:
        assert path.exists()
