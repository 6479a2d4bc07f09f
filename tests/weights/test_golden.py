"""Parity with the golden outputs of timm's and NetsPresso's code, in the names and layouts of their state dicts."""

import dataclasses
import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.golden_weights import golden_images, golden_state_dict

from mixnet_tf.model import create_model
from mixnet_tf.weights.loading import export_state_dict, load_weights
from mixnet_tf.weights.schemes import SCHEMES

HERE = Path(__file__).parents[1] / "golden"
SOURCES = ("timm", "timm_tf", "netspresso")
SMALLEST = [f"{source}_mixnet_s" for source in SOURCES]
LARGER = [*(f"{source}_mixnet_{size}" for size in "ml" for source in SOURCES), "timm_mixnet_xl"]
TOLERANCE = 1e-4  # of the largest reference value


def manifest_of(name: str, request: pytest.FixtureRequest) -> Path:
    """MixNet-S travels with the tests, the rest is tested where the reference data is."""
    here = HERE / f"{name}.json"
    return here if here.exists() else request.getfixturevalue("shared") / "golden" / f"{name}.json"


def fresh(name: str) -> keras.Model:
    """Build a golden file's model; NetsPresso's have no head."""
    head = {"include_top": False, "pooling": "avg"} if "netspresso" in name else {"classifier_activation": None}
    padding = "same" if "_tf_" in name else "symmetric"
    return create_model(f"mixnet_{name.rpartition('_')[2]}", padding=padding, include_preprocessing=False, **head)


def errors(model: keras.Model, manifest: Path, sizes: tuple[int, ...]) -> dict[str, float]:
    """Return the error of every golden output of these image sizes relative to the largest reference value."""
    reference = np.load(manifest.with_suffix(".npz"))
    keys = [key for key in reference if int(key.rpartition("_")[2]) in sizes]
    blocks = [layer.name for layer in model.layers if layer.name.startswith("stage")]
    last = [list(group)[-1] for _, group in itertools.groupby(blocks, key=lambda name: name.partition("_")[0])]
    stages = [model.get_layer(name).output for name in [*last[:3], "last_conv"]]
    whole = keras.Model(model.input, [*stages, model.get_layer("avg_pool").output, model.output])
    values = {}
    for size in sizes:
        *maps, pooled, logits = whole(golden_images(1 if size == 224 else 2, size), training=False)
        values |= {f"stage{i}_{size}": value for i, value in enumerate(maps)}
        values |= {f"pooled_{size}": pooled, f"logits_{size}": logits}
    return {key: float(np.abs(values[key] - reference[key]).max() / np.abs(reference[key]).max()) for key in keys}


@pytest.fixture(scope="module", params=[*SMALLEST, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)])
def golden(request) -> tuple[str, Path, keras.Model]:
    """The name, the manifest, and the model with the weights of the manifest."""
    manifest = manifest_of(request.param, request)
    model = fresh(request.param)
    load_weights(model, golden_state_dict(manifest))
    return request.param, manifest, model


def test_golden_outputs(golden):
    name, manifest, model = golden
    measured = errors(model, manifest, (64, 97))
    stages_and_pooled = {"stage0_64", "stage1_64", "stage2_64", "stage3_64", "pooled_64", "pooled_97"}
    assert measured.keys() >= stages_and_pooled | (set() if "netspresso" in name else {"logits_64", "logits_97"})
    assert max(measured.values()) < TOLERANCE, measured


@pytest.mark.slow
def test_golden_outputs_at_full_size(golden):
    name, manifest, model = golden
    if "pooled_224" not in np.load(manifest.with_suffix(".npz")):
        pytest.skip(f"{name} has no outputs at 224 px")
    measured = errors(model, manifest, (224,))
    assert measured and max(measured.values()) < TOLERANCE, measured


def test_exported_names_and_shapes_are_those_of_the_original(golden):
    name, manifest, model = golden
    names, prefix = ("netspresso", "backbone.") if "netspresso" in name else ("timm", "")
    tensors = json.loads(manifest.read_text())["tensors"]
    exported = export_state_dict(model, names)
    assert {name: value.shape for name, value in exported.items()} == {prefix + n: tuple(s) for n, s in tensors}


def test_without_the_epsilon_the_golden_outputs_are_missed(golden, monkeypatch):
    name, manifest, model = golden
    if "netspresso" in name:
        pytest.skip("its epsilons are ours")
    weights = model.get_weights()
    monkeypatch.setitem(SCHEMES, "timm", dataclasses.replace(SCHEMES["timm"], epsilon={}))
    load_weights(model, golden_state_dict(manifest))
    measured = errors(model, manifest, (64,))
    model.set_weights(weights)
    assert max(measured.values()) > 10 * TOLERANCE
