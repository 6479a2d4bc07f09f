"""What happens between batches and epochs of ``fit``: dropout's seeds, checkpoints, the end of a diverged run."""

import math
from pathlib import Path
from typing import Any

import keras

from mixnet_tf.errors import MixNetError
from mixnet_tf.files import whole_file
from mixnet_tf.saving import save_model


class DropoutSeeds(keras.callbacks.Callback):
    """Begins every epoch's dropout where an uninterrupted run would: a seed generator counts its calls."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the count of every seed generator to that of the steps before `epoch`."""
        for variable in self.model.variables:
            if variable.path.endswith("seed_generator_state"):
                variable.assign([int(variable[0]), epoch * self.steps])


class BestModel(keras.callbacks.Callback):
    """Saves the model after each validation that beats all before. Stands before SwapEMAWeights in the list of
    callbacks, so that the EMA weights that were validated are the ones saved.
    """

    def __init__(self, path: Path, best: float):
        super().__init__()
        self.path, self.best = path, best

    def on_test_end(self, logs: Any = None) -> None:
        """Save where the validation's top-1 is the best up to now, or equals it."""
        if logs["accuracy"] >= self.best:
            self.best = logs["accuracy"]
            save_model(self.model, self.path)


class RawAccuracy(keras.callbacks.Callback):
    """Adds ``val_accuracy_raw`` to the logs: the top-1 without the average. Stands before those that write the logs."""

    def __init__(self, validation: Any):
        super().__init__()
        self.validation = validation

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validate the weights as the last step left them."""
        logs["val_accuracy_raw"] = self.model.evaluate(self.validation, verbose=0, return_dict=True)["accuracy"]


class LastModel(keras.callbacks.Callback):
    """Saves model and optimizer after every epoch; the optimizer's step count says which epoch it was."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, whole or not at all."""
        with whole_file(self.path) as part:
            self.model.save(part)


class StopOnNaN(keras.callbacks.Callback):
    """Ends a diverged run before it can overwrite the last good checkpoint."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raise MixNetError where the loss is not finite."""
        if not math.isfinite(logs["loss"]):
            raise MixNetError(
                f"training diverged: the loss is {logs['loss']} at batch {batch}; lower the learning rate"
            )
