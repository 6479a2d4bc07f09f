"""The training around ``fit``: AdamW, warm-up and cosine, label smoothing, EMA, checkpoints and exact resume."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf import checks
from mixnet_tf.config import ModelConfig, load_config, to_dict
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.batches import evaluation_dataset, fingerprint, lost_images, steps_per_epoch, training_dataset
from mixnet_tf.data.choices import IMAGE_SIZE, SPLITS
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.making import Maker, maker
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.distribution.devices import on_all_devices, on_one_device
from mixnet_tf.distribution.processes import by_first, check_equal, first_only, joined, processes, was_restarted
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import whole_file
from mixnet_tf.model import ConfigSource, create_model
from mixnet_tf.progress.loading import leave_gpus
from mixnet_tf.progress.steps import step
from mixnet_tf.saving import load_model, save_model
from mixnet_tf.training.callbacks import (
    BestModel,
    Board,
    DropoutSeeds,
    LastModel,
    Patience,
    Progress,
    RawAccuracy,
    StopOnNaN,
    WholeLogs,
)
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.interruption import how_to_go_on
from mixnet_tf.training.memory import kept_memory, share_memory
from mixnet_tf.training.meter import Meter
from mixnet_tf.training.parts import check_parts, check_same_weights, validation_part, without_padding
from mixnet_tf.training.phases import Phase, plan_phases
from mixnet_tf.training.preparation import prepare_phase
from mixnet_tf.training.resizing import size_in_epoch
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

leave_gpus()
share_memory()


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
    profile: int = 0,
    workers: int = 0,
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
        profile: as many batches, from the second on, are profiled for TensorBoard, in ``output/logs``.
        workers: processes that read images, for machines with many cores, beside each process that trains; 0: threads
            of this one. A script that asks for some begins with ``if __name__ == "__main__":``: each imports it.

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
    output, config, training = Path(output), load_config(config), training or TrainingConfig()
    phases = plan_phases(config, training, weights=weights, freeze_backbone=freeze_backbone, unfreeze=unfreeze)
    data = as_data(data)
    size = checks.image_size((data.image_size or IMAGE_SIZE) if image_size is None else image_size)
    augmentation = augmentation or data.augmentation
    weights = weights or config.checkpoint.path
    class_weights(config, data, training)  # its errors, before any image is read
    with joined(), on_all_devices(), open_run(output, resume=resume or was_restarted(), overwrite=overwrite):
        check_parts(training, data, augmentation)
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
        check_parts(training, data, augmentation)  # again: bad images may have been left out
        steps = steps_per_epoch(data, batch_size=training.batch_size)
        keras.utils.set_random_seed(training.seed)
        weighted = class_weights(config, data, training)
        with how_to_go_on(output), kept_memory(), maker(workers, training.batch_size, size, augmentation) as make:
            datasets = functools.partial(_datasets, data, size, training, augmentation, weighted, make)
            shaping = {"classes": len(data.class_names), "padding": padding}
            model = _fresh_model(config, training, size, None if resume else weights, **shaping)
            prepare = functools.partial(prepare_phase, model, config.losses[0], training, steps)
            reached = restore(model, output, phases, steps, prepare) if resume else 0
            if not resume:
                by_first(lambda: start_run(output, request))
            best = by_first(lambda: cut_history(output, reached))
            check_same_weights(model)
            patience = Patience(output, training.patience, phases[-1].epochs.start)
            for phase, epochs in _left(phases, reached, patience):
                if epochs == phase.epochs:
                    prepare(phase)
                best = _fit(model, datasets(epochs.start), output, epochs, steps, best, patience, profile)
            return _finish(output, data, size, training.batch_size)


def _resumes(output: Path, request: Mapping[str, Any], resume: bool, overwrite: bool) -> bool:
    """Say whether a run goes on: one that was asked to, or that ``torchrun`` has restarted; all mean the same."""
    check_equal("run", request)
    restarted = was_restarted()
    continues = functools.partial(can_continue, output, request, or_anew=restarted and overwrite)
    return (resume or restarted) and by_first(continues)


def class_weights(config: ModelConfig, data: ImageData, training: TrainingConfig) -> np.ndarray | None:
    """Return the weight of each class in the loss of training; None where all are 1.

    Raises:
        MixNetError: the loss has weights, and not one for each class of the data, or the classes are balanced, too.
    """
    weights, classes = config.losses[0].weight, len(data.class_names)
    if weights is not None and training.balance:
        raise MixNetError("balance: found True with losses[0].weight in the configuration, expected one of the two")
    if weights is not None and len(weights) != classes:
        raise MixNetError(f"losses[0].weight: found {len(weights)} numbers, expected one for each of {classes} classes")
    if training.balance:
        labels = data.splits["train"].labels
        weights = tuple(len(labels) / classes / np.maximum(1, np.bincount(labels, minlength=classes)))
    return None if weights is None else np.array(weights, np.float32)


@step("build the network")
def _fresh_model(
    config: ModelConfig, training: TrainingConfig, size: tuple[int, int], weights: str | Path | None, **shaping: Any
) -> keras.Model:
    policy = keras.config.dtype_policy()
    shape = (*size, 3) if training.initial_scale == 1 else (None, None, 3)
    try:
        keras.config.set_dtype_policy(policy if training.precision == "float32" else f"mixed_{training.precision}")
        model = create_model(
            config, input_shape=shape, classifier_activation=None, drop_path=training.drop_path, **shaping
        )
    finally:
        keras.config.set_dtype_policy(policy)
    if weights is not None:
        load_weights(model, weights, head="fresh")
    return model


def _datasets(
    data: ImageData,
    size: tuple[int, int],
    training: TrainingConfig,
    augmentation: Augmentation,
    weights: np.ndarray | None,
    make: Maker | None,
    first_epoch: int,
) -> tuple[Any, Any]:
    """Return the batches to train on, of all epochs from the first, and those to validate with; labels one-hot.

    Where the classes have weights, each image to train on has that of its class, or of its classes by their shares.
    """
    growing = functools.partial(size_in_epoch, epochs=training.epochs, size=size, initial_scale=training.initial_scale)
    batches = training_dataset(
        data,
        image_size=size if training.initial_scale == 1 else growing,
        batch_size=training.batch_size,
        seed=training.seed,
        first_epoch=first_epoch,
        epochs=training.epochs,
        augmentation=augmentation,
        make=make,
    )
    validation = evaluation_dataset(validation_part(data), "val", image_size=size, batch_size=training.batch_size)
    classes = len(data.class_names)
    batches, validation = (
        dataset.map(lambda x, y: (x, y if len(y.shape) == 2 else tf.one_hot(y, classes)))  # shares where mixed
        for dataset in (batches, validation)
    )
    validation = without_padding(validation, len(data.splits["val"]))
    if weights is not None:
        batches = batches.map(lambda x, y: (x, y, tf.linalg.matvec(y, weights)))
    return batches, validation


def _left(phases: Sequence[Phase], reached: int, patience: Patience) -> Iterator[tuple[Phase, range]]:
    """Yield the phases of a run that go on after `reached` epochs, with the epochs to come; none where it is to end."""
    for phase in phases if not reached or not patience.ends(reached - 1) else ():
        if epochs := phase.epochs[max(0, reached - phase.epochs.start) :]:
            yield phase, epochs


@lost_images("; put it back, and continue with --resume")
def _fit(
    model: keras.Model,
    datasets: tuple[Any, Any],
    output: Path,
    epochs: range,
    steps: int,
    best: float,
    patience: Patience,
    profile: int = 0,
) -> float:
    """Train for `epochs` of `steps` batches each; `best` is the top-1 that a validation must reach to be saved.

    Returns:
        The top-1 that is the best now.
    """
    batches, validation = datasets
    best_model, meter = BestModel(output / BEST, best), Meter(batches.element_spec[0].shape[0])
    written = keras.callbacks.CSVLogger(str(output / HISTORY), append=True)
    profiled = (2, profile + 1) if profile else 0  # not the first batch, which builds the graph
    progress = Progress(meter)
    board = Board(progress, log_dir=str(output / LOGS), profile_batch=profiled)
    try:
        model.fit(
            meter.watched(batches),
            validation_data=validation,
            steps_per_epoch=steps,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            shuffle=False,
            verbose=0,
            callbacks=[
                WholeLogs(),
                progress,  # early, so that it shows what the others do
                DropoutSeeds(steps),
                *first_only(best_model),
                keras.callbacks.SwapEMAWeights(),
                RawAccuracy(validation),
                *first_only(written),  # the history has what a resumed run must have, too
                meter,
                *first_only(board),
                StopOnNaN(),
                *first_only(LastModel(output / LAST)),
                patience,
            ],
        )
    except BaseException:  # Ctrl-C included: Keras does not tell the callbacks, whose files would stay open
        for callback in first_only(written, board):
            with contextlib.suppress(Exception):  # the first error is the one to report
                callback.on_train_end()
        raise
    finally:
        progress.close()
    return best_model.best


@on_one_device()
def _finish(output: Path, data: ImageData, size: tuple[int, int], batch_size: int) -> keras.Model:
    processes().gather(None)  # the first may still write
    model = _final(load_model(output / BEST), size)
    settle_statistics(model, data, image_size=size, batch_size=batch_size)
    by_first(lambda: _write(model, data, output))
    return model


def _write(model: keras.Model, data: ImageData, output: Path) -> None:
    save_model(model, output / MODEL)
    with whole_file(output / LABELS) as part:
        part.write_text("\n".join(data.class_names) + "\n", encoding="utf-8")


def _final(model: keras.Model, size: tuple[int, int]) -> keras.Model:
    """Return the model for images of one size and in float32; where it trained otherwise, one of the same weights."""
    if model.input_shape[1:3] == size and all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    whole = {"dtype": "float32"}
    twin = keras.models.clone_model(
        model,
        input_tensors=keras.Input((*size, 3), name="image"),
        clone_function=lambda layer: type(layer).from_config(layer.get_config() | whole),
    )
    twin.set_weights(model.get_weights())
    return twin
