"""What it costs that an output fixes the scale of its channels, and what a requantization there would cost.

    python tests/bench/bench_outputs.py --model MODEL.keras --data DATA [--images N] [--arm ARM64] [--json]

MODEL is a MixNet with a head. Its feature extractor is exported to int8 twice: as it is, and with a depthwise 1x1
convolution of ones behind every output, into which equalization puts the scale of the stream. The SNR of every output
is that of all test images, against Keras.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import keras
from measuring import instructions, table

from mixnet_tf import compare, export, load_data, load_model
from mixnet_tf.litert.op_table import inspect_model

ENDS = {"stage1_block3", "stage2_block4", "stage3_block6", "last_conv"}  # of MixNet-S, M, L and XL alike


def features(model: keras.Model) -> keras.Model:
    """Return the outputs of the last blocks at strides 4, 8, 16 and 32."""
    ends = [layer.output for layer in model.layers if layer.name in ENDS]
    return keras.Model(model.input, ends, name="fixed")


def requantized(model: keras.Model) -> keras.Model:
    """Return the same with a convolution behind every output that changes nothing."""
    ones = [
        keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones", name=f"output{i}")(output)
        for i, output in enumerate(model.outputs)
    ]
    return keras.Model(model.input, ones, name="requantized")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=100, help="to calibrate with (default: %(default)s)")
    parser.add_argument("--arm", type=Path, metavar="ARM64")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    data, fixed = load_data(args.data), features(load_model(args.model))
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in (fixed, requantized(fixed)):
            path = Path(folder, f"{model.name}.tflite")
            export(model, path, recipe="int8", data=data, images=args.images)
            ratios = [output.snr_db for output in compare(model, path, data).outputs]
            counts = {"ops": len(inspect_model(path).ops), "bytes": path.stat().st_size}
            rows[model.name] = {"snr_db": ratios, **counts, "a76": instructions(args.arm, [path]).get(path)}
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    head = ["outputs", *(f"SNR of {name}" for name in fixed.output_names), "size", "ops", "A76 instructions"]
    lines = []
    for name, row in rows.items():
        ratios = (f"{ratio:.1f} dB" for ratio in row["snr_db"])
        count = f"{row['a76']:.2f} M" if row["a76"] else "–"
        lines.append([name, *ratios, f"{row['bytes'] / 1e6:.3f} MB", str(row["ops"]), count])
    print(table(head, lines))


if __name__ == "__main__":
    main()
