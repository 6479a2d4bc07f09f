"""Weights made elsewhere: what fits is loaded, what does not leaves the model as it was; and export, its reverse."""

import time
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.golden_weights import golden_tensor
from marks import slow
from safetensors.numpy import load_file, save_file
from small import SMALL
from states import outputs, random_state, same, small, without_classifier

from mixnet_tf.config import load_config, to_dict
from mixnet_tf.errors import MixNetError, WeightsError
from mixnet_tf.model import create_feature_extractor, create_model
from mixnet_tf.weights.loading import export_state_dict, load_weights


def test_a_feature_extractor_takes_a_whole_checkpoint(loaded):
    model, state = loaded
    features = create_feature_extractor(SMALL, input_shape=(32, 32, 3))
    load_weights(features, state)
    layers = ("stage1_block1", "stage2_block1", "last_conv")
    expected = outputs(keras.Model(model.input, [model.get_layer(name).output for name in layers]))
    assert all(np.array_equal(a, b) for a, b in zip(outputs(features), expected, strict=True))


def test_constructors_load_files(loaded, tmp_path):
    save_file(loaded[1], tmp_path / "weights.safetensors")
    assert same(small(weights=tmp_path / "weights.safetensors"), loaded[0])


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_models_without_head_take_a_backbone_alone_and_a_whole_checkpoint(loaded, pooling):
    model, state = loaded
    features = keras.Model(model.input, model.get_layer("last_conv").output)
    whole, alone = (small(include_top=False, pooling=pooling) for _ in range(2))
    load_weights(whole, state)
    load_weights(alone, without_classifier(state))
    pool = {None: lambda x: x, "avg": lambda x: x.mean((1, 2)), "max": lambda x: x.max((1, 2))}[pooling]
    expected = pool(outputs(features)[0])
    assert same(whole, alone)
    np.testing.assert_allclose(outputs(whole)[0], expected, rtol=1e-5, atol=1e-6)


def test_a_model_around_ours_keeps_its_own_layers(loaded):
    model, state = loaded
    backbone = small(include_top=False, pooling="avg")
    flat = keras.Model(backbone.input, keras.layers.Dense(3, name="mine")(backbone.output))
    inputs = keras.Input((32, 32, 3))
    nested = keras.Model(inputs, keras.layers.Dense(3, name="mine")(backbone(inputs)))
    mine = [np.asarray(m.get_layer("mine").kernel) for m in (flat, nested)]
    for around in (flat, nested):
        load_weights(backbone, random_state(backbone, seed=1))
        load_weights(around, state)
        reference = keras.Model(model.input, model.get_layer("avg_pool").output)
        np.testing.assert_allclose(outputs(backbone)[0], outputs(reference)[0], rtol=1e-6)
    assert all(np.array_equal(a, m.get_layer("mine").kernel) for a, m in zip(mine, (flat, nested), strict=True))


def test_models_that_hold_no_mixnet_or_two_are_refused(loaded):
    inputs = keras.Input((32, 32, 3))
    two = keras.Model(inputs, [small(name="a")(inputs), small(name="b")(inputs)])
    with pytest.raises(WeightsError, match="twice, expected one MixNet"):
        load_weights(two, loaded[1])
    with pytest.raises(WeightsError, match="no layer called stage1_block1"):
        load_weights(keras.Sequential([keras.layers.Dense(2)]), loaded[1])
    with pytest.raises(WeightsError, match=r"expected a keras\.Model"):
        load_weights("mixnet_s", loaded[1])


def test_a_classifier_of_another_size_is_refused_or_left_fresh(loaded):
    _, state = loaded
    model = small(classes=3)
    before = [np.asarray(variable) for variable in model.get_layer("predictions").variables]
    with pytest.raises(WeightsError) as caught:
        load_weights(model, state)
    assert str(caught.value) == (
        "state dict (timm's names): 2 of another shape: 'classifier.weight (10, 1536) instead of (3, 1536)', "
        "'classifier.bias (10,) instead of (3,)'; head='fresh' keeps the model's own classifier"
    )
    load_weights(model, state, head="fresh")
    after = model.get_layer("predictions").variables
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    stems = [np.asarray(m.get_layer("stem").conv.kernel) for m in (model, loaded[0])]
    assert np.array_equal(*stems)


