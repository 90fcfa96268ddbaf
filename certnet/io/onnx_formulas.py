"""Activations that exporters write as formulas: ONNX operators on elementwise expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from certnet.core.errors import UnsupportedModelError
from certnet.io import expressions as formula
from certnet.io.onnx_chain import Chain
from certnet.io.onnx_constants import Node
from certnet.io.onnx_operators import READERS, cast, numbers

__all__ = ["FORMULAS", "FORMULAS_ONLY", "term_of"]

_Terms = list[Any]


@dataclass(frozen=True)
class Comparison:
    """Whether ``p > threshold``."""

    p: formula.Poly
    threshold: float


def _two(operation: Callable[[Any, Any], formula.Poly]) -> Callable[[Chain, Node, _Terms], Any]:
    return lambda chain, node, terms: operation(*_exactly(terms, 2))


def _one(name: str) -> Callable[[Chain, Node, _Terms], Any]:
    return lambda chain, node, terms: formula.function(name, *_exactly(terms, 1))


def _exactly(terms: _Terms, n: int) -> _Terms:
    if len(terms) != n or any(not isinstance(term, tuple) for term in terms):
        raise UnsupportedModelError("it takes other inputs than its formula has")
    return terms


def _value(term: Any) -> float:
    value = formula.number_of(term) if isinstance(term, tuple) else None
    if value is None:
        raise UnsupportedModelError("a number is needed where the data are")
    return value


def _clipped(chain: Chain, node: Node, terms: _Terms) -> formula.Poly:
    said = [node.attributes.get(name) for name in ("min", "max")]
    given = [*terms, None, None][1:3]
    low, high = (_value(t) if t is not None else a for t, a in zip(given, said))
    if low is None or high is None:
        raise UnsupportedModelError("a clip with one limit is no part of a formula that certnet knows")
    return formula.clip_unit(terms[0], low, high)


def _hard(chain: Chain, node: Node, terms: _Terms) -> formula.Poly:
    alpha, beta = numbers(node, alpha=0.2, beta=0.5)
    inner = formula.plus(formula.scaled(_exactly(terms, 1)[0], alpha), formula.constant(beta))
    return formula.clip_unit(inner, 0.0, 1.0)


def _least(p: formula.Poly, q: formula.Poly) -> formula.Poly:
    """``min(relu(t), c) = clip(t, 0, c)``."""
    value = formula.number_of(q)
    match p:
        case (((("relu", inner),), one),) if value is not None and one == 1.0:
            return formula.clip_unit(inner, 0.0, value)
    raise UnsupportedModelError("a minimum is no part of a formula that certnet knows")


def _compared(chain: Chain, node: Node, terms: _Terms) -> Comparison:
    p, q = _exactly(terms, 2)
    return Comparison(p, _value(q))


def _where(chain: Chain, node: Node, terms: _Terms) -> formula.Poly:
    if len(terms) != 3 or not isinstance(terms[0], Comparison) or not all(isinstance(t, tuple) for t in terms[1:]):
        raise UnsupportedModelError("a choice by cases is no activation that certnet knows")
    made = formula.where_above(terms[0].p, terms[0].threshold, terms[1], terms[2])
    remark = "softplus is read as it is defined: the model takes the line z above z = 20, within 2.1e-9"
    if remark not in chain.remarks:
        chain.remarks.append(remark)
    return made


def _kept(chain: Chain, node: Node, terms: _Terms) -> formula.Poly:
    if node.operator == "Cast":
        cast(chain, node)
    return _exactly(terms, 1)[0]  # type: ignore[no-any-return]


FORMULAS: Final[dict[str, Callable[[Chain, Node, _Terms], Any]]] = {
    "Add": _two(formula.plus),
    "Sub": _two(lambda p, q: formula.plus(p, formula.scaled(q, -1.0))),
    "Mul": _two(formula.times),
    "Div": _two(formula.over),
    "Pow": _two(lambda p, q: formula.power(p, _value(q))),
    "Neg": lambda chain, node, terms: formula.scaled(_exactly(terms, 1)[0], -1.0),
    "Reciprocal": lambda chain, node, terms: formula.over(formula.constant(1.0), *_exactly(terms, 1)),
    "Exp": _one("exp"),
    "Log": _one("log"),
    "Erf": _one("erf"),
    "Abs": _one("abs"),
    "Tanh": _one("tanh"),
    "Sigmoid": _one("sigmoid"),
    "Softplus": _one("softplus"),
    "Relu": _one("relu"),
    "Clip": _clipped,
    "HardSigmoid": _hard,
    "Min": _two(_least),
    "Greater": _compared,
    "Where": _where,
    "Identity": _kept,
    "Cast": _kept,
}
FORMULAS_ONLY: Final = tuple(name for name in FORMULAS if name not in READERS)


def term_of(chain: Chain, node: Node, name: str, found: Mapping[str, formula.Poly]) -> formula.Poly | None:
    if not name or name in found:
        return found.get(name)
    array = chain.constants.get(name)
    if array is None or array.size != 1 or array.ndim > len(chain.shape) + 1 or not np.isfinite(array).all():
        raise UnsupportedModelError(f"its constant {name[:80]!r} is not one number")
    return formula.constant(float(array.reshape(-1)[0]))
