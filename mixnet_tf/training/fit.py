"""The training recipe around ``fit``: AdamW, warm-up and cosine, label smoothing, EMA, checkpoints and exact resume.

A run's folder holds ``training.json`` (what was asked), ``last.keras`` (model, optimizer and EMA after the last whole
epoch), ``best.keras`` (EMA weights of the best epoch on the validation split), ``history.csv``, ``logs/`` (TensorBoard)
and, at the end, ``model.keras`` and ``labels.txt``.
"""

import csv
import dataclasses
import json
import math
import shutil
from pathlib import Path

import keras
from tqdm.keras import TqdmCallback

from mixnet_tf.config import LossConfig, ModelConfig, to_dict
from mixnet_tf.data.batches import (
    Augmentation,
    ImageData,
    evaluation_dataset,
    fingerprint,
    steps_per_epoch,
    training_dataset,
)
from mixnet_tf.data.pixels import ImageSize, height_and_width
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import whole_file
from mixnet_tf.model import create_model
from mixnet_tf.saving import load_model, save_model
from mixnet_tf.training.config import TrainingRecipe
from mixnet_tf.training.range_penalty import penalize_ranges

LAST, BEST, MODEL = "last.keras", "best.keras", "model.keras"
HISTORY, REQUEST, LABELS, LOGS = "history.csv", "training.json", "labels.txt", "logs"
_RUN_FILES = (LAST, BEST, MODEL, HISTORY, LABELS, LOGS, "model_*.tflite", "model_*.quantization.json")
_RUN_FILES += ("report.json", "report.md", "confusion.png", "latency.png")


def train(
    config: ModelConfig,
    data: ImageData,
    output: str | Path,
    *,
    image_size: ImageSize,
    recipe: TrainingRecipe | None = None,
    augmentation: Augmentation | None = None,
    padding: str = "symmetric",
    weights: str | Path | None = None,
    freeze_backbone: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    on_bad_image: str = "error",
) -> keras.Model:
    """Train a classifier of `config` on `data` and return it (also saved as ``output/model.keras``).

    The model gives logits. It is the one with the best top-1 on the validation split, EMA weights included. Killed at
    any moment, a run continues with ``resume=True`` from its last whole epoch, with the same batches, learning rates
    and augmentation that it would have seen.

    Args:
        config: the network, its head, and its loss (label smoothing, class weights).
        data: see ``load_data``.
        output: the run's folder.
        image_size: pixels: a side, or (height, width).
        recipe: see TrainingRecipe.
        augmentation: default: what suits the data set.
        padding: see ``create_model``.
        weights: start from these weights (``load_weights``); a classifier of another size is replaced by a fresh one.
            Default: ``checkpoint.path`` of the configuration.
        freeze_backbone: train the head only, also where the configuration says so; batch norm then stays in inference
            mode, as Keras has it.
        resume: continue the run in `output`; arguments and images must be those of the first start.
        overwrite: start anew where `output` already holds files; those of a run are deleted.
        on_bad_image: ``"error"`` or ``"skip"``.

    Raises:
        MixNetError: arguments or data that cannot work, or a folder that holds files already.

    Example:
        >>> from mixnet_tf import load_config, load_data
        >>> recipe = TrainingRecipe(epochs=1)
        >>> model = train(load_config("mixnet_nano"), load_data("digits"), "/tmp/run", image_size=32, recipe=recipe,
        ...               overwrite=True)
        >>> model.output_shape
        (None, 10)
    """
    output, recipe = Path(output), recipe or TrainingRecipe()
    augmentation = augmentation or data.augmentation
    size = height_and_width(image_size)
    weights = weights or config.checkpoint.path
    freeze_backbone = freeze_backbone or config.freeze_backbone
    _check_class_weights(config.losses[0], len(data.class_names))
    check_folder(output, resume=resume, overwrite=overwrite)
    request = {
        "config": to_dict(config),
        "data": data.name,
        "class_names": list(data.class_names),
        "images": fingerprint(data, on_bad_image),
        "image_size": size,
        "padding": padding,
        "recipe": dataclasses.asdict(recipe),
        "augmentation": dataclasses.asdict(augmentation),
        "weights": None if weights is None else str(weights),
        "freeze_backbone": freeze_backbone,
    }
    resume = resume and _has_epoch(output, request)
    steps = steps_per_epoch(data, batch_size=recipe.batch_size, on_bad_image=on_bad_image)
    keras.utils.set_random_seed(recipe.seed)
    model = _fresh_model(config, len(data.class_names), size, padding, None if resume else weights, freeze_backbone)
    _compile(model, config.losses[0], recipe, steps)
    if resume:
        _restore(model, output / LAST)
    else:
        _start(output, request)
    first_epoch = int(model.optimizer.iterations) // steps
    history = _cut_history(output / HISTORY, first_epoch)
    if first_epoch < recipe.epochs:
        _fit(
            model, config.losses[0], data, output, image_size, recipe, augmentation, first_epoch, history, on_bad_image
        )
    return _finish(output, data.class_names)


