"""Whose names these are: prefixes, wrappers, several sets, and heads of earlier versions."""

import numpy as np
import pytest
from states import random_state, same

from mixnet_tf.errors import WeightsError
from mixnet_tf.weights.loading import export_state_dict, load_weights

PREFIXES = [
    "",
    "module.",
    "model.",
    "backbone.",
    "module.backbone.",
    "_orig_mod.module.",
    "ema.module.",
    "student.net.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("names", ["timm", "netspresso"])
def test_prefixes_are_stripped(loaded, target, names, prefix):
    state = {name.removeprefix("backbone."): value for name, value in export_state_dict(loaded[0], names).items()}
    root = prefix.removesuffix("backbone.")
    prefixed = {(root if name.startswith("head.") else prefix) + name: value for name, value in state.items()}
    load_weights(target, random_state(target, seed=1))
    load_weights(target, prefixed | {f"{root}n_averaged": np.int64(3)})
    for a, b in zip(target.variables, loaded[0].variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=a.path)


def under(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda raw, ema: under("model.", raw) | under("ema_model.module.", ema),
        lambda raw, ema: raw | under("ema.", ema),
        lambda raw, ema: {"epoch": 3, "state_dict": raw, "state_dict_ema": ema},
        lambda raw, ema: {"model_state_dict": under("module.", ema), "optimizer": {"lr": 1}},
        lambda raw, ema: {"model": {"state_dict": ema}},
    ],
)
def test_wrappers_are_looked_through_and_the_moving_average_is_taken(loaded, target, wrap):
    raw = random_state(target, seed=1)
    load_weights(target, raw)
    load_weights(target, wrap(raw, loaded[1]))
    assert same(target, loaded[0])


def test_several_sets_and_ambiguous_names_are_refused(loaded, target):
    _, state = loaded
    with pytest.raises(WeightsError, match=r"found 2 sets of weights, under 'student\.', 'teacher\.', expected one"):
        load_weights(target, under("student.", state) | under("teacher.", state))
    incomplete = {name: value for name, value in state.items() if not name.startswith("blocks.1.1.")}
    with pytest.raises(WeightsError, match=r"found 2 sets of weights, under 'student\.', 'teacher\.', expected one"):
        load_weights(target, under("student.", state) | under("teacher.", incomplete))
    strays = under("teacher.", {name: state[name] for name in ("conv_stem.weight", "blocks.0.0.bn1.weight")})
    with pytest.raises(WeightsError, match=r"2 unexpected: 'teacher\.conv_stem\.weight', 'teacher\.blocks\.0\.0"):
        load_weights(target, under("student.", state) | strays)
    twice = state | {"backbone.conv_stem.weight": state["conv_stem.weight"]}
    with pytest.raises(WeightsError, match=r"'conv_stem.weight' and 'backbone.conv_stem.weight' name the same tensor"):
        load_weights(target, twice)
    with pytest.raises(
        WeightsError, match=r"not the weights of a MixNet: found 'layer1\.0\.conv1\.weight', expected timm"
    ):
        load_weights(target, {"layer1.0.conv1.weight": np.zeros(3)})
    for empty in ({}, {"bn1.num_batches_tracked": np.int64(1)}):
        with pytest.raises(WeightsError, match="found no tensor at all"):
            load_weights(target, empty)
