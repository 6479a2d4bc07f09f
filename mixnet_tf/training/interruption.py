"""What ends a run before its time, in one line that says how to go on."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from mixnet_tf.errors import MixNetError, WriteError

_CONTINUE = "mend that and continue with --resume"
_TENSORFLOW = (
    *(tf.errors.ResourceExhaustedError, tf.errors.FailedPreconditionError, tf.errors.NotFoundError),
    *(tf.errors.PermissionDeniedError, tf.errors.OutOfRangeError),
)
"""Memory that runs out, a disk that does, and a folder for TensorBoard that it cannot write."""


@contextlib.contextmanager
def how_to_go_on(output: Path) -> Iterator[None]:
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