def best_epoch(output: str | Path) -> tuple[int, float]:
    """Return which epoch of a run, counted from 0, gave its model, and its top-1 on the validation split."""
    with Path(output, HISTORY).open(newline="") as handle:
        found = [(int(row["epoch"]), float(row["val_accuracy"])) for row in csv.DictReader(handle)]
    return max(found, key=lambda own: (own[1], own[0]))  # of equals, the later


def _check_class_weights(loss: LossConfig, classes: int) -> None:
    if loss.weight is not None and len(loss.weight) != classes:
        raise MixNetError(
            f"losses[0].weight: found {len(loss.weight)} numbers, expected one for each of {classes} classes"
        )


def holds_run(output: Path) -> bool:
    """Say whether a folder holds a training run, whole or not."""
    return (output / REQUEST).is_file()


def check_folder(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder whose files a run could replace."""
    if output.exists() and not output.is_dir():
        raise MixNetError(f"{output}: is a file, expected a folder for the run")
    is_run = holds_run(output)
    if overwrite or (resume and is_run) or not output.is_dir() or not any(output.iterdir()):
        return
    if is_run:
        raise MixNetError(f"{output}: holds a training run; give --resume to continue it, or --overwrite to restart")
    raise MixNetError(f"{output}: holds files already; give an empty folder, or --overwrite to let a run replace them")


def _has_epoch(output: Path, request: dict) -> bool:
    """Check that the run in the folder is the one asked for; return whether it has an epoch to continue from."""
    path = output / REQUEST
    if not path.is_file():
        return False
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MixNetError(f"{path}: not valid JSON: {error}; start anew with --overwrite") from error
    if not isinstance(earlier, dict):
        raise MixNetError(f"{path}: found a {type(earlier).__name__}, expected a mapping; start anew with --overwrite")
    request = json.loads(json.dumps(request))  # tuples become lists, as in the file
    for key in request:
        if earlier.get(key) != request[key]:
            raise MixNetError(f"{path}: the run was started with {key} {_difference(earlier.get(key), request[key])}")
    return (output / LAST).is_file()


def _start(output: Path, request: dict) -> None:
    """Make the folder ready for a new run: what an earlier one left goes, and nothing else."""
    for pattern in _RUN_FILES if holds_run(output) else ():
        for path in output.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with whole_file(output / REQUEST) as part:
        part.write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")


def _difference(earlier: object, now: object) -> str:
    if isinstance(earlier, dict) and isinstance(now, dict):
        key = next(key for key in now if earlier.get(key) != now[key])
        return f"{key} {_difference(earlier.get(key), now[key])}"
    if isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        i = next(i for i in range(len(now)) if earlier[i] != now[i])
        return f"[{i}] {_difference(earlier[i], now[i])}"
    return f"{str(earlier)[:60]}, expected the same now, found {str(now)[:60]}"


def _fresh_model(
    config: ModelConfig,
    classes: int,
    size: tuple[int, int],
    padding: str,
    weights: str | Path | None,
    freeze_backbone: bool,
) -> keras.Model:
    model = create_model(config, classes=classes, input_shape=(*size, 3), classifier_activation=None, padding=padding)
    if weights is not None:
        from mixnet_tf.weights.loading import load_weights

        load_weights(model, weights, head="fresh")
    if freeze_backbone:
        for layer in model.layers:
            layer.trainable = layer.name.startswith(("head_", "predictions"))
    return model


def _compile(model: keras.Model, loss: LossConfig, recipe: TrainingRecipe, steps: int) -> None:
    warmup = round(min(recipe.warmup_epochs, recipe.epochs / 2) * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else recipe.learning_rate,
        decay_steps=max(1, recipe.epochs * steps - warmup),
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=recipe.weight_decay,
        use_ema=True,
        ema_momentum=max(0.0, 1 - 1 / max(1.0, recipe.ema_epochs * steps)),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "alpha"])
    if recipe.range_penalty:
        penalize_ranges(model, recipe.range_penalty)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=loss.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # XLA's depthwise gradients are ten times slower on a CPU
    )


def _restore(model: keras.Model, path: Path) -> None:
    """Set every weight of the model, and every variable of its optimizer, to what `path` holds.

    The compiled model of the file would not do: an optimizer forgets `exclude_from_weight_decay` when it is saved, and
    layers forget the seeds of their dropout.
    """
    saved = load_model(path)
    model.optimizer.build(model.trainable_variables)
    for own, other in ((model.weights, saved.weights), (model.optimizer.variables, saved.optimizer.variables)):
        for variable, value in zip(own, other, strict=True):
            variable.assign(value)


class _DropoutSeeds(keras.callbacks.Callback):
    """Begins every epoch's dropout where an uninterrupted run would: a seed generator counts its calls."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for variable in self.model.variables:
            if variable.path.endswith("seed_generator_state"):
                variable.assign([int(variable[0]), epoch * self.steps])


class _BestModel(keras.callbacks.Callback):
    """Saves the model after each validation that beats all before. Stands before SwapEMAWeights in the list of
    callbacks, so that the EMA weights that were validated are the ones saved.
    """

    def __init__(self, path: Path, best: float):
        super().__init__()
        self.path, self.best = path, best

    def on_test_end(self, logs: dict | None = None) -> None:
        if logs["accuracy"] >= self.best:
            self.best = logs["accuracy"]
            save_model(self.model, self.path)


class _LastModel(keras.callbacks.Callback):
    """Saves model and optimizer after every epoch; the optimizer's step count says which epoch it was."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with whole_file(self.path) as part:
            self.model.save(part)


class _StopOnNaN(keras.callbacks.Callback):
    """Ends a diverged run before it can overwrite the last good checkpoint."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise MixNetError(
                f"training diverged: the loss is {logs['loss']} at batch {batch}; lower the learning rate"
            )


