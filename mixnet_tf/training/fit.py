"""The training around ``fit``: AdamW, warm-up and cosine, label smoothing, EMA, checkpoints and exact resume."""

import contextlib
import dataclasses
import functools
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf import checks
from mixnet_tf.config import LossConfig, ModelConfig, load_config, to_dict
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.batches import evaluation_dataset, fingerprint, lost_images, steps_per_epoch, training_dataset
from mixnet_tf.data.choices import IMAGE_SIZE, SPLITS
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.distribution.processes import by_first, check_equal, first_only, joined, processes, was_restarted
from mixnet_tf.errors import MixNetError, WriteError
from mixnet_tf.files import whole_file
from mixnet_tf.model import ConfigSource, create_model
from mixnet_tf.optimizer import AveragingAdamW
from mixnet_tf.progress.steps import step
from mixnet_tf.saving import load_model, save_model
from mixnet_tf.sublayers import Composite
from mixnet_tf.training.callbacks import (
    BestModel,
    DropoutSeeds,
    LastModel,
    Progress,
    RawAccuracy,
    StopOnNaN,
    WholeLogs,
)
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.freezing import unfreeze as unfreeze_from
from mixnet_tf.training.parts import check_parts
from mixnet_tf.training.phases import Phase, plan_phases
from mixnet_tf.training.range_penalty import penalize_ranges
from mixnet_tf.training.resume import restore
from mixnet_tf.training.run_folder import (
    BEST,
    HISTORY,
    LABELS,
    LAST,
    LOGS,
    MODEL,
    can_continue,
    cut_history,
    open_run,
    start_run,
)
from mixnet_tf.training.statistics import settle_statistics
from mixnet_tf.weights.loading import load_weights

if keras.backend.backend() != "tensorflow":  # which then only reads images, and must not take a GPU's memory
    with contextlib.suppress(RuntimeError):  # it is at work already
        tf.config.set_visible_devices([], "GPU")

_BATCH_NORM_MOMENTUM = 0.9
"""In place of the blocks' 0.99: after the first hundred steps, a third of their statistics would still be the initial 0
and 1, and no validation would tell anything."""

_AVERAGE_FROM = 0.75  # of the steps, as in stochastic weight averaging

_CONTINUE = "mend that and continue with --resume"
_TENSORFLOW = (
    *(tf.errors.ResourceExhaustedError, tf.errors.FailedPreconditionError, tf.errors.NotFoundError),
    *(tf.errors.PermissionDeniedError, tf.errors.OutOfRangeError),
)
"""Memory that runs out, a disk that does, and a folder for TensorBoard that it cannot write."""


