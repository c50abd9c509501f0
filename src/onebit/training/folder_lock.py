"""One training at a time in a run folder: a lock that the system releases when the process dies, however it dies."""

import os
import socket
from pathlib import Path

from onebit.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = "running.lock"


class FolderLock:
    """The lock of a folder, held by this process from `acquire` to `release`.

    It is one of POSIX's: processes that are forked later, to decode images, do not keep it alive. Where the file system
    has no locks, as some network drives, there is none. The file says who holds it.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / NAME
        self.descriptor: int | None = None

    def acquire(self) -> None:
        """Raises UserError where another process holds the lock, OSError where the folder cannot be written."""
        while fcntl is not None and self.descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:  # the two that POSIX allows
                holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
                os.close(descriptor)
                raise UserError(
                    f"{self.folder} is in use by {holder}; wait until it ends, or name another folder with --out"
                ) from error
            except OSError:  # no locks here
                os.close(descriptor)
                self.path.unlink(missing_ok=True)
                return
            if not same_file(descriptor, self.path):  # its last holder removed it in between
                os.close(descriptor)
                continue
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            self.descriptor = descriptor

    def release(self) -> None:
        if self.descriptor is not None:
            self.path.unlink(missing_ok=True)  # while it is held, so that nobody else's is removed
            os.close(self.descriptor)
            self.descriptor = None


def same_file(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
