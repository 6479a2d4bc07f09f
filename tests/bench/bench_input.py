"""How many images a second reach training, by how they are read: a table of CONTRIBUTING.md.

    python tests/bench/bench_input.py --data PHOTOGRAPHS [--torch VENV/bin/python] [--cores 1 2] [--rounds 3]
                                      [--size 224] [--batch 64] [--seconds 5] [--json] [--readme CONTRIBUTING.md]

Augmented batches as `train` makes them: from a folder, from TFRecord shards of the same files, in worker processes, and
with VENV, which has torch, by torch's DataLoader on the same decoder. Each measurement is a process of its own that may
use so many cores; they take turns, and the median of the rounds counts. CPU time is that of all processes together.

The last row has images of 8 x 8 pixels, which leaves what Python does for an image however large: threads wait for each
other there, so its inverse is what one process can make at most, on however many cores.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import replace_tables, table

LABELS = {
    "folder": "image files, threads",
    "shards": "TFRecord shards, threads",
    "workers": "image files, a process a core (`--workers`)",
    "torch": "image files, torch's DataLoader, a process a core",
    "overhead": "8 x 8 pixels in memory, threads",
}


def write_shards(source: Path, target: Path) -> None:
    """Write the training images of a folder as TFRecords."""
    import tensorflow as tf

    from mixnet_tf import load_data

    def feature(kind: str, message: Any, value: Any) -> Any:
        return tf.train.Feature(**{kind: message(value=[value])})

    split = load_data(source).splits["train"]
    with tf.io.TFRecordWriter(str(target / "train.tfrecord")) as writer:
        for path, label in zip(split.images, split.labels.tolist(), strict=True):
            features = {
                "image": feature("bytes_list", tf.train.BytesList, Path(path).read_bytes()),
                "label": feature("int64_list", tf.train.Int64List, label),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def batches(loader: str, source: Path, cores: int, size: int, batch: int) -> Iterator[Any]:
    """Yield batches without end."""
    import numpy as np

    from mixnet_tf import load_data

    if loader == "torch":
        yield from torch_batches(load_data(source), cores, size, batch)
    from mixnet_tf.data.batches import training_dataset
    from mixnet_tf.data.making import maker

    if loader == "overhead":
        size, source = 8, (np.full((4000, 8, 8, 3), 200, np.uint8), np.arange(4000) % 2)
    data = load_data(source)
    settings = {"image_size": size, "batch_size": batch, "seed": 0, "first_epoch": 0, "epochs": 10**6}
    with maker(cores * (loader == "workers"), batch, (size, size), data.augmentation) as make:
        yield from training_dataset(data, make=make, **settings)


def torch_batches(data: Any, cores: int, size: int, batch: int) -> Iterator[Any]:
    import numpy as np
    import torch

    from mixnet_tf.data.making import Plan, make_batch
    from mixnet_tf.data.pixels import DRAWS

    split = data.splits["train"]

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, index: int) -> np.ndarray:
            draws = np.random.default_rng(index).random((1, DRAWS), np.float32)
            plan = Plan([split.images[index]], draws, np.zeros(1, np.int64), (size, size))
            return make_batch(plan, data.augmentation)[0]

    settings = {"shuffle": True, "drop_last": True, "num_workers": cores, "persistent_workers": True}
    loader = torch.utils.data.DataLoader(Images(), batch, **settings)
    yield from itertools.chain.from_iterable(itertools.repeat(loader))


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children until now."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(folder.name) == os.getpid():
            total += sum(map(int, fields[11:15]))  # its children that have ended, too
        elif int(fields[1]) == os.getpid():
            total += sum(map(int, fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def measure_here(args: argparse.Namespace) -> None:
    """Print what one loader does in this process."""
    os.sched_setaffinity(0, range(args.cores[0]))
    coming = batches(args.measure, args.data, args.cores[0], args.size, args.batch)
    for _ in range(4):
        next(coming)
    images, started, cpu = 0, time.perf_counter(), cpu_seconds()
    while time.perf_counter() - started < args.seconds:
        next(coming)
        images += args.batch
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    print(json.dumps({"images_per_second": images / seconds, "cpu_ms": 1e3 * cpu / images}), flush=True)
    os._exit(0)


def measure(args: argparse.Namespace, loader: str, cores: int, source: Path) -> dict[str, float]:
    python = args.torch if loader == "torch" else sys.executable
    flags = ("--size", args.size, "--batch", args.batch, "--seconds", args.seconds)
    command = [python, __file__, "--measure", loader, "--cores", cores, "--data", source, *flags]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    output = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if output.returncode:
        raise SystemExit(f"{loader} failed: {output.stderr[-500:]}")
    return json.loads(output.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photographs, see load_data")
    parser.add_argument("--torch", type=Path, help="a Python with torch and this package")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    for flag, default in (("--rounds", 3), ("--size", 224), ("--batch", 64), ("--seconds", 5)):
        parser.add_argument(flag, type=int, default=default)
    parser.add_argument("--measure", choices=LABELS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", type=Path)
    args = parser.parse_args()
    if args.measure:
        measure_here(args)
    names = [name for name in LABELS if args.torch or name != "torch"]
    results: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_shards(args.data, Path(folder))
        for _, cores, name in itertools.product(range(args.rounds), args.cores, names):
            source = Path(folder) if name == "shards" else args.data
            results.setdefault((name, cores), []).append(measure(args, name, cores, source))
            print(name, cores, results[name, cores][-1], file=sys.stderr, flush=True)

    def cell(name: str, cores: int, key: str) -> float:
        return statistics.median(row[key] for row in results[name, cores])

    header = ["training images", *(f"images/s, {n} core{'s' * (n > 1)}" for n in args.cores), "CPU time an image"]
    rows = [
        [
            LABELS[name],
            *(f"{cell(name, n, 'images_per_second'):,.0f}" for n in args.cores),
            f"{cell(name, args.cores[-1], 'cpu_ms'):.2f} ms",
        ]
        for name in names
    ]
    text = table(header, rows)
    print(json.dumps([{"loader": n, "cores": c, "rounds": r} for (n, c), r in results.items()]) if args.json else text)
    if args.readme:
        replace_tables(args.readme, "bench_input.py", text)


if __name__ == "__main__":
    main()
