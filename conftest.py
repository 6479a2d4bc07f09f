"""For every test, the examples in mixnet_tf's docstrings included: threads, garbage, and which examples are slow."""

import gc
import os
import signal
from importlib.util import find_spec

import pytest

# read when TensorFlow and numpy are imported: there is a worker per core, so each has one thread
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a script's background; the commands under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# the extras bring what these import
collect_ignore = [
    f"mixnet_tf/distribution/{engine}_processes.py" for engine in ("torch", "jax") if find_spec(engine) is None
]

SLOW_EXAMPLES = {
    "mixnet_tf.costs.network.cost_network",
    "mixnet_tf.model.MixNetM",
    "mixnet_tf.model.MixNetL",
    "mixnet_tf.model.MixNetXL",
    "mixnet_tf.training.fit.train",
    "mixnet_tf.litert.convert.convert",
    "mixnet_tf.litert.flatgraph.FlatGraph",
    "mixnet_tf.litert.scores.scores_of",
}
"""They train or convert a network, or build a large one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the examples that take long; begin with the longest test, beside which the others run."""
    items.sort(key=lambda item: "main_job" not in getattr(item, "fixturenames", ()))
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name in SLOW_EXAMPLES:
            item.add_marker("exhaustive")


def pytest_collection_finish() -> None:
    """Look for garbage only in what comes after the imports, half a million objects that stay."""
    gc.collect()
    gc.freeze()
