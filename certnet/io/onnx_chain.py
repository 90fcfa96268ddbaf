"""The walk along a chain of ONNX operators: the value reached, and the layers behind it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import MAX_ENTRIES, Dense, Scale, Step, fold
from certnet.io.onnx_constants import Node, Shape, fold_constant, fold_shape
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward

__all__ = ["Chain", "Graph", "Layers", "size_of"]

_MAX_FEATURES: Final = 1 << 24
_MAX_IDENTITY: Final = 1 << 12
"""Most units of an activation that gets an identity matrix before or behind it."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph with one input of the given shape (batch first; None where open), one output, and constants by name."""

    input: str
    shape: tuple[int | None, ...]
    output: str
    constants: Mapping[str, NDArray[Any]]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Layers:
    """What was read.

    Attributes
    ----------
    weights, biases, activations : lists
        Of the layers.
    nodes : tuple of str
        Names of the operators whose matrices they are.
    remarks : tuple of str
        What a user should know of the reading.
    value : str
        The value in the graph that the layers compute: its output, or what a softmax at the end is applied to.
    """

    weights: list[Float]
    biases: list[Float]
    activations: list[Activation]
    nodes: tuple[str, ...]
    remarks: tuple[str, ...]
    value: str

    def network(self, units: str) -> FeedForward:
        return FeedForward(self.weights, self.biases, self.activations, units=units)


