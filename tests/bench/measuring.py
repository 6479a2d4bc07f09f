"""What the bench scripts measure with, and how their tables reach a README."""

import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from count_arm import RUNS, count

HERE = Path(__file__).resolve().parent


def times(python: str | Path, paths: Sequence[Path], threads: int, rounds: int) -> dict[Path, list[float]]:
    """Return the milliseconds of each file in every round."""
    command = [python, HERE / "timing.py", "--threads", str(threads), "--rounds", str(rounds), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"timing.py failed: {done.stderr[-2000:]}")
    return {Path(path): milliseconds for path, milliseconds in json.loads(done.stdout).items()}


def instructions(arm: Path | None, paths: Sequence[Path], runs: int = RUNS) -> dict[Path, float]:
    """Return millions of instructions per inference, or nothing without an emulator."""
    return count(arm, [path for path in paths if path.suffix == ".tflite"], runs) if arm else {}


def ratio(rows: Mapping[str, Mapping], over: str, under: str, key: str) -> str:
    """Return how many times `over` costs what `under` costs: paired by round for times."""
    a, b = rows.get(over, {}).get(key), rows.get(under, {}).get(key)
    if a is None or b is None:
        return "–"
    pairs = zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]
    return f"{statistics.median(x / y for x, y in pairs):.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def replace_tables(readme: Path, script: str, tables: str) -> None:
    """Replace what stands between the markers of `script` in a file."""
    begin, end = f"<!-- begin: {script} -->", f"<!-- end: {script} -->"
    before, rest = readme.read_text().split(begin)
    readme.write_text(f"{before}{begin}\n{tables}\n{end}{rest.split(end)[1]}")
