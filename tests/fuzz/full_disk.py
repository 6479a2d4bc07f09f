"""Let the disk fill while a command writes: ``python -m tests.fuzz.full_disk pipeline --count 20``; needs root.

The output lies on a small disk in memory (tmpfs). What must hold wherever it fills: one line that says so and exit
status 2, every file whole or not there, and what was there before still there. A run goes on when there is space.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fuzz.kill import NANO, ROOT, TINY, problems, weights
from tests.fuzz.worker import captured, lines_of, run
from tests.quick_run import write_images

KERAS = ROOT / "tests" / "fixtures" / "nano.keras"
PAGE = 4096
RUN = ("--epochs", "2", "--batch-size", "16")
COMMANDS: dict[str, Callable[[Path, Path], list]] = {
    "train": lambda data, disk: ["train", TINY, "--data", data, *RUN, "--output", disk / "run"],
    "pipeline": lambda data, disk: ["pipeline", TINY, "--data", data, *RUN, "--output", disk / "run"],
    "export": lambda data, disk: ["export", NANO, "--recipe", "weight_int8", "--output", disk / "f.tflite"],
    "report": lambda data, disk: [
        *("export", NANO, "--recipe", "int8", "--data", "digits", "--images", "4"),
        *("--output", disk / "f.tflite", "--report", disk / "report"),
    ],
    "import-weights": lambda data, disk: [
        *("import-weights", KERAS, "--config", "mixnet_nano", "--output", disk / "imported.keras"),
    ],
}
"""From a folder of images and the small disk to a command line."""

AGAIN = {"train": ["--resume"], "pipeline": ["--resume"], "report": ["--overwrite"]}
"""What goes on with a command: of a report, the file may be finished, and is still there."""


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Mount a disk of `size` bytes at a folder; yield what changes its size."""

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], check=True)

    folder.mkdir(exist_ok=True)
    mount("-o", f"size={size}")
    try:
        yield lambda larger: mount("-o", f"remount,size={larger}")
    finally:
        subprocess.run(["umount", folder], check=True)


def run_lines(arguments: list) -> tuple[int, list[str]]:
    """Run a command in this process; return its exit status and the lines of its error."""
    with captured() as (_, errors):
        status = run([*map(str, arguments), "--quiet"])
        return status, lines_of(errors())


def fill(name: str, folder: Path, count: int) -> list[str]:
    """Run a command on disks of `count` sizes, from none to what it needs; return what went wrong."""
    data, disk, kept = write_images(folder), folder / "disk", folder / "kept"
    arguments = COMMANDS[name](data, disk)
    with small_disk(disk, 1 << 30):
        status, lines = run_lines(arguments)
        assert status == 0, lines
        needed = shutil.disk_usage(disk).used
        shutil.copytree(disk, kept)
    wrong, full = [], 0
    for number in range(count):
        size = max(PAGE, int(1.1 * needed * number / count))
        with small_disk(disk, size) as resize:
            status, lines = run_lines(arguments)
            broken = [f"{size} bytes: {problem}" for problem in problems(disk)]
            if status:
                full += 1
                if status != 2 or len(lines) != 1 or "No space left on device" not in lines[0]:
                    broken.append(f"{size} bytes: status {status}, {lines}")
                broken += _not_continued(name, arguments, disk, kept, resize)
            print(f"{name}: {size} of {needed} bytes, status {status}: {lines[-1:]}", *broken, sep="\n  ", flush=True)
            wrong += broken
    assert full, "the disk was never full"
    return wrong


def _not_continued(name: str, arguments: list, disk: Path, kept: Path, resize: Callable[[int], None]) -> list[str]:
    """Make space and run again; return what is not as if the disk had never been full."""
    resize(1 << 30)
    status, lines = run_lines([*arguments, *AGAIN.get(name, ())])
    if status:
        return [f"with space again: status {status}, {lines}"]
    if name in ("train", "pipeline") and weights(disk / "run") != weights(kept / "run"):
        return ["with space again: other weights than on a large disk"]
    names = [{path.name for path in root.rglob("*") if not path.name.startswith("events.")} for root in (kept, disk)]
    missing = names[0] - names[1]
    left = [path.name for path in disk.rglob(".*") if ".part" in path.name]
    return [f"with space again: {sorted(missing)} missing, {left} left"] if missing or left else []


def main() -> int:
    """Return 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.full_disk", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--count", type=int, default=20, help="of sizes (default 20)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = fill(args.command, Path(folder), args.count)
    print(f"{args.command}: {args.count} disks, {len(wrong)} problems", *wrong, sep="\n  ")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
