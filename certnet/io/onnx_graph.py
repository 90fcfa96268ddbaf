"""A chain of ONNX operators as layers of a feed-forward network; plain data, nothing of the onnx package."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import MAX_ENTRIES, Dense, Scale, Shift, Step, fold
from certnet.io.onnx_tensors import FLOAT_TYPES
from certnet.networks.activations import Activation

__all__ = ["OPERATORS", "SUPPORTED", "Graph", "Node", "layers_of"]

_MAX_FEATURES: Final = 1 << 24


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an operator; a missing optional input has the name ""."""

    index: int
    name: str
    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"node {self.index} {self.name[:80]!r} ({self.operator})"


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph with one input of the given shape (batch first; None where open), one output, and constants by name."""

    input: str
    shape: tuple[int | None, ...]
    output: str
    constants: Mapping[str, NDArray[Any]]
    nodes: tuple[Node, ...]


def layers_of(graph: Graph) -> tuple[list[Float], list[Float], list[Activation]]:
    """Weights, biases and activations of the function that the graph computes in real arithmetic.

    Raises
    ------
    UnsupportedModelError
        The graph is no chain, or an operator is used in a way that is no affine map or activation of one sample.
    FileFormatError, InvalidInputError
        Shapes that do not fit; constants that are NaN or infinite.
    """
    chain = _Chain(graph)
    for node in graph.nodes:
        chain.follow(node)
    return chain.finish(graph.output)


class _Chain:
    """The walk along a graph: the value reached, its shape behind the batch, and what led to it."""

    def __init__(self, graph: Graph) -> None:
        if len(graph.shape) < 2:
            raise UnsupportedModelError(
                f"the input {graph.input[:80]!r} has {len(graph.shape)} dimension(s): samples must be rows, [N, d]"
            )
        self.value = graph.input
        self.batch, self.shape = graph.shape[0], graph.shape[1:]
        self.constants = dict(graph.constants)
        self.steps: list[Step] = []
        self._identity_after: int | None = None
        self._entries = 0
        self._layers: list[tuple[Float, Float]] = []
        self._activations: list[Activation] = []

    def follow(self, node: Node) -> None:
        data = [name for name in node.inputs if name and name not in self.constants]
        if not data:
            self._fold_constant(node)
            return
        if data != [self.value]:
            raise UnsupportedModelError(
                f"{node} takes {', '.join(repr(name[:80]) for name in data)}, the value before it is "
                f"{self.value[:80]!r}: certnet reads chains of operators, without branches"
            )
        if node.operator not in _READERS:
            raise UnsupportedModelError(f"{node} works on data, which is supported for constants only; {SUPPORTED}")
        _READERS[node.operator](self, node)
        self.value = node.output

    def finish(self, output: str) -> tuple[list[Float], list[Float], list[Activation]]:
        if output != self.value:
            raise UnsupportedModelError(f"the output {output[:80]!r} is not what the last operator gives")
        if self._activations and not any(isinstance(step, Dense) for step in self.steps):
            raise UnsupportedModelError(
                "the model ends with an activation: certnet reads networks whose last layer is linear; cut it off"
            )
        self._layers.append(fold(self.steps))
        if not self._activations:
            raise UnsupportedModelError(
                "the model has no activation, it is a linear map, whose Lipschitz constant is the norm of its matrix"
            )
        return [W for W, _ in self._layers], [b for _, b in self._layers], self._activations

    # what the operators do ---------------------------------------------------------------------------------------

    def dense(self, W: Float, node: Node) -> None:
        if len(self.shape) != 1:
            raise UnsupportedModelError(f"{node} works on {len(self.shape) + 1} dimensions: flatten the samples first")
        if self.shape[0] not in (None, W.shape[1]):
            raise FileFormatError(f"{node} takes {W.shape[1]} features, the value before it has {self.shape[0]}")
        self._count(W.size, node)
        if self._identity_after is not None:
            steps, self.steps = self.steps, self.steps[self._identity_after :]
            self._layer(steps[: self._identity_after], Activation("identity"))
        self.steps.append(Dense(W))
        self.shape = (W.shape[0],)

    def _count(self, entries: int, node: Node) -> None:
        """Bounded work: one stored tensor may be used by thousands of nodes."""
        self._entries += entries
        if self._entries > MAX_ENTRIES:
            raise UnsupportedModelError(f"{node}: the model uses more than {MAX_ENTRIES} weights")

    def activate(self, phi: Activation, node: Node) -> None:
        if not any(isinstance(step, Dense) for step in self.steps):
            raise UnsupportedModelError(f"{node} does not follow a linear layer: each activation needs one before it")
        self._layer(self.steps, phi)
        self.steps = []

    def mark_identity(self) -> None:
        """An Identity between two matrices is a layer's activation (scikit-learn's "identity"); others are nothing."""
        if any(isinstance(step, Dense) for step in self.steps):
            self._identity_after = len(self.steps)

    def _layer(self, steps: list[Step], phi: Activation) -> None:
        self._layers.append(fold(steps))
        self._activations.append(phi)
        self._identity_after = None

    # constants ---------------------------------------------------------------------------------------------------

    def constant(self, node: Node, position: int) -> Float:
        """The constant float input at a position."""
        name, array = self._stored(node, position)
        if array.dtype != np.float64:
            raise UnsupportedModelError(f"{node}: the constant {name[:80]!r} holds whole numbers, floats are needed")
        bad = ~np.isfinite(array)
        if bad.any():
            raise InvalidInputError(
                f"{node}: the constant {name[:80]!r} has {int(bad.sum())} entries that are NaN or infinite"
            )
        return array

    def whole_numbers(self, node: Node, position: int) -> list[int]:
        """The constant list of whole numbers at a position."""
        name, array = self._stored(node, position)
        if array.dtype != np.int64 or array.ndim != 1:
            raise UnsupportedModelError(f"{node}: the constant {name[:80]!r} is no list of whole numbers")
        return [int(n) for n in array]

    def _stored(self, node: Node, position: int) -> tuple[str, NDArray[Any]]:
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name not in self.constants:
            raise UnsupportedModelError(f"{node}: its input {position} must be a constant, the other the data")
        return name, self.constants[name]

    def other(self, node: Node) -> tuple[Float, int]:
        """The constant of an operator with two inputs, and its position."""
        position = 1 if node.inputs[0] == self.value else 0
        return self.constant(node, position), position

    def per_feature(self, array: Float, node: Node) -> Float:
        """A constant that meets the data elementwise: one number (1,), or one per feature in row-major order."""
        self._count(array.size, node)
        if array.ndim <= len(self.shape) + 1:
            if array.size == 1:
                return array.reshape(1)
            if self.shape == (None,) and array.shape[:-1] in ((), (1,)):
                self.shape = (array.shape[-1],)
            shape = [n for n in self.shape if n is not None]
            if len(shape) == len(self.shape) and math.prod(shape) <= _MAX_FEATURES:
                try:
                    return np.broadcast_to(array, (1, *shape)).reshape(-1)
                except ValueError:
                    pass  # the error below says what does not fit
        raise UnsupportedModelError(
            f"{node}: its constant has shape {array.shape}, which is neither one number nor one per feature of a sample"
        )

    def matrix(self, array: Float, node: Node) -> Float:
        if array.ndim != 2 or 0 in array.shape:
            raise UnsupportedModelError(f"{node}: its weights have shape {array.shape}, a matrix is needed")
        return array

    def _fold_constant(self, node: Node) -> None:
        """What is computed from constants alone: copies and transposes, as exporters write them."""
        if node.operator == "Constant":
            value = _constant_value(node)
        elif node.operator == "Identity":
            value = self._stored(node, 0)[1]
        elif node.operator == "Transpose" and self._stored(node, 0)[1].ndim == 2:
            stored = self._stored(node, 0)[1]
            value = stored if node.attributes.get("perm", (1, 0)) == (0, 1) else stored.T
        else:
            raise UnsupportedModelError(f"{node} computes with constants alone: simplify the model (fold constants)")
        self.constants[node.output] = value


def _constant_value(node: Node) -> NDArray[Any]:
    found = node.attributes
    if "value" in found:
        return np.asarray(found["value"])
    for name, dtype in (("value_float", float), ("value_floats", float), ("value_int", int), ("value_ints", int)):
        if name in found:
            return np.asarray(found[name], dtype=np.float64 if dtype is float else np.int64)
    raise UnsupportedModelError(f"{node} holds {', '.join(found) or 'nothing'}: numbers are needed")


# operators -----------------------------------------------------------------------------------------------------------


def _gemm(chain: _Chain, node: Node) -> None:
    said = node.attributes
    if node.inputs[0] != chain.value or said.get("transA", 0):
        raise UnsupportedModelError(f"{node} must take the data as A, not transposed")
    W = chain.matrix(chain.constant(node, 1), node)
    W = W if said.get("transB", 0) else W.T
    alpha, beta = float(said.get("alpha", 1.0)), float(said.get("beta", 1.0))
    with np.errstate(over="ignore"):  # the network refuses what overflows
        chain.dense(np.ascontiguousarray(W if alpha == 1.0 else alpha * W), node)
        if len(node.inputs) > 2 and node.inputs[2]:
            c = chain.per_feature(chain.constant(node, 2), node)
            chain.steps.append(Shift(c if beta == 1.0 else beta * c))


def _matmul(chain: _Chain, node: Node) -> None:
    if node.inputs[0] != chain.value:
        raise UnsupportedModelError(f"{node} multiplies from the left: the data must be its first input")
    chain.dense(np.ascontiguousarray(chain.matrix(chain.constant(node, 1), node).T), node)


def _add(chain: _Chain, node: Node) -> None:
    array, _ = chain.other(node)
    chain.steps.append(Shift(chain.per_feature(array, node)))


def _sub(chain: _Chain, node: Node) -> None:
    array, position = chain.other(node)
    values = chain.per_feature(array, node)
    if position == 1:
        chain.steps.append(Shift(-values))
    else:
        chain.steps += [Scale(np.array([-1.0])), Shift(values)]


def _mul(chain: _Chain, node: Node) -> None:
    array, _ = chain.other(node)
    chain.steps.append(Scale(chain.per_feature(array, node)))


def _div(chain: _Chain, node: Node) -> None:
    array, position = chain.other(node)
    if position == 0:
        raise UnsupportedModelError(f"{node} divides by the data, which is no layer of a feed-forward network")
    values = chain.per_feature(array, node)
    if not np.all(values):
        raise InvalidInputError(f"{node} divides by zero")
    with np.errstate(over="ignore"):
        chain.steps.append(Scale(1.0 / values))


def _scaler(chain: _Chain, node: Node) -> None:
    offset, scale = (np.array(node.attributes.get(name, ()), dtype=np.float64) for name in ("offset", "scale"))
    for array in (offset, scale):
        if not array.size or not np.isfinite(array).all():
            raise InvalidInputError(f"{node} needs an offset and a scale of finite numbers")
    chain.steps += [Shift(-chain.per_feature(offset, node)), Scale(chain.per_feature(scale, node))]


def _flatten(chain: _Chain, node: Node) -> None:
    axis = int(node.attributes.get("axis", 1))
    if axis not in (1, -len(chain.shape)):
        raise UnsupportedModelError(
            f"{node} has axis {axis}: only the features of one sample may be flattened (axis 1)"
        )
    chain.shape = (_size(chain.shape),)


def _reshape(chain: _Chain, node: Node) -> None:
    if node.inputs[0] != chain.value:
        raise UnsupportedModelError(f"{node} must take the data first")
    target = chain.whole_numbers(node, 1)
    size = _size(chain.shape)
    rows, features = target if len(target) == 2 else (None, None)
    zero = bool(node.attributes.get("allowzero", 0))
    # -1 means "what is left", 0 "as before"; which dimension is the batch must follow without knowing the batch
    keeps_rows = (rows == 0 and not zero) or (rows is not None and rows == chain.batch)
    keeps_features = (features is not None and features == size) or (
        features == 0 and not zero and len(chain.shape) == 1
    )
    if not ((keeps_rows and (keeps_features or features == -1)) or (rows == -1 and keeps_features)):
        raise UnsupportedModelError(
            f"{node} reshapes {[chain.batch, *chain.shape]} to {target[:8]}: only a reshape that provably "
            "flattens the features of each sample, [N, ...] to [N, d], is read"
        )
    chain.shape = (size,)


def _cast(chain: _Chain, node: Node) -> None:
    if node.attributes.get("to") not in FLOAT_TYPES:
        raise UnsupportedModelError(f"{node} casts to a type that is no float: certnet reads real-valued networks")


def _identity(chain: _Chain, node: Node) -> None:
    chain.mark_identity()


def _prelu(chain: _Chain, node: Node) -> None:
    slopes = chain.constant(node, 1)
    if slopes.size == 0 or np.any(slopes != slopes.flat[0]):
        raise UnsupportedModelError(f"{node} has several slopes: one for the whole layer is supported")
    chain.activate(Activation("leaky_relu", (float(slopes.flat[0]),)), node)


def _hard_sigmoid(chain: _Chain, node: Node) -> None:
    alpha, beta = _numbers(node, alpha=0.2, beta=0.5)
    match chain.steps[-2:]:
        case [Scale(s), Shift(t)] if alpha == 1.0 and beta == 0.0 and s.size == t.size == 1 and s[0] >= 0.0:
            # clip(s x + t): the activation's own parameters, as save_onnx writes those that float32 does not hold
            chain.steps = chain.steps[:-2]
            alpha, beta = float(s[0]), float(t[0])
    chain.activate(Activation("hard_sigmoid", (alpha, beta)), node)


def _numbers(node: Node, **defaults: float) -> tuple[float, ...]:
    """Attributes of type float, which ONNX keeps in float32, as its defaults."""
    return tuple(float(node.attributes.get(name, np.float32(value))) for name, value in defaults.items())


def _plain(name: str) -> Callable[[_Chain, Node], None]:
    return lambda chain, node: chain.activate(Activation(name), node)


def _size(shape: tuple[int | None, ...]) -> int | None:
    known = [n for n in shape if n is not None]
    return math.prod(known) if len(known) == len(shape) else None


_READERS: Final[dict[str, Callable[[_Chain, Node], None]]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Scaler": _scaler,
    "Relu": _plain("relu"),
    "LeakyRelu": lambda chain, node: chain.activate(Activation("leaky_relu", _numbers(node, alpha=0.01)), node),
    "PRelu": _prelu,
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("sigmoid"),
    "Softplus": _plain("softplus"),
    "Elu": lambda chain, node: chain.activate(Activation("elu", _numbers(node, alpha=1.0)), node),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _identity,
    "Cast": _cast,
    "Flatten": _flatten,
    "Reshape": _reshape,
}

OPERATORS: Final = {("ai.onnx.ml" if name == "Scaler" else "", name) for name in (*_READERS, "Constant", "Transpose")}
"""Operators that may occur, each with its domain."""

SUPPORTED: Final = (
    f"certnet reads chains of {', '.join(_READERS)} on one input [N, d], with Constant and Transpose for the weights"
)
