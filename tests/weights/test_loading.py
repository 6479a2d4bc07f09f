"""Weights made elsewhere: parity with the golden outputs of timm's and NetsPresso's code, names, failures, export."""

import dataclasses
import itertools
import json
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.golden_weights import golden_images, golden_state_dict, golden_tensor
from safetensors.numpy import load_file, save_file

from mixnet_tf.config import load_config, to_dict
from mixnet_tf.errors import MixNetError, WeightsError
from mixnet_tf.model import MixNetS, create_feature_extractor, create_model
from mixnet_tf.saving import import_weights
from mixnet_tf.weights import schemes as weight_names
from mixnet_tf.weights.loading import export_state_dict, load_weights

HERE = Path(__file__).parents[1] / "golden"
GOLDEN = [
    *(f"{source}_mixnet_{size}" for size in "sml" for source in ("timm", "timm_tf", "netspresso")),
    "timm_mixnet_xl",
]
TOLERANCE = 1e-4  # of the largest reference value
NANO = {"input_shape": (32, 32, 3), "classes": 10}


def golden_file(name: str, request: pytest.FixtureRequest) -> Path:
    """MixNet-S travels with the tests, the rest is tested where the reference data is."""
    here = HERE / f"{name}.json"
    return here if here.exists() else request.getfixturevalue("shared") / "golden" / f"{name}.json"


def padding_of(name: str) -> str:
    return "same" if "_tf_" in name else "symmetric"


def load_golden(name: str, manifest: Path) -> keras.Model:
    """Build a golden file's model and load its state dict; NetsPresso's have no head."""
    head = {"include_top": False, "pooling": "avg"} if "netspresso" in name else {"classifier_activation": None}
    model = create_model(f"mixnet_{name.rpartition('_')[2]}", padding=padding_of(name), **head)
    load_weights(model, golden_state_dict(manifest))
    return model


def errors(model: keras.Model, manifest: Path) -> dict[str, float]:
    """Return the error of every golden output relative to the largest reference value."""
    reference = np.load(manifest.with_suffix(".npz"))
    blocks = [layer.name for layer in model.layers if layer.name.startswith("stage")]
    last = [list(group)[-1] for _, group in itertools.groupby(blocks, key=lambda name: name.partition("_")[0])]
    stages = [model.get_layer(name).output for name in [*last[:3], "last_conv"]]
    whole = keras.Model(model.input, [*stages, model.get_layer("avg_pool").output, model.output])
    found = {}
    for size in sorted({int(key.rpartition("_")[2]) for key in reference}):
        *maps, pooled, logits = whole(golden_images(1 if size == 224 else 2, size), training=False)
        found |= {f"stage{i}_{size}": value for i, value in enumerate(maps)}
        found |= {f"pooled_{size}": pooled, f"logits_{size}": logits}
    return {key: float(np.abs(found[key] - reference[key]).max() / np.abs(reference[key]).max()) for key in reference}


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request) -> tuple[str, Path, keras.Model]:
    manifest = golden_file(request.param, request)
    return request.param, manifest, load_golden(request.param, manifest)


def test_golden_outputs(golden):
    name, manifest, model = golden
    found = errors(model, manifest)
    stages_and_pooled = {"stage0_64", "stage1_64", "stage2_64", "stage3_64", "pooled_64", "pooled_97"}
    assert found.keys() >= stages_and_pooled | (set() if "netspresso" in name else {"logits_64", "logits_97"})
    assert max(found.values()) < TOLERANCE, found


def test_exported_names_and_shapes_are_those_of_the_original(golden):
    name, manifest, model = golden
    names, prefix = ("netspresso", "backbone.") if "netspresso" in name else ("timm", "")
    tensors = json.loads(manifest.read_text())["tensors"]
    exported = export_state_dict(model, names)
    assert {name: value.shape for name, value in exported.items()} == {prefix + n: tuple(s) for n, s in tensors}


@pytest.mark.parametrize("name", ["timm_mixnet_s", "timm_tf_mixnet_s"])
def test_without_the_epsilon_the_golden_outputs_are_missed(name, monkeypatch):
    without = dataclasses.replace(weight_names.SCHEMES["timm"], epsilon={})
    monkeypatch.setitem(weight_names.SCHEMES, "timm", without)
    manifest = HERE / f"{name}.json"
    assert max(errors(load_golden(name, manifest), manifest).values()) > 10 * TOLERANCE