def test_a_backbone_alone_needs_a_fresh_head(loaded):
    backbone = without_classifier(loaded[1])
    with pytest.raises(WeightsError, match=r"2 missing: 'classifier\.weight', 'classifier\.bias'; head='fresh'"):
        load_weights(small(), backbone)
    load_weights(small(), backbone, head="fresh")


def test_a_fresh_head_is_not_fresh_where_the_classifier_fits(loaded):
    model = small()
    load_weights(model, loaded[1], head="fresh")
    assert same(model, loaded[0])
    with pytest.raises(MixNetError, match="head: found 'new', expected one of load, fresh"):
        load_weights(model, loaded[1], head="new")


DAMAGES = {
    "missing": (lambda s: {k: v for k, v in s.items() if k != "bn2.bias"}, r"1 missing: 'bn2\.bias'$"),
    "unexpected": (lambda s: s | {"blocks.9.0.x": np.zeros(1)}, r"1 unexpected: 'blocks\.9\.0\.x'$"),
    "mis-shaped": (
        lambda s: s | {"conv_stem.weight": np.zeros((8, 3, 5, 5), "f4")},
        r"1 of another shape: 'conv_stem\.weight \(8, 3, 5, 5\) instead of \(8, 3, 3, 3\)'$",
    ),
    "NaN": (
        lambda s: s | {"conv_head.weight": s["conv_head.weight"] * np.nan},
        r"1 with NaN, .*: 'conv_head\.weight'; ",
    ),
    "infinite": (lambda s: s | {"bn2.bias": s["bn2.bias"] + np.inf}, r"1 with NaN, .*: 'bn2\.bias'; "),
    "overflow": (lambda s: s | {"bn2.bias": np.full(1536, 1e300)}, r"1 with NaN, .*: 'bn2\.bias'; "),
    "variance": (lambda s: s | {"bn2.running_var": -s["bn2.running_var"]}, r"negative variance: 'bn2\.running_var'; "),
    "integers": (lambda s: s | {"bn2.bias": np.ones(1536, "i8")}, r"tensor 'bn2\.bias' is int64, expected float16"),
    "not an array": (lambda s: s | {"bn2.bias": None}, r"1 of another shape: 'bn2\.bias \(\) instead of \(1536,\)'$"),
    "numbered": (lambda s: s | {7: s["bn2.bias"]}, r"found the name 7, expected texts$"),
}


@pytest.mark.parametrize(
    ("damage", "allow_nan"), [*((name, False) for name in DAMAGES), ("missing", True), ("integers", True)]
)
def test_a_failure_leaves_the_model_unchanged(loaded, target, damage, allow_nan):
    before = [np.asarray(variable) for variable in target.variables]
    change, message = DAMAGES[damage]
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(target, change(dict(loaded[1])), allow_nan=allow_nan)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, target.variables, strict=True))


def test_nan_is_taken_when_allowed(loaded):
    state = loaded[1] | {"bn2.bias": np.full(1536, np.nan, "f4")}
    model = small()
    load_weights(model, state, allow_nan=True)
    assert np.isnan(model.get_layer("last_conv").bn.beta).all()


def test_at_most_ten_names_and_a_count(loaded):
    state = {name: value for name, value in loaded[1].items() if not name.startswith("blocks.1.")}
    with pytest.raises(WeightsError) as caught:
        load_weights(small(), state | {f"blocks.8.0.{i}\n{'x' * 1000}": np.zeros(1) for i in range(25)})
    missing = sum(name.startswith("blocks.1.") and "tracked" not in name for name in loaded[1])
    message = str(caught.value)
    assert f"{missing} missing: " in message and f" and {missing - 10} more; 25 unexpected: " in message
    assert message.endswith(" and 15 more") and message.count("blocks.1.") == message.count("blocks.8.") == 10
    assert "\n" not in message and len(message) < 3000


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions_load(loaded, dtype):
    state = {name: value.astype(dtype) for name, value in loaded[1].items() if value.dtype == np.float32}
    model = small()
    load_weights(model, state)
    found, expected = outputs(model)[0], outputs(loaded[0])[0]
    np.testing.assert_allclose(found, expected, atol=1e-2 if dtype == "float16" else 1e-7)


