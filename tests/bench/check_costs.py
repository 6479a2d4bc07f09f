"""How far `inspect --cost` is from the emulated Cortex-A76, on networks that nothing was fitted on."""

import collections
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import networks
import numpy as np
from counting_marks import counted
from cutting import alike, cut
from measuring import table

from mixnet_tf.costs.ledger import Ledger, ledger
from mixnet_tf.costs.table import load_costs
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import inspect_model

FOREIGN = ("MobileNetV2", "MobileNetV3-Large", "EfficientNet-B0", "ConvNeXt-Tiny")
SMALL = {"ConvNeXt-Tiny": 96}
"""Networks at another image size than 224: emulating them takes long."""

LIMIT = 0.15
"""The relative error that a single operator should not have."""

SAMPLE = 20
"""Operators of each file that are cut out; no two are alike."""


def build(folder: Path) -> list[Path]:
    """Write the files of all networks that are not there yet; return all of them."""
    for size in "SML":
        name = f"MixNet-{size}"
        if not (folder / f"{name}_deploy_int8.tflite").exists():
            model = networks.mixnet(size)
            networks.write_plain(model, name, folder)
            for dtype in networks.PLAIN_RECIPES:
                networks.write(model, dtype, folder / f"{name}_deploy_{dtype}.tflite")
    for name in FOREIGN:
        networks.SIZE = SMALL.get(name, 224)
        if not (folder / f"{name}_plain_int8.tflite").exists():
            networks.write_plain(networks.foreign(name), name, folder)
    return sorted(folder.glob("*.tflite"))


@dataclasses.dataclass(frozen=True)
class Check:
    """What is predicted for a file, and what was counted: in all, and for some of its operators."""

    name: str
    predicted: Ledger
    counted: int
    ops: tuple[tuple[str, float | None, int], ...]

    @property
    def errors(self) -> np.ndarray:
        """The relative errors of the operators that the table knows."""
        return np.array([abs(guess / number - 1) for _, guess, number in self.ops if guess is not None])


def check(arm: Path, paths: Sequence[Path], keep: Path | None) -> list[Check]:
    """Count files and a sample of their operators, and predict both."""
    totals = counted(arm, [path.read_bytes() for path in paths], keep, runs=1)
    base, rows, contents = load_costs().graph, [], []
    for path in paths:
        graph = FlatGraph.read(path)
        costs = ledger(graph, {op.index for op in inspect_model(path).outside})
        kinds = {alike(graph, op.index): op for op in costs.ops if op.instructions != 0}
        sample = random.Random(0).sample(list(kinds.values()), min(SAMPLE, len(kinds)))
        rows.append((costs, sample))
        contents += [cut(graph, op.index) for op in sample]
    numbers = iter(counted(arm, contents, keep))
    checks = []
    for path, total, (costs, sample) in zip(paths, totals, rows, strict=True):
        ops = tuple((op.name, op.instructions, max(1, round(next(numbers) - base))) for op in sample)
        checks.append(Check(path.stem, costs, total, ops))
    return checks


def markdown(checks: Sequence[Check]) -> str:
    """Return the table of the README."""
    head = [
        "network",
        "graph",
        "type",
        "counted",
        "predicted",
        "error",
        "single operators",
        f"within {LIMIT:.0%}",
        "median",
        "unknown",
    ]
    lines = []
    for row in checks:
        network, graph, dtype = row.name.rsplit("_", 2)
        network += f", {SMALL[network]} px" if network in SMALL else ""
        cells = [network, graph, dtype, f"{row.counted / 1e6:.1f} M", f"{row.predicted.instructions / 1e6:.1f} M"]
        cells += [f"{row.predicted.instructions / row.counted - 1:+.1%}", str(len(row.ops))]
        cells += [f"{np.mean(row.errors < LIMIT):.0%}", f"{np.median(row.errors):.1%}"]
        lines.append([*cells, ", ".join(row.predicted.unknown) or "–"])
    return f"{table(head, lines)}\n\n{_misses(checks)}"


def _misses(checks: Sequence[Check]) -> str:
    """Return the sentence about the operators that are predicted worst."""
    known = [(name, abs(guess / number - 1)) for row in checks for name, guess, number in row.ops if guess is not None]
    missed = collections.Counter(name for name, error in known if error >= LIMIT)
    names = ", ".join(f"{name} ({count})" for name, count in missed.most_common())
    within = len(known) - missed.total()
    return f"{within} of {len(known)} operators are within {LIMIT:.0%}." + (f" The others: {names}." if names else "")
