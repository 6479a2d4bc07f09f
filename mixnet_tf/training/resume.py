"""How a run goes on: its network, its optimizer and its phase, as the last whole epoch left them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mixnet_tf.errors import MixNetError
from mixnet_tf.saving import load_model
from mixnet_tf.training.phases import Phase
from mixnet_tf.training.run_folder import BEST, LAST


def restore(
    model: keras.Model, output: Path, phases: Sequence[Phase], steps: int, prepare: Callable[[Phase], None]
) -> int:
    """Set every weight of the model, and every variable of its optimizer, to what the run's last epoch left.

    The compiled model of the file would not do: an optimizer forgets `exclude_from_weight_decay` when it is saved, and
    layers forget the seeds of their dropout.

    Args:
        model: fresh.
        output: the run's folder.
        phases: of the run.
        steps: batches per epoch.
        prepare: freezes and compiles the model for a phase, and makes the optimizer's variables.

    Returns:
        The epoch to continue with. Where a phase begins with it, the weights are those that the one before ended with.

    Raises:
        MixNetError: a checkpoint is damaged, or not of this run.
    """
    path = output / LAST
    last = _read(path)
    phase = next((phase for phase in phases if phase.name == getattr(_optimizer(last), "name", None)), phases[0])
    prepare(phase)
    variables = [*model.weights, *model.optimizer.variables]
    values = _values(path, last, variables)
    _values(output / BEST, _read(output / BEST), model.weights)  # the run ends with it: known to be whole before
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    epochs, rest = divmod(int(model.optimizer._iterations), steps)  # batches: several may be one update
    if rest or not 0 < epochs <= len(phase.epochs):
        raise MixNetError(f"{path}: not from the end of an epoch of this run; start anew with --overwrite")
    if epochs == len(phase.epochs):
        model.optimizer.finalize_variable_values(model.trainable_variables)  # as `fit` ends
    return phase.epochs.start + epochs


def _read(path: Path) -> keras.Model:
    try:
        return load_model(path)
    except MixNetError as error:
        raise MixNetError(f"{error}; start anew with --overwrite") from error


def _optimizer(model: keras.Model) -> Any:
    return getattr(model, "optimizer", None)  # a model without training has none


def _values(path: Path, model: keras.Model, variables: Sequence[Any]) -> list[Any]:
    """Return the values of `variables` in a model that was read from a file of the run."""
    values = [*model.weights, *getattr(_optimizer(model), "variables", ())]
    if [tuple(value.shape) for value in values] != [tuple(variable.shape) for variable in variables]:
        raise MixNetError(f"{path}: not of this run's network; start anew with --overwrite")
    if not all(np.isfinite(value).all() for value in map(np.asarray, values)):
        raise MixNetError(f"{path}: holds numbers that are not finite; start anew with --overwrite")
    return values
