"""Where the files of an image set lie, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from certnet.data.cifar import has_batches, read_cifar10
from certnet.data.idx import read_idx_pair
from certnet.data.image_arrays import LabelledImages
from certnet.data.image_registry import ImageInfo
from certnet.data.npz import read_npz_part

__all__ = ["ImageSource", "expected_files", "find_images"]

_IDX: Final = {"train": "train", "test": "t10k"}
_CIFAR: Final = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")


@dataclass(frozen=True)
class ImageSource:
    """A file or folder that holds an image set, and a reader for each part in it ("train", "test", or "all")."""

    path: Path
    readers: Mapping[str, Callable[[], LabelledImages]]


def find_images(info: ImageInfo, folders: Iterable[Path]) -> ImageSource | None:
    """The first place that holds the set: each folder in turn, in it the order of :func:`expected_files`.

    ``<name>_test.npz``, a test part alone, is taken only where no folder holds more; its reader is called "all".
    """
    bases = [folder / "images" for folder in folders]
    for base in bases:
        for look in (_npz, _cifar if info.name == "cifar10" else _idx):
            if (source := look(info, base)) is not None:
                return source
    for base in bases:
        if (path := base / f"{info.name}_test.npz").is_file():
            return ImageSource(path, {"all": partial(read_npz_part, path, "all", len(info.class_names))})
    return None


def expected_files(info: ImageInfo) -> str:
    """What :func:`find_images` looks for below a data folder, as a line of text."""
    if info.name == "cifar10":
        return f"images/cifar10.npz, images/cifar10/ or images/ with {', '.join(_CIFAR)}"
    if info.stem:
        return f"images/{info.file}"
    return (
        f"images/{info.file}, images/{info.name}/ with train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz (or unpacked)"
    )


def _npz(info: ImageInfo, base: Path) -> ImageSource | None:
    path = base / info.file
    if not path.is_file():
        return None
    n_classes = len(info.class_names)
    return ImageSource(path, {part: partial(read_npz_part, path, part, n_classes) for part in _IDX})


def _idx(info: ImageInfo, base: Path) -> ImageSource | None:
    folder = base / info.name
    readers = {}
    for part, prefix in _IDX.items():
        images, labels = _idx_file(folder, f"{prefix}-images", 3), _idx_file(folder, f"{prefix}-labels", 1)
        if images is not None and labels is not None:
            readers[part] = partial(read_idx_pair, images, labels, len(info.class_names))
    return ImageSource(folder, readers) if readers else None


def _idx_file(folder: Path, stem: str, ndim: int) -> Path | None:
    """Some archives were packed with a dot in place of the second hyphen."""
    names = (f"{stem}{sign}idx{ndim}-ubyte{packed}" for sign in "-." for packed in ("", ".gz"))
    return next((path for name in names if (path := folder / name).is_file()), None)


def _cifar(info: ImageInfo, base: Path) -> ImageSource | None:
    places = (base / info.name, *(folder / name for folder in (base / info.name, base) for name in _CIFAR))
    for path in places:
        if path.is_file() or has_batches(path):
            return ImageSource(path, {part: partial(read_cifar10, path, part) for part in _IDX})
    return None
