"""What it costs that an output fixes the scale of its channels, and what a requantization there would cost.

    python tests/bench/bench_outputs.py --model MODEL.keras --data DATA [--spread X] [--images N] [--arm ARM64] [--json]

MODEL is a MixNet with a head. Its feature extractor is exported to int8 twice: as it is, and with a depthwise 1x1
convolution of ones behind every output, into which equalization puts the scale of the stream. The SNR of every output
is that of all test images, against Keras. With --spread, the same function is written with unequal channels first:
factors exp(N(0, X)) on every channel of every stream.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
from measuring import instructions, table

from mixnet_tf import compare, export, load_data, load_model
from mixnet_tf.litert.op_table import inspect_model

sys.path.append(str(Path(__file__).resolve().parents[1]))

from rescale import rescale_streams


def features(model: keras.Model) -> keras.Model:
    """Return the outputs of the last blocks at strides 4, 8, 16 and 32."""
    blocks = [layer for layer in model.layers if "_block" in layer.name or layer.name == "last_conv"]
    *ends, _, last = {layer.name.partition("_block")[0]: layer.output for layer in blocks}.values()
    return keras.Model(model.input, [*ends, last], name="fixed")  # last_conv stands for the last stage


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
    parser.add_argument("--spread", type=float, default=0.0, help="of unequal channels (default: as trained)")
    parser.add_argument("--arm", type=Path, metavar="ARM64")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    data, model = load_data(args.data), load_model(args.model)
    fixed = features(rescale_streams(model, spread=args.spread) if args.spread else model)
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
