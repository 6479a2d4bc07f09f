"""Exports timm mixnet_s (random weights, 224 px) as its users would: to ONNX and through litert-torch; see peers.sh."""

import sys
from pathlib import Path

import litert_torch
import numpy as np
import timm
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

SIZE, IMAGES = 224, 8


class Noise(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.images = iter([rng.standard_normal((1, 3, SIZE, SIZE), dtype=np.float32) for _ in range(IMAGES)])

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"image": image}


def random_model() -> torch.nn.Module:
    """Random statistics too: untouched ones could be folded away."""
    torch.manual_seed(0)
    model = timm.create_model("mixnet_s", pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.6, 1.4)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def to_onnx(model: torch.nn.Module, folder: Path) -> None:
    float_file, prepared = folder / "timm_mixnet_s_f.onnx", folder / "prepared.onnx"
    sample = (torch.randn(1, 3, SIZE, SIZE),)
    torch.onnx.export(model, sample, float_file, input_names=["image"], dynamo=False, opset_version=17)
    quant_pre_process(str(float_file), str(prepared))
    quantize_static(
        str(prepared),
        str(folder / "timm_mixnet_s_q.onnx"),
        Noise(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    prepared.unlink()


def to_litert(model: torch.nn.Module, folder: Path) -> None:
    from litert_quantizer import quantizer, recipe

    float_file = folder / "timm_mixnet_s_f.tflite"
    channels_last = litert_torch.to_channel_last_io(model, args=[0])
    litert_torch.convert(channels_last.eval(), (torch.randn(1, SIZE, SIZE, 3),)).export(str(float_file))
    work = quantizer.Quantizer(str(float_file))
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    rng = np.random.default_rng(0)
    images = [{"args_0": rng.standard_normal((1, SIZE, SIZE, 3), dtype=np.float32)} for _ in range(IMAGES)]
    result = work.quantize(work.calibrate({"serving_default": images}))
    result.export_model(str(folder / "timm_mixnet_s_q.tflite"), overwrite=True)


if __name__ == "__main__":
    network, output = random_model(), Path(sys.argv[1])
    to_onnx(network, output)
    to_litert(network, output)
