"""The YAML: three layouts, every rule, every rejection."""

import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from marks import slow

from mixnet_tf.config import expand_blocks, load_config, to_dict
from mixnet_tf.errors import ConfigError
from mixnet_tf.scaling import make_divisible, scale_channels
from mixnet_tf.schema import shipped_files

STAGE = {
    "expansion_ratio": [1, 6],
    "out_channels": [16, 24],
    "num_blocks": [1, 2],
    "kernel_sizes": [[3], [3, 5]],
    "num_exp_groups": [1, 2],
    "num_poi_groups": [1, 2],
    "stride": [1, 2],
    "act_type": ["relu", "swish"],
    "se_reduction_ratio": [None, 2],
}
BACKBONE = {"name": "mixnet", "params": {"stem_channels": 16}, "stage_params": [STAGE]}


def changed(path: str, value: object) -> dict:
    """A valid whole file with one entry replaced (or deleted, for `...`)."""
    data = {"model": {"architecture": {"backbone": copy.deepcopy(BACKBONE)}}}
    target, *keys = data, *path.split(".")
    for key in keys[:-1]:
        target = target[int(key)] if isinstance(target, list) else target.setdefault(key, {})
    last = int(keys[-1]) if isinstance(target, list) else keys[-1]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return data


B, S = "model.architecture.backbone", "model.architecture.backbone.stage_params.0"
AT = "model.architecture.backbone.stage_params[0]"

