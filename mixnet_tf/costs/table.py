"""The table of costs: instructions per loop of each kernel, as ``tests/bench/fit_costs.py`` measured them."""

import functools
import json
from collections.abc import Mapping
from importlib import resources

from mixnet_tf.costs.work import Work

FILE = "cortex_a76.json"


class CostTable:
    """Instructions of kernels.

    Args:
        content: as in the packaged file.

    Attributes:
        core: the processor.
        litert: the version of LiteRT whose kernels were measured.
        graph: instructions per inference that belong to no operator.
        switch: instructions from an operator of XNNPACK to one of LiteRT's own, and back.

    Example:
        >>> costs = load_costs()
        >>> round(costs.instructions(Work("LOGISTIC int8", (1, 65536))), -4)
        40000.0
    """

    def __init__(self, content: Mapping):
        self.core: str = content["core"]
        self.litert: str = content["litert"]
        self.graph: float = content["graph"]
        self.switch: float = content["switch"]
        self.kernels: dict[str, list[float]] = content["kernels"]

    def instructions(self, work: Work | None) -> float | None:
        """Return what an operator takes; None where its kernel was never measured."""
        factors = None if work is None else self.kernels.get(work.kernel)
        if work is None or factors is None:
            return None
        return sum(factor * count for factor, count in zip(factors, work.counts, strict=True))


@functools.cache
def load_costs() -> CostTable:
    """Return the packaged table."""
    return CostTable(json.loads(resources.files("mixnet_tf.costs").joinpath(FILE).read_text(encoding="utf-8")))
