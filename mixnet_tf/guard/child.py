"""The process that tries files: a line of JSON and a file's content in, a line out. ``trial`` starts it by its path.

It imports neither TensorFlow nor this package.
"""

import contextlib
import json
import os
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

_MEMORY = 8 * 2**30


def main() -> None:
    """Answer until the input ends. What native code prints goes nowhere."""
    with contextlib.suppress(ImportError, ValueError):  # another system, or a stricter limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print("ready", file=answers)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        content = sys.stdin.buffer.read(question.pop("size"))
        with contextlib.suppress(ValueError, RuntimeError, MemoryError):  # the caller will meet them, too
            run(content, **question)
        print("survived", file=answers)


def run(content: bytes, *, num_threads: int, resolver: str, keep_tensors: bool, only_load: bool) -> None:
    """Load a file, and run it once on zeros."""
    interpreter = Interpreter(
        model_content=content,
        num_threads=num_threads,
        experimental_op_resolver_type=OpResolverType[resolver],
        experimental_preserve_all_tensors=keep_tensors,
    )
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        if details["dtype"] is not np.bytes_:
            interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.get_output_details()
    if not only_load:
        interpreter.invoke()


if __name__ == "__main__":
    main()
