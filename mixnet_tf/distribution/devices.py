"""The devices that share every batch: on JAX, Keras cuts it into equal parts, as many as there are devices."""

import contextlib
from collections.abc import Iterator

import keras

from mixnet_tf.distribution.processes import processes
from mixnet_tf.errors import MixNetError


@contextlib.contextmanager
def on_all_devices() -> Iterator[None]:
    """Let Keras on JAX train on all devices of all processes; with one device, and elsewhere, nothing changes.

    Variables that are made inside of it lie on every device.

    Raises:
        MixNetError: JAX knows of processes that the environment does not tell of, or the other way round.

    Example:
        >>> with on_all_devices():
        ...     parts_of_a_batch()
        1
    """
    if keras.backend.backend() != "jax" or keras.distribution.get_device_count() == 1:
        yield
        return
    if (count := _jax_processes()) != processes().count:
        expected = f"{count} in KERAS_DISTRIBUTION_NUM_PROCESSES, as JAX itself counts"
        raise MixNetError(f"processes: found {processes().count}, expected {expected}")
    with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
        yield


def _jax_processes() -> int:
    import jax

    return jax.process_count()


@contextlib.contextmanager
def on_one_device() -> Iterator[None]:
    """Let this process compute for itself, inside of `on_all_devices`, too: with variables that are made in here.

    Example:
        >>> with on_all_devices(), on_one_device():
        ...     pass
    """
    shared = keras.distribution.distribution()
    if shared is None:
        yield
        return
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def cuts_batches() -> bool:
    """Say whether Keras itself cuts what it computes into a part for each device, and needs equal ones.

    >>> cuts_batches()
    False
    """
    return keras.distribution.distribution() is not None


def parts_of_a_batch() -> int:
    """Return the number of equal parts that every batch is cut into.

    >>> parts_of_a_batch()
    1
    """
    shared = keras.distribution.distribution()
    return processes().count if shared is None else shared.num_model_replicas