BROKEN = [
    # where it is broken, with what, what the error must say
    (f"{B}.name", "mobilenet", [f"{B}.name", "'mobilenet'", "'mixnet'"]),
    (f"{B}.nam", "mixnet", [f"{B}.nam: unknown key", "did you mean 'name'"]),
    (f"{B}.params", ..., [f"{B}.params: missing"]),
    (f"{B}.params.stem_channels", ..., [f"{B}.params.stem_channels: missing"]),
    (f"{B}.params.stem_channels", "16", ["stem_channels: found '16'", "an integer"]),
    (f"{B}.params.stem_channels", True, ["stem_channels: found True"]),
    (f"{B}.params.stem_channels", 0, ["stem_channels: found 0"]),
    (f"{B}.params.stem_channels", 16.0, ["stem_channels: found 16.0"]),
    (f"{B}.params.wid_mul", 0, ["wid_mul: found 0", "above 0"]),
    (f"{B}.params.wid_mul", float("nan"), ["wid_mul: found nan"]),
    (f"{B}.params.dep_mul", "deep", ["dep_mul: found 'deep'"]),
    (f"{B}.params.dropout_rate", 1.0, ["dropout_rate: found 1.0"]),
    (f"{B}.params.width_mul", 1.0, ["width_mul: unknown key", "did you mean 'wid_mul'"]),
    (f"{B}.stage_params", [], ["stage_params: found []"]),
    (f"{B}.stage_params", {}, ["stage_params: found {}"]),
    (f"{B}.stage_params", None, ["stage_params: found None"]),
    (S, [1], [f"{AT}: found [1]", "a mapping"]),
    (f"{S}.kernel_size", [[3]], [f"{AT}.kernel_size: unknown key", "did you mean 'kernel_sizes'"]),
    (f"{S}.act_type", ..., [f"{AT}.act_type: missing"]),
    (f"{S}.kernel_sizes", [[3], 3], [f"{AT}.kernel_sizes[1]: found 3", "a list"]),
    (f"{S}.kernel_sizes", [[3], [3, 4]], [f"{AT}.kernel_sizes[1][1]: found 4", "an odd integer"]),
    (f"{S}.kernel_sizes", [[3], []], [f"{AT}.kernel_sizes[1]: found []"]),
    (f"{S}.kernel_sizes", [[3], [3, 5, 7, 9, 11]], [f"{AT}.kernel_sizes[1]", "96 hidden channels", "5 equal parts"]),
    (f"{S}.stride", [1, 3], [f"{AT}.stride[1]: found 3"]),
    (f"{S}.num_blocks", [1, 0], [f"{AT}.num_blocks[1]: found 0"]),
    (f"{S}.expansion_ratio", [1, 0], [f"{AT}.expansion_ratio[1]: found 0"]),
    (f"{S}.expansion_ratio", [1, 2.5], [f"{AT}.expansion_ratio[1]: found 2.5"]),
    (f"{S}.num_exp_groups", [1, 5], [f"{AT}.num_exp_groups[1]", "16 input channels", "5 equal parts"]),
    (f"{S}.num_poi_groups", [1, 5], [f"{AT}.num_poi_groups[1]", "96 hidden channels", "5 equal parts"]),
    (f"{S}.num_poi_groups", [1, 16], [f"{AT}.num_poi_groups[1]", "24 output channels", "16 equal parts"]),
    (f"{S}.act_type", ["relu", "swihs"], [f"{AT}.act_type[1]: found 'swihs'", "did you mean 'swish'"]),
    (f"{S}.act_type", ["relu", None], [f"{AT}.act_type[1]: found None"]),
    (f"{S}.se_reduction_ratio", [None, "2"], [f"{AT}.se_reduction_ratio[1]: found '2'"]),
    (f"{S}.se_reduction_ratio", [None, -1], [f"{AT}.se_reduction_ratio[1]: found -1"]),
    *[(f"{S}.{field}", STAGE[field][:1], [f"{AT}.{field}: found 1 entries, expected 2"]) for field in STAGE
      if field != "num_blocks"],
    (f"{S}.num_blocks", [1], [f"{AT}.", "found 2 entries, expected 1"]),
    ("model.name", "a b/c", ["model.name: found 'a b/c'"]),
    ("model.task", "segmentation", ["model.task: found 'segmentation'"]),
    ("model.architecture.neck", {"name": "fpn"}, ["model.architecture.neck"]),
    ("model.architecture.head", {"name": "mlp"}, ["model.architecture.head.name: found 'mlp'"]),
    ("model.architecture.head.params.num_layers", 2, ["head.params.intermediate_channels: null", "num_layers is 2"]),
    ("model.architecture.head.params.dropout_prob", 2, ["head.params.dropout_prob: found 2"]),
    ("model.losses", [{"criterion": "focal"}], ["model.losses[0].criterion: found 'focal'"]),
    ("model.losses", [{"label_smoothing": 1}], ["model.losses[0].label_smoothing: found 1"]),
    ("model.checkpoint", {"pth": "x"}, ["model.checkpoint.pth: unknown key", "did you mean 'path'"]),
    ("model.freeze_backbone", "yes", ["model.freeze_backbone: found 'yes'", "true or false"]),
    ("train", {}, ["train: unknown key"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "expected"), BROKEN)
def test_each_mistake_is_named(path, value, expected):
    with pytest.raises(ConfigError) as caught:
        load_config(changed(path, value))
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


HUGE = f"0x{'f' * 5000}"  # an integer with more digits than Python turns into text
# 9 ** 9 values in 500 bytes
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "top level: found None"),
        ("- 1\n- 2\n", "top level: found [1, 2]"),
        ("model: {", "not valid YAML"),
        ("model: 3\n", "model: found 3"),
        ("a: 1\na: 2\n", "line 2: the key 'a' stands twice"),
        ("model: !!python/object/apply:os.system ['true']\n", "line 1: the tag 'tag:yaml.org,2002:python/object"),
        ('a: 1\nb: !!int ""\n', "line 2: the tag 'tag:yaml.org,2002:int'; expected values without tags"),
        ("model: {x: !!bool x}\n", "the tag"),
        ("model: [!!timestamp x]\n", "the tag"),
        ("!x 1: 2\n", "the tag '!x'"),
        ("x: &x [*x]\n", "holds more than 50,000 values once its aliases are followed"),
        (BOMB, "holds more than 50,000 values once its aliases are followed"),
        ("#" + " " * 20_000_000, "larger than 200,000 bytes"),
        *slow(("x: [" + "1, " * 60_000 + "1]", "holds more than 50,000 values")),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("name: mixnet\nstage_params: []\n", "params: missing"),
        (f"model:\n  name: {HUGE}\n  architecture:\n", "line 2: a value of 5,002 characters"),
        (f"model:\n  ? {HUGE}\n  : 1\n", "line 2: a value of 5,002 characters"),
        (f"model: 1{':59' * 330}\n", "model: found 1"),
        (f"? {'9' * 900}\n: 1\nmodel:\n", "99...: unknown key"),
        ('model: {"a\\nb": 1}\n', r"model.'a\nb': unknown key"),
        (
            "backbone:\n  name: mixnet\n  params: {stem_channels: -1}\n  stage_params: []\n",
            "backbone.params.stem_channels",
        ),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_broken_files_are_named(tmp_path: Path, text, expected):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_have_no_end_are_refused_at_once():
    endless: list = []
    endless.append(endless)
    wide: list = [0]
    for _ in range(12):
        wide = [wide] * 1000
    started = time.process_time()
    for value in (endless, wide, 16**6000, {"x": wide}, "x" * 10**8):
        with pytest.raises(ConfigError, match="stem_channels: found") as caught:
            load_config(changed(f"{B}.params.stem_channels", value))
        assert len(str(caught.value)) < 250
    assert time.process_time() - started < 2


@pytest.mark.parametrize("name", ["..", ".", "-x", "_x", "", "a/b", "a b", "\u0663", "x" * 65, "x\n", "é"])
def test_a_name_that_cannot_be_part_of_a_file_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"^model\.name: found"):
        load_config(changed("model.name", name))


