"""What a certificate says, decided again in rational arithmetic by other formulas; and certificates to be judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import pairwise, product
from math import inf, isqrt
from typing import Any
from unittest.mock import patch

import numpy as np
from exact import Matrix, definite
from lmi import Array, exactly_feasible

from certnet.certification import Certificate, certify
from certnet.claims.families import identity
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward

Row = list[Fraction]
Slopes = Sequence[tuple[Fraction, Fraction]]
"""(low, high) of every unit of a layer, or of every layer."""
LEAKY = Activation("leaky_relu", (-0.5,))
STEEP = Activation("leaky_relu", (2.0,))

# ------------------------------------------------------------------------------------------------------------- algebra


def rows(A: Array) -> Matrix:
    return [[Fraction(a) for a in row] for row in np.atleast_2d(A).tolist()]


def dot(a: Row, b: Row) -> Fraction:
    return sum((p * q for p, q in zip(a, b)), Fraction(0))


def times(A: Matrix, B: Matrix) -> Matrix:
    return [[dot(row, list(column)) for column in zip(*B)] for row in A]


def shifted(number: Fraction, A: Matrix) -> Matrix:
    """``number · I − A``."""
    return [[(number if i == j else 0) - a for j, a in enumerate(row)] for i, row in enumerate(A)]


def gram(A: Matrix) -> Matrix:
    return [[dot(p, q) for q in A] for p in A]


def root_above(square: Fraction) -> Fraction:
    """At least the square root, by less than one part in 2^150."""
    scale = 1 << max(0, 300 - (square.numerator * square.denominator).bit_length() // 2)
    return Fraction(isqrt(square.numerator * square.denominator * scale**2) + 1, square.denominator * scale)


def at_most(J: Matrix, bound: Fraction, norm: str) -> bool:
    """Is the operator norm of J at most ``bound``, from inputs in ``norm``? One row for "linf"."""
    if norm == "linf":
        (row,) = J
        return sum(map(abs, row)) <= bound
    return bound >= 0 and definite(shifted(bound**2, gram(J)))


def has_point(strict: Matrix) -> bool:
    """Is there an x with ``aᵀ x + b > 0`` for all rows (a, b)? Fourier–Motzkin elimination."""
    while strict and len(strict[0]) > 1:
        above = [row for row in strict if row[0] > 0]
        below = [row for row in strict if row[0] < 0]
        crossed = [[p[0] * b - q[0] * a for a, b in zip(p, q)] for p in above for q in below]
        strict = [row[1:] for row in strict if row[0] == 0] + [row[1:] for row in crossed]
    return all(row[0] > 0 for row in strict)


# --------------------------------------------------------------------------------------------------- what it is about


def chosen(net: FeedForward, cert: Certificate) -> list[Matrix]:
    """The weights with the rows of the certificate's output or difference, exactly."""
    Ws = [rows(W) for W in net.weights]
    if cert.output is not None:
        i, *others = cert.output
        Ws[-1] = [[a - b for a, b in zip(Ws[-1][i], Ws[-1][others[0]])] if others else Ws[-1][i]]
    return Ws


def layer_slopes(net: FeedForward) -> list[tuple[Fraction, Fraction]]:
    return [(Fraction(low), Fraction(high)) for low, high in (phi.slopes for phi in net.activations)]


def sides(phi: Activation) -> tuple[Fraction, Fraction]:
    """Slopes left and right of a kink at zero."""
    left, right = (Fraction(float(phi.derivative(np.array(side)))) for side in (-1.0, 1.0))
    return left, right


def reached(net: FeedForward, cert: Certificate) -> Slopes:
    """Slopes of every unit of a hidden layer; with one kink at zero those in the ball of the certificate."""
    whole = layer_slopes(net)[0]
    if cert.around is None or cert.radius is None or net.activations[0].smooth:
        return [whole] * net.n_hidden
    left, right = sides(net.activations[0])
    (centre,) = rows(cert.around)
    found = []
    for w, b in zip(rows(net.weights[0]), rows(net.biases[0])[0]):
        z = dot(w, centre) + b
        size = dot(w, w) if cert.norm == "l2" else sum(map(abs, w)) ** 2
        stays = z != 0 and z * z >= Fraction(cert.radius) ** 2 * size
        found.append(whole if not stays else (right, right) if z > 0 else (left, left))
    return found


# ------------------------------------------------------------------------------------------------------- the upper side