def train(
    config: ConfigSource,
    data: ImageData | Source,
    output: str | Path,
    *,
    image_size: checks.ImageSize | None = None,
    training: TrainingConfig | None = None,
    augmentation: Augmentation | None = None,
    padding: str = "symmetric",
    weights: str | Path | None = None,
    freeze_backbone: bool = False,
    unfreeze: str | int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> keras.Model:
    """Train a classifier of `config` on `data` and return it (also saved as ``output/model.keras``).

    The model gives logits. It is the one with the best top-1 on the validation split, EMA weights included, and its
    batch norms have the statistics of the training images (``settle_statistics``). Killed at
    any moment, a run continues with ``resume=True`` from its last whole epoch, with the same batches, learning rates
    and augmentation that it would have seen.

    Args:
        config: the network, its head, and its loss (label smoothing, class weights): a shipped name, a YAML path, a
            mapping or a ModelConfig.
        data: see ``load_data``; all of its splits are ``checked``.
        output: the run's folder, see ``run_folder``.
        image_size: pixels: a side, or (height, width); default: the data's own, else 224.
        training: how long and how fast to train.
        augmentation: how training images vary; default: what suits the data set.
        padding: see ``create_model``.
        weights: start from these weights (``load_weights``); a classifier of another size is replaced by a fresh one.
            Default: ``checkpoint.path`` of the configuration.
        freeze_backbone: train the head only, also where the configuration says so; batch norm then stays in inference
            mode, as Keras has it. Needs weights.
        unfreeze: train from this block on, as ``unfreeze`` has it; after `freeze_epochs` of the head alone, with a
            tenth of the learning rate. Needs weights.
        resume: continue the run in `output`; arguments and images must be those of the first start.
        overwrite: start anew where `output` already holds files; those of a run are deleted.

    Returns:
        A model of images (batch, height, width, 3), pixels from 0 to 255.

    Raises:
        MixNetError: arguments or data that cannot work, or a folder that holds files already.

    Example:
        >>> training = TrainingConfig(epochs=1)
        >>> model = train("mixnet_nano", "digits", "/tmp/run", training=training, overwrite=True)
        >>> model.output_shape
        (None, 10)
    """
    output, training = Path(output), training or TrainingConfig()
    config = load_config(config)
    phases = plan_phases(config, training, weights=weights, freeze_backbone=freeze_backbone, unfreeze=unfreeze)
    data = as_data(data)
    size = checks.image_size((data.image_size or IMAGE_SIZE) if image_size is None else image_size)
    augmentation = augmentation or data.augmentation
    weights = weights or config.checkpoint.path
    check_class_weights(config, data)
    with joined(), open_run(output, resume=resume or was_restarted(), overwrite=overwrite):
        check_parts(training, data)
        data = data.checked(*SPLITS)
        request = {
            "config": to_dict(config),
            "data": data.name,
            "class_names": list(data.class_names),
            "images": fingerprint(data),
            "crop_fraction": data.crop_fraction,
            "image_size": size,
            "padding": padding,
            "training": dataclasses.asdict(training),
            "augmentation": dataclasses.asdict(augmentation),
            "weights": None if weights is None else str(weights),
            "freeze_backbone": freeze_backbone or config.freeze_backbone,
            "unfreeze": phases[-1].unfreeze,
        }
        resume = _resumes(output, request, resume, overwrite)
        check_parts(training, data)  # again: bad images may have been left out
        steps = steps_per_epoch(data, batch_size=training.batch_size)
        keras.utils.set_random_seed(training.seed)
        classes, loss = len(data.class_names), config.losses[0]
        datasets = functools.partial(_datasets, data, size, training, augmentation)
        with _how_to_go_on(output):
            model = _fresh_model(config, classes, size, padding, None if resume else weights)
            prepare = functools.partial(_prepare, model, loss, training, steps)
            reached = restore(model, output, phases, steps, prepare) if resume else 0
            if not resume:
                by_first(lambda: start_run(output, request))
            best = by_first(lambda: cut_history(output, reached))
            check_equal("the weights", _checksum(model))
            for phase in phases:
                if epochs := phase.epochs[max(0, reached - phase.epochs.start) :]:
                    if epochs == phase.epochs:
                        prepare(phase)
                    best = _fit(model, loss, datasets(epochs.start), output, epochs, steps, best)
            return _finish(output, data, size, training.batch_size)


def _resumes(output: Path, request: Mapping[str, Any], resume: bool, overwrite: bool) -> bool:
    """Say whether a run goes on: one that was asked to, or that ``torchrun`` has restarted; all see the same images."""
    check_equal("images", request["images"])
    restarted = was_restarted()
    continues = functools.partial(can_continue, output, request, or_anew=restarted and overwrite)
    return (resume or restarted) and by_first(continues)


def _checksum(model: keras.Model) -> int:
    return functools.reduce(lambda crc, weight: zlib.crc32(np.asarray(weight).tobytes(), crc), model.get_weights(), 0)


def check_class_weights(config: ModelConfig, data: ImageData) -> None:
    """Raise MixNetError where the loss has weights, and not one for each class of the data."""
    weights, classes = config.losses[0].weight, len(data.class_names)
    if weights is not None and len(weights) != classes:
        raise MixNetError(f"losses[0].weight: found {len(weights)} numbers, expected one for each of {classes} classes")


@contextlib.contextmanager
def _how_to_go_on(output: Path) -> Iterator[None]:
    """Turn a full disk, or memory that runs out, into one line that says how to continue."""
    try:
        yield
    except WriteError as error:
        raise WriteError(f"{error}; {_CONTINUE}") from error
    except MemoryError as error:
        raise MixNetError(f"{output}: the run stopped: memory ran out; {_CONTINUE}") from error
    except OSError as error:
        reason = f"{error.filename or output}: {error.strerror or error}"
        raise MixNetError(f"{output}: the run stopped: {reason}; {_CONTINUE}") from error
    except _TENSORFLOW as error:
        reason = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message.split("\n")[0])  # without TensorFlow's names of ops
        raise MixNetError(f"{output}: the run stopped: {reason}; {_CONTINUE}") from error