def test_a_network_has_at_most_a_thousand_blocks():
    data = changed(f"{S}.num_blocks", [1, 1000])
    data["model"]["architecture"]["backbone"]["stage_params"][0]["stride"] = [1, 1]
    with pytest.raises(ConfigError, match=r"stage_params\[0\]\.num_blocks\[1\]: found more than 1,000 blocks"):
        load_config(data)
    data["model"]["architecture"]["backbone"]["stage_params"][0]["num_blocks"] = [1, 999]
    assert sum(map(len, expand_blocks(load_config(data).architecture.backbone))) == 1000
    data["model"]["architecture"]["backbone"]["params"]["dep_mul"] = 1.001  # 2 + 1,000
    with pytest.raises(ConfigError, match="more than 1,000 blocks"):
        load_config(data)


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    (tmp_path / "binary.yaml").write_bytes(bytes(range(128, 256)))
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, expected in [
        ("missing.yaml", "No such file"),
        ("binary.yaml", "not valid YAML"),
        (".", "directory"),
        ("pipe.yaml", "a pipe or device, expected a file"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            load_config(tmp_path / path)
    with pytest.raises(ConfigError, match=r"no config called 'mixnet_q'.*did you mean 'mixnet_"):
        load_config("mixnet_q")


def test_the_path_fits_the_layout_of_the_file():
    backbone = changed(f"{S}.kernel_sizes", [["three"], [3]])["model"]["architecture"]["backbone"]
    layouts = {
        "model.architecture.backbone.": {"model": {"architecture": {"backbone": backbone}}},
        "backbone.": {"backbone": backbone},
        "": backbone,
    }
    for prefix, data in layouts.items():
        with pytest.raises(ConfigError) as caught:
            load_config(data)
        assert str(caught.value).startswith(f"{prefix}stage_params[0].kernel_sizes[0][0]: found 'three'")
    backbone["stage_params"][0] = STAGE | {"num_exp_groups": [1, 5]}  # found by a check across fields
    for prefix, data in layouts.items():
        with pytest.raises(ConfigError) as caught:
            load_config(data)
        assert str(caught.value).startswith(f"{prefix}stage_params[0].num_exp_groups[1]: ")


@pytest.mark.parametrize("name", shipped_files("configs"))
def test_round_trip(name, tmp_path: Path):
    config = load_config(name)
    assert load_config(to_dict(config)) == config
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    assert load_config(path) == config
    assert hash(config) == hash(load_config(name))


def test_the_three_layouts_are_the_same_network():
    whole = load_config({"model": {"architecture": {"backbone": BACKBONE}}})
    assert load_config({"backbone": BACKBONE}) == whole
    assert load_config(BACKBONE) == whole
    assert load_config({key: value for key, value in BACKBONE.items() if key != "name"}) == whole


def test_names_are_read_in_any_case():
    config = load_config(changed(f"{S}.act_type", ["ReLU", "Swish"]))
    assert config.architecture.backbone.stage_params[0].act_type == ("relu", "swish")


def test_netspresso_file_with_all_its_fields():
    data = changed("model.checkpoint", {"use_pretrained": True, "load_head": False, "path": None,
                                        "fx_model_path": None, "optimizer_path": None})  # fmt: skip
    data["model"] |= {"name": "mixnet_s", "freeze_backbone": True, "postprocessor": {"params": {"topk_max": 20}},
                      "losses": [{"criterion": "cross_entropy", "label_smoothing": 0.1, "weight": None}]}  # fmt: skip
    data["model"]["architecture"] |= {"full": None, "neck": None, "head": {"name": "fc", "params": {
        "num_layers": 1, "intermediate_channels": None, "act_type": None, "dropout_prob": 0.0}}}  # fmt: skip
    config = load_config(data)
    assert config.freeze_backbone and config.losses[0].label_smoothing == 0.1


def test_width_and_depth():
    # values of NetsPresso's make_divisible, worked out by hand from its definition
    assert [make_divisible(value) for value in (1, 11, 12, 31.2, 41.6, 51.2, 156, 260)] == [
        8,
        16,
        16,
        32,
        40,
        48,
        160,
        264,
    ]
    assert scale_channels(19, 1.0) == 19  # exactly 1.0 does not round
    config = load_config(changed(f"{B}.params", {"stem_channels": 16, "dep_mul": 1.2, "wid_mul": 1.3}))
    (blocks,) = expand_blocks(config.architecture.backbone)
    assert len(blocks) == 2 + 3  # ceil(1.2 * 1) and ceil(1.2 * 2), each entry by itself
    assert [block.stride for block in blocks] == [1, 1, 2, 1, 1]
    assert [block.out_channels for block in blocks] == [24, 24, 32, 32, 32]  # 20.8 and 31.2 to multiples of 8
    assert blocks[2].se_channels == 12  # from the block's input channels, not from the hidden ones
    assert [block.has_residual for block in blocks] == [True, True, False, True, True]


def test_se_ratio_of_at_most_one_means_none():
    config = load_config(changed(f"{S}.se_reduction_ratio", [1, 100]))
    (blocks,) = expand_blocks(config.architecture.backbone)
    assert [block.se_channels for block in blocks] == [None, 1, 1]


def test_reading_a_config_does_not_import_tensorflow():
    code = "import sys, mixnet_tf; mixnet_tf.load_config('mixnet_s'); print({'numpy', 'keras'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
