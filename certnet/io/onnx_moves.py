"""ONNX operators that move, copy and drop entries of a sample, or look at them in another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from certnet.core.errors import FileFormatError, UnsupportedModelError
from certnet.io.onnx_constants import Node, cuts
from certnet.io.onnx_walk import Data, Index, Reader, Walk, only

__all__ = ["MOVES"]


# -------------------------------------------------------------------------------------------------------------- shapes


def _flatten(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    axis = int(node.attributes.get("axis", 1))
    if axis not in (1, -len(x.shape)):
        raise UnsupportedModelError(
            f"{node} has axis {axis}: only the features of one sample may be flattened (axis 1)"
        )
    return [_seen_as(walk, node, x, (x.size,))]


def _seen_as(walk: Walk, node: Node, x: Data, shape: Sequence[int]) -> Data:
    walk.room((1,), node)
    return walk.made(node, shape, walk.value(x, node))


def _reshape(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    target, batch = walk.chain.sizes(node, 1), walk.chain.batch
    zero = bool(node.attributes.get("allowzero", 0))
    shape = None
    if target and target.count(-1) <= 1:
        rest: list[int | None] = [
            x.shape[k] if n == 0 and not zero and k < len(x.shape) else n for k, n in enumerate(target[1:])
        ]
        known = math.prod(n for n in rest if n is not None and n != -1)
        keeps_rows = target[0] is None or (target[0] == 0 and not zero) or (target[0] == batch and batch is not None)
        if None not in rest and known > 0:
            if keeps_rows and -1 in rest and x.size % known == 0:
                shape = [x.size // known if n == -1 else n or 0 for n in rest]
            elif known == x.size and -1 not in rest and (keeps_rows or target[0] == -1):
                shape = [n or 0 for n in rest]
    if shape is None or min(shape, default=1) < 1:
        raise UnsupportedModelError(
            f"{node} reshapes {[batch, *x.shape]} to {target[:8]}: only one that provably keeps the entries of each "
            "sample together, [N, ...] to [N, ...], is read"
        )
    return [_seen_as(walk, node, x, shape)]


def _squeeze(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    axes = walk.axes(node, 1, x)
    if axes is None:
        raise UnsupportedModelError(f"{node} names no axes, so its shape depends on the number of samples")
    if any(x.shape[axis] != 1 for axis in axes):
        raise FileFormatError(f"{node} squeezes axes of samples of shape {list(x.shape)} that are not 1")
    return [_seen_as(walk, node, x, [n for k, n in enumerate(x.shape) if k not in axes])]


def _unsqueeze(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    said = walk.integers(node, 1, "axes") or []
    axes = {walk.axis(node, axis, x, more=len(said)) for axis in said}
    if len(axes) != len(said) or len(x.shape) + len(axes) > 16:
        raise FileFormatError(f"{node} names the axes {said[:8]}")
    rest = iter(x.shape)
    return [_seen_as(walk, node, x, [1 if k in axes else next(rest) for k in range(len(x.shape) + len(axes))])]


# --------------------------------------------------------------------------------------------------------------- moves


def _transpose(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    order = [int(n) for n in node.attributes.get("perm", range(len(x.shape), -1, -1))]
    if sorted(order) != list(range(len(x.shape) + 1)):
        raise FileFormatError(f"{node} has the order {order[:8]}, of a value with {len(x.shape) + 1} axes")
    if order[0] != 0:
        raise UnsupportedModelError(f"{node} moves the batch: it must stay the first dimension")
    walk.room(x.shape, node)
    return [walk.moved(node, x, np.transpose(x.places, [k - 1 for k in order[1:]]))]


def _slice(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    inputs = [walk.chain.constants.get(name) for name in node.inputs]
    if any(name and array is None for name, array in zip(node.inputs[1:], inputs[1:])):
        raise UnsupportedModelError(f"{node} takes bounds that are no constants")
    try:
        first, *rest = cuts(node, inputs, len(x.shape) + 1)
    except (ValueError, TypeError, IndexError) as error:
        raise FileFormatError(f"{node} has bounds that do not fit: {error}") from error
    if not first.whole:
        raise UnsupportedModelError(f"{node} takes some samples of a batch: each must be computed alone")
    walk.room(x.shape, node)
    return [_kept(walk, node, x, x.places[tuple(cut.of(n) for cut, n in zip(rest, x.shape))])]


def _kept(walk: Walk, node: Node, x: Data, index: Index) -> Data:
    if not index.size:
        raise FileFormatError(f"{node} leaves nothing of samples of shape {list(x.shape)[:8]}")
    return walk.moved(node, x, index)


def _split(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    axis = walk.axis(node, int(node.attributes.get("axis", 0)), x)
    names = node.outputs
    sizes, n = walk.integers(node, 1, "split"), x.shape[axis]
    if sizes is None:
        most = -(-n // len(names))  # the last one is smaller where they cannot be equal
        sizes = [min(most, n - k * most) for k in range(len(names))]
    if len(sizes) != len(names) or sum(sizes) != n or min(sizes) < 1:
        raise FileFormatError(f"{node} splits {n} entries into parts of {sizes[:8]}, for {len(names)} outputs")
    walk.room(x.shape, node)
    parts = np.split(x.places, np.cumsum(sizes)[:-1], axis=axis)
    return [_named(walk.moved(node, x, part), name) for part, name in zip(parts, names)]


def _named(x: Data, name: str) -> Data:
    return Data(name, x.shape, x.value, x.node)


def _gather(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    axis = walk.axis(node, int(node.attributes.get("axis", 0)), x)
    index = walk.chain.constants.get(node.input(1))
    if index is None or index.dtype != np.int64:
        raise UnsupportedModelError(f"{node} takes an index that is no constant of whole numbers")
    n = x.shape[axis]
    if index.size and not -n <= index.min() <= index.max() < n:
        raise FileFormatError(f"{node} has an index that does not lie in an axis of {n}")
    walk.room(x.shape, node)
    walk.room((x.size // n, max(1, index.size)), node)
    return [_kept(walk, node, x, np.take(x.places, index, axis=axis))]


def _expand(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    target, batch = walk.chain.sizes(node, 1), walk.chain.batch
    rows, rest = (target[0], target[1:]) if len(target) == len(x.shape) + 1 else (1, target)
    if len(rest) > len(x.shape) or None in rest or (rows not in (None, 1) and rows != batch):
        raise UnsupportedModelError(f"{node} copies samples, or gives them more dimensions")
    try:
        shape = np.broadcast_shapes(x.shape, tuple(n for n in rest if n is not None))
    except ValueError as error:
        raise FileFormatError(f"{node} cannot spread samples of shape {list(x.shape)} to {rest[:8]}") from error
    walk.room(shape, node)
    return [walk.moved(node, x, np.broadcast_to(x.places, shape))]


def _depth_to_space(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    b, into = int(node.attributes.get("blocksize", 0)), node.operator == "DepthToSpace"
    if len(x.shape) != 3 or b < 1:
        raise FileFormatError(f"{node} needs images and a blocksize")
    c, high, wide = x.shape
    if (c % (b * b) if into else high % b or wide % b) or b > 1 << 15:
        raise FileFormatError(f"{node} has blocks of {b}, which do not fit images of shape {list(x.shape)}")
    walk.room(x.shape, node)
    at = x.places
    if not into:
        at = at.reshape(c, high // b, b, wide // b, b).transpose(2, 4, 0, 1, 3)
        return [walk.moved(node, x, at.reshape(c * b * b, high // b, wide // b))]
    if node.attributes.get("mode", b"DCR") == b"DCR":
        at = at.reshape(b, b, c // (b * b), high, wide).transpose(2, 3, 0, 4, 1)
    else:
        at = at.reshape(c // (b * b), b, b, high, wide).transpose(0, 3, 1, 4, 2)
    return [walk.moved(node, x, at.reshape(c // (b * b), high * b, wide * b))]


# ------------------------------------------------------------------------------------------------- padding, upsampling


def _pad(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    pads = walk.integers(node, 1, "pads") or []
    axes = walk.axes(node, 3, x) if node.input(3) else None
    if axes is None:  # one pair for every axis, the batch first
        half = len(pads) // 2
        if pads[:1] + pads[half : half + 1] != [0, 0]:
            raise UnsupportedModelError(f"{node} pads the batch: each sample must be computed alone")
        pads, axes = [*pads[1:half], *pads[half + 1 :]], list(range(len(x.shape)))
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise FileFormatError(f"{node} has {len(pads)} paddings for samples of shape {list(x.shape)[:8]}")
    ends = [(0, 0)] * len(x.shape)
    for axis, *pair in zip(axes, pads[: len(axes)], pads[len(axes) :]):
        ends[axis] = (pair[0], pair[1])
    mode = node.attributes.get("mode", b"constant")
    if mode not in _PADDED or (mode == b"reflect" and any(max(pair) >= n for pair, n in zip(ends, x.shape))):
        raise UnsupportedModelError(f"{node} has a mode, or paddings, that certnet does not read: {str(mode)[:40]}")
    more = [(max(0, a), max(0, b)) for a, b in ends]
    walk.room([n + a + b for n, (a, b) in zip(x.shape, more)], node)
    filled: dict[str, Any] = {"constant_values": -1} if mode == b"constant" else {}
    index = np.pad(x.places, more, mode=_PADDED[mode], **filled)
    less = tuple(slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(index.shape, ends))
    y = _kept(walk, node, x, index[less])
    number = _filling(walk, node)
    if mode != b"constant" or not number:
        return [y]
    outside = np.where(index[less] < 0, number, 0.0)
    return [walk.made(node, y.shape, walk.graph.shift(walk.value(y, node), outside))]


_PADDED: Final[dict[bytes, Any]] = {b"constant": "constant", b"reflect": "reflect", b"edge": "edge", b"wrap": "wrap"}


def _filling(walk: Walk, node: Node) -> float:
    if not node.input(2):
        return float(node.attributes.get("value", 0.0))
    array = walk.chain.constant(node, 2)
    if array.size != 1:
        raise FileFormatError(f"{node} pads with {array.size} numbers, one is needed")
    return float(array.reshape(-1)[0])


def _resize(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    x = only(node, data)
    said = node.attributes
    if said.get("mode", b"nearest") != b"nearest":
        raise UnsupportedModelError(f"{node} resizes by {str(said['mode'])[:40]}: upsampling by 'nearest' is read")
    # before opset 11 there is one more input alone, or an attribute, and entries are where i // factor says
    early = node.operator == "Upsample" or len(node.inputs) == 2
    where = b"asymmetric" if early else said.get("coordinate_transformation_mode", b"half_pixel")
    nearest = b"floor" if early else said.get("nearest_mode", b"round_prefer_floor")
    if (
        where not in _SHIFTED
        or nearest not in _NEAREST
        or said.get("keep_aspect_ratio_policy", b"stretch") != b"stretch"
    ):
        raise UnsupportedModelError(
            f"{node} resizes with {str(where)[:40]} and {str(nearest)[:40]}, which certnet does not read"
        )
    factors = _factors(walk, node, x, early=early)
    shape = [n * f for n, f in zip(x.shape, factors)]
    walk.room(shape, node)
    index = x.places
    for axis, (n, f) in enumerate(zip(x.shape, factors)):
        # twice f times the place in x of every entry of the result, and half of it
        twice = 2 * np.arange(n * f) + (0 if where == b"asymmetric" else 1 - f)
        at = np.clip(_NEAREST[nearest](twice, 2 * f), 0, n - 1)
        index = np.take(index, at, axis=axis)
    return [walk.moved(node, x, index)]


_SHIFTED: Final = (b"asymmetric", b"half_pixel", b"pytorch_half_pixel", b"half_pixel_symmetric")
_NEAREST: Final[dict[bytes, Any]] = {
    b"floor": lambda t, q: t // q,
    b"ceil": lambda t, q: -(-t // q),
    b"round_prefer_floor": lambda t, q: -((q // 2 - t) // q),
    b"round_prefer_ceil": lambda t, q: (t + q // 2) // q,
}


def _factors(walk: Walk, node: Node, x: Data, *, early: bool) -> list[int]:
    """Whole numbers that the sizes of a sample are multiplied by."""
    ndim = len(x.shape) + 1
    axes = [int(n) for n in node.attributes.get("axes", range(ndim))]
    position = 1 if early else 2
    wanted: list[float | None]
    if "scales" in node.attributes:
        wanted = [float(f) for f in node.attributes["scales"]]
    elif node.input(position) and walk.chain.constants.get(node.input(position), np.ones(1)).size:
        wanted = [float(f) for f in walk.chain.constant(node, position).reshape(-1)]
    else:
        sizes = walk.chain.sizes(node, 3)
        known = [walk.chain.batch, *x.shape]
        at = [known[axis] if -ndim <= axis < ndim else None for axis in axes]
        wanted = [1.0 if n == old else n / old if n and old else None for n, old in zip(sizes, at)]
    if len(wanted) != len(axes):
        raise FileFormatError(f"{node} has {len(wanted)} factors for {len(axes)} axes")
    factors = [1] * ndim
    for axis, f in zip(axes, wanted):
        if f is None or f != round(f) or not 1 <= f < 1 << 15 or not -ndim <= axis < ndim:
            raise UnsupportedModelError(f"{node} resizes by {f}: upsampling by whole numbers is read")
        factors[axis] = round(f)
    if factors[0] != 1:
        raise UnsupportedModelError(f"{node} resizes the batch")
    return factors[1:]


MOVES: Final[dict[str, Reader]] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _depth_to_space,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
}
"""Operators after which every entry is one of the input's, or a constant."""
