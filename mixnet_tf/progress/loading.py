"""TensorFlow, imported without its start-up messages."""

import contextlib
import logging
import os

from mixnet_tf.errors import missing_packages
from mixnet_tf.progress.steps import LOG, step
from mixnet_tf.quiet import quiet


@missing_packages()
def load_tensorflow() -> None:
    """Import TensorFlow and Keras without a word, but for those that the logger ``mixnet_tf`` lets through at DEBUG.

    Raises:
        PackageError: it is not installed.

    Example:
        >>> load_tensorflow()                                                                    # doctest: +SKIP
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if LOG.isEnabledFor(logging.DEBUG) else "3")
    with step("load TensorFlow"), quiet():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401

        leave_gpus()


def leave_gpus() -> None:
    """Let TensorFlow take no GPU where Keras trains with something else: it only reads images then."""
    import keras
    import tensorflow

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # it is at work already
            tensorflow.config.set_visible_devices([], "GPU")
