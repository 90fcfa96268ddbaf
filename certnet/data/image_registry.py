"""The table of image sets: sizes, classes, digests of the known content, sources, licences and where to get them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from certnet.core.errors import DatasetError

__all__ = ["IMAGE_REGISTRY", "IMAGE_SETS", "ContentDigest", "ImageInfo", "image_info"]


@dataclass(frozen=True)
class ContentDigest:
    """MD5 of the uncompressed IDX files of images and of labels.

    These are the sums published for the originals, and they can be computed from the arrays however they were packed.
    They tell one set from another and a damaged file from a good one; they are no defence against forgery.
    """

    images: str
    labels: str


@dataclass(frozen=True)
class ImageInfo:
    """What is known of an image set before it is loaded.

    Attributes
    ----------
    n_train, n_test : int
        Images of the two parts.
    channels : int
        1 (grey) or 3 (red, green, blue).
    digests : mapping from part ("train", "test") to ContentDigest
        Of the parts whose content is known.
    stem : str
        Name of its NPZ file without the ending, where that is not the name of the set.
    address : str
        Where its authors publish it.
    """

    name: str
    n_train: int
    n_test: int
    height: int
    width: int
    channels: int
    class_names: tuple[str, ...]
    source: str
    licence: str
    address: str
    notes: str = ""
    digests: Mapping[str, ContentDigest] = field(default_factory=dict)
    stem: str = ""

    @property
    def file(self) -> str:
        """Name of its NPZ file."""
        return f"{self.stem or self.name}.npz"

    def n_images(self, part: str) -> int:
        """Images of a part."""
        return self.n_train if part == "train" else self.n_test


def image_info(name: str) -> ImageInfo:
    """The entry of ``name``.

    Raises
    ------
    DatasetError
        No such image set; the message lists the names and the nearest one.
    """
    if isinstance(name, str) and name in IMAGE_REGISTRY:
        return IMAGE_REGISTRY[name]
    close = difflib.get_close_matches(str(name).strip().lower().replace("-", "_"), IMAGE_SETS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DatasetError(f"there is no image set {name!r}: the names are {', '.join(IMAGE_SETS)}.{hint}")


_ENTRIES = (
    ImageInfo(
        name="mnist",
        n_train=60000,
        n_test=10000,
        height=28,
        width=28,
        channels=1,
        class_names=tuple("0123456789"),
        source="LeCun, Cortes & Burges, The MNIST database of handwritten digits (1998)",
        licence="CC BY-SA 3.0",
        address="http://yann.lecun.com/exdb/mnist/",
        digests=MappingProxyType(
            {
                "train": ContentDigest("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
                "test": ContentDigest("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
            }
        ),
    ),
    ImageInfo(
        name="kmnist",
        n_train=60000,
        n_test=10000,
        height=28,
        width=28,
        channels=1,
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        source="Clanuwat et al., Deep learning for classical Japanese literature, arXiv 1812.01718 (Kuzushiji-MNIST, "
        "made from the Kuzushiji dataset of the National Institute of Japanese Literature)",
        licence="CC BY-SA 4.0",
        address="http://codh.rois.ac.jp/kmnist/",
        notes="the classes are hiragana, named by their readings",
        digests=MappingProxyType(
            {"test": ContentDigest("bf305b8cd328700fbc17f5acbc2856d2", "9f55f451c0988b028eccdf7d5cc265ab")}
        ),
    ),
    ImageInfo(
        name="fashion_mnist",
        n_train=60000,
        n_test=10000,
        height=28,
        width=28,
        channels=1,
        class_names=(
            *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        source="Xiao, Rasul & Vollgraf, Fashion-MNIST, arXiv 1708.07747",
        licence="MIT",
        address="https://github.com/zalandoresearch/fashion-mnist",
        digests=MappingProxyType(
            {
                "train": ContentDigest("f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9"),
                "test": ContentDigest("8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965"),
            }
        ),
    ),
    ImageInfo(
        name="cifar10",
        n_train=50000,
        n_test=10000,
        height=32,
        width=32,
        channels=3,
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        source="Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto (2009)",
        licence="none stated by its authors",
        address="https://www.cs.toronto.edu/~kriz/cifar.html",
        notes="features are ordered by row, column, channel",
    ),
)

_CIFAR = _ENTRIES[-1]
_PART = replace(
    _CIFAR,
    name="cifar10_part",
    n_train=4000,
    n_test=1000,
    source=f"the first 4000 training and 1000 test images of: {_CIFAR.source}",
    notes="a part of CIFAR-10, in its order: numbers made with it are not those of the whole set",
    # of these images, not published ones
    digests=MappingProxyType(
        {
            "train": ContentDigest("e4a98e945e369337dd5ec0ade04fd15c", "d8d92aca80e6d4f4b2daaddff74330be"),
            "test": ContentDigest("4654039f89b9dd457c8694c145e2943a", "1995706abdf9e9ed84b7f763c8b47ec2"),
        }
    ),
    stem="cifar10_first4000_test1000",
)

IMAGE_REGISTRY: Final[Mapping[str, ImageInfo]] = MappingProxyType({entry.name: entry for entry in (*_ENTRIES, _PART)})
"""Every image set by its name."""

IMAGE_SETS: Final[tuple[str, ...]] = tuple(IMAGE_REGISTRY)
"""The names that :func:`certnet.data.load_images` knows."""
