"""CIFAR-10 as its authors publish it: pickled or binary batches, in a folder or still in the archive."""

from __future__ import annotations

import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError
from certnet.core.files import path_of
from certnet.data.cifar_pickle import unpickle_batch
from certnet.data.image_arrays import LabelledImages, labelled

__all__ = ["MAX_BATCH_BYTES", "has_batches", "read_cifar10"]

MAX_BATCH_BYTES: Final = 2**26
"""64 MiB: twice a batch."""

_BATCH: Final = {
    "train": re.compile(r"data_batch_([1-5])(\.bin)?"),
    "test": re.compile(r"(test)_batch(\.bin)?"),
}
_RECORD: Final = 1 + 3 * 32 * 32


def read_cifar10(path: str | os.PathLike[str], part: str) -> LabelledImages:
    """The ``train`` or ``test`` part of CIFAR-10, shape (N, 32, 32, 3), batches in the order of their numbers.

    Parameters
    ----------
    path : path
        A folder with ``data_batch_1`` to ``data_batch_5`` and ``test_batch`` (Python version) or the same with
        ``.bin`` (binary version), or the ``.tar.gz`` of either, which is read without being extracted.
    part : {"train", "test"}

    Raises
    ------
    FileFormatError
        Missing, truncated or corrupt, a batch that is missing, too large or there twice, or a pickle that asks for
        anything else than such a batch needs (nothing of it is run).
    """
    source = path_of(path)
    batches: dict[str, LabelledImages] = {}
    for number, name, content in _contents(source, part):
        if number in batches:
            raise FileFormatError(
                f"{source} holds batch {number} twice: keep the Python or the binary version, not both"
            )
        batches[number] = _batch(content, name.endswith(".bin"), f"{source} ({name})")
    wanted = ["1", "2", "3", "4", "5"] if part == "train" else ["test"]
    if missing := [number for number in wanted if number not in batches]:
        raise FileFormatError(f"{source} lacks the batch(es) {', '.join(missing)}: get all of CIFAR-10 again")
    return LabelledImages(
        np.concatenate([batches[number].images for number in wanted]),
        np.concatenate([batches[number].labels for number in wanted]),
    )


def has_batches(folder: Path) -> bool:
    """Whether a folder holds at least one batch of either version."""
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise FileFormatError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
    return any(pattern.fullmatch(name) for name in names for pattern in _BATCH.values())


def _contents(source: Path, part: str) -> Iterator[tuple[str, str, bytes]]:
    """Number, name and content of each batch of a part, one at a time."""
    try:
        yield from _in_folder(source, part) if source.is_dir() else _in_archive(source, part)
    except FileNotFoundError as error:
        raise FileFormatError(f"{source} does not exist: check the path") from error
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise FileFormatError(f"{source} cannot be read ({error}): get the file again") from error


def _in_folder(source: Path, part: str) -> Iterator[tuple[str, str, bytes]]:
    for path in sorted(source.iterdir()):
        if (match := _BATCH[part].fullmatch(path.name)) and path.is_file():
            _check_size(path.stat().st_size, f"{source} ({path.name})")
            yield match[1], path.name, path.read_bytes()


def _in_archive(source: Path, part: str) -> Iterator[tuple[str, str, bytes]]:
    with tarfile.open(source, "r|*") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            if not (match := _BATCH[part].fullmatch(name)) or not member.isreg():
                continue
            _check_size(member.size, f"{source} ({name})")
            if (file := archive.extractfile(member)) is not None:
                yield match[1], name, file.read()


def _check_size(size: int, where: str) -> None:
    if size > MAX_BATCH_BYTES:
        raise FileFormatError(f"{where} has {size} bytes, a batch of CIFAR-10 has 31 million: it is too large")


def _batch(content: bytes, binary: bool, where: str) -> LabelledImages:
    rows, labels = _records(content, where) if binary else unpickle_batch(content, where)
    if len(rows) == 0:
        raise FileFormatError(f"{where} holds no images: get the file again")
    # the file holds colour planes, everything else here has the channels last
    return labelled(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels, where, 10)


def _records(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if len(content) % _RECORD:
        raise FileFormatError(
            f"{where} has {len(content)} bytes, no multiple of {_RECORD} (a label and 3072 pixels; truncated?): "
            "get the file again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0]
