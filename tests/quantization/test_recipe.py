"""Recipes: the shipped ones, and what is refused."""

import dataclasses

import pytest

from mixnet_tf.errors import ConfigError
from mixnet_tf.quantization.recipe import Recipe, load_recipe
from mixnet_tf.schema import shipped_files


def test_shipped_recipes_are_those_the_readme_names():
    names = {
        "float32",
        "float16",
        "weight_int8",
        "int8",
        "int8_uint8_io",
        "int8_float_io",
        "int8_mixed",
        "int8_baseline",
        "mobile",
        "mobile_float32",
    }
    assert set(shipped_files("recipes")) == names
    assert all(load_recipe(name).name == name for name in names)


def test_int8_prepares_and_corrects():
    recipe = load_recipe("int8")
    assert recipe.quantized and recipe.input == recipe.output == "int8"
    assert recipe.equalize.streams and recipe.equalize.relu and recipe.bias_correction


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_recipe("int8").weights = "float32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activations": "dynamic"}, "dynamic-range int8 is refused"),
        ({"wieghts": "int8"}, r"wieghts: unknown key \(did you mean 'weights'"),
        ({"activations": "int8", "weights": "float16"}, "int8 activations need int8"),
        ({"input": "uint8"}, "needs activations: int8"),
        ({"output": "int8"}, "needs activations: int8"),
        ({"min_agreement": 0.99}, "needs activations: int8"),
        ({"weights": "int8", "backend": "tf.lite"}, "needs backend: litert-quantizer"),
        ({"weights": "int8", "activations": "int8", "min_agreement": 0.9, "backend": "tf.lite"}, "litert-quantizer"),
        ({"ranges": "mse"}, "ranges: any but the default needs activations: int8"),
        ({"weights": "int8", "bias_correction": False}, "bias_correction: any but the default needs activations: int8"),
        ({"equalize": {"relu": False}, "input": "int8"}, "input, equalize: any but the default needs activations"),
        ({"backend": "tf.lite"}, "backend: 'tf.lite' quantizes to int8 and needs weights: int8, found 'float32'"),
        ({"backend": "litert-quantizer", "weights": "float16"}, "needs weights: int8, found 'float16'"),
        ({"min_agreement": 1.5}, "expected a fraction"),
        ({"ranges": "folklore"}, "expected one of minmax"),
        ({"equalize": {"streams": 1}}, "equalize.streams: found 1"),
    ],
)
def test_wrong_recipes_are_refused(change, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_recipe({"name": "mine"} | change)
    assert "\n" not in str(error.value)


def test_a_missing_name_a_missing_file_and_no_mapping_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="name: missing"):
        load_recipe({})
    with pytest.raises(ConfigError, match="did you mean 'int8'"):
        load_recipe("imt8")
    with pytest.raises(ConfigError, match="dynamic-range int8 is refused"):
        load_recipe("dynamic_int8")
    path = tmp_path / "own.yaml"
    for content in ("", "- a\n", "text\n", "3\n"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"recipe \S+own\.yaml: found .*, expected a mapping with the keys name,"):
            load_recipe(path)
    path.write_text("name: own\nweights: int8\n")
    assert load_recipe(path) == Recipe(name="own", weights="int8")
