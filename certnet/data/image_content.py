"""Whether images are those of the set that they are taken for, and parts made of a test part alone."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError
from certnet.data.image_arrays import LabelledImages
from certnet.data.image_registry import IMAGE_REGISTRY, ContentDigest, ImageInfo

__all__ = ["EVERY", "Note", "content_digest", "divided", "image_shape", "recognise"]

EVERY: Final = 5
"""Every fifth image of a class is in the test part that :func:`divided` makes."""


class Note(NamedTuple):
    """Something to mind about a data set, and whether to warn of it."""

    text: str
    warns: bool


def image_shape(info: ImageInfo) -> tuple[int, ...]:
    """(height, width) of grey images, (height, width, channels) of others."""
    return (info.height, info.width) if info.channels == 1 else (info.height, info.width, info.channels)


def content_digest(data: LabelledImages) -> ContentDigest:
    """MD5 of the IDX files, header and bytes, that would hold the images and the labels."""
    return ContentDigest(_idx_md5(data.images), _idx_md5(data.labels.astype(np.uint8)))


def _idx_md5(array: NDArray[np.uint8]) -> str:
    digest = hashlib.md5(struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape), usedforsecurity=False)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def recognise(info: ImageInfo, part: str, data: LabelledImages, path: Path) -> tuple[Note, ...]:
    """Nothing for the original content; a note where its digest is not known, a warning where the content differs.

    Raises
    ------
    FileFormatError
        Other sizes than the set has, or the content of another set.
    """
    shape = (info.n_images(part), *image_shape(info))
    if data.images.shape != shape:
        raise FileFormatError(
            f"{path}: the images of the {part} part have shape {data.images.shape}, those of {info.name} have {shape}; "
            "read a set of your own with read_npz_images or read_idx"
        )
    found = content_digest(data)
    if found == info.digests.get(part):
        return ()
    for other in IMAGE_REGISTRY.values():
        if other.name != info.name and found in other.digests.values():
            raise FileFormatError(f"{path}: the {part} part holds the images of {other.name}: it is in the wrong place")
    if part not in info.digests:
        return (Note(f"the content of the {part} part could not be checked: no digest of it is known", False),)
    text = f"{path}: the {part} part has the sizes of {info.name} but not its content (reordered or changed)"
    return (Note(text, True),)


def divided(info: ImageInfo, data: LabelledImages, path: Path) -> tuple[dict[str, LabelledImages], Note]:
    """A training and a test part made of a test part: every fifth image of each class, in file order, is for testing.

    Without chance, so that the parts are the same everywhere.
    """
    rank = np.zeros(len(data.labels), dtype=np.int64)
    for label in range(len(info.class_names)):
        members = data.labels == label
        rank[members] = np.arange(members.sum())
    is_test = rank % EVERY == EVERY - 1
    text = (
        f"only the test part of {info.name} was found ({path}): of each class every fifth image is in the test part "
        "here, the others in the training part; results are not those of the full set"
    )
    masks = {"train": ~is_test, "test": is_test}
    return {part: LabelledImages(data.images[m], data.labels[m]) for part, m in masks.items()}, Note(text, True)