def random_state(model: keras.Model, names: str = "timm", seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors of the names and shapes that the model exports."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, value in export_state_dict(model, names).items():
        low, high = (0.02, 0.5) if name.endswith("running_var") else (-0.5, 0.5)
        counter = name.endswith("num_batches_tracked")
        state[name] = value if counter else rng.uniform(low, high, value.shape).astype(np.float32)
    return state


def outputs(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(x) for x in keras.tree.flatten(model(golden_images(1, 32), training=False))]


def same(first: keras.Model, second: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(outputs(first), outputs(second), strict=True))


def nano(**arguments) -> keras.Model:
    return create_model("mixnet_nano", **NANO | arguments)


@pytest.fixture(scope="module")
def loaded() -> tuple[keras.Model, dict]:
    """A nano with weights that no initializer makes, and the timm state dict they come from."""
    model = nano()
    state = random_state(model)
    load_weights(model, state)
    return model, state


def test_a_feature_extractor_takes_a_whole_checkpoint():
    reference = np.load(HERE / "timm_mixnet_s.npz")
    model = create_feature_extractor("mixnet_s")
    load_weights(model, golden_state_dict(HERE / "timm_mixnet_s.json"))
    for i, value in enumerate(model(golden_images(2, 64), training=False)):
        expected = reference[f"stage{i}_64"]
        assert np.abs(value - expected).max() < TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_models_without_head_take_a_backbone_alone_and_a_whole_checkpoint(loaded, pooling):
    model, state = loaded
    features = keras.Model(model.input, model.get_layer("last_conv").output)
    whole, alone = (nano(include_top=False, pooling=pooling) for _ in range(2))
    load_weights(whole, state)
    load_weights(alone, {name: value for name, value in state.items() if not name.startswith("classifier")})
    pool = {None: lambda x: x, "avg": lambda x: x.mean((1, 2)), "max": lambda x: x.max((1, 2))}[pooling]
    expected = pool(outputs(features)[0])
    assert same(whole, alone)
    np.testing.assert_allclose(outputs(whole)[0], expected, rtol=1e-5, atol=1e-6)


def test_a_model_around_ours_keeps_its_own_layers(loaded):
    model, state = loaded
    backbone = nano(include_top=False, pooling="avg")
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
    two = keras.Model(inputs, [nano(name="a")(inputs), nano(name="b")(inputs)])
    with pytest.raises(WeightsError, match="twice, expected one MixNet"):
        load_weights(two, loaded[1])
    with pytest.raises(WeightsError, match="no layer called stage1_block1"):
        load_weights(keras.Sequential([keras.layers.Dense(2)]), loaded[1])
    with pytest.raises(WeightsError, match=r"expected a keras\.Model"):
        load_weights("mixnet_s", loaded[1])


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


@pytest.fixture(scope="module")
def target() -> keras.Model:
    return nano()


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


def test_netspressos_head_of_one_layer():
    exported = export_state_dict(nano(classes=7), "netspresso")
    # nn.Sequential(Dropout, Linear) in NetsPresso Trainer 1.4.1
    assert {name: value.shape for name, value in exported.items() if not name.startswith("backbone.")} == {
        "head.classifier.1.weight": (7, 1536),
        "head.classifier.1.bias": (7,),
    }


def prelu_config(num_layers: int) -> dict:
    config = to_dict(load_config("mixnet_nano"))
    architecture = config["model"]["architecture"]
    for stage in architecture["backbone"]["stage_params"]:
        stage["act_type"] = ["prelu"] * len(stage["act_type"])
    architecture["head"]["params"] |= {"num_layers": num_layers, "intermediate_channels": 5, "act_type": "prelu"}
    return config


def test_prelu_and_long_heads_have_netspressos_names():
    model = create_model(prelu_config(3), **NANO)
    state = random_state(model, "netspresso")
    # (Linear, act) x 2, Dropout, Linear; one shared number a PReLU, named as the module holding it.
    expected = {f"head.classifier.{i}.{leaf}" for i in (0, 2, 5) for leaf in ("weight", "bias")}
    assert {name for name in state if name.startswith("head.")} == expected | {
        "head.classifier.1.weight",
        "head.classifier.3.weight",
    }
    assert state["head.classifier.0.weight"].shape == (5, 1536) and state["head.classifier.5.weight"].shape == (10, 5)
    prelus = {name for name in state if name.startswith("backbone.stages.1.0.") and state[name].shape == (1,)}
    assert prelus == {
        f"backbone.stages.1.0.{part}.weight" for part in ("expansion.act", "depth_wise.act", "se_block.activation")
    }
    load_weights(model, state)
    assert (
        float(model.get_layer("stage2_block1").se.act.alpha[0, 0, 0])
        == state["backbone.stages.1.0.se_block.activation.weight"]
    )
    again = create_model(prelu_config(3), **NANO)
    load_weights(again, export_state_dict(model, "netspresso"))
    assert same(again, model)


@pytest.mark.parametrize("old", ["head.classifier", "head.classifier.0"])
def test_heads_of_earlier_netspresso_versions(loaded, old):
    state = export_state_dict(loaded[0], "netspresso")
    renamed = {name.replace("head.classifier.1", old): value for name, value in state.items()}
    model = nano()
    load_weights(model, renamed)
    assert same(model, loaded[0])


def test_timm_has_no_place_for_a_long_head():
    model = create_model(prelu_config(2), **NANO)
    with pytest.raises(WeightsError, match="timm's names have no place for a head of several layers"):
        export_state_dict(model, "timm")
    backbone = create_model(prelu_config(1), **NANO)
    state = random_state(backbone)
    with pytest.raises(WeightsError, match="head='fresh' keeps the model's own"):
        load_weights(model, state)
    before = np.asarray(model.get_layer("predictions").kernel)
    load_weights(model, state, head="fresh")
    assert np.array_equal(before, model.get_layer("predictions").kernel)
    assert float(model.get_layer("stage1_block1").depthwise_act.alpha[0, 0, 0]) == state["blocks.0.0.bn1.act.weight"]


def test_a_classifier_of_another_size_is_refused_or_left_fresh(loaded):
    _, state = loaded
    model = nano(classes=3)
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
    backbone = {name: value for name, value in loaded[1].items() if not name.startswith("classifier")}
    with pytest.raises(WeightsError, match=r"2 missing: 'classifier\.weight', 'classifier\.bias'; head='fresh'"):
        load_weights(nano(), backbone)
    load_weights(nano(), backbone, head="fresh")


def test_a_fresh_head_is_not_fresh_where_the_classifier_fits(loaded):
    model = nano()
    load_weights(model, loaded[1], head="fresh")
    assert same(model, loaded[0])
    with pytest.raises(MixNetError, match="head='new', expected 'load' or 'fresh'"):
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
    model = nano()
    load_weights(model, state, allow_nan=True)
    assert np.isnan(model.get_layer("last_conv").bn.beta).all()


def test_at_most_ten_names_and_a_count(loaded):
    state = {name: value for name, value in loaded[1].items() if not name.startswith("blocks.2.")}
    with pytest.raises(WeightsError) as caught:
        load_weights(nano(), state | {f"blocks.8.0.{i}\n{'x' * 1000}": np.zeros(1) for i in range(25)})
    missing = sum(name.startswith("blocks.2.") and "tracked" not in name for name in loaded[1])
    message = str(caught.value)
    assert f"{missing} missing: " in message and f" and {missing - 10} more; 25 unexpected: " in message
    assert message.endswith(" and 15 more") and message.count("blocks.2.") == message.count("blocks.8.") == 10
    assert "\n" not in message and len(message) < 3000


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions_load(loaded, dtype):
    state = {name: value.astype(dtype) for name, value in loaded[1].items() if value.dtype == np.float32}
    model = nano()
    load_weights(model, state)
    found, expected = outputs(model)[0], outputs(loaded[0])[0]
    np.testing.assert_allclose(found, expected, atol=1e-2 if dtype == "float16" else 1e-7)


STEM_BIAS = {"timm": "bn1.bias", "netspresso": "backbone.mod1.block.norm.bias"}


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("names", ["timm", "netspresso"])
def test_export_and_import_are_the_identity(names, padding, tmp_path):
    first, second = nano(padding=padding), nano(padding=padding)
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
    with pytest.raises(MixNetError, match=r"expected a name ending in \.safetensors"):
        export_state_dict(loaded[0], "timm", tmp_path / "weights.bin")
    with pytest.raises(MixNetError, match="names='torchvision', expected 'timm' or 'netspresso'"):
        export_state_dict(loaded[0], "torchvision")


@pytest.fixture(scope="module")
def with_dropout(loaded) -> keras.Model:
    """With an optimizer, a frozen layer and dropout: no other variable may disturb, nor another order."""
    config = to_dict(load_config("mixnet_nano"))
    config["model"]["architecture"]["backbone"]["params"]["dropout_rate"] = 0.2
    source = create_model(config, **NANO)
    load_weights(source, loaded[1])
    source.compile("adam", "sparse_categorical_crossentropy")
    source.optimizer.build(source.trainable_variables)
    source.get_layer("stage2_block1").trainable = False
    return source


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_our_own_files_load_by_name(with_dropout, tmp_path, suffix):
    path = tmp_path / f"source{suffix}"
    (with_dropout.save if suffix == ".keras" else with_dropout.save_weights)(path)
    model, backbone = nano(), nano(include_top=False, pooling="avg")
    load_weights(model, path)
    load_weights(backbone, path)
    assert same(model, with_dropout)
    assert same(backbone, keras.Model(with_dropout.input, with_dropout.get_layer("avg_pool").output))
    with pytest.raises(WeightsError, match=r"\(a Keras file\): 2 of another shape: 'predictions/0 \(1536, 10\)"):
        load_weights(nano(classes=3), path)


def test_our_own_names_load_from_any_container(with_dropout, tmp_path):
    path = tmp_path / "ours.npz"
    np.savez(path, **{variable.path: np.asarray(variable) for variable in with_dropout.variables})
    model = nano()
    load_weights(model, path)
    assert same(model, with_dropout)


def test_constructors_load_files(tmp_path):
    path = tmp_path / "s.safetensors"
    save_file(golden_state_dict(HERE / "timm_mixnet_s.json"), path)
    model = MixNetS(weights=path, classifier_activation=None)
    expected = np.load(HERE / "timm_mixnet_s.npz")["logits_64"]
    assert np.abs(model(golden_images(2, 64), training=False) - expected).max() < TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("names", ["timm", "netspresso"])
def test_import_takes_the_number_of_classes_from_the_file(names, tmp_path):
    source = nano(classes=7)
    load_weights(source, random_state(source))
    export_state_dict(source, names, tmp_path / "seven.safetensors")
    model = import_weights(tmp_path / "seven.safetensors", "mixnet_nano", image_size=32)
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 7)
    np.testing.assert_allclose(outputs(model)[0], outputs(source)[0], rtol=1e-5)
    assert import_weights(tmp_path / "seven.safetensors", "mixnet_nano").input_shape == (None, None, None, 3)


def test_import_of_our_files_long_heads_and_tensorflow_padding(tmp_path):
    source = create_model(prelu_config(3), **NANO | {"classes": 4})
    source.save(tmp_path / "four.keras")
    assert same(import_weights(tmp_path / "four.keras", prelu_config(3)), source)
    assert import_weights(export_state_dict(source, "netspresso"), prelu_config(3)).output_shape == (None, 4)
    state = golden_state_dict(HERE / "timm_tf_mixnet_s.json")
    model = import_weights(state, "mixnet_s", padding="same")
    logits = np.load(HERE / "timm_tf_mixnet_s.npz")["logits_97"]
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model(golden_images(2, 97), training=False), expected, rtol=1e-4)


def test_import_without_a_classifier_says_so(loaded):
    backbone = {name: value for name, value in loaded[1].items() if not name.startswith("classifier")}
    with pytest.raises(WeightsError, match=r"no classifier .*number of classes is unknown"):
        import_weights(backbone, "mixnet_nano")
    with pytest.raises(WeightsError, match="missing: 'blocks"):
        import_weights(loaded[1], "mixnet_s")


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
