"""``mixnet-tf import-weights``: from weights that were made elsewhere to a .keras model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnet_tf.commands.arguments import add_image_size, add_overwrite, add_padding
from mixnet_tf.commands.output import say, show_table
from mixnet_tf.data.choices import CROP_FRACTION, IMAGE_SIZE
from mixnet_tf.progress.loading import load_tensorflow

if TYPE_CHECKING:  # --help does without them
    import keras
    import numpy as np
    from PIL import Image

HELP = "turn timm's or NetsPresso's weights into a .keras model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .safetensors, .npz, .pth, .keras or .weights.h5 file")
    parser.add_argument("--config", required=True, metavar="C", help="a shipped name or a .yaml file")
    parser.add_argument("--output", required=True, type=Path, metavar="F.keras", help="the file to write")
    add_padding(parser)
    parser.add_argument("--allow-nan", action="store_true", help="accept weights that are NaN or infinite")
    parser.add_argument("--check", metavar="IMAGE", help="print the five best classes of this image")
    add_image_size(parser, "any size")
    add_overwrite(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.config import load_config
    from mixnet_tf.data.decoding import decode
    from mixnet_tf.files import check_free, check_suffix

    check_suffix(args.output, ".keras")
    check_free(args.output, overwrite=args.overwrite)
    config, image = load_config(args.config), decode(args.check) if args.check else None
    load_tensorflow()
    from mixnet_tf.saving import import_weights, save_model

    model = import_weights(
        args.file,
        config,
        image_size=args.image_size,
        padding=args.padding,
        classifier_activation=None,
        allow_nan=args.allow_nan,
    )
    best = {} if image is None else {"best": _best_classes(_scores(model, image, args.image_size or IMAGE_SIZE))}
    save_model(model, args.output, overwrite=args.overwrite)
    return {"path": str(args.output), "classes": model.output_shape[-1]} | best


def _scores(model: "keras.Model", image: "Image.Image", size: int) -> "np.ndarray":
    import keras

    from mixnet_tf.data.pixels import evaluation_pixels

    logits = model.predict(evaluation_pixels(image, size, CROP_FRACTION)[None], verbose=0)
    return keras.activations.softmax(keras.ops.array(logits)).numpy()


def _best_classes(scores: "np.ndarray") -> list[dict[str, Any]]:
    from mixnet_tf.weights.imagenet import decode_predictions

    if scores.shape[1] == 1000:
        best = [(name, score) for _, name, score in decode_predictions(scores)[0]]
    else:
        best = [(str(i), scores[0, i]) for i in scores[0].argsort()[::-1][:5]]
    return [{"class": name, "score": float(score)} for name, score in best]


def show(result: dict[str, Any]) -> None:
    say(f"{result['path']}: {result['classes']} classes")
    if "best" in result:
        show_table(("class", "score"), [(best["class"], f"{best['score']:.4f}") for best in result["best"]])
