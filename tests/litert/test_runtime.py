"""LiteRT's interpreter: which files are taken, and what comes out."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.packing import pack
from mixnet_tf.litert.runtime import LiteModel, quantized


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dynamic_size", r"its input has shape \[1, -1, -1, 3\], expected an image: \(1, height, width,"),
        ("batch_of_two", r"its input has shape \[2, .*\], expected an image"),
        ("uint8_without_scale", "its input is uint8 without a scale, expected float32 or quantized images"),
        ("two_inputs", "has 2 inputs and 1 outputs, expected one of each"),
    ],
)
def test_inputs_that_are_no_image_are_refused(name, message, fixtures):
    model = LiteModel(fixtures / "odd" / f"{name}.tflite")
    for use in (lambda: model.image_size, model.fill_input, lambda: model.run(np.zeros((1, 8, 8, 3), np.float32))):
        with pytest.raises(DeployError, match=rf"{name}\.tflite: {message}"):
            use()


def test_a_batch_of_any_size_is_one_image(fixtures):
    """As of every file that TensorFlow's converter makes of a usual Keras model."""
    model, image = LiteModel(fixtures / "odd" / "dynamic_batch.tflite"), np.ones((1, 8, 8, 8), np.float32)
    assert model.image_size == (8, 8)
    interpreter = Interpreter(str(fixtures / "odd" / "dynamic_batch.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(model(image), expected)


def test_several_outputs_are_run_but_no_classifier(fixtures):
    model = LiteModel(fixtures / "odd" / "two_outputs.tflite")
    image = np.ones((1, *model.image_size, 3), np.float32)
    assert len(model.run(image)) == 2
    with pytest.raises(DeployError, match="has 1 inputs and 2 outputs, expected one of each"):
        model(image)


def test_what_cannot_be_opened_is_one_line(tmp_path, nano_float32):
    with pytest.raises(DeployError, match=r"none\.tflite: no such file; expected a \.tflite"):
        LiteModel(tmp_path / "none.tflite")
    half = nano_float32.read_bytes()[:5000]
    (tmp_path / "half.tflite").write_bytes(half)
    messages = {tmp_path / "half.tflite": r"half\.tflite: truncated or", half: "the model: LiteRT cannot load it: "}
    for source, message in messages.items():
        with pytest.raises(DeployError, match=message) as caught:
            LiteModel(source)
        assert "\n" not in str(caught.value)


def test_path_and_content_are_the_same_model(nano_int8):
    image = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    outputs = [LiteModel(source)(image) for source in (nano_int8, str(nano_int8), nano_int8.read_bytes())]
    assert outputs[0].shape == (1, 10)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize("kernels", ["delegate", "builtin", "reference"])
def test_all_kernels_compute_the_convolution(fixtures, kernels):
    path = fixtures / "tiny" / "conv_relu_conv.tflite"
    graph, patch = FlatGraph(path.read_bytes()), np.random.default_rng(1).normal(size=(1, 4, 4, 3)).astype(np.float32)
    x = patch
    for op in graph.ops:
        kernel, bias = (graph.constant(i) for i in op.inputs[1:])
        x = x @ kernel[:, 0, 0].T + bias
        x = np.maximum(x, 0) if op is graph.ops[0] else x
    (output,) = LiteModel(path, kernels=kernels).run(patch)
    np.testing.assert_allclose(output, x, rtol=1e-5, atol=1e-5)


def test_every_tensor_of_a_run_can_be_kept(fixtures):
    path = fixtures / "tiny" / "conv_relu_conv.tflite"
    graph, patch = FlatGraph(path.read_bytes()), np.random.default_rng(1).normal(size=(1, 4, 4, 3)).astype(np.float32)
    model = LiteModel(path, kernels="builtin", keep_tensors=True)
    model.run(patch)
    kernel, bias = (graph.constant(i) for i in graph.ops[0].inputs[1:])
    wanted = np.maximum(patch @ kernel[:, 0, 0].T + bias, 0)
    np.testing.assert_allclose(model.value(graph.ops[0].outputs[0]), wanted, rtol=1e-5, atol=1e-5)


def test_integer_outputs_become_what_their_scale_says(nano_int8):
    model = LiteModel(nano_int8)
    image = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    raw = model.run_raw(quantized(image, model.input))
    scale, zero_point = model.output["quantization"]
    np.testing.assert_allclose(model(image)[0], (raw.astype(np.float64) - zero_point) * scale, rtol=1e-6)


def test_images_are_rounded_and_cut_to_the_type_of_the_input():
    details = {"dtype": np.int8, "quantization": (0.5, -3)}
    values = np.array([0.0, 0.26, -0.26, 1000, -1000], np.float32)
    assert quantized(values, details).tolist() == [-3, -2, -4, 127, -128]
    assert quantized(values, {"dtype": np.float32, "quantization": (0.0, 0)}).tolist() == values.tolist()


def test_bytes_are_pixels_and_floats_are_what_the_file_takes(nano_float32, digits):
    """(x / 255 - mean) / std, for a file that says that it takes normalized images."""
    pixels = np.asarray(digits.splits["test"].images[:3])
    model = LiteModel(nano_float32)
    assert model.input_format == "pixels"
    np.testing.assert_array_equal(model(pixels), model(pixels.astype(np.float32)))
    model.input_format = "normalized"
    floats = (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(model(pixels), model(floats.astype(np.float32)), atol=1e-4)
    assert np.abs(model(pixels) - model(pixels.astype(np.float32))).max() > 0.1


def test_pixels_for_a_file_that_does_not_say_what_it_takes(fixtures):
    model = LiteModel(fixtures / "tiny" / "classifier.tflite")
    with pytest.raises(MixNetError, match=r"classifier\.tflite: does not say what it takes for an image; give --input"):
        model(np.zeros((1, 4, 4, 3), np.uint8))


def test_random_input_is_seeded_and_of_the_inputs_type(nano_int8):
    model = LiteModel(nano_int8)
    inputs = []
    for seed in (0, 0, 1):
        model.fill_input(seed)
        inputs.append(model.value(model.input["index"]).copy())
    assert inputs[0].dtype == np.int8 and (inputs[0] == inputs[1]).all() and (inputs[0] != inputs[2]).any()


def test_what_litert_says_of_a_run_is_one_line_with_the_name(fixtures, tmp_path):
    model = schema.ModelT.InitFromPackedBuf((fixtures / "tiny" / "residual.tflite").read_bytes(), 0)
    model.subgraphs[0].operators.pop(1)  # what it wrote is read later
    with pytest.raises(DeployError, match=r"^the model: LiteRT cannot run it: Input tensor \d+ lacks data$"):
        LiteModel(pack(model)).invoke()


def test_input_of_another_shape_is_one_line(nano_int8):
    with pytest.raises(DeployError, match=r"nano_int8\.tflite: LiteRT cannot run it: Cannot set tensor: Dimension"):
        LiteModel(nano_int8).run_raw(np.zeros((1, 8, 8, 3), np.int8))
