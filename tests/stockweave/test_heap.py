"""Law of the heap: what a batch gave back is there for the next."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap

import pytest

BUFFER_PAGES = (16 << 20) // 4_096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no such setting")
@pytest.mark.parametrize("shared", [True, False])
def test_a_large_buffer_on_another_thread_is_asked_of_the_kernel_once(shared: bool) -> None:
    program = textwrap.dedent(
        f"""
        import resource, threading
        from stockweave.heap import share_one_heap
        if {shared}:
            share_one_heap()
        def use():
            for _ in range(2):
                before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
                bytearray(16 << 20)
                print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > BUFFER_PAGES * 9 // 10  # some pages were there already
    assert (second < BUFFER_PAGES // 10) == shared  # without it, the test would show nothing