def _fit(model, loss, data, output, image_size, recipe, augmentation, first_epoch, history, on_bad_image) -> None:
    for part in output.glob(".*.part.*"):  # of a run that was killed while it wrote
        part.unlink()
    classes = len(data.class_names)
    training = training_dataset(
        data,
        image_size=image_size,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_epoch=first_epoch,
        epochs=recipe.epochs,
        augmentation=augmentation,
        on_bad_image=on_bad_image,
    )
    validation = evaluation_dataset(
        data, "val", image_size=image_size, batch_size=recipe.batch_size, on_bad_image=on_bad_image
    )
    best = max((float(row["val_accuracy"]) for row in history), default=0.0)
    logs = [
        keras.callbacks.CSVLogger(str(output / HISTORY), append=True),
        keras.callbacks.TensorBoard(str(output / LOGS)),
    ]
    steps = steps_per_epoch(data, batch_size=recipe.batch_size, on_bad_image=on_bad_image)
    progress = TqdmCallback(verbose=0, desc=f"train {model.name}")
    try:
        model.fit(
            training.map(lambda x, y: (x, keras.ops.one_hot(y, classes))),
            validation_data=validation.map(lambda x, y: (x, keras.ops.one_hot(y, classes))),
            steps_per_epoch=steps,
            initial_epoch=first_epoch,
            epochs=recipe.epochs,
            class_weight=dict(enumerate(loss.weight)) if loss.weight else None,
            shuffle=False,
            verbose=0,
            callbacks=[
                _DropoutSeeds(steps),
                _BestModel(output / BEST, best),
                keras.callbacks.SwapEMAWeights(),
                *logs,
                _StopOnNaN(),
                _LastModel(output / LAST),
                progress,
            ],
        )
    except BaseException:  # Ctrl-C included: Keras does not tell the callbacks, whose files would stay open
        for callback in logs:
            callback.on_train_end()
        raise
    finally:
        progress.epoch_bar.close()


def _cut_history(path: Path, epochs: int) -> list[dict]:
    """Drop the rows of epochs that will be trained again (a kill may fall between log and checkpoint)."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if int(row["epoch"]) < epochs]
            _ = [float(row["val_accuracy"]) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise MixNetError(f"{path}: not the history of a run ({error}); start anew with --overwrite") from error
    if not rows:
        path.unlink()
        return []
    with whole_file(path) as part, part.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _finish(output: Path, class_names: tuple[str, ...]) -> keras.Model:
    model = load_model(output / BEST)
    save_model(model, output / MODEL)
    with whole_file(output / LABELS) as part:
        part.write_text("\n".join(class_names) + "\n", encoding="utf-8")
    return model
