"""Fits the table of `inspect --cost`: instructions per loop of each kernel on an emulated Cortex-A76.

    python tests/bench/fit_costs.py --arm ARM64 [--keep COUNTS.json] [--readme tflite/README.md [--files FOLDER]]

Graphs of one operator each (micro_cases.py) are counted, and the counts of each kernel are fitted by its loops
(mixnet_tf/costs/work.py): the factors are not negative, and the sum of squares of relative errors is the least. With
--readme, the predictions for whole networks and for some of their operators, cut out, are compared with counts. All of
it takes an hour; --keep and --files keep what was counted and the networks' files for the next run.
"""

import argparse
import collections
import importlib.metadata
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from check_costs import build, check, markdown
from counting_marks import counted
from measuring import replace_tables
from micro import chain
from micro_cases import cases
from scipy.optimize import nnls

from mixnet_tf.costs.table import load_costs
from mixnet_tf.costs.work import OWN, Work, work
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import inspect_model

TABLE = Path(__file__).resolve().parents[2] / "mixnet_tf" / "costs" / "cortex_a76.json"


def work_of(content: bytes, folder: Path) -> Work | None:
    """Return the work of a graph's one operator."""
    path = folder / "graph.tflite"
    path.write_bytes(content)
    graph = FlatGraph.read(path)
    return work(graph, graph.ops[0], inspect_model(path).ops[0].delegated)


def fit(works: Sequence[Work], instructions: Sequence[float]) -> list[float]:
    """Return the factors of the loops of one kernel."""
    counts, measured = np.array([work.counts for work in works], float), np.array(instructions)
    scale = np.linalg.norm(counts / measured[:, None], axis=0)
    scale[scale == 0] = 1
    factors, _ = nnls(counts / measured[:, None] / scale, np.ones(len(works)))
    return [float(f"{factor:.4g}") for factor in factors / scale]


def table(arm: Path, keep: Path | None) -> tuple[dict, dict[str, list[float]]]:
    """Return the table of costs, and the relative errors of each kernel on what it is fitted on."""
    chains = [
        chain(*names) for names in (("ADD",), ("ADD", "ADD"), ("RELU",), ("RELU", "RELU"), ("ADD", "RELU", "ADD"))
    ]
    contents = list(cases())
    *instructions, add, adds, relu, relus, mixed = counted(arm, [*contents, *chains], keep)
    base, own_base = 2 * add - adds, 2 * relu - relus
    switch = mixed - adds - (relu - own_base)
    groups: Mapping[str, list[tuple[Work, float]]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for content, number in zip(contents, instructions, strict=True):
            job = work_of(content, Path(folder))
            if job is not None:
                groups[job.kernel].append((job, max(number - (own_base if job.kernel.endswith(OWN) else base), 1)))
    kernels = {kernel: fit(*zip(*rows, strict=True)) for kernel, rows in sorted(groups.items())}
    errors = {
        kernel: [sum(np.multiply(kernels[kernel], job.counts)) / number - 1 for job, number in rows]
        for kernel, rows in groups.items()
    }
    version = importlib.metadata.version("ai-edge-litert")
    return {"core": "Cortex-A76", "litert": version, "graph": base, "switch": switch, "kernels": kernels}, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", type=Path, required=True, metavar="ARM64")
    parser.add_argument("--keep", type=Path, metavar="COUNTS.json", help="counts of an earlier run, and of this one")
    parser.add_argument("--readme", type=Path, help="check the predictions, and write the table there")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="of the networks' files; made where missing")
    args = parser.parse_args()
    content, errors = table(args.arm, args.keep)
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in content["kernels"].items())
    head = ", ".join(f'"{key}": {json.dumps(content[key])}' for key in ("core", "litert", "graph", "switch"))
    TABLE.write_text(f'{{\n  {head},\n  "kernels": {{\n{lines}\n  }}\n}}\n')
    for kernel, row in sorted(errors.items()):
        print(f"{kernel:60} {len(row):4} graphs, mean {np.mean(np.abs(row)):6.1%}, worst {max(row, key=abs):+.1%}")
    if args.readme:
        load_costs.cache_clear()
        with tempfile.TemporaryDirectory() as folder:
            files = build(args.files or Path(folder))
            replace_tables(args.readme, "fit_costs.py", markdown(check(args.arm, files, args.keep)))


if __name__ == "__main__":
    main()
