"""The C library's heap, for processes that make many rows on a thread that is not the first."""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8  # of malloc.h


def share_one_heap() -> None:
    """Let all threads allocate from the first thread's heap; to be called before there are others.

    glibc gives each thread a heap of its own, which saves locks that Python's own lock makes needless, and is slower to
    grow and to give back: the fold took a quarter longer. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
