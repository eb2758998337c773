"""The C library's heap, for processes that make many rows on a thread that is not the first."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
KEPT_BYTES = 256 << 20  # more than this at the heap's end is given back
MAPPED_BYTES = 32 << 20  # the most that glibc allows: what is larger comes from the kernel, and goes back there


def share_one_heap() -> None:
    """Let all threads allocate from the first thread's heap, and keep it; to be called before there are others.

    glibc gives each thread a heap of its own, which saves locks that Python's own lock makes needless, and is slower to
    grow: the fold took a quarter longer. And it gives large buffers back to the kernel, of which every batch needs the
    same again: up to 0.08 page faults an update, of 2.5 µs each. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
