"""Kernels laid on flattened images, and what pooling makes of what they see: for every format that models come in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from certnet.core.errors import UnsupportedModelError
from certnet.io.graphs import Graph, Index, windows
from certnet.io.values import Value
from certnet.networks.layers import read_only
from certnet.networks.operators import Convolution, Sparse

__all__ = ["Windows", "average_pooled", "averaged", "max_pooled"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Where a kernel is laid on an image (channels, height, width); a signal is an image of height 1."""

    image: tuple[int, int, int]
    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair = (1, 1)

    @property
    def padded(self) -> Pair:
        high, wide = (n + sum(pad) for n, pad in zip(self.image[1:], self.padding))
        return high, wide

    @property
    def out(self) -> Pair:
        """Height and width of the result."""
        high, wide = (
            (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(self.padded, self.kernel, self.stride, self.dilation)
        )
        return high, wide

    def shape(self, channels: int, dims: int) -> tuple[int, ...]:
        """Of the result, for a sample of ``dims`` dimensions behind its channels."""
        return channels, *self.out[2 - dims :]


def averaged(graph: Graph, x: Value, index: Index, *, total: bool = False) -> Value:
    """The mean, or the sum, of the entries in every row of an index, of which −1 are none.

    Raises
    ------
    UnsupportedModelError
        A row has no entry.
    """
    inside = index >= 0
    if not inside.any(axis=1).all():
        raise UnsupportedModelError("average pooling has a window without an entry of the image")
    rows, at = np.nonzero(inside)
    values = np.ones(len(rows)) if total else (1.0 / inside.sum(axis=1))[rows]
    return graph.affine([(x, Sparse(rows, index[rows, at], read_only(values), len(index), x.size))])


def average_pooled(graph: Graph, x: Value, laid: Windows, *, outside: bool, divisor: int | None = None) -> Value:
    """Means over windows; ``outside`` counts the zeros of the padding, ``divisor`` stands for the number of entries."""
    if divisor is None and not outside and any(map(any, laid.padding)):
        return averaged(graph, x, windows(laid.image, laid.kernel, laid.stride, laid.padding, laid.dilation)[0])
    c, count = laid.image[0], divisor or math.prod(laid.kernel)
    kernel = np.full((c, 1, *laid.kernel), 1.0 / count)
    return graph.affine([(x, Convolution(kernel, laid.image, laid.stride, laid.padding, laid.dilation, c))])


def max_pooled(graph: Graph, x: Value, laid: Windows) -> Value:
    """Along the rows, and of that along the columns: windows that overlap share their pairs."""
    (k, m), (down, across), (high, wide), (d, e) = laid.kernel, laid.stride, laid.padding, laid.dilation
    index, image = windows(laid.image, (1, m), (1, across), ((0, 0), wide), (1, e))
    x = graph.max_pool(x, index)
    return graph.max_pool(x, windows(image, (k, 1), (down, 1), (high, (0, 0)), (d, 1))[0])
