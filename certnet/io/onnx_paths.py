"""An ONNX graph with skips, convolutions or pooling as a network: read where it is no chain of dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from certnet.core.errors import FileFormatError, UnsupportedModelError
from certnet.io import expressions as formula
from certnet.io.graphs import Graph, Value
from certnet.io.onnx_chain import Graph as File
from certnet.io.onnx_constants import Node
from certnet.io.onnx_formulas import FORMULAS, FORMULAS_ONLY, term_of
from certnet.io.onnx_images import IMAGES
from certnet.io.onnx_moves import MOVES
from certnet.io.onnx_operators import READERS
from certnet.io.onnx_pairs import PAIRS
from certnet.io.onnx_refused import reason
from certnet.io.onnx_walk import Data, Reader, Walk
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward

__all__ = ["ON_PATHS", "Paths", "meets", "paths_of"]

_MAX_OPERATORS: Final = 1000
"""Most operators on data: the order of layers is found in a time that grows with their square."""
_MAX_BASES: Final = 6
_MAX_TERMS: Final = 1 << 13
"""Most steps of formulas that are followed, in case an activation is written as one."""
_IN_FORMULAS: Final = ("Mul", "Div", "Where")
_MAX_ALIVE: Final = 1 << 22
"""Most pairs of values that are kept for later, over all operators: a layer has a block for each pair of values."""
_MAX_KEPT: Final = 1 << 27
"""Most numbers of values that are kept for later, over all operators: a layer has a bias for each."""
_SOFTMAX: Final = {"Softmax": "softmax", "LogSoftmax": "log-softmax"}

ON_PATHS: Final[dict[str, Reader]] = {**IMAGES, **MOVES, **PAIRS}
"""Operators that are read otherwise than in a chain, or not there."""


@dataclass(frozen=True, eq=False)
class Paths:
    """What was read.

    Attributes
    ----------
    graph, output : Graph, Value
    nodes : tuple of str
        Names of the operators with weights.
    remarks : tuple of str
    value : str
        The value in the file that the network computes: its output, or what a softmax at the end is applied to.
    effort : float
        About so many seconds the reference evaluator needs for one sample.
    """

    graph: Graph
    output: Value
    nodes: tuple[str, ...]
    remarks: tuple[str, ...]
    value: str
    effort: float

    def network(self, units: str) -> FeedForward:
        with np.errstate(all="ignore"):  # what overflows is refused by the network
            return self.graph.network(self.output, units=units)


def meets(file: File) -> bool:
    """Does a graph hold what is in no chain: an operator on images, or a sum of two values that are computed?"""
    made = {file.input}
    for node in file.nodes:
        data = [name for name in node.inputs if name in made]
        if data and node.operator != "Shape":
            made.update(node.outputs)
            several = len(data) > 1 and node.operator not in _IN_FORMULAS
            if several or node.operator not in READERS.keys() | FORMULAS.keys():
                return True
    return False


def paths_of(file: File) -> Paths:
    """The graph of values that the file computes in real arithmetic.

    Raises
    ------
    UnsupportedModelError
        An operator is none of those that certnet reads on data, or is used in a way that is no affine map, maximum or
        activation of one sample; the model asks for more values or products than certnet reads.
    FileFormatError, InvalidInputError
        Shapes that do not fit; constants that are NaN or infinite.
    """
    with np.errstate(all="ignore"):
        return _Reading(file).read()


class _Reading:
    def __init__(self, file: File) -> None:
        self.file = file
        self.walk = Walk(file)
        self.used = _leading_to(file)
        self._terms = 0
        self._alive = _Alive(file, self.used)
        self._consumers: dict[str, set[str]] = {}
        for node in file.nodes:
            for name in node.inputs:
                self._consumers.setdefault(name, set()).add(node.operator)
        self._keep(self._based_input())

    def read(self) -> Paths:
        walk, count = self.walk, 0
        for node in self.file.nodes:
            if walk.chain.without_data(node) or not self.used & {*node.outputs}:
                continue
            count += 1
            if count > _MAX_OPERATORS:
                raise UnsupportedModelError(
                    f"it has more than {_MAX_OPERATORS} operators on data, and skips, convolutions or moves of entries "
                    "among them: certnet reads smaller ones"
                )
            for made in self._step(node):
                self._keep(made)
            self._alive.past(node)
        return self._finished()

    def _keep(self, made: Data) -> None:
        self.walk.known[made.name] = made
        self.walk.chain.begin(made.name, made.shape)
        self.walk.chain.reach(made.name)
        self._alive.add(made)

    def _based_input(self) -> Data:
        x = self.walk.known[self.file.input]
        return replace(x, formulas=self._based(x, {}))

    def _finished(self) -> Paths:
        last = self.walk.known.get(self.file.output)
        if last is None:
            raise UnsupportedModelError(f"the output {self.file.output[:80]!r} does not depend on the input")
        if last.node is None:
            raise UnsupportedModelError("the output is the input")
        value = self.walk.value(last, last.node)
        if not _bends(value):
            raise UnsupportedModelError(
                "the model has no activation, it is a linear map, whose Lipschitz constant is the norm of its matrix"
            )
        remarks = list(self.walk.chain.remarks)
        computed = last.name
        if last.left_out:
            softmax, computed = last.left_out
            remarks.append(f"{softmax} is left out: the network gives the logits")
        return Paths(self.walk.graph, value, self.walk.chain.named, tuple(remarks), computed, self.walk.effort)

    def _step(self, node: Node) -> list[Data]:
        data = [self._found(node, name) for name in dict.fromkeys(self.walk.chain.data_of(node))]
        if any(x.left_out for x in data) and node.operator not in ("Identity", "Cast"):
            raise UnsupportedModelError(
                f"{node} works on the result of a softmax, which is no layer of a feed-forward network unless it is "
                f"the last{reason(node.operator)}"
            )
        formulas = self._formulas(node, data)
        if formulas and not self._readable(node, data):
            value = self._recognised(node, formulas)
            known = Data(node.output, data[0].shape, value, node)
            return [replace(known, formulas=self._based(known, formulas))]
        made = self._read(node, data)
        unused = [name for name in node.more_outputs if name and name not in {x.name for x in made}]
        if any(name in self._consumers or name == self.file.output for name in unused):
            raise UnsupportedModelError(
                f"{node} has a second output that is used: it gives indices, or is in training mode"
            )
        return [replace(x, formulas=self._based(x, formulas)) for x in made]

    def _found(self, node: Node, name: str) -> Data:
        if name not in self.walk.known:
            raise FileFormatError(f"{node} takes {name[:80]!r}, which no operator before it gives")
        return self.walk.known[name]

    def _readable(self, node: Node, data: Sequence[Data]) -> bool:
        """Whether the operator is read as it is, and is not only a part of a formula."""
        if any(x.value is None for x in data) or (node.operator in FORMULAS_ONLY and node.operator not in ON_PATHS):
            return False
        return node.operator not in ("Mul", "Div") or (len(data) == 1 and node.inputs.count(data[0].name) == 1)

    def _read(self, node: Node, data: Sequence[Data]) -> list[Data]:
        if node.operator in _SOFTMAX:
            return [self._softmax(node, data[0])]
        if node.operator in ON_PATHS:
            return ON_PATHS[node.operator](self.walk, node, data)
        if node.operator in READERS and len(data) == 1:
            made = self.walk.through_chain(node, data[0], READERS[node.operator])
            return [replace(made, left_out=data[0].left_out)]
        for x in data:
            self.walk.value(x, node)
        raise UnsupportedModelError(
            f"{node} works on data, and is no activation that certnet knows, nor a part of one{reason(node.operator)}"
        )

    def _softmax(self, node: Node, x: Data) -> Data:
        axis = int(node.attributes.get("axis", -1))
        if len(x.shape) != 1 or axis not in (1, -1):
            raise UnsupportedModelError(
                f"{node} is taken over axis {axis}: over the outputs of a sample, at the end, it is left out"
            )
        return Data(node.output, x.shape, self.walk.value(x, node), node, left_out=(_SOFTMAX[node.operator], x.name))

    # --------------------------------------------------------------------------------------------------------- formulas

    def _based(self, x: Data, formulas: dict[Data, Any]) -> dict[Data, Any]:
        """Formulas of x, and x itself where another may begin."""
        wanted = self._consumers.get(x.name, set()) if x.value is not None else set()
        if len(wanted) > 1 or wanted & {*FORMULAS_ONLY, "Sigmoid", "Mul"}:
            formulas = {**formulas, x: formula.X}
        return dict(list(formulas.items())[-_MAX_BASES:])

    def _formulas(self, node: Node, data: Sequence[Data]) -> dict[Data, Any]:
        """What a node makes of the values that all its data are elementwise functions of."""
        if node.operator not in FORMULAS or len({x.shape for x in data}) != 1:
            return {}
        chain, found = self.walk.chain, {}
        chain.begin(data[0].name, data[0].shape)
        for base in data[0].formulas:
            if all(base in x.formulas for x in data) and self._terms < _MAX_TERMS:
                self._terms += 1
                known = {x.name: x.formulas[base] for x in data}
                try:
                    terms = [term_of(chain, node, name, known) for name in node.inputs]
                    found[base] = FORMULAS[node.operator](chain, node, terms)
                except UnsupportedModelError:  # no formula of this base
                    continue
        return found

    def _recognised(self, node: Node, formulas: dict[Data, Any]) -> Value | None:
        """The activation that one of the formulas is, of the value nearest to it; None where there is none yet."""
        graph = self.walk.graph
        for base, made in reversed(formulas.items()):
            known = formula.recognise(made) if isinstance(made, tuple) else None
            if known is not None and base.value is not None:
                self.walk.room(base.shape, node, 2)
                inner = graph.scale(base.value, np.array([known.inner]))
                return graph.scale(graph.activation(inner, Activation(known.name)), np.array([known.outer]))
        return None


class _Alive:
    """The values that are kept for later operators, which a layer carries; their numbers are bounded."""

    def __init__(self, file: File, used: set[str]) -> None:
        self._last = {name: node.index for node in file.nodes for name in node.inputs if used & {*node.outputs}}
        self._ending: dict[int, list[str]] = {}
        for name, index in self._last.items():
            self._ending.setdefault(index, []).append(name)
        self._held: dict[str, tuple[int, int]] = {}
        self._count = self._size = self._pairs = self._kept = 0

    def add(self, made: Data) -> None:
        if made.value is not None and made.name not in self._held:
            parts = max(1, len(made.value.parts))
            self._held[made.name] = parts, made.size
            self._count += parts
            self._size += made.size

    def past(self, node: Node) -> None:
        """Drop what no operator after this one takes."""
        for name in self._ending.get(node.index, ()):
            parts, size = self._held.pop(name, (0, 0))
            self._count -= parts
            self._size -= size
        self._pairs += self._count**2
        self._kept += self._size
        if self._pairs > _MAX_ALIVE or self._kept > _MAX_KEPT:
            raise UnsupportedModelError(
                f"{node} is reached with {self._count} values of {self._size} numbers that are needed later: a layer "
                "carries each, and the model has more of them than certnet reads"
            )


def _bends(value: Value) -> bool:
    """Is an activation among what a value is made of?"""
    seen, pending = {value}, [value]
    while pending:
        x = pending.pop()
        if x.phi is not None:
            return True
        fresh = {inner for inner, _ in x.terms} - seen
        seen |= fresh
        pending += fresh
    return False


def _leading_to(file: File) -> set[str]:
    """Names of the values that the output is made of."""
    used = {file.output}
    for node in reversed(file.nodes):
        if used & {*node.outputs}:
            used.update(name for name in node.inputs if name)
    return used
