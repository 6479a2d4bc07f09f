"""TensorFlow, imported without its start-up messages."""

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
