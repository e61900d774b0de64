"""Memory that a training step frees and the next one needs again."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST_FROM_HEAP = 32 * 2**20  # glibc takes no more
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory, for the next step to use; whether it can be set here.

    glibc gives large blocks back to the system at once, and has every page of them zeroed and mapped anew when the next
    step asks: along sequences up to a third of the time on a CPU (benchmarks/README.md). `noisylearn` the command does
    this at its start; a script of your own may. Linux with glibc only: elsewhere nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
