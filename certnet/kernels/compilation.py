"""Compilation that is kept between runs, in a folder that can be written."""

from __future__ import annotations

import functools
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core import event

__all__ = ["compile_seconds", "compiled", "kept_in"]

_log = logging.getLogger("certnet")


class _Clock(event.Listener):  # type: ignore[misc]
    """Seconds between the first taking and the last giving back of numba's lock, which compiling and loading hold."""

    def __init__(self) -> None:
        self._inside, self._since, self._sum = 0, 0.0, 0.0

    def on_start(self, event: Any) -> None:
        if self._inside == 0:
            self._since = time.perf_counter()
        self._inside += 1

    def on_end(self, event: Any) -> None:
        self._inside -= 1
        if self._inside == 0:
            self._sum += time.perf_counter() - self._since

    @property
    def seconds(self) -> float:
        return self._sum


_clock = _Clock()
event.register("numba:compiler_lock", _clock)


def compile_seconds() -> float:
    """Seconds that this process has spent so far on compiling kernels, or on loading them from where they are kept."""
    return _clock.seconds


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with its cache: in ``$NUMBA_CACHE_DIR`` if that is set, else beside the kernels, else in a folder
    of the user's (:func:`_writable`), as on read-only installations; without it, and logged, where there is none.

    The cache of a function looks at the file that defines it only: after a change to a kernel that other files' kernels
    call, remove ``kernels/__pycache__``.

    A kernel returns numbers, or one array, never a tuple with an array in it: numba runs bytecode for every array that
    it hands out, Ctrl-C is heard there, and inside of a tuple the KeyboardInterrupt becomes a SystemError.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba: no locator available for the cache
            folder = _writable()
        if folder is not None:
            with _numba_cache(folder), suppress(RuntimeError):
                return njit(cache=True, **options)(function)
        return njit(**options)(function)

    return decorate


def kept_in(kernel: Any) -> Path | None:
    """The folder that a kernel's compiled form is kept in; None where it is compiled again in every process."""
    path = kernel.stats.cache_path
    return None if path is None else Path(path)


@functools.cache
def _writable() -> Path | None:
    """``$XDG_CACHE_HOME/certnet/numba``, ``~/.cache/certnet/numba``, or a folder of this user's alone among the
    temporary ones: the first that can be written."""
    for folder in _candidates():
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # what is read from there is executed: a folder that others made or may write is not taken
            if _own(folder):
                with tempfile.TemporaryFile(dir=folder):
                    return folder
    _log.warning(
        "compiled kernels cannot be kept: every run compiles them again, for some seconds; set NUMBA_CACHE_DIR to a "
        "folder that can be written"
    )
    return None


def _candidates() -> Iterator[Path]:
    if os.path.isabs(base := os.environ.get("XDG_CACHE_HOME", "")):
        yield Path(base) / "certnet" / "numba"
    with suppress(RuntimeError):  # no home
        yield Path.home() / ".cache" / "certnet" / "numba"
    yield Path(tempfile.gettempdir()) / f"certnet-numba-{_user()}"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _own(folder: Path) -> bool:
    if not hasattr(os, "getuid"):
        return True
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


@contextmanager
def _numba_cache(folder: Path) -> Iterator[None]:
    """numba looks for its folder when a function is decorated; other packages' kernels keep theirs."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before
