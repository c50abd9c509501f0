"""The C library's heap during training.

A training step frees what it allocated, some gigabyte in tensors of many megabytes, and the next step asks for it again.
glibc hands such memory back to the system at once, and every page that comes anew costs a fault and 4 KiB of zeros: 87,000
faults in an eager ResNet-20 step at batch 128, none in a compiled one (benchmarks/heap.py). PyTorch caches GPU memory for the
same reason.

Where batches have many sizes, as those of texts, what is kept is cut into pieces that fit none of the next tensors, and grows from step
to step, beyond 18 GB within two epochs of SST-2 with MiniLM. There it goes back to the system every few hundred steps
(`give_back`): the pages of 2 GB are 500,000 faults, a third of a second.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Let malloc keep freed memory for the process's next allocations; says whether the C library could be told so.

    Does nothing where the C library is not glibc or the environment sets MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_MAX_. The
    process then holds on to the most memory it ever used.
    """
    if platform.libc_ver()[0] != "glibc" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_"} & set(os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) == 1 for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)))


def give_back() -> bool:
    """Return freed memory to the system, from between what is in use, too; says whether there was some. Does nothing where the C
    library is not glibc."""
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(0))
