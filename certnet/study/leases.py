"""Who works on which task: files that only one process can make, so that machines may share a folder without locks.

A lease is the file ``<digest>.<generation>.json``. It is written under a name of its own and then linked to that one,
which only one process can do, so that a lease always says whose it is, wherever its process was killed. The highest
generation holds the task. A lease is stale when its process is gone: on the same machine the process is looked up,
elsewhere the file was not touched for ``patience`` seconds by the clock of the file system. It is taken over by making
the next generation, which again only one process can do. Leases are deleted by their owners, and stale ones by those of
later generations or when the task is finished, so that no live lease is removed by mistake.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, final

from certnet.core.errors import OutputError

__all__ = ["PATIENCE", "Leases", "me"]

PATIENCE: Final = 120.0
"""Seconds without a sign of life after which the lease of another machine is stale."""


@final
class Leases:
    """The leases of this process in a folder, kept alive by a thread; a context that gives back what is left.

    Parameters
    ----------
    folder : Path
        Shared by all processes.
    patience : float
        Seconds; a sign of life is given four times as often.
    """

    def __init__(self, folder: Path, *, patience: float = PATIENCE) -> None:
        self._folder, self._patience = folder, patience
        self._held: dict[str, Path] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for digest in list(self._held):
            self.release(digest)

    def take(self, digest: str) -> bool:
        """Lease a task; False where a live process holds it.

        Raises
        ------
        OutputError
            The folder cannot be written, or the disk is full.
        """
        top = self._top(digest)
        if top is not None and not self._stale(top):
            return False
        path = self._folder / f"{digest}.{0 if top is None else _generation(top) + 1}.json"
        try:
            return self._make(digest, path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def _make(self, digest: str, path: Path) -> bool:
        """Make the file of a lease with its owner in it; False where it is there already."""
        draft = self._folder / f".{path.name}-{uuid.uuid4().hex}"
        try:
            _write(draft)
            self._held[digest] = path  # noted first: an interrupt must not leave a lease that nobody gives back
            try:
                os.link(draft, path)
                return True
            except OSError as error:
                if _links(draft) == 2:
                    return True  # over a network the answer to a link that was made may be lost
                del self._held[digest]
                if isinstance(error, FileExistsError):
                    return False
        finally:
            _remove(draft)
        # no hard links here: a process that is killed between making and writing the file leaves one that names nobody
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        self._held[digest] = path
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(me()))
        except OSError:
            del self._held[digest]
            _remove(path)
            raise
        return True

    def release(self, digest: str) -> None:
        """Give a task back; its stale leases are cleared away with it."""
        path = self._held.pop(digest)
        if _owner(path) == me():  # else an interrupt came before the lease was made, and another has made it
            for number in range(_generation(path) + 1):
                _remove(self._folder / f"{digest}.{number}.json")

    def sweep(self, finished: Iterable[str]) -> None:
        """Clear away what killed processes left behind of tasks that have their rows."""
        over = set(finished)
        for path in list(self._folder.iterdir()):
            draft = path.name.startswith(".")
            if path.name.lstrip(".").split(".")[0] in over and (draft or self._stale(path)):
                _remove(path)

    def live(self) -> set[str]:
        """Digests of the tasks that live processes hold."""
        digests = {path.name.split(".")[0] for path in self._folder.glob("*.json")}
        tops = ((digest, self._top(digest)) for digest in digests)
        return {digest for digest, top in tops if top is not None and not self._stale(top)}

    def _top(self, digest: str) -> Path | None:
        return max(self._folder.glob(f"{digest}.*.json"), key=_generation, default=None)

    def _stale(self, path: Path) -> bool:
        owner = _owner(path)
        if os.name == "posix" and owner.get("machine") == me()["machine"]:
            return not _alive(owner)
        try:
            touched = path.stat().st_mtime
        except OSError:
            return False  # given back just now: whoever asks may ask again
        return self._now() - touched > self._patience

    def _now(self) -> float:
        """The file system's time: the clocks of machines that share a folder may differ."""
        probe = self._folder / f".now-{os.getpid()}-{threading.get_ident()}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            probe.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._over.wait(self._patience / 4.0):
            for path in list(self._held.values()):
                with contextlib.suppress(OSError):
                    os.utime(path)


@cache
def _machine() -> str:
    """This machine, this boot, and the process table in which our number means something (containers)."""
    parts = [socket.gethostname(), *_read("/proc/sys/kernel/random/boot_id")]
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def me() -> dict[str, Any]:
    """What a lease says of its owner."""
    return {"machine": _machine(), "pid": os.getpid(), "began": _began(os.getpid())}


def _owner(path: Path) -> dict[str, Any]:
    """What a lease says; nothing where it is gone, or names nobody, or nobody yet."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(owner: dict[str, Any]) -> bool:
    """Is the process there, and not another one that was given its number?"""
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _began(pid) == owner.get("began")


def _began(pid: int) -> str:
    """When a process began, in the system's own count; empty where it does not tell."""
    for text in _read(f"/proc/{pid}/stat"):
        fields = text.rsplit(")", 1)[-1].split()
        return "" if fields[0] == "Z" else fields[19]  # a zombie has ended
    return ""


def _write(path: Path) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(json.dumps(me()))


def _remove(path: Path) -> None:
    """Remove a file that is there and may be removed: in a shared folder others' may not, and do no harm."""
    with contextlib.suppress(OSError):
        path.unlink()


def _read(path: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield Path(path).read_text(encoding="utf-8").strip()


def _links(path: Path) -> int:
    try:
        return path.stat().st_nlink
    except OSError:
        return 0


def _generation(path: Path) -> int:
    return int(path.name.split(".")[-2])
