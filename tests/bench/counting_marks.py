"""Counts the instructions of many .tflite files in one process of an emulated Cortex-A76 (see count_arm.py).

Starting Python and LiteRT there takes seconds, and a graph of one operator a moment. The least of a few runs is taken:
what the interpreter of Python does besides now and then does not belong to the file.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
AT_ONCE = 200  # files in one process


def count_many(arm: Path, models: Sequence[Path], runs: int = 3) -> dict[Path, int]:
    """Return the instructions per inference, by model; what LiteRT cannot run ends the program."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "marks.so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", HERE / "marks.c", "-o", library], check=True)
        groups = [models[first : first + AT_ONCE] for first in range(0, len(models), AT_ONCE)]
        return {model: number for group in groups for model, number in _group(arm, library, group, runs).items()}


def counted(arm: Path, contents: Sequence[bytes], keep: Path | None = None, runs: int = 3) -> list[int]:
    """Return the instructions per inference of graphs. Those that the file `keep` knows are not counted again."""
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    known: dict[str, int] = json.loads(keep.read_text()) if keep and keep.exists() else {}
    new = {name: content for name, content in zip(names, contents, strict=True) if name not in known}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name}.tflite") for name in new}
        for name, path in paths.items():
            path.write_bytes(new[name])
        if new:
            print(f"{len(new)} graphs to count", file=sys.stderr)
            numbers = count_many(arm, list(paths.values()), runs)
            known |= {name: numbers[path] for name, path in paths.items()}
    if keep:
        keep.write_text(json.dumps(known))
    return [known[name] for name in names]


def _group(arm: Path, library: Path, models: Sequence[Path], runs: int) -> dict[Path, int]:
    out = library.parent / "marks.txt"
    env = os.environ | {"PYTHONHASHSEED": "0", "QEMU_OPTS": f"-plugin {library}", "MARKS_OUT": str(out)}
    command = [
        arm / "python",
        HERE / "invoke_marked.py",
        str(runs),
        models[0],
        *models,
    ]  # the first pays for what all share
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the emulated run failed ({done.returncode}): {done.stderr[-1000:]}")
    marks = [int(line) for line in out.read_text().split()]
    spans = [after - before for before, after in zip(marks[::2], marks[1::2], strict=True)]
    return {model: min(spans[i * runs : (i + 1) * runs]) for i, model in enumerate(models, start=1)}
