"""The order in which the values of a graph are computed, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.compositions import composed, is_light, summed
from certnet.io.values import Value
from certnet.networks.activations import Activation
from certnet.networks.layers import Layer, LinearOperator
from certnet.networks.operators import Blocks, Identity

__all__ = ["chain_of"]


@dataclass(eq=False)
class _Sum:
    """``Σ A_i x_i + b`` over values that are stored between layers, each once."""

    terms: dict[Value, LinearOperator] = field(default_factory=dict)
    bias: Float | None = None

    def plus(self, terms: dict[Value, LinearOperator], bias: Float | None) -> bool:
        """Add terms, unless two operators on one value make a sum of matrices: then nothing is changed."""
        merged = {}
        for x, A in terms.items():
            total = summed(self.terms[x], A) if x in self.terms else A
            if total is None:
                return False
            merged[x] = total
        self.terms |= merged
        self.bias = bias if self.bias is None else self.bias if bias is None else self.bias + bias
        return True


def _through(A: LinearOperator, inner: _Sum) -> _Sum | None:
    """A of a sum, or None where matrices would be multiplied."""
    outer = _Sum(bias=None if inner.bias is None else A(inner.bias[None])[0])
    for x, B in inner.terms.items():
        AB = composed(A, B)
        if AB is None:
            return None
        outer.terms[x] = AB
    return outer


def chain_of(output: Value, source: Value) -> list[Layer]:
    """Layers that compute ``output`` from the input ``source``."""
    schedule = _Schedule(output, source)
    layers: list[Layer] = []
    while (last := schedule.resolved(schedule.output)) is None:
        layers.append(schedule.step())
    if not layers:
        raise UnsupportedModelError(
            "there is no hidden layer: at least two linear layers or an activation are needed (the Lipschitz constant "
            "of a linear map is the norm of its matrix)"
        )
    return [*layers, _layer(schedule.state, [last], Activation("identity"), 0)]


class _Schedule:
    """The sums that define stored values, and the state: the values that the last layer gives.

    Stored are the input, all φ(x), and the linear values in ``_sums`` that others need as they are: those of which a
    matrix or convolution is taken, and sums that are used more than once (the stream of a residual network). A
    linear value is not stored where it can be computed from the state within the operator of the layer that needs it.
    """

    def __init__(self, output: Value, source: Value) -> None:
        order = _leading_to(output)
        if source not in order:
            raise UnsupportedModelError("the output does not depend on the input")
        uses = Counter(x for value in order for x, _ in value.terms)
        self._rank: dict[Value, float] = {value: float(k) for k, value in enumerate(order)}
        self._stored = {v for v in order if not v.linear or v.kept or (uses[v] > 1 and not _is_trivial(v))}
        self._sums: dict[Value, _Sum] = {}
        for value in order:
            if value is not source:
                self._sums[value] = self._defined(value)
        self.output = _Sum({output: Identity(output.size)}) if output in self._stored else self._sums[output]
        self.state: list[Value] = [source]
        self._known: dict[Value, _Sum | None] = {}

    def _defined(self, value: Value) -> _Sum:
        """The sum over stored values that ``value``, or what φ is taken of, is."""
        total = _Sum(bias=value.bias)
        for x, A in value.terms:
            part = None if x in self._stored else _through(A, self._sums[x])
            if part is None:
                self._stored.add(x)
                part = _Sum({x: A})
            if not total.plus(part.terms, part.bias):
                # two matrices on one value: one of the products is a value of its own
                if isinstance(A, Identity) and x not in self._stored:
                    self._stored.add(x)
                    alone = x
                else:
                    alone = Value(-1, A.n_outputs, ((x, A),))
                    self._rank[alone] = self._rank[value] - 0.5
                    self._stored.add(alone)
                    self._sums[alone] = part
                total.plus({alone: Identity(alone.size)}, None)
        return total

    # ------------------------------------------------------------------------------------------------------ the layers

    def step(self) -> Layer:
        """The next layer; the state is then what it gives.

        Its activation is that of the first φ(x) whose x can be computed from the state; all of the same φ that can be
        are computed beside it, and linear values that are needed later are, with what is carried.
        """
        state = set(self.state)
        needed = sorted(self._needed(state)[1], key=lambda value: self._rank[value])
        ready = [value for value in needed if self.resolved(self._sums[value]) is not None]
        phi = next((value.phi for value in ready if value.phi is not None), None)
        bending = [value for value in ready if value.phi is not None and value.phi == phi]
        linear = [value for value in ready if value.phi is None]
        reached = self._needed(state | set(bending) | set(linear))[0]
        carried = [value for value in (*linear, *self.state) if value in reached]
        rows = [self.resolved(self._sums[value]) for value in (*bending, *linear) if value in reached]
        rows += [_Sum({value: Identity(value.size)}) for value in self.state if value in reached]
        past = sum(value.size for value in carried) if bending else 0
        layer = _layer(self.state, [row for row in rows if row is not None], phi or Activation("identity"), past)
        self.state = [*bending, *carried]
        self._known = {}
        return layer

    def _needed(self, state: set[Value]) -> tuple[set[Value], set[Value]]:
        """Values of ``state`` that are used from here on, and stored values that are still to be computed."""
        used: set[Value] = set()
        missing: set[Value] = set()
        pending = list(self.output.terms)
        while pending:
            value = pending.pop()
            if value in state:
                used.add(value)
            elif value not in missing:
                missing.add(value)
                pending.extend(self._sums[value].terms)
        return used, missing

    def resolved(self, wanted: _Sum) -> _Sum | None:
        """A sum over the state alone that equals ``wanted``, or None: some of its values are to be computed before."""
        state = set(self.state)
        pending = [value for value in wanted.terms if value not in state]
        missing: set[Value] = set()
        while pending:  # linear values that are not stored yet
            value = pending.pop()
            if value.phi is not None:
                return None
            if value not in self._known and value not in missing:
                missing.add(value)
                pending.extend(x for x in self._sums[value].terms if x not in state)
        for value in sorted(missing, key=lambda value: self._rank[value]):
            self._known[value] = self._inserted(self._sums[value], state)
        return self._inserted(wanted, state)

    def _inserted(self, wanted: _Sum, state: set[Value]) -> _Sum | None:
        total = _Sum(bias=wanted.bias)
        for x, A in wanted.terms.items():
            inner = None if x in state else self._known[x]
            if x not in state and inner is None:
                return None
            part = _Sum({x: A}) if inner is None else _through(A, inner)
            if part is None or not total.plus(part.terms, part.bias):
                return None
        return total


def _is_trivial(value: Value) -> bool:
    """Whether a linear value is another with its entries moved or scaled: computed anew wherever it is used."""
    return len(value.terms) == 1 and is_light(value.terms[0][1])


def _leading_to(output: Value) -> list[Value]:
    """All values that the output is made of, in the order in which they were made."""
    found, pending = {output}, [output]
    while pending:
        for x, _ in pending.pop().terms:
            if x not in found:
                found.add(x)
                pending.append(x)
    return sorted(found, key=lambda value: value.number)


def _layer(state: Iterable[Value], rows: list[_Sum], phi: Activation, carried: int) -> Layer:
    """The layer that computes the rows from the state, every value of which some row uses."""
    state = list(state)
    grid = tuple(tuple(row.terms.get(value) for value in state) for row in rows)
    sizes = [next(A.n_outputs for A in line if A is not None) for line in grid]
    bias = np.concatenate([np.zeros(n) if row.bias is None else row.bias for row, n in zip(rows, sizes)])
    only = grid[0][0] if len(grid) == len(state) == 1 else None
    operator = Blocks(grid) if only is None else only
    return Layer(operator, bias, phi, carried)