@step("build the network")
def _fresh_model(
    config: ModelConfig, classes: int, size: tuple[int, int], padding: str, weights: str | Path | None
) -> keras.Model:
    model = create_model(config, classes=classes, input_shape=(*size, 3), classifier_activation=None, padding=padding)
    if weights is not None:
        load_weights(model, weights, head="fresh")
    return model


def _prepare(model: keras.Model, loss: LossConfig, training: TrainingConfig, steps: int, phase: Phase) -> None:
    """Freeze and compile the model as the phase has it; its optimizer knows nothing yet."""
    if phase.unfreeze is not None:
        unfreeze_from(model, phase.unfreeze)
    for layer in model.layers:
        for norm in layer.batch_norms if isinstance(layer, Composite) else ():
            norm.momentum = _BATCH_NORM_MOMENTUM
    if training.range_penalty:
        penalize_ranges(model, training.range_penalty)
    count = len(phase.epochs) * steps
    warmup = round(min(training.warmup_epochs, len(phase.epochs) / 2) * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else phase.learning_rate,
        decay_steps=max(1, count - warmup),
        warmup_target=phase.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = AveragingAdamW(
        schedule,
        average_from=int(_AVERAGE_FROM * count),
        weight_decay=training.weight_decay,
        use_ema=True,
        ema_momentum=max(0.0, 1 - 1 / max(1.0, training.ema_epochs * steps)),
        name=phase.name,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "alpha"])
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=loss.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # XLA's depthwise gradients are ten times slower on a CPU
    )


def _datasets(
    data: ImageData, size: tuple[int, int], training: TrainingConfig, augmentation: Augmentation, first_epoch: int
) -> tuple[Any, Any]:
    """Return the batches to train on, of all epochs from the first, and those to validate with; labels one-hot."""
    batches = training_dataset(
        data,
        image_size=size,
        batch_size=training.batch_size,
        seed=training.seed,
        first_epoch=first_epoch,
        epochs=training.epochs,
        augmentation=augmentation,
    )
    validation = evaluation_dataset(data.own_part("val"), "val", image_size=size, batch_size=training.batch_size)
    classes = len(data.class_names)
    batches, validation = (dataset.map(lambda x, y: (x, tf.one_hot(y, classes))) for dataset in (batches, validation))
    return batches, validation


@lost_images("; put it back, and continue with --resume")
def _fit(
    model: keras.Model,
    loss: LossConfig,
    datasets: tuple[Any, Any],
    output: Path,
    epochs: range,
    steps: int,
    best: float,
) -> float:
    """Train for `epochs` of `steps` batches each; `best` is the top-1 that a validation must reach to be saved.

    Returns:
        The top-1 that is the best now.
    """
    batches, validation = datasets
    best_model = BestModel(output / BEST, best)
    logs = first_only(
        keras.callbacks.CSVLogger(str(output / HISTORY), append=True),
        keras.callbacks.TensorBoard(str(output / LOGS)),
    )
    progress = Progress()
    try:
        model.fit(
            batches,
            validation_data=validation,
            steps_per_epoch=steps,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            class_weight=dict(enumerate(loss.weight)) if loss.weight else None,
            shuffle=False,
            verbose=0,
            callbacks=[
                WholeLogs(),
                progress,  # early, so that it shows what the others do
                DropoutSeeds(steps),
                *first_only(best_model),
                keras.callbacks.SwapEMAWeights(),
                RawAccuracy(validation),
                *logs,
                StopOnNaN(),
                *first_only(LastModel(output / LAST)),
            ],
        )
    except BaseException:  # Ctrl-C included: Keras does not tell the callbacks, whose files would stay open
        for callback in logs:
            with contextlib.suppress(Exception):  # the first error is the one to report
                callback.on_train_end()
        raise
    finally:
        progress.close()
    return best_model.best


def _finish(output: Path, data: ImageData, size: tuple[int, int], batch_size: int) -> keras.Model:
    processes().gather(None)  # the first may still write
    model = load_model(output / BEST)
    settle_statistics(model, data, image_size=size, batch_size=batch_size)
    by_first(lambda: _write(model, data, output))
    return model


def _write(model: keras.Model, data: ImageData, output: Path) -> None:
    save_model(model, output / MODEL)
    with whole_file(output / LABELS) as part:
        part.write_text("\n".join(data.class_names) + "\n", encoding="utf-8")
