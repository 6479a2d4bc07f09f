"""What happens between batches and epochs of ``fit``: progress, dropout's seeds, checkpoints, a diverged run's end."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mixnet_tf.distribution.devices import on_one_device
from mixnet_tf.distribution.processes import by_first, mean_logs, processes
from mixnet_tf.errors import MixNetError
from mixnet_tf.files import whole_file
from mixnet_tf.optimizer import Averaging, averaging
from mixnet_tf.progress.steps import bar, line, step
from mixnet_tf.saving import save_model
from mixnet_tf.training.meter import Meter
from mixnet_tf.training.run_folder import best_epoch


class Progress(keras.callbacks.Callback):
    """Shows what an epoch does: its batches, its validation, its files; a line of its results stays."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.meter = meter
        self._shown = contextlib.ExitStack()
        self._epoch, self._start = "", 0.0
        self.learning_rate = 0.0
        self._bar: Any = None

    def close(self) -> None:
        """Show nothing any more."""
        self._shown.close()

    def _show(self, shown: contextlib.AbstractContextManager) -> Any:
        self.close()
        return self._shown.enter_context(shown)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count the seconds until the first batch: Keras builds its graph."""
        self._epoch, self._start = f"epoch {epoch + 1}/{self.params['epochs']}", time.monotonic()
        self._show(step(f"{self._epoch}: first batch"))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the batches."""
        if batch == 0:
            self._bar = self._show(bar(self._epoch, self.params["steps"], "batch"))
        speed = {"images/s": f"{self.meter.images_per_second:.0f}", "waiting": f"{self.meter.waited:.0%}"}
        self._bar.set_postfix(loss=f"{logs['loss']:.3f}", **speed if batch else {}, refresh=False)
        self._bar.update()

    def on_test_begin(self, logs: Any = None) -> None:
        """Count the seconds of the validation."""
        self._show(step(f"{self._epoch}: validate"))

    def on_test_end(self, logs: Any = None) -> None:
        """Count the seconds until the next epoch: the model may be saved."""
        self._show(step(f"{self._epoch}: save"))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Say how the epoch went."""
        seconds, left = round(time.monotonic() - self._start), self.params["epochs"] - epoch - 1
        results = f"loss {logs['loss']:.4f}, top-1 on val {logs['val_accuracy']:.2%}, {seconds} s"
        meter, self.learning_rate = self.meter, float(averaging(self.model.optimizer).learning_rate)
        speed = f"{meter.images_per_second:.0f} images/s, {meter.waited:.0%} of the time waiting for them"
        about = f", about {math.ceil(left * seconds / 60)} min left" if left else ""
        line(f"{self._epoch}: {results}, learning rate {self.learning_rate:.2g}, {speed}{about}")


class Board(keras.callbacks.TensorBoard):
    """TensorBoard of one process: it takes the learning rate from Progress, where all processes compute it together."""

    def __init__(self, progress: Progress, **settings: Any) -> None:
        super().__init__(**settings)
        self.progress = progress

    def _collect_learning_rate(self, logs: dict[str, Any]) -> dict[str, Any]:
        return logs | {"learning_rate": self.progress.learning_rate}


class DropoutSeeds(keras.callbacks.Callback):
    """Begins every epoch's dropout where an uninterrupted run would: a seed generator counts its calls.

    Of processes that each mask their own part of a batch, each counts on from where the one before it ends: their
    masks differ.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps
        self._before = 0  # epochs, those of the processes before this one counted
        self._states: list[Any] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the count of every seed generator to that of the steps before `epoch`."""
        rank = 0 if processes().whole else processes().rank
        self._before = epoch + (rank * self.params["epochs"] if rank else 0)
        self._states = [state for state in self.model.variables if state.path.endswith("seed_generator_state")]
        for state in self._states:
            state.assign([int(state[0]), self._before * self.steps])

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set PyTorch's one generator, from which Keras' Dropout draws there; so does what reads the batches."""
        if self._states and keras.backend.backend() == "torch":
            random = np.random.default_rng([int(self._states[0][0]), self._before * self.steps + batch])
            keras.utils.set_random_seed(int(random.integers(2**31)))


class WholeLogs(keras.callbacks.Callback):
    """Turns the loss and the metrics of this process' images into those of all. Stands before all that read them."""

    def __init__(self) -> None:
        super().__init__()
        self._validation: dict[str, float] = {}

    def on_test_end(self, logs: Any = None) -> None:
        """Average what the validation gave."""
        self._validation = _whole(self.model, logs)
        logs.update(self._validation)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Average what the training gave, in equal parts; Keras gives this process' validation once more."""
        logs.update(mean_logs(logs, 1) | {f"val_{name}": value for name, value in self._validation.items()})


def _whole(model: keras.Model, logs: Any) -> dict[str, float]:
    """Return what an evaluation gave over the images of all processes; the loss' mean has counted this one's."""
    return mean_logs(logs, int(model.metrics[0].count))


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
            with on_one_device():
                save_model(self.model, self.path)


class RawAccuracy(keras.callbacks.Callback):
    """Adds ``val_accuracy_raw`` to the logs: the top-1 without the average. Stands before those that write the logs.

    Until the optimizer begins its average, that is the top-1 which the epoch's validation gave.
    """

    def __init__(self, validation: Any):
        super().__init__()
        self.validation = validation

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validate the weights as the last step left them."""
        optimizer = averaging(self.model.optimizer)
        if isinstance(optimizer, Averaging) and not optimizer.averages:
            logs["val_accuracy_raw"] = logs["val_accuracy"]
            return
        result = self.model.evaluate(self.validation, verbose=0, return_dict=True)
        logs["val_accuracy_raw"] = _whole(self.model, result)["accuracy"]


class Patience(keras.callbacks.Callback):
    """Ends a run that gets no better. Stands after the one that writes the history, which it goes by."""

    def __init__(self, output: Path, patience: int, first: int):
        super().__init__()
        self.output, self.patience, self.first = output, patience, first

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Let this epoch be the last where no more patience is left."""
        self.model.stop_training = self.ends(epoch)

    def ends(self, epoch: int) -> bool:
        """Say whether the run ends with an epoch: of those since `first`, the last `patience` were no better."""
        return bool(self.patience) and by_first(lambda: epoch - self._best() >= self.patience)

    def _best(self) -> int:
        return max(best_epoch(self.output)[0], self.first - 1)


class LastModel(keras.callbacks.Callback):
    """Saves model and optimizer after every epoch; the optimizer's step count says which epoch it was."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, whole or not at all."""
        with whole_file(self.path) as part, on_one_device():  # Keras makes variables while it saves
            self.model.save(part)


class StopOnNaN(keras.callbacks.Callback):
    """Ends a diverged run before it can overwrite the last good checkpoint."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raise MixNetError where the loss is not finite."""
        if not math.isfinite(logs["loss"]):
            raise MixNetError(
                f"training diverged: the loss is {logs['loss']} at batch {batch}; lower the learning rate"
            )
