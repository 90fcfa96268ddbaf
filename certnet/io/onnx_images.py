"""ONNX operators on images and signals: convolutions, and pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from certnet.core.errors import FileFormatError, UnsupportedModelError
from certnet.io.graphs import MAX_WINDOW
from certnet.io.onnx_constants import Node
from certnet.io.onnx_walk import Data, Index, Reader, Walk, only
from certnet.io.pooling import Windows, average_pooled, averaged, max_pooled
from certnet.networks.operators import Convolution

__all__ = ["IMAGES"]

_POOLED: Final = 4e-5
"""Seconds that the reference evaluator takes for one window of pooling."""
_SORTED: Final = 8
"""How many values an entry of a window of max pooling counts for: pairs of them are sorted."""
_MAX_NUMBER: Final = 1 << 31

Pair = tuple[int, int]


def _windows(walk: Walk, node: Node, x: Data, kernel: Sequence[int]) -> Windows:
    """What attributes of a convolution or pooling say, counted; ``kernel`` has a size for each dimension."""
    dims = len(kernel)
    if dims not in (1, 2):
        raise UnsupportedModelError(f"{node} works in {dims} dimensions: certnet reads signals and images")
    if len(x.shape) != dims + 1:
        raise FileFormatError(f"{node} has a kernel of {dims} dimensions, for samples of shape {list(x.shape)[:8]}")
    stride, dilation = _numbers(node, "strides", dims, 1), _numbers(node, "dilations", dims, 1)
    pads = _numbers(node, "pads", 2 * dims, 0)
    if node.attributes.get("ceil_mode", 0):
        raise UnsupportedModelError(f"{node} rounds the size of its result up: export it without ceil_mode")
    if min(*kernel, *stride, *dilation) < 1 or min(pads) < 0 or max(*kernel, *stride, *dilation, *pads) > _MAX_NUMBER:
        raise UnsupportedModelError(
            f"{node} has sizes, strides, dilations or paddings that certnet does not read: the first three are 1 or "
            "more, paddings 0 or more"
        )
    ends = _padding(node, list(zip(pads[:dims], pads[dims:])), x.shape[1:], kernel, stride, dilation)
    one, none, sides = [1] * (2 - dims), [(0, 0)] * (2 - dims), [*[1] * (2 - dims), *x.shape[1:]]
    laid = Windows(
        (x.shape[0], sides[0], sides[1]),
        _pair([*one, *kernel]),
        _pair([*one, *stride]),
        (ends[0], ends[1]) if dims == 2 else (none[0], ends[0]),
        _pair([*one, *dilation]),
    )
    if min(laid.out) < 1:
        raise FileFormatError(f"{node} has a window of {list(kernel)}, larger than the image {list(x.shape)}")
    walk.room((x.shape[0], *laid.padded), node)
    return laid


def _pair(numbers: Sequence[int]) -> Pair:
    return numbers[0], numbers[1]


def _numbers(node: Node, name: str, count: int, default: int) -> list[int]:
    found = [int(n) for n in node.attributes.get(name, ()) or [default] * count]
    if len(found) != count:
        raise FileFormatError(f"{node} has {len(found)} {name}, {count} are needed")
    return found


def _padding(
    node: Node, pads: list[Pair], sides: Sequence[int], kernel: Sequence[int], stride: list[int], dilation: list[int]
) -> list[Pair]:
    """Zeros at the beginning and the end of every dimension."""
    how = node.attributes.get("auto_pad", b"NOTSET")
    if how == b"NOTSET":
        return pads
    if how == b"VALID":
        return [(0, 0)] * len(pads)
    if how not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise UnsupportedModelError(f"{node} has the auto_pad {str(how)[:40]}, which certnet does not know")
    found = []
    for n, k, s, d in zip(sides, kernel, stride, dilation):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        less, more = total // 2, total - total // 2
        found.append((less, more) if how == b"SAME_UPPER" else (more, less))
    return found


# -------------------------------------------------------------------------------------------------------- convolutions


def _conv(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    kernel, groups = walk.chain.constant(node, 1), int(node.attributes.get("group", 1))
    if kernel.ndim < 3 or 0 in kernel.shape:
        raise UnsupportedModelError(f"{node} has a kernel of shape {kernel.shape}: (out, in, sizes) is needed")
    laid = _windows(walk, node, x, kernel.shape[2:])
    said = node.attributes.get("kernel_shape")
    if said is not None and tuple(said) != kernel.shape[2:]:
        raise FileFormatError(f"{node} says the kernel {tuple(said)[:8]}, and has one of shape {kernel.shape}")
    c = kernel.shape[0]
    if groups < 1 or kernel.shape[1] * groups != x.shape[0] or c % groups:
        raise FileFormatError(
            f"{node} has a kernel of shape {kernel.shape} in {groups} groups, for {x.shape[0]} channels"
        )
    shape = laid.shape(c, len(x.shape) - 1)
    walk.room(shape, node)
    walk.chain.count(kernel.size, node)
    walk.multiply(kernel.size * math.prod(laid.out), node)
    bias = walk.chain.constant(node, 2) if node.input(2) else None
    if bias is not None and bias.shape != (c,):
        raise FileFormatError(f"{node} has {c} channels and a bias of shape {bias.shape}")
    full = kernel.reshape(*kernel.shape[:2], *laid.kernel)
    A = Convolution(full, laid.image, laid.stride, laid.padding, laid.dilation, groups)
    walk.chain.name(node)
    value = walk.graph.affine(
        [(walk.value(x, node), A)], None if bias is None else np.repeat(bias, math.prod(laid.out))
    )
    return [walk.made(node, shape, value)]


# ------------------------------------------------------------------------------------------------------------- pooling


def _pooled(walk: Walk, node: Node, data: Sequence[Data]) -> tuple[Data, Windows]:
    """The data of a pooling, and its windows, which are counted."""
    x = only(node, data)
    if "kernel_shape" not in node.attributes:
        raise FileFormatError(f"{node} has no kernel_shape")
    laid = _windows(walk, node, x, [int(n) for n in node.attributes["kernel_shape"]])
    walk.room((x.shape[0], *laid.out), node, math.prod(laid.kernel))
    walk.effort += x.shape[0] * math.prod(laid.out) * _POOLED
    return x, laid


def _average_pool(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x, laid = _pooled(walk, node, data)
    shape = laid.shape(x.shape[0], len(x.shape) - 1)
    outside = bool(node.attributes.get("count_include_pad", 0)) or not any(map(any, laid.padding))
    if outside:
        walk.multiply(x.shape[0] * math.prod(laid.kernel) * math.prod(laid.out), node)
    value = walk.value(x, node)
    with _at(node):
        value = average_pooled(walk.graph, value, laid, outside=outside)
    return [walk.made(node, shape, value)]


def _averaged(walk: Walk, node: Node, x: Data, shape: Sequence[int], index: Index, *, total: bool = False) -> Data:
    value = walk.value(x, node)
    with _at(node):
        value = averaged(walk.graph, value, index, total=total)
    return walk.made(node, shape, value)


@contextmanager
def _at(node: Node) -> Iterator[None]:
    """Refusals say where."""
    try:
        yield
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{node}: {error}") from error


def _max_pool(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x, laid = _pooled(walk, node, data)
    if math.prod(laid.kernel) > MAX_WINDOW:
        raise _too_many(node, math.prod(laid.kernel))
    shape = laid.shape(x.shape[0], len(x.shape) - 1)
    k, m = laid.kernel
    walk.room((*laid.image[:2], laid.out[1] * m), node, _SORTED)
    walk.room((x.shape[0], laid.out[0] * k, laid.out[1]), node, _SORTED)
    value = walk.value(x, node)
    with _at(node):
        value = max_pooled(walk.graph, value, laid)
    return [walk.made(node, shape, value)]


def _too_many(node: Node, entries: int) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{node} takes the largest of {entries} entries: each is compared with another by a hidden unit, and "
        f"{MAX_WINDOW} are read at most"
    )


def _over(walk: Walk, node: Node, x: Data, axes: Sequence[int]) -> tuple[Index, tuple[int, ...]]:
    """An index (outputs, entries) of what a reduction over axes of the samples takes, and the shape of the result."""
    axes = sorted(set(axes))
    keep = bool(node.attributes.get("keepdims", 1))
    shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape) if keep or k not in axes)
    walk.room(x.shape, node)
    last = np.moveaxis(x.places, axes, range(-len(axes), 0))
    walk.effort += x.size * 1e-8
    return last.reshape(-1, math.prod(x.shape[k] for k in axes)), shape


def _reduced(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    axes = walk.axes(node, 1, x)
    if not axes:
        if axes is None and not node.attributes.get("noop_with_empty_axes", 0):
            raise UnsupportedModelError(f"{node} names no axes, so it mixes the samples of a batch")
        raise UnsupportedModelError(f"{node} names no axes: leave it out")
    index, shape = _over(walk, node, x, axes)
    if node.operator == "ReduceMax":
        return [_largest(walk, node, x, index, shape)]
    return [_averaged(walk, node, x, shape, index, total=node.operator == "ReduceSum")]


def _largest(walk: Walk, node: Node, x: Data, index: Index, shape: Sequence[int]) -> Data:
    if index.shape[1] > MAX_WINDOW:
        raise _too_many(node, index.shape[1])
    return walk.made(node, shape, walk.graph.max_pool(walk.value(x, node), index))


def _global_pool(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    if len(x.shape) < 2:
        raise FileFormatError(f"{node} pools over positions, and samples have the shape {list(x.shape)}")
    index, shape = _over(walk, node, x, range(1, len(x.shape)))
    if node.operator == "GlobalMaxPool":
        return [_largest(walk, node, x, index, shape)]
    return [_averaged(walk, node, x, shape, index)]


IMAGES: Final[dict[str, Reader]] = {
    "Conv": _conv,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax"), _reduced),
}
"""Operators that mix the entries of a sample."""
