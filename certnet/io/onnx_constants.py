"""What an ONNX graph computes without its data: weights that are turned and scaled, and shapes for a reshape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError, UnsupportedModelError
from certnet.io.onnx_tensors import FLOAT_TYPES

__all__ = ["FOLDED", "SHAPES", "Cut", "Node", "Shape", "cuts", "fold_constant", "fold_shape"]

_MAX_ENTRIES: Final = 1 << 22
"""Most entries of a constant that is made larger than what it is made of: small files may ask for much."""
_MAX_SIZES: Final = 64
_WHOLE_TYPES: Final = (6, 7)
_OPEN: Final = 2**31 - 1
"""From here on an end of a Slice stands for "to the end"."""


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an operator; a missing optional input has the name ""."""

    index: int
    name: str
    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    more_outputs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"node {self.index} {self.name[:80]!r} ({self.operator})"

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.output, *self.more_outputs

    def input(self, position: int) -> str:
        """The name at a position, "" where there is none."""
        return self.inputs[position] if position < len(self.inputs) else ""


@dataclass(frozen=True)
class Shape:
    """Dimensions of the data as a value: whole numbers, None for the number of samples; alone if it is one number."""

    sizes: tuple[int | None, ...]
    alone: bool = False


@dataclass(frozen=True)
class Cut:
    """What a Slice takes of an axis."""

    start: int | None = None
    end: int | None = None
    step: int = 1

    def of(self, n: int) -> slice:
        """The same for an axis of n entries, which negative bounds count from."""
        return slice(*slice(self.start, self.end, self.step).indices(n)) if self.step > 0 else self._backwards(n)

    def _backwards(self, n: int) -> slice:
        start, end, step = slice(self.start, self.end, self.step).indices(n)
        return slice(start, end if end >= 0 else None, step)

    @property
    def whole(self) -> bool:
        """Does it take every axis as it is, however long?"""
        return self.step == 1 and self.start in (None, 0) and (self.end is None or self.end >= _OPEN)


def cuts(node: Node, inputs: Sequence[NDArray[Any] | None], ndim: int) -> list[Cut]:
    """What a Slice takes of each axis; its inputs from 1 on, or its attributes before opset 10, say it.

    Raises
    ------
    ValueError, TypeError, IndexError
        Lists of different lengths, axes that are none, steps of zero.
    """
    if "starts" in node.attributes:
        said: list[Any] = [node.attributes.get(name) for name in ("starts", "ends", "axes")] + [None]
    else:
        said = [None if part is None else [int(n) for n in part.reshape(-1)] for part in inputs[1:]]
        said += [None] * (4 - len(said))
    starts, ends, axes, steps = said
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    found = [Cut()] * ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -ndim <= axis < ndim or not step:
            raise ValueError("axes or steps that a Slice cannot have")
        found[axis] = Cut(int(start), int(end), int(step))
    return found


def fold_constant(node: Node, inputs: list[NDArray[Any] | None]) -> NDArray[Any]:
    """The value of a node whose inputs are all constants (None where an optional one is absent).

    Raises
    ------
    UnsupportedModelError
        An operator that is not folded, or a result of more than 2²² entries that the file does not hold.
    FileFormatError
        Shapes that do not fit.
    """
    if node.operator not in _CONSTANT:
        raise UnsupportedModelError(f"{node} computes with constants alone: simplify the model (fold constants)")
    try:
        with np.errstate(all="ignore"):  # NaN is refused where the constant is used
            value = np.asarray(_CONSTANT[node.operator](node, inputs))
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"{node} does not fit its constants: {error}") from error
    return value if value.dtype == np.int64 else value.astype(np.float64, copy=False)


def _bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    if any(n < 0 for n in shape) or len(shape) > 16 or math.prod(shape) > _MAX_ENTRIES:
        raise UnsupportedModelError(f"a constant of shape {shape[:16]} is computed: at most {_MAX_ENTRIES} entries are")
    return shape


def _elementwise(operation: Callable[..., Any]) -> Callable[[Node, list[Any]], Any]:
    def fold(node: Node, inputs: list[Any]) -> Any:
        shape = np.broadcast_shapes(*(array.shape for array in inputs))
        if math.prod(shape) > max(array.size for array in inputs):
            _bounded(shape)
        return operation(*inputs)

    return fold


