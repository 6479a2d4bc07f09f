"""Names that the tests of training share."""

import csv
from pathlib import Path

TINY = Path(__file__).parent / "tiny.yaml"
EPOCHS = 4


def history(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log."""
    with (folder / "history.csv").open(newline="") as handle:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(handle)]