class Chain:
    """The walk along a graph: the value reached, its shape behind the batch, and what led to it.

    A walk may also go over a graph in pieces, one operator at a time (:mod:`certnet.io.onnx_paths`): then
    :meth:`begin` says where a piece starts, :meth:`taken` what it is, and activations need no matrix before them.
    """

    def __init__(self, graph: Graph, *, in_pieces: bool = False) -> None:
        if len(graph.shape) == 0:
            raise UnsupportedModelError(
                f"the input {graph.input[:80]!r} is one number: samples must be rows, [N, d], or one sample, [d]"
            )
        self.value: str = graph.input
        self.single: bool = len(graph.shape) == 1
        self.batch: int | None = None if self.single else graph.shape[0]
        self.shape: tuple[Any, ...] = graph.shape if self.single else graph.shape[1:]
        self.constants: dict[str, NDArray[Any]] = dict(graph.constants)
        self.steps: list[Step] = []
        self.remarks: list[str] = []
        if self.single:
            self.remarks.append("the model takes one sample at a time, a vector")
        self.nodes: tuple[Node, ...] = graph.nodes
        self._shapes: dict[str, Shape] = {}
        self._seen = {self.value: self._dimensions()}
        self.uses: Counter[str] = Counter(
            name for node in graph.nodes if node.operator != "Shape" for name in node.inputs
        )
        self.uses[graph.output] += 1
        self.left_out: str | None = None
        self._in_pieces = in_pieces
        self._identity_after: int | None = None
        self._entries = 0
        self._folded = (1 << 22) + 4 * sum(array.size for array in self.constants.values())
        self._layers: list[list[Step]] = []
        self._activations: list[Activation] = []
        self._matrices: list[str] = []

    def _dimensions(self) -> tuple[int | None, ...]:
        return self.shape if self.single else (self.batch, *self.shape)

    def reach(self, value: str) -> None:
        if self.left_out is None:
            self._computed = value
        self.value = value
        self._seen[value] = self._dimensions()

    def begin(self, value: str, shape: tuple[int | None, ...]) -> None:
        """Go on from ``value``, whose samples have this shape."""
        self.value, self.shape = value, shape

    def taken(self) -> list[Step | Activation]:
        """Steps and activations since the last call, in their order."""
        pieces: list[Step | Activation] = []
        for steps, phi in zip(self._layers, self._activations):
            pieces += [*steps, phi]
        pieces += self.steps
        self._layers, self._activations, self.steps = [], [], []
        self._identity_after = None
        return pieces

    def data_of(self, node: Node) -> list[str]:
        return [name for name in node.inputs if name and name not in self.constants and name not in self._shapes]

    def finish(self, output: str) -> Layers:
        if output != self.value:
            raise UnsupportedModelError(f"the output {output[:80]!r} is not what the last operator gives")
        if not self._activations:
            raise UnsupportedModelError(
                "the model has no activation, it is a linear map, whose Lipschitz constant is the norm of its matrix"
            )
        if not self._has_matrix():
            self.put_identity(f"the {self._activations[-1]} at the end")
        stages, phis = _merged([*self._layers, self.steps], self._activations)
        layers = [fold(steps) for steps in stages]
        return Layers(
            [W for W, _ in layers],
            [b for _, b in layers],
            phis,
            self.named,
            tuple(self.remarks),
            self._computed,
        )

    # what the operators do ---------------------------------------------------------------------------------------

    def _has_matrix(self) -> bool:
        return any(isinstance(step, Dense) for step in self.steps)

    def dense(self, W: Float, node: Node) -> None:
        if len(self.shape) != 1:
            raise UnsupportedModelError(f"{node} works on {len(self.shape) + 1} dimensions: flatten the samples first")
        if self.shape[0] not in (None, W.shape[1]):
            raise FileFormatError(f"{node} takes {W.shape[1]} features, the value before it has {self.shape[0]}")
        self.count(W.size, node)
        if self._identity_after is not None:
            steps, self.steps = self.steps, self.steps[self._identity_after :]
            self._layer(steps[: self._identity_after], Activation("identity"))
        self.steps.append(Dense(W))
        self.shape = (W.shape[0],)
        self.name(node)

    def name(self, node: Node) -> None:
        """Remember a node that has weights."""
        self._matrices.append((node.name or f"{node.operator}_{node.index}")[:80])

    @property
    def named(self) -> tuple[str, ...]:
        """Names of the operators whose weights were read."""
        return tuple(self._matrices)

    def count(self, entries: int, where: object) -> None:
        """Bounded work: one stored tensor may be used by thousands of nodes."""
        self._entries += entries
        if self._entries > MAX_ENTRIES:
            raise UnsupportedModelError(f"{where}: the model uses more than {MAX_ENTRIES} weights")

    def activate(self, phi: Activation, node: Node) -> None:
        if not self._has_matrix() and not self._in_pieces:
            self.put_identity(str(node))
        self._layer(self.steps, phi)
        self.steps = []

    def put_identity(self, where: str) -> None:
        """``f = φ(x) = I φ(I x)``: a layer needs a matrix, and the identity is exact."""
        n = size_of(self.shape)
        if n is None or not 0 < n <= _MAX_IDENTITY:
            raise UnsupportedModelError(
                f"{where} does not stand next to a linear layer and acts on {n or 'an unknown number of'} units: "
                f"certnet puts identity matrices of at most {_MAX_IDENTITY} in such places"
            )
        self.count(n * n, where)
        self.steps.append(Dense(np.eye(n)))

    def scale(self, factor: float) -> None:
        if factor != 1.0:
            self.steps.append(Scale(np.array([factor])))

    def leave_out(self, name: str, remark: str) -> None:
        """A step at the end that is no layer; the network gives what it is applied to."""
        self.left_out = name
        self.remarks.append(remark)

    def mark_identity(self) -> None:
        """An Identity between two matrices is a layer's activation (scikit-learn's "identity"); others are nothing."""
        if self._has_matrix():
            self._identity_after = len(self.steps)

    def _layer(self, steps: list[Step], phi: Activation) -> None:
        self._layers.append(steps)
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

    def limit(self, node: Node, position: int) -> float | None:
        """An optional constant number; infinite ones and the largest floats are none."""
        if not node.input(position):
            return None
        array = self._stored(node, position)[1]
        value = float(array.reshape(-1)[0]) if array.size == 1 else math.nan
        if math.isnan(value):
            raise UnsupportedModelError(f"{node}: its input {position} is not one number")
        return value

    def sizes(self, node: Node, position: int) -> list[int | None]:
        """The constant list of whole numbers at a position; None stands for the number of samples."""
        name = node.input(position)
        if name in self._shapes:
            return list(self._shapes[name].sizes)
        name, array = self._stored(node, position)
        if array.dtype != np.int64 or array.ndim != 1:
            raise UnsupportedModelError(f"{node}: the constant {name[:80]!r} is no list of whole numbers")
        return [int(n) for n in array]

    def _stored(self, node: Node, position: int) -> tuple[str, NDArray[Any]]:
        name = node.input(position)
        if name not in self.constants:
            raise UnsupportedModelError(f"{node}: its input {position} must be a constant, the other the data")
        return name, self.constants[name]

    def other(self, node: Node) -> tuple[Float, int]:
        """The constant of an operator with two inputs, and its position."""
        position = 1 if node.inputs[0] == self.value else 0
        return self.constant(node, position), position

    def per_feature(self, array: Float, node: Node) -> Float:
        """A constant that meets the data elementwise: one number (1,), or one per feature in row-major order."""
        self.count(array.size, node)
        if array.ndim <= len(self._dimensions()):
            if array.size == 1:
                return array.reshape(1)
            if self.shape == (None,) and array.shape[:-1] in ((), (1,)):
                self.shape = (array.shape[-1],)
            shape = [n for n in self.shape if n is not None]
            if len(shape) == len(self.shape) and math.prod(shape) <= _MAX_FEATURES:
                try:
                    return np.broadcast_to(array, shape if self.single else (1, *shape)).reshape(-1)
                except ValueError:
                    pass  # the error below says what does not fit
        raise UnsupportedModelError(
            f"{node}: its constant has shape {array.shape}, which is neither one number nor one per feature of a sample"
        )

    def per_channel(self, array: Float, node: Node) -> Float:
        """One number per channel, the first dimension of a sample, for each of its features."""
        if self.shape == (None,):
            self.shape = array.shape[:1]
        size = size_of(self.shape)
        if array.ndim != 1 or not self.shape or self.single or self.shape[0] != array.size or size is None:
            raise UnsupportedModelError(
                f"{node} has {array.size} channels, the value before it {list(self._dimensions())}: they must be known "
                "to fit"
            )
        self.count(size, node)
        return np.repeat(array, size // array.size)

    def matrix(self, array: Float, node: Node) -> Float:
        if array.ndim != 2 or 0 in array.shape:
            raise UnsupportedModelError(f"{node}: its weights have shape {array.shape}, a matrix is needed")
        return array

    def without_data(self, node: Node) -> bool:
        """Compute a node that needs no data, from constants or from the shape of a value; was it one?"""
        if node.operator == "Shape":
            self._measure(node)
            return True
        if self.data_of(node):
            return False
        if any(name in self._shapes for name in node.inputs):
            parts = [self._shapes.get(name, self.constants.get(name)) for name in node.inputs]
            self._shapes[node.output] = fold_shape(node, parts)
            return True
        value = fold_constant(node, [self.constants.get(name) for name in node.inputs])
        if value.base is None:  # no view of another
            self._folded -= value.size
        if self._folded < 0:
            raise UnsupportedModelError(f"{node}: the constants that are computed are larger than certnet reads")
        self.constants[node.output] = value
        return True

    def _measure(self, node: Node) -> None:
        name = node.input(0)
        if name not in self._seen:
            raise UnsupportedModelError(f"{node} takes the shape of a value that is no data of the chain")
        dimensions = self._seen[name]
        if any(n is None for n in dimensions[0 if self.single else 1 :]):
            raise UnsupportedModelError(f"{node} takes a shape that is not known: export the model with fixed features")
        start, end = int(node.attributes.get("start", 0)), int(node.attributes.get("end", len(dimensions)))
        self._shapes[node.output] = Shape(dimensions[start:end])


def _merged(stages: list[list[Step]], phis: list[Activation]) -> tuple[list[list[Step]], list[Activation]]:
    """Activations that are written with a factor before and behind them: ``log(1 + exp(β z)) / β`` and the like."""
    stages, phis = list(stages), list(phis)
    for k, phi in enumerate(phis):
        match stages[k][-1:], stages[k + 1][:1]:
            case [Scale(s)], [Scale(t)] if s.size == t.size == 1:
                merged = _with_factors(phi, float(s[0]), float(t[0]))
                if merged is not None:
                    phis[k], stages[k], stages[k + 1] = merged, stages[k][:-1], stages[k + 1][1:]
    return stages, phis


def _with_factors(phi: Activation, s: float, t: float) -> Activation | None:
    """``t φ(s z)`` as one activation."""
    if phi.name == "softplus" and s == t == -1.0:
        return Activation("log_sigmoid")
    if phi.name == "softplus" and s > 0.0 and math.isfinite(t) and t == 1.0 / s:
        return Activation("softplus_beta", (s,))
    if phi == Activation("elu", (1.0,)) and t > 0.0 and math.isfinite(s) and s == 1.0 / t:
        return Activation("celu", (t,))
    return None


def size_of(shape: tuple[int | None, ...]) -> int | None:
    known = [n for n in shape if n is not None]
    return math.prod(known) if len(known) == len(shape) else None
