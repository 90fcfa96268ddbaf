"""ONNX operators where paths of the data meet: sums, concatenations, maxima; and products, which are refused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Final

import numpy as np

from certnet.core.errors import FileFormatError, UnsupportedModelError
from certnet.io.graphs import Value
from certnet.io.onnx_constants import Node
from certnet.io.onnx_operators import READERS
from certnet.io.onnx_walk import Data, Reader, Walk, only
from certnet.networks.activations import Activation
from certnet.networks.layers import read_only
from certnet.networks.operators import Sparse

__all__ = ["PAIRS"]

_RELU: Final = Activation("relu")


def _with_constant(node: Node, data: Sequence[Data]) -> bool:
    """Whether an operator with two inputs has one value, and a constant."""
    return len(data) == 1 and node.inputs.count(data[0].name) == 1


def _met_shape(node: Node, data: Sequence[Data]) -> tuple[int, ...]:
    """The shape that samples are spread to where they meet."""
    if len({len(x.shape) for x in data}) != 1:
        raise UnsupportedModelError(
            f"{node} joins samples of shapes {', '.join(str(list(x.shape)) for x in data[:4])}, which mixes the batch"
        )
    try:
        return np.broadcast_shapes(*(x.shape for x in data))
    except ValueError as error:
        shapes = ", ".join(str(list(x.shape)) for x in data[:4])
        raise FileFormatError(f"{node} joins samples of the shapes {shapes}, which do not fit together") from error


def _spread(walk: Walk, node: Node, x: Data, shape: tuple[int, ...]) -> Value:
    value = walk.value(x, node)
    if x.shape == shape:
        return value
    walk.room(shape, node)
    return walk.graph.gather(value, np.broadcast_to(x.places, shape))


def _terms(walk: Walk, node: Node, data: Sequence[Data]) -> tuple[tuple[int, ...], list[Value | int]]:
    """What a node takes, in its order: values, and positions of constants."""
    shape, by_name = _met_shape(node, data), {x.name: x for x in data}
    walk.room(shape, node, len(node.inputs))
    return shape, [
        _spread(walk, node, by_name[name], shape) if name in by_name else k for k, name in enumerate(node.inputs)
    ]


def _sum(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    """``x + y + …`` or their mean; constants are shifts."""
    if node.operator == "Add" and _with_constant(node, data):
        return [walk.through_chain(node, data[0], READERS["Add"])]
    shape, terms = _terms(walk, node, data)
    total = walk.graph.add(*(term for term in terms if isinstance(term, Value)))
    for term in terms:
        if isinstance(term, int):
            total = walk.graph.shift(total, walk.constant_of(node, term, shape))
    if node.operator == "Mean":
        total = walk.graph.scale(total, np.array([1.0 / len(terms)]))
    return [walk.made(node, shape, total)]


def _difference(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    if _with_constant(node, data):
        return [walk.through_chain(node, data[0], READERS["Sub"])]
    shape = _met_shape(node, data)
    walk.room(shape, node, 2)
    x, y = (_spread(walk, node, term, shape) for term in (data[0], data[-1]))
    return [walk.made(node, shape, walk.graph.subtract(x, y))]


def _extreme(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    """The largest or smallest of values and constants, one after another."""
    shape, terms = _terms(walk, node, data)
    graph, larger = walk.graph, node.operator == "Max"
    values = [term for term in terms if isinstance(term, Value)]
    y = reduce(graph.maximum if larger else graph.minimum, values)
    sign = 1.0 if larger else -1.0
    for term in terms:
        if isinstance(term, int):  # max(y, c) = c + relu(y − c), min(y, c) = c − relu(c − y)
            c = walk.constant_of(node, term, shape)
            over = graph.activation(graph.shift(graph.scale(y, np.array([sign])), -sign * c), _RELU)
            y = graph.shift(graph.scale(over, np.array([sign])), c)
    return [walk.made(node, shape, y)]


def _concatenated(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    by_name = {x.name: x for x in data}
    if any(name not in by_name for name in node.inputs):
        raise UnsupportedModelError(f"{node} joins data and constants, which is not read")
    parts = [by_name[name] for name in node.inputs]
    axis = walk.axis(node, int(node.attributes.get("axis", 0)), parts[0])
    first = parts[0].shape
    if any(x.shape[:axis] + x.shape[axis + 1 :] != first[:axis] + first[axis + 1 :] for x in parts):
        shapes = ", ".join(str(list(x.shape)) for x in parts[:4])
        raise FileFormatError(f"{node} joins samples of the shapes {shapes}, which do not fit together")
    shape = (*first[:axis], sum(x.shape[axis] for x in parts), *first[axis + 1 :])
    walk.room(shape, node, len(parts))
    values = [walk.value(x, node) for x in parts]
    count = sum(max(1, len(value.parts)) for value in values)
    walk.room(shape, node, count)
    joined = walk.graph.concatenate(*values)
    starts = np.cumsum([0, *(x.size for x in parts)])
    order = np.concatenate([x.places + start for x, start in zip(parts, starts)], axis=axis)
    return [walk.made(node, shape, walk.graph.gather(joined, order))]


def _product(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    if _with_constant(node, data):
        return [walk.through_chain(node, data[0], READERS[node.operator])]
    verb = "multiplies data by data" if node.operator == "Mul" else "divides data by data"
    raise UnsupportedModelError(
        f"{node} {verb}, and is no activation that certnet knows: a gate, a squeeze and excitation, or a "
        "normalisation has no bounded slope over all inputs"
    )


def _matmul(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    if not _with_constant(node, data) and node.operator == "MatMul":
        raise UnsupportedModelError(f"{node} multiplies data by data, as attention does: its slope is not bounded")
    if len(data) > 1:
        raise UnsupportedModelError(f"{node} takes several values: data are multiplied by data, or added by Gemm")
    x = data[0]
    if node.operator == "Gemm" or len(x.shape) == 1 or node.inputs[0] != x.name:
        return [walk.through_chain(node, x, READERS[node.operator])]
    return [_at_every_position(walk, node, only(node, data))]


def _at_every_position(walk: Walk, node: Node, x: Data) -> Data:
    """A matrix on the last dimension: the same for every position, block by block."""
    W = walk.chain.matrix(walk.chain.constant(node, 1), node)
    (*before, n), (n_in, n_out) = x.shape, W.shape
    if n != n_in:
        raise FileFormatError(f"{node} takes {n_in} features, the value before it has {n}")
    positions, shape = x.size // n, (*before, n_out)
    walk.room(shape, node)
    walk.room((positions, W.size), node, 3)
    walk.multiply(W.size * positions, node)
    walk.chain.name(node)
    rows, columns = (np.arange(positions * k).reshape(positions, k) for k in (n_out, n))
    rows, columns = np.broadcast_arrays(rows[:, None, :], columns[:, :, None])
    values = np.broadcast_to(W, rows.shape)
    kept = values != 0.0
    if not kept.any():
        raise UnsupportedModelError(f"{node} has a matrix of zeros")
    A = Sparse(rows[kept], columns[kept], read_only(values[kept]), positions * n_out, x.size)
    return walk.made(node, shape, walk.graph.affine([(walk.value(x, node), A)]))


def _prelu(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    """``a x + (1 − a) relu(x)`` where every channel has its own slope a."""
    x = only(node, data)
    slopes = walk.chain.constant(node, 1)
    if slopes.size and np.all(slopes == slopes.flat[0]):
        return [walk.through_chain(node, x, READERS["PRelu"])]
    walk.room(x.shape, node, 2)
    a, value = walk.constant_of(node, 1, x.shape), walk.value(x, node)
    bent = walk.graph.scale(walk.graph.activation(value, _RELU), 1.0 - a)
    return [walk.made(node, x.shape, walk.graph.add(walk.graph.scale(value, a), bent))]


def _absolute(walk: Walk, node: Node, data: Sequence[Data]) -> list[Data]:
    """``|x| = 2 relu(x) − x``."""
    x = only(node, data)
    walk.room(x.shape, node, 2)
    value = walk.value(x, node)
    twice = walk.graph.scale(walk.graph.activation(value, _RELU), np.array([2.0]))
    return [walk.made(node, x.shape, walk.graph.subtract(twice, value))]


PAIRS: Final[dict[str, Reader]] = {
    **dict.fromkeys(("Add", "Sum", "Mean"), _sum),
    "Sub": _difference,
    **dict.fromkeys(("Max", "Min"), _extreme),
    "Concat": _concatenated,
    **dict.fromkeys(("Mul", "Div"), _product),
    **dict.fromkeys(("MatMul", "Gemm"), _matmul),
    "PRelu": _prelu,
    "Abs": _absolute,
}
"""Operators that may take several values."""
