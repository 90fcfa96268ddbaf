"""Elementwise expressions in one variable, as exporters write activations that have no operator of their own.

An expression is a polynomial ``Σ_i c_i Π_j a_ij`` whose atoms are the variable x or a function of a polynomial.
Products are multiplied out, so that different ways of writing one formula become the same polynomial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from certnet.core.errors import UnsupportedModelError

__all__ = [
    "Poly",
    "Recognised",
    "X",
    "clip_unit",
    "constant",
    "function",
    "number_of",
    "over",
    "plus",
    "power",
    "recognise",
    "scaled",
    "times",
    "where_above",
]

# an atom is ("x",) or (name of a function, polynomial); a monomial a sorted tuple of atoms
Atom = tuple[Any, ...]
Monomial = tuple[Atom, ...]
Poly = tuple[tuple[Monomial, float], ...]

_MAX_TERMS: Final = 64
_MAX_SIZE: Final = 400
_MAX_DEGREE: Final = 8
_CLOSE: Final = 1e-6
"""Constants such as √(1/2) are rounded to float32 in the files: numbers this close (relatively) are the same."""
_THRESHOLD: Final = 20.0
"""From here on softplus is within 2.1e-9 of the line that frameworks put in its place."""

X: Final[Poly] = (((("x",),), 1.0),)


def constant(value: float) -> Poly:
    return (((), value),) if value else ()


def plus(p: Poly, q: Poly) -> Poly:
    terms = dict(p)
    for monomial, c in q:
        terms[monomial] = terms.get(monomial, 0.0) + c
    return _sorted(terms)


def scaled(p: Poly, factor: float) -> Poly:
    return _sorted({monomial: factor * c for monomial, c in p})


def times(p: Poly, q: Poly) -> Poly:
    if len(p) * len(q) > _MAX_TERMS:
        raise UnsupportedModelError("the elementwise formula is too involved")
    terms: dict[Monomial, float] = {}
    for a, c in p:
        for b, d in q:
            product = tuple(sorted((*a, *b), key=_key))
            terms[product] = terms.get(product, 0.0) + c * d
    return _sorted(terms)


def power(p: Poly, exponent: float) -> Poly:
    if exponent not in (1.0, 2.0, 3.0):
        raise UnsupportedModelError(f"a power {exponent:g} of the data is no activation that certnet knows")
    result = p
    for _ in range(int(exponent) - 1):
        result = times(result, p)
    return result


def over(p: Poly, q: Poly) -> Poly:
    """``p / q``."""
    value = number_of(q)
    if value is not None:
        if not value:
            raise UnsupportedModelError("the elementwise formula divides by zero")
        return scaled(p, 1.0 / value)
    match q:
        case (((), one), ((("exp", inner),), c)) if one == c == 1.0:  # 1 / (1 + exp(t)) = sigmoid(-t)
            return times(p, function("sigmoid", scaled(inner, -1.0)))
    return times(p, function("recip", q))


def function(name: str, p: Poly) -> Poly:
    """``name(p)``: exp, log, erf, tanh, sigmoid, softplus, abs, relu, recip or unit (clip to [0, 1])."""
    match name, p:
        case "abs", ((monomial, c),):
            return ((((name, ((monomial, 1.0),)),), abs(c)),)
        case "log", (((), one), ((("exp", inner),), c)) if one == c == 1.0:
            return function("softplus", inner)
        case "log", (((("sigmoid", inner),), one),) if one == 1.0:  # log(sigmoid(t)) = -softplus(-t)
            return scaled(function("softplus", scaled(inner, -1.0)), -1.0)
    return ((((name, p),), 1.0),)


def clip_unit(p: Poly, low: float, high: float) -> Poly:
    """``min(max(p, low), high)`` as ``low + (high - low) unit((p - low) / (high - low))``."""
    if not low < high:
        raise UnsupportedModelError("a clip whose limits are not in order is no activation that certnet knows")
    width = high - low
    inner = scaled(plus(p, constant(-low)), 1.0 / width)
    return plus(constant(low), scaled(function("unit", inner), width))


def where_above(p: Poly, threshold: float, then: Poly, otherwise: Poly) -> Poly:
    """``then`` where ``p > threshold``, else ``otherwise``: read where it is a softplus that turns into its line."""
    match otherwise:
        case (((("softplus", inner),), k),) if threshold >= _THRESHOLD and _same(inner, p, 1.0):
            if _same(then, p, k) or _same(then, scaled(p, k), 1.0):
                return otherwise
    raise UnsupportedModelError("a choice by cases is no activation that certnet knows")


def number_of(p: Poly) -> float | None:
    """The value of a polynomial without x."""
    if not p:
        return 0.0
    return p[0][1] if len(p) == 1 and p[0][0] == () else None


@dataclass(frozen=True)
class Recognised:
    """``k φ(s x)``: the activation, and the factors behind and before it."""

    name: str
    inner: float
    outer: float


def recognise(p: Poly) -> Recognised | None:
    """The activation that a polynomial is, if certnet knows it."""
    if not p:
        return None
    for name, (formula, first) in _FORMULAS.items():
        inner = next(_slopes_in(p, first), None)
        if inner is None:
            continue
        s = _snapped(inner / next(_slopes_in(formula(X), first)))
        if s == 0.0 or not math.isfinite(s):
            continue
        known = formula(scaled(X, s))
        if len(known) != len(p):
            continue
        k = _snapped(p[0][1] / known[0][1])
        if k and _same(p, known, k):
            return Recognised(name, s, k)
    return None


def _gelu(x: Poly) -> Poly:
    return scaled(times(x, plus(constant(1.0), function("erf", scaled(x, math.sqrt(0.5))))), 0.5)


def _gelu_tanh(x: Poly) -> Poly:
    inner = scaled(plus(x, scaled(power(x, 3.0), 0.044715)), math.sqrt(2.0 / math.pi))
    return scaled(times(x, plus(constant(1.0), function("tanh", inner))), 0.5)


# each formula, and the function in it whose argument shows the scale of x
_FORMULAS: Final[dict[str, tuple[Callable[[Poly], Poly], str]]] = {
    "gelu": (_gelu, "erf"),
    "gelu_tanh": (_gelu_tanh, "tanh"),
    "silu": (lambda x: times(x, function("sigmoid", x)), "sigmoid"),
    "mish": (lambda x: times(x, function("tanh", function("softplus", x))), "softplus"),
    "hard_swish": (lambda x: times(x, clip_unit(plus(scaled(x, 1 / 6), constant(0.5)), 0.0, 1.0)), "unit"),
    "softsign": (lambda x: times(x, function("recip", plus(constant(1.0), function("abs", x)))), "abs"),
    "softplus": (lambda x: function("softplus", x), "softplus"),
}


def _slopes_in(p: Poly, name: str) -> Iterator[float]:
    """Coefficients of x in arguments of the function, at any depth; of |x| the factor before it."""
    for monomial, c in p:
        for atom in monomial:
            if atom[0] == "abs" == name and len(monomial) == 1:
                yield c
            elif atom[0] == name:
                yield from (d for inner, d in atom[1] if inner == (("x",),))
            if len(atom) == 2:
                yield from _slopes_in(atom[1], name)


def _snapped(value: float) -> float:
    return 1.0 if abs(value - 1.0) <= _CLOSE else value


def _same(p: Poly, q: Poly, factor: float) -> bool:
    """``p = factor · q``, up to the rounding of constants."""
    if len(p) != len(q):
        return False
    for (a, c), (b, d) in zip(p, q):
        if not abs(c - factor * d) <= 4 * _CLOSE * abs(factor * d) or len(a) != len(b):
            return False
        for left, right in zip(a, b):
            if left[0] != right[0] or (len(left) == 2 and not _same(left[1], right[1], 1.0)):
                return False
    return True


def _key(atom: Atom) -> str:
    """The structure of an atom without its numbers, for sorting."""
    return atom[0] if len(atom) == 1 else f"{atom[0]}({'+'.join(_spelled(m) for m, _ in atom[1])})"


def _spelled(monomial: Monomial) -> str:
    return "*".join(map(_key, monomial))


def _sorted(terms: dict[Monomial, float]) -> Poly:
    kept = [(monomial, c) for monomial, c in terms.items() if c]
    if len(kept) > _MAX_TERMS or any(len(m) > _MAX_DEGREE for m, _ in kept) or sum(map(_size, kept)) > _MAX_SIZE:
        raise UnsupportedModelError("the elementwise formula is too involved")
    return tuple(sorted(kept, key=lambda term: _spelled(term[0])))


def _size(term: tuple[Monomial, float]) -> int:
    return 1 + sum(1 + (sum(map(_size, atom[1])) if len(atom) == 2 else 0) for atom in term[0])
