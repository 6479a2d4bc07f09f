"""How fast a run trains, and which part of the time it waits for images."""

import time
from typing import Any

import keras

from mixnet_tf.progress.steps import line

STARVED = 0.2
"""Share of the time, from which on it is worth a word that the input is what limits a run."""


class Meter(keras.callbacks.Callback):
    """Counts images and seconds of an epoch's batches but the first, in which Keras builds its graph.

    Adds them to the logs: stands behind what must be the same in every run, and before TensorBoard.

    Attributes:
        waited: share of the time in which a step waited for its batch.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size, self.waited = batch_size, 0.0
        self._asked = self._first = self._last = self._seconds_waited = 0.0
        self._batches, self._warned = 0, False

    def watched(self, batches: Any) -> Any:
        """Return a ``tf.data.Dataset`` that tells when a batch of it is there."""
        import tensorflow as tf

        def mark(*batch: Any) -> Any:
            with tf.control_dependencies([tf.numpy_function(self._arrived, [], [], stateful=True)]):
                return tuple(tf.identity(part) for part in batch)

        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False  # behind the mark, which must wait for a step to ask
        return batches.map(mark).with_options(options)

    def _arrived(self) -> None:
        self._seconds_waited += time.monotonic() - self._asked

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Begin to wait."""
        self._asked = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the batch, or begin to count after the first."""
        self._last = time.monotonic()
        if batch == 0:
            self._first, self._seconds_waited = self._last, 0.0
        self._batches = batch
        self.waited = min(1.0, self._seconds_waited / max(self._last - self._first, 1e-9))

    @property
    def images_per_second(self) -> float:
        """Return the speed of the epoch up to now; 0 until there is one."""
        return self._batches * self.batch_size / (self._last - self._first) if self._batches else 0.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log the epoch's numbers; say once that the input is too slow."""
        logs |= {"images_per_second": self.images_per_second, "data_wait": self.waited if self._batches else 0.0}
        if self._batches and self.waited > STARVED and not self._warned:
            self._warned = True
            advice = "more CPU cores, images no larger than needed, or fewer kinds of augmentation help"
            line(f"{self.waited:.0%} of the time the training waits for images: {advice}")
