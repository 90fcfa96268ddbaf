"""Files that are either complete or absent: checked before the work, written beside the target, moved into place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from certnet.core.errors import InvalidInputError, OutputError

__all__ = ["check_writable", "path_of", "write_atomic"]


def path_of(path: str | os.PathLike[str]) -> Path:
    """``path`` as a :class:`~pathlib.Path`.

    Raises
    ------
    InvalidInputError
        It is neither text nor a path.
    """
    try:
        return Path(path)
    except TypeError as error:
        raise InvalidInputError(f"the name of a file or folder is needed, got {type(path).__name__}") from error


def check_writable(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Refuse a path that exists (unless ``force``) or whose folder takes no file, before any work is done.

    A temporary file is made in the folder and removed: permissions alone do not tell what root may write.

    Returns
    -------
    Path
        ``path`` as a :class:`~pathlib.Path`.

    Raises
    ------
    OutputError
        The path exists and ``force`` is false, is a folder, or its folder is missing or not writable.
    """
    target = _allowed(path, force=force)
    handle, name = _temporary(target)
    os.close(handle)
    with contextlib.suppress(OSError):
        os.unlink(name)
    return target


def _allowed(path: str | os.PathLike[str], *, force: bool) -> Path:
    """``path``, if by its name and the folder's permissions it may be written."""
    target = path_of(path)
    try:
        os.lstat(target)
        exists = True
    except (FileNotFoundError, NotADirectoryError):
        exists = False
    except (OSError, ValueError) as error:
        raise OutputError(f"{str(target)[:200]!r} is no name for a file: {error}") from error
    if target.is_dir():
        raise OutputError(f"{target} is a folder: name a file")
    if exists and not force:
        raise OutputError(f"{target} exists: name another file, or allow overwriting it (force=True, --force)")
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist: make it first, or name another path")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"the folder {target.parent} is not writable: name another path")
    return target


def _temporary(target: Path) -> tuple[int, str]:
    """A new file beside ``target``: its handle and name."""
    try:
        return tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise OutputError(f"cannot write in {target.parent}: {error.strerror}") from error


def write_atomic(path: str | os.PathLike[str], content: bytes | str, *, force: bool = False) -> Path:
    """Write ``content`` to a temporary file in the same folder, flush it, and move it to ``path``.

    Readers see the old file or the new one, never a part. Text is written as UTF-8.

    Raises
    ------
    OutputError
        See :func:`check_writable`; also when the disk is full or the write fails.
    """
    target = _allowed(path, force=force)
    data = content.encode() if isinstance(content, str) else content
    handle, name = _temporary(target)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        if force:
            os.replace(name, target)
        else:
            # a link fails where another process made the target meanwhile; a rename would overwrite it
            try:
                os.link(name, target)
            except FileExistsError as error:
                raise OutputError(f"{target} exists: name another file, or allow overwriting it") from error
            except OSError:  # a file system without hard links
                os.replace(name, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
    return target