def shallow_proved(W: Matrix, V: Matrix, t: Row, slopes: Slopes, upper: Fraction, inputs: Row | None = None) -> bool:
    """``upper · diag(inputs, 1) ⪰ ½ M(t)`` after the charge of units with multiplier 0; ``inputs`` None is l2."""
    d = len(W[0])
    half = [[Fraction(0)] * (d + len(V)) for _ in range(d + len(V))]
    for w, v, tau, (low, high) in zip(W, map(list, zip(*V)), t, slopes):
        if tau == 0 and high > low:
            size = dot(w, w) * dot(v, v) if inputs is None else (sum(map(abs, w)) * v[0]) ** 2
            upper -= max(abs(low), abs(high)) * root_above(size) if size else 0
            continue
        z = w + v
        for i, j in product(range(len(z)), repeat=2):
            if (i < d) != (j < d):
                half[i][j] += (low + high) * z[i] * z[j] / 2
            elif high > low:
                half[i][j] += (high - low) * z[i] * z[j] * (tau if i < d else 1 / tau) / 2
    weights = [*(inputs or [Fraction(1)] * d), *[Fraction(1)] * len(V)]
    return definite(
        [[(upper * weights[i] if i == j else 0) - a for j, a in enumerate(row)] for i, row in enumerate(half)]
    )


def proportions(s: Row) -> Row:
    """Input weights of sum one; the floor of 2^−64 of the largest is the checker's."""
    unit = Fraction(2) ** int(np.frexp(float(max(s)))[1])
    raised = [a / unit + Fraction(1, 2**64) for a in s]
    return [a / sum(raised) for a in raised]


def chain_proved(Ws: Sequence[Matrix], slopes: Slopes, parts: Sequence[Row], upper: Fraction) -> bool:
    """A number per layer with ``‖W_k‖₂ ≤ s_k``; or multipliers and a bound of two layers, nothing for the second."""
    total, k = Fraction(1), 0
    while k < len(parts):
        part = parts[k]
        if len(part) == 1:
            proved = at_most(Ws[k], part[0], "l2")
        else:
            t, each = part[:-1], [slopes[k]] * len(Ws[k])
            proved = not parts[k + 1] and shallow_proved(Ws[k], Ws[k + 1], t, each, part[-1])
        k += 1 if len(part) == 1 else 2
        total *= part[-1] * (max(map(abs, slopes[k - 1])) if k < len(parts) else 1)
        if not proved or part[-1] < 0:
            return False
    return total <= upper


def folded(Ws: Sequence[Matrix], slopes: Slopes) -> tuple[list[Matrix], list[tuple[Fraction, Fraction]]]:
    """The same without linear layers, down to one hidden layer."""
    Ws, slopes = list(Ws), list(slopes)
    while len(slopes) > 1 and any(low == high for low, high in slopes):
        k = next(k for k, (low, high) in enumerate(slopes) if low == high)
        Ws[k : k + 2] = [[[slopes[k][0] * a for a in row] for row in times(Ws[k + 1], Ws[k])]]
        del slopes[k]
    return Ws, slopes


def deep_proved(Ws: Sequence[Matrix], slopes: Slopes, T: Row, upper: float) -> bool:
    Ws, slopes = folded(Ws, slopes)
    each = [tuple(np.full(len(W), s, dtype=object) for s in pair) for W, pair in zip(Ws, slopes)]
    return exactly_feasible([np.array(W, dtype=object) for W in Ws], each, T, upper)  # type: ignore[arg-type]


def cube_in(net: FeedForward, around: Sequence[float] | None, radius: float | None) -> Matrix:
    """Half-spaces of a cube in a ball; none of all inputs."""
    cube: Matrix = []
    if around is not None and radius is not None:
        reach = root_above(Fraction(radius) ** 2 / net.n_inputs) * Fraction(999, 1000)
        for k, centre in enumerate(map(Fraction, around)):
            unit = [Fraction(i == k) for i in range(net.n_inputs)]
            cube += [[*unit, reach - centre], [*(-a for a in unit), reach + centre]]
    return cube