def _divided(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    if a.dtype == b.dtype == np.int64:
        raise TypeError("whole numbers are divided")
    return np.asarray(a / b)


def _axes(node: Node, inputs: list[Any]) -> tuple[int, ...] | None:
    if "axes" in node.attributes:
        return tuple(int(n) for n in node.attributes["axes"])
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(int(n) for n in inputs[1].reshape(-1))
    return None


def _reshape(node: Node, inputs: list[Any]) -> Any:
    array, target = inputs[0], [int(n) for n in inputs[1].reshape(-1)]
    if not node.attributes.get("allowzero", 0):
        target = [array.shape[k] if n == 0 else n for k, n in enumerate(target)]
    return array.reshape(target)


def _cast(node: Node, inputs: list[Any]) -> Any:
    to = node.attributes.get("to")
    if to in FLOAT_TYPES:
        return inputs[0].astype(np.float64)
    if to in _WHOLE_TYPES and inputs[0].dtype == np.int64:
        return inputs[0]
    raise UnsupportedModelError(f"{node} casts constants to a type that is no float")


def _transpose(node: Node, inputs: list[Any]) -> Any:
    return np.transpose(inputs[0], node.attributes.get("perm"))


def _filled(node: Node, inputs: list[Any]) -> Any:
    value = node.attributes.get("value", np.zeros(1))
    return np.full(_bounded(tuple(int(n) for n in inputs[0].reshape(-1))), value.reshape(-1)[0])


def _expand(node: Node, inputs: list[Any]) -> Any:
    wanted = tuple(int(n) for n in inputs[1].reshape(-1))
    return np.array(np.broadcast_to(inputs[0], _bounded(np.broadcast_shapes(inputs[0].shape, _bounded(wanted)))))


def _concat(node: Node, inputs: list[Any]) -> Any:
    _bounded((sum(array.size for array in inputs),))
    return np.concatenate(inputs, axis=int(node.attributes.get("axis", 0)))


def _slice(node: Node, inputs: list[Any]) -> Any:
    array = inputs[0]
    return array[tuple(cut.of(n) for cut, n in zip(cuts(node, inputs, array.ndim), array.shape))]


def _gather(node: Node, inputs: list[Any]) -> Any:
    array, index = inputs
    if index.dtype != np.int64:
        raise TypeError("an index holds whole numbers")
    axis = int(node.attributes.get("axis", 0))
    _bounded((array.size // max(array.shape[axis], 1) * index.size,))
    return np.take(array, index, axis=axis)


def _constant(node: Node, inputs: list[Any]) -> Any:
    found = node.attributes
    if "value" in found:
        return np.asarray(found["value"])
    for name, dtype in (("value_float", float), ("value_floats", float), ("value_int", int), ("value_ints", int)):
        if name in found:
            return np.asarray(found[name], dtype=np.float64 if dtype is float else np.int64)
    raise UnsupportedModelError(f"{node} holds {', '.join(found) or 'nothing'}: numbers are needed")


_CONSTANT: Final[dict[str, Callable[[Node, list[Any]], Any]]] = {
    "Constant": _constant,
    "Identity": lambda node, inputs: inputs[0],
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": lambda node, inputs: inputs[0].reshape(
        math.prod(inputs[0].shape[: int(node.attributes.get("axis", 1)) % max(inputs[0].ndim, 1)]), -1
    ),
    "Unsqueeze": lambda node, inputs: np.expand_dims(inputs[0], _axes(node, inputs) or ()),
    "Squeeze": lambda node, inputs: np.squeeze(inputs[0], _axes(node, inputs)),
    "Cast": _cast,
    "Expand": _expand,
    "ConstantOfShape": _filled,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divided),
    "Neg": _elementwise(np.negative),
    "Sqrt": _elementwise(np.sqrt),
    "Reciprocal": _elementwise(lambda a: 1.0 / a),
}
FOLDED: Final = tuple(_CONSTANT)
"""Operators that are computed where their inputs are constants."""


# shapes --------------------------------------------------------------------------------------------------------------


def fold_shape(node: Node, inputs: list[Shape | NDArray[Any] | None]) -> Shape:
    """The value of a node that computes with the dimensions of the data: picked, joined, never changed.

    Raises
    ------
    UnsupportedModelError
        Something else is done with them.
    """
    try:
        known = [part if isinstance(part, Shape) else _as_shape(part) for part in inputs]
        return _SHAPE[node.operator](node, known)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise UnsupportedModelError(
            f"{node} computes with the number of samples: only a reshape that flattens each sample is read"
        ) from error


def _as_shape(array: NDArray[Any] | None) -> Shape:
    if array is None:
        return Shape(())
    if array.dtype != np.int64 or array.ndim > 1 or array.size > _MAX_SIZES:
        raise TypeError
    return Shape(tuple(int(n) for n in array.reshape(-1)), alone=array.ndim == 0)


def _whole(shape: Shape) -> list[int]:
    if any(n is None for n in shape.sizes):
        raise TypeError
    return [int(n) for n in shape.sizes if n is not None]


def _picked(node: Node, inputs: list[Shape]) -> Shape:
    return Shape(tuple(inputs[0].sizes[k] for k in _whole(inputs[1])), alone=inputs[1].alone)


def _joined(node: Node, inputs: list[Shape]) -> Shape:
    joined = tuple(n for part in inputs for n in part.sizes)
    if any(part.alone for part in inputs) or len(joined) > _MAX_SIZES:
        raise ValueError
    return Shape(joined)


def _sliced(node: Node, inputs: list[Shape]) -> Shape:
    bounds = [_whole(part) for part in inputs[1:]]
    if "starts" in node.attributes:
        bounds = [list(node.attributes["starts"]), list(node.attributes["ends"])]
    (start,), (end,) = bounds[0], bounds[1]
    step = bounds[3][0] if len(bounds) > 3 and bounds[3] else 1
    return Shape(inputs[0].sizes[start:end:step])


_SHAPE: Final[dict[str, Callable[[Node, list[Shape]], Shape]]] = {
    "Gather": _picked,
    "Concat": _joined,
    "Slice": _sliced,
    "Unsqueeze": lambda node, inputs: Shape(inputs[0].sizes),
    "Squeeze": lambda node, inputs: Shape(inputs[0].sizes, alone=len(inputs[0].sizes) == 1),
    "Cast": lambda node, inputs: inputs[0],
    "Identity": lambda node, inputs: inputs[0],
}
SHAPES: Final = ("Shape", *_SHAPE)
"""Operators that compute with the dimensions of the data."""