@pytest.fixture(scope="module")
def with_dropout(loaded) -> keras.Model:
    """With an optimizer, a frozen layer and dropout: no other variable may disturb, nor another order."""
    config = to_dict(load_config(SMALL))
    config["model"]["architecture"]["backbone"]["params"]["dropout_rate"] = 0.2
    source = create_model(config, classes=10, input_shape=(32, 32, 3))
    load_weights(source, loaded[1])
    source.compile("adam", "sparse_categorical_crossentropy")
    source.optimizer.build(source.trainable_variables)
    source.get_layer("stage2_block1").trainable = False
    return source


@pytest.mark.parametrize("suffix", [".keras", *slow(".weights.h5")])
def test_our_own_files_load_by_name(with_dropout, tmp_path, suffix):
    path = tmp_path / f"source{suffix}"
    (with_dropout.save if suffix == ".keras" else with_dropout.save_weights)(path)
    model, backbone = small(), small(include_top=False, pooling="avg")
    load_weights(model, path)
    load_weights(backbone, path)
    assert same(model, with_dropout)
    assert same(backbone, keras.Model(with_dropout.input, with_dropout.get_layer("avg_pool").output))
    with pytest.raises(WeightsError, match=r"\(a Keras file\): 2 of another shape: 'predictions/0 \(1536, 10\)"):
        load_weights(small(classes=3), path)


def test_our_own_names_load_from_any_container(with_dropout, tmp_path):
    path = tmp_path / "ours.npz"
    np.savez(path, **{variable.path: np.asarray(variable) for variable in with_dropout.variables})
    model = small()
    load_weights(model, path)
    assert same(model, with_dropout)


STEM_BIAS = {"timm": "bn1.bias", "netspresso": "backbone.mod1.block.norm.bias"}


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("names", ["timm", "netspresso"])
def test_export_and_import_are_the_identity(names, padding, tmp_path):
    first, second = small(padding=padding), small(padding=padding)
    state = random_state(first, names)
    load_weights(first, state)
    path = tmp_path / "weights.safetensors"
    exported = export_state_dict(first, names, path)
    assert exported.keys() == state.keys()
    for name, value in exported.items():
        np.testing.assert_allclose(value, state[name], rtol=1e-6, err_msg=name)
    load_weights(second, path)
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=a.path)
    assert load_file(path).keys() == exported.keys()
    load_weights(first, random_state(first, names, seed=1))
    assert np.array_equal(exported[STEM_BIAS[names]], load_file(path)[STEM_BIAS[names]])  # a copy, not a view


def test_export_writes_whole_files_and_overwrites_only_when_asked(loaded, tmp_path):
    path = tmp_path / "new" / "weights.safetensors"
    export_state_dict(loaded[0], "timm", path)
    with pytest.raises(MixNetError, match="exists already"):
        export_state_dict(loaded[0], "timm", path)
    export_state_dict(loaded[0], "timm", path, overwrite=True)
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]
    (tmp_path / "ordinary").touch()
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    with pytest.raises(MixNetError, match=r"expected a name that ends in \.safetensors"):
        export_state_dict(loaded[0], "timm", tmp_path / "weights.bin")
    with pytest.raises(MixNetError, match="names: found 'torchvision', expected one of timm, netspresso"):
        export_state_dict(loaded[0], "torchvision")


@pytest.mark.slow
def test_the_largest_model_loads_fast_and_in_twice_the_files_memory(tmp_path):
    state = {
        name: golden_tensor(name, v.shape) for name, v in export_state_dict(create_model("mixnet_xl"), "timm").items()
    }
    path = tmp_path / "xl.safetensors"
    save_file(state, path)
    del state
    model = create_model("mixnet_xl")
    peak_reset = Path("/proc/self/clear_refs")
    if not peak_reset.exists():
        pytest.skip("the peak memory is read from Linux' /proc")
    peak_reset.write_text("5")
    before, start = memory("VmRSS"), time.process_time()
    load_weights(model, path)
    assert time.process_time() - start < 2
    assert memory("VmHWM") - before < 2 * path.stat().st_size


def memory(kind: str) -> int:
    """Bytes that this process holds now (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))
