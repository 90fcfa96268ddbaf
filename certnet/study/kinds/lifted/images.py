"""Image sets of a study: by name, with limits on their sizes, or scikit-learn's digits where files are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from certnet.data import ImageDataset, load_images
from certnet.data.fetch import search_folders
from certnet.data.image_files import find_images
from certnet.data.image_registry import image_info
from certnet.study.spec import Part

__all__ = ["ImageSettings", "available", "drawn_images", "require", "resolved", "whole_of"]

_PARTS = {"cifar10": "cifar10_part"}
"""What stands in for a set whose files are not there, under its own name."""


def available(name: str) -> bool:
    """Are the files of this image set there?"""
    if name == "digits":
        return True
    return find_images(image_info(_base(name)), search_folders(None).values()) is not None


def require(name: str) -> None:
    """Refuse an image set whose files are not there.

    Raises
    ------
    DatasetError
    """
    if not available(name):
        load_images(_base(name))  # which says where it looked and where to get them


def resolved(names: Sequence[str], fallback: str | None) -> list[str]:
    """The names, each once: of sets that are not there the part that is, or the fallback."""
    return list(dict.fromkeys(_resolved(name, fallback) for name in names))


def whole_of(name: str) -> str:
    """The set that this one is a part of, or itself: what is published is of whole sets."""
    base = _base(name)
    whole = next((whole for whole, part in _PARTS.items() if part == base), base)
    return name.replace(base, whole)


def _resolved(name: str, fallback: str | None) -> str:
    if available(name):
        return name
    base = _base(name)
    if base in _PARTS and available(_PARTS[base]):
        return name.replace(base, _PARTS[base])
    return fallback or name


class ImageSettings(Part):
    """What a task says of its images: the set, and how many of them are drawn by the seed; None is all."""

    name: str
    max_train: int | None
    max_test: int | None
    seed: int


def drawn_images(settings: ImageSettings) -> ImageDataset:
    """The images of a task, float pixels in [0, 1] in rows.

    Raises
    ------
    DatasetError
        The files are not there.
    FileFormatError
        They are damaged.
    """
    data = _whole(settings.name)
    limits = (settings.max_train, settings.max_test)
    if all(limit is None for limit in limits):
        return data
    rng = np.random.default_rng(settings.seed)
    train, test = (_drawn(len(X), limit, rng) for X, limit in zip((data.X_train, data.X_test), limits))
    return replace(
        data,
        X_train=data.X_train[train],
        y_train=data.y_train[train],
        X_test=data.X_test[test],
        y_test=data.y_test[test],
    )


def _base(name: str) -> str:
    return name.removesuffix("-grey")


@lru_cache(maxsize=2)
def _whole(name: str) -> ImageDataset:
    """Kept for the tasks that follow in the same process."""
    return _digits() if name == "digits" else load_images(_base(name), grey=name.endswith("-grey"))


def _drawn(n: int, limit: int | None, rng: np.random.Generator) -> NDArray[np.intp]:
    order = rng.permutation(n)
    return np.sort(order[: n if limit is None else limit])


def _digits() -> ImageDataset:
    """scikit-learn's bundled digits; every fifth image of each class is a test image."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    rank = np.zeros(len(y), dtype=np.intp)
    for label in range(10):
        rank[y == label] = np.arange(int((y == label).sum()))
    test = rank % 5 == 4
    pixels = (X / 16.0).astype(np.float32)
    return ImageDataset(
        name="digits",
        X_train=pixels[~test],
        y_train=y[~test],
        X_test=pixels[test],
        y_test=y[test],
        height=8,
        width=8,
        channels=1,
        class_names=tuple("0123456789"),
        source="Alpaydin & Kaynak, Optical recognition of handwritten digits (UCI), as bundled with scikit-learn",
        licence="CC BY 4.0",
    )
