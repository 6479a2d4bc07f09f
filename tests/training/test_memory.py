"""What a step frees is the next one's: pages are not asked for again, and go back in the end."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from mixnet_tf.training import memory
from mixnet_tf.training.memory import kept_memory, share_memory

SCRIPT = """
import resource, sys, threading
import numpy as np
from mixnet_tf.training.memory import kept_memory, share_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(2**25, np.uint8)
        np.ones(2**27, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def in_a_thread():
    counts = []
    thread = threading.Thread(target=lambda: counts.append(faults()))
    thread.start(), thread.join()
    return counts[0]

if "share" in sys.argv:
    share_memory()
first = in_a_thread()
with kept_memory():
    in_a_thread()
    kept = in_a_thread()
print(first, kept, in_a_thread())
"""
PAGES = 10 * (2**25 + 2**27) // 4096


def page_faults(*arguments: str) -> tuple[int, ...]:
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}  # pages of 4 KiB, as TensorFlow has them
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(sys.platform != "linux" or find_spec("resource") is None, reason="glibc is Linux'")
def test_memory_is_kept_inside_of_the_block_and_no_longer():
    first, kept, after = page_faults("share")
    if first < PAGES / 2:
        pytest.skip("the system gives larger pages unasked: too few to count")
    assert kept < first / 10
    assert after > first / 2


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    share_memory()
    with kept_memory():
        pass
