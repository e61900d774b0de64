"""Memory that one training step frees and the next one needs again."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST_FROM_HEAP = 32 * 2**20  # glibc takes no more
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory for the next step.

    glibc returns large blocks to the system immediately, and has every page of them zeroed and mapped again when the
    next step asks for them: over sequences up to a third of the time on a CPU (benchmarks/README.md). The command
    `noisylearn` calls this when it starts; a script of your own may. It works on Linux with glibc; elsewhere nothing
    changes.

    Returns:
        Whether it worked.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
