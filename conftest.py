"""For every test, the examples in mixnet_tf's docstrings included: threads, and which examples are slow."""

import os
from importlib.util import find_spec

import pytest

# read when TensorFlow and numpy are imported: there is a worker per core, so each has one thread
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

collect_ignore = [] if find_spec("torch") else ["mixnet_tf/distribution/torch_processes.py"]  # the extra brings it

SLOW_EXAMPLES = {
    "mixnet_tf.training.fit.train",
    "mixnet_tf.litert.convert.convert",
    "mixnet_tf.litert.flatgraph.FlatGraph",
    "mixnet_tf.litert.scores.scores_of",
}
"""They train or convert a network."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the examples that take long."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name in SLOW_EXAMPLES:
            item.add_marker("exhaustive")