def tree_proved(
    net: FeedForward,
    W: Matrix,
    V: Matrix,
    tree: Sequence[Any],
    known: Slopes,
    upper: Fraction,
    cube: Matrix,
) -> bool:
    """Every bound leaf proves its cells, and there is no point on the sides of an empty one (in a cube in the ball)."""
    left, right = sides(net.activations[0])
    b = rows(net.biases[0])[0]
    nodes = iter(tree)

    def subtree(fixed: dict[int, int]) -> bool:
        kind, *given = next(nodes)
        data = given[0] if given else None
        if kind == "split":
            low, high = subtree(fixed | {data: -1}), subtree(fixed | {data: 1})  # both, to get to the end
            return low and high
        if kind == "empty":
            return not has_point([[s * a for a in (*W[j], b[j])] for j, s in fixed.items() if any(W[j])] + cube)
        slopes = list(known)
        for j, side in fixed.items():
            if known[j][0] < known[j][1]:
                slopes[j] = (left, left) if side < 0 else (right, right)
        return shallow_proved(W, V, [Fraction(a) for a in data], slopes, upper)

    try:
        return subtree({}) and next(nodes, None) is None
    except (StopIteration, LookupError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return False  # not a tree


def upper_is_proved(net: FeedForward, cert: Certificate, upper: float) -> bool:
    upper = float(upper)  # a float32 too is exactly this
    Ws, bound, given = chosen(net, cert), Fraction(upper), cert.multipliers
    if cert.kind == "tree":
        around = None if cert.around is None else cert.around.tolist()
        return tree_proved(net, *Ws, list(given), reached(net, cert), bound, cube_in(net, around, cert.radius))
    if cert.kind == "shallow":
        t, *s = [rows(part)[0] for part in (given if isinstance(given, tuple) else (given,))]
        return shallow_proved(*Ws, t, reached(net, cert), bound, *map(proportions, s))
    if cert.kind in ("product", "composition"):
        return chain_proved(Ws, layer_slopes(net), [row for t in given for row in rows(t)], bound)
    return deep_proved(Ws, layer_slopes(net), [a for t in given for a in rows(t)[0]], upper)


# ------------------------------------------------------------------------------------------------------------ the truth


@cache
def cells(net: FeedForward, around: tuple[float, ...] | None, radius: float | None) -> list[Row]:
    """The slopes of all cells of one hidden layer with one kink at zero; of a ball, those that a cube in it reaches."""
    left, right = sides(net.activations[0])
    planes = [[*w, b] for w, b in zip(rows(net.weights[0]), rows(net.biases[0])[0])]
    cube = cube_in(net, around, radius)
    return [
        [left if s < 0 else right for s in side]
        for side in product((-1, 1), repeat=len(planes))
        if has_point([[s * a for a in plane] for s, plane in zip(side, planes) if any(plane[:-1])] + cube)
    ]


def corners(net: FeedForward, cert: Certificate) -> Iterator[list[Row]]:
    """All slopes at the ends of their intervals: a relaxation by slopes cannot be below any."""
    pairs = layer_slopes(net)
    layers = [[pair] * n for pair, n in zip(pairs, net.widths[1:])]
    if net.depth == 1:
        layers = [list(reached(net, cert))]
    for ends in product(*(sorted(set(pair)) for layer in layers for pair in layer)):
        rest = list(ends)
        yield [[rest.pop(0) for _ in layer] for layer in layers]


def is_true(net: FeedForward, cert: Certificate, bound: float) -> bool:
    """Is ``bound`` at least the norm of every product of the weights that the relaxation, or the cells, allow?"""
    Ws = chosen(net, cert)
    around = None if cert.around is None else tuple(cert.around.tolist())
    cases = [[row] for row in cells(net, around, cert.radius)] if cert.kind == "tree" else corners(net, cert)
    for layers in cases:
        J = Ws[0]
        for slope, W in zip(layers, Ws[1:]):
            J = times(W, [[s * a for a in row] for s, row in zip(slope, J)])
        if not at_most(J, Fraction(bound), cert.norm):
            return False
    return True


# ------------------------------------------------------------------------------------------------------- the lower side


def slope_at(phi: Activation, z: Fraction) -> Fraction | None:
    """φ'(z) to fifty digits; None on a kink."""
    if phi.name == "tanh":
        with localcontext() as context:
            context.prec = 60
            e = (Decimal(z.numerator) / Decimal(z.denominator)).exp()
            return Fraction(4 / (e + 1 / e) ** 2)
    left, right = sides(phi)
    return left if z < 0 or left == right else right if z > 0 else None


def jacobian(net: FeedForward, Ws: Sequence[Matrix], x: Row) -> Matrix | None:
    """At x, for tanh and for activations with one kink at zero; None on a kink that matters."""
    J = rows(np.eye(net.n_inputs))
    for k, (W, b, phi) in enumerate(zip(Ws, net.biases, net.activations)):
        z = [dot(w, x) + bias for w, bias in zip(W, rows(b)[0])]
        slope = [slope_at(phi, value) for value in z]
        heard = [any(column) for column in zip(*Ws[k + 1])]
        if any(s is None and any(w) and of for s, w, of in zip(slope, W, heard)):
            return None
        J = [[(s or 0) * a for a in row] for s, row in zip(slope, times(W, J))]
        if k + 1 < net.depth:
            x = [(s or 0) * value for s, value in zip(slope, z)]  # of piecewise linear ones
    return times(Ws[-1], J)


def lower_is_proved(net: FeedForward, cert: Certificate) -> bool:
    if cert.lower == 0.0:
        return True
    (x,) = rows(cert.witness)
    if cert.around is not None:
        apart = [abs(a - b) for a, b in zip(x, rows(cert.around)[0])]
        radius = Fraction(cert.radius or 0.0)
        if dot(apart, apart) > radius**2 if cert.norm == "l2" else max(apart) > radius:
            return False
    J = jacobian(net, chosen(net, cert), x)
    if J is None:
        return False
    lower = Fraction(cert.lower) * (1 - Fraction(1, 10**40) * net.activations[0].smooth)
    if cert.norm == "linf":
        return sum(map(abs, J[0])) >= lower
    return not definite(shifted(lower**2, gram(J)), strictly=True)


def assert_true(net: FeedForward, cert: Certificate) -> None:
    """What a certificate that was accepted says must be so, and be about this network."""
    assert cert.digest in (identity(net).digest, *identity(net).others)
    assert (cert.units, cert.shape) == (net.units, net.widths)
    assert cert.slopes == tuple(phi.slopes for phi in net.activations)
    assert cert.norm in ("l2", "linf")
    assert upper_is_proved(net, cert, cert.upper)
    if cert.kind == "tree":
        assert net.activations[0].name in ("relu", "leaky_relu")
        assert is_true(net, cert, float(cert.upper))
    assert lower_is_proved(net, cert)


def edge_of(net: FeedForward, cert: Certificate, steps: int = 60) -> float:
    """The smallest bound that the multipliers prove, by bisection in rationals; from below, infinite if above 2 u."""
    low, high = 0.0, 2.0 * cert.upper
    if not upper_is_proved(net, cert, high):
        return inf
    for _ in range(steps):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if upper_is_proved(net, cert, middle) else (middle, high)
    return low


# --------------------------------------------------------------------------------------------------------- the subjects


def network(seed: int, *widths: int, phi: Any = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    Ws = [rng.standard_normal((n, k)) for k, n in pairwise(widths)]
    phis = phi if isinstance(phi, list) else [phi] * (len(widths) - 2)
    return FeedForward(Ws, [rng.standard_normal(len(W)) for W in Ws], phis)


BALL: dict[str, Any] = {"around": [0.3, -0.2], "radius": 0.4}
TREE: dict[str, Any] = {"exact": True}
_SUBJECTS: dict[str, tuple[FeedForward, dict[str, Any]]] = {
    "one output": (network(0, 2, 4, 1), {}),
    "two outputs": (network(1, 2, 3, 2), {}),
    "leaky": (network(2, 2, 3, 1, phi=LEAKY), {}),
    "tanh": (network(9, 2, 3, 1, phi="tanh"), {}),
    "ball": (network(3, 2, 4, 1), BALL),
    "leaky ball": (network(4, 2, 3, 2, phi=LEAKY), BALL),
    "output": (network(10, 2, 3, 3), {"output": 1}),
    "difference": (network(11, 2, 3, 3), {"output": (2, 0)}),
    "sup norm": (network(12, 2, 3, 1), {"norm": "linf"}),
    "sup norm in a ball": (network(13, 2, 4, 1, phi=LEAKY), BALL | {"norm": "linf"}),
    "sup norm of a difference": (network(14, 2, 3, 2), {"norm": "linf", "output": (0, 1)}),
    "tree": (network(29, 2, 5, 1), TREE),
    "tree of an output": (network(25, 2, 5, 2), TREE | {"output": 1}),
    "tree of a difference in a ball": (network(27, 2, 5, 2), TREE | BALL | {"output": (1, 0), "radius": 1.5}),
    "tree of steep units": (network(32, 2, 5, 2, phi=STEEP), TREE),
    "neuron": (network(5, 2, 2, 2, 1), {"method": "neuron"}),
    "layer": (network(6, 2, 2, 2, 1, phi=LEAKY), {"method": "layer"}),
    "deep difference": (network(19, 2, 2, 2, 2), {"method": "neuron", "output": (0, 1)}),
    "linear layer": (network(20, 2, 2, 3, 2, 1, phi=["relu", "identity", LEAKY]), {"method": "neuron"}),
    "product": (network(7, 2, 3, 2, 2), {"method": "product"}),
    "composition": (network(8, 2, 2, 2, 2, 1, phi=LEAKY), {"method": "composition"}),
}
SUBJECTS = tuple(_SUBJECTS)


@cache
def subject(name: str) -> tuple[FeedForward, Certificate]:
    net, options = _SUBJECTS[name]
    with patch("certnet.certification.bracket._FEW_INPUTS", 0):  # a tree of cases where parts would be taken
        return net, certify(net, **options)
