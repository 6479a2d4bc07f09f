"""Small networks with everything in them, for tests in which no size is the point."""

import keras
import numpy as np


def block(**fields) -> dict:
    """Return a stage of one kind of block."""
    defaults = {
        "expansion_ratio": 4, "out_channels": 16, "num_blocks": 1, "kernel_sizes": [3], "num_exp_groups": 1,
        "num_poi_groups": 1, "stride": 1, "act_type": "swish", "se_reduction_ratio": 2,
    }  # fmt: skip
    return {key: [value] for key, value in (defaults | fields).items()}


def backbone(*stages: dict, stem: int = 8, **params) -> dict:
    return {"name": "mixnet", "params": {"stem_channels": stem} | params, "stage_params": list(stages)}


SMALL = backbone(
    block(expansion_ratio=1, out_channels=8, act_type="relu", se_reduction_ratio=None),
    block(expansion_ratio=3, out_channels=12, kernel_sizes=[3, 7], num_exp_groups=2, num_poi_groups=2, stride=2),
    block(expansion_ratio=2, out_channels=12, kernel_sizes=[3, 5, 3], num_exp_groups=2, num_poi_groups=2),
)
"""Residuals with and without chunks, groups that do not meet the branches, a kernel in pieces, both strides."""


def with_random_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Every weight random, batch norm statistics included: fresh ones would hide a folding mistake."""
    rng = np.random.default_rng(seed)
    draw = {
        "gamma": lambda shape: rng.uniform(0.6, 1.4, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
        "alpha": lambda shape: rng.uniform(0.1, 0.4, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.2, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 1.5, shape),
    }
    for weight in model.weights:
        kind = weight.path.rsplit("/", 1)[-1]
        weight.assign(
            draw[kind](weight.shape)
            if kind in draw
            else rng.normal(0, 1 / np.sqrt(np.prod(weight.shape[:-1])), weight.shape)
        )
    return model
