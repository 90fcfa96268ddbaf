"""Bounds of lifted networks decided again in rational arithmetic, by other formulas; and networks to be judged."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import isqrt

import numpy as np
from exact import Matrix, definite

from certnet.lifted import LiftedNetwork
from certnet.lifted.bounds import LiftedCertificate

Rng = np.random.Generator
UNITS = ("relu", "hard_sigmoid", "linear", (-1.0, 0.5))


def random_net(rng: Rng, *, depth: int | None = None, most: int = 4, units: object = None, scale: float = 1.0):
    """A network of random widths, weights, boxes, beta (some zero) and gamma."""
    L = int(rng.integers(1, 5)) if depth is None else depth
    widths = rng.integers(1, most + 1, size=L + 1)
    kinds = [UNITS[int(rng.integers(len(UNITS)))] for _ in range(L)] if units is None else units
    beta = [float(b) for b in rng.choice([0.0, 0.3, 1.0, 2.5], size=L)]
    W = [scale * rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    b = [0.4 * rng.standard_normal(len(w)) for w in W]
    c = [0.4 * rng.standard_normal(w.shape[1]) for w in W]
    return LiftedNetwork(W, b, c, beta=beta, gamma=float(rng.choice([0.125, 0.5, 1.0, 2.0])), units=kinds)


def fractions(A) -> Matrix:
    return [[Fraction(a) for a in row] for row in np.atleast_2d(A).tolist()]


def times(A: Matrix, B: Matrix) -> Matrix:
    return [[sum((a * b for a, b in zip(row, column)), Fraction(0)) for column in zip(*B)] for row in A]


def transposed(A: Matrix) -> Matrix:
    return [list(column) for column in zip(*A)]


def plus(A: Matrix, B: Matrix, factor: Fraction = Fraction(1)) -> Matrix:
    return [[a + factor * b for a, b in zip(p, q)] for p, q in zip(A, B)]


def part(A: Matrix, rows: list[int], columns: list[int]) -> Matrix:
    return [[A[i][j] for j in columns] for i in rows]


def identity(n: int, factor: Fraction = Fraction(1)) -> Matrix:
    return [[factor if i == j else Fraction(0) for j in range(n)] for i in range(n)]


def curvature(net) -> Matrix:
    """The Hessian of E in (x, z_1, …, z_L), as the sum over the residuals ``r = A (x, z)`` of ``weight · Aᵀ A``."""
    starts = np.cumsum([0, *net.widths]).tolist()
    total = identity(starts[-1], Fraction(0))
    for k, (W, beta) in enumerate(zip(net.weights, net.beta)):
        w, weight = fractions(W), Fraction(net.gamma) ** k
        for matrix, ahead, behind, factor in (
            (w, k + 1, k, weight),
            (transposed(w), k, k + 1, weight * Fraction(beta)),
        ):
            A = [[Fraction(0)] * starts[-1] for _ in matrix]
            for i, row in enumerate(matrix):
                A[i][starts[ahead] + i] = Fraction(1)
                for j, value in enumerate(row):
                    A[i][starts[behind] + j] -= value
            total = plus(total, times(transposed(A), A), factor)
    return total


def program(net) -> tuple[Matrix, Matrix]:
    """H (n, n) and Q (n, d)."""
    whole, d = curvature(net), net.n_inputs
    rest = list(range(d, len(whole)))
    return part(whole, rest, rest), [[-a for a in row] for row in part(whole, rest, list(range(d)))]


def outputs(net, output) -> Matrix:
    """S (n, m)."""
    last = net.n_units - net.n_outputs
    columns = [[(last + j, 1)] for j in range(net.n_outputs)]
    if output is not None:
        columns = [[(last + i, sign) for i, sign in zip(output, (1, -1))]]
    S = [[Fraction(0)] * len(columns) for _ in range(net.n_units)]
    for j, column in enumerate(columns):
        for i, sign in column:
            S[i][j] = Fraction(sign)
    return S


def matrix_proved(net, multipliers, output, upper: Fraction) -> bool:
    """The whole matrix inequality, inputs included, with the multipliers as they are."""
    H, Q = program(net)
    n, d = net.n_units, net.n_inputs
    low, high = np.concatenate(net.lower), np.concatenate(net.upper)
    free = [j for j in range(n) if np.isinf(low[j]) and np.isinf(high[j])]
    t = [Fraction(a) for a in np.asarray(multipliers[0]).tolist()]
    if min(t) < 0 or len(multipliers) != 1 + len(free) or any(t[j] != 0 for j in free):
        return False
    Y = [[t[i] if i == j else Fraction(0) for j in range(n)] for i in range(n)]
    for j, column in zip(free, multipliers[1:]):
        for i, value in enumerate(np.asarray(column).tolist()):
            Y[i][j] = Fraction(value)
    S = outputs(net, output)
    YH, YQ = times(Y, H), times(Y, Q)
    corner = plus(plus(YH, transposed(YH)), times(S, transposed(S)), Fraction(-1))
    P = [
        *([*row, *(-a for a in side)] for row, side in zip(identity(d, upper**2), transposed(YQ))),
        *([*(-a for a in side), *row] for row, side in zip(corner, YQ)),
    ]
    keep = [*range(d), *(d + j for j in range(n) if low[j] < high[j])]
    return definite(part(P, keep, keep))


def layers_proved(net, multipliers, output, upper: Fraction, *, theorem: bool) -> bool:
    """The limits of the singular values, and the square of the product, exactly."""
    square = Fraction(1)
    last = net.depth - 1
    for k, (W, beta, limits) in enumerate(zip(net.weights, map(Fraction, net.beta), multipliers)):
        w = fractions(W)
        if k == last and output is not None and beta == 0:
            square *= _rows_square(net, w, output)
            continue
        pair = 2 if k == last and output is not None and len(output) == 2 else 1
        if theorem and beta > 0:
            square *= pair * (1 + beta) ** 2 / (4 * beta)
            continue
        lowest, highest = (Fraction(a) for a in np.asarray(limits).tolist())
        if lowest < 0 or not definite(plus(identity(len(w), highest**2), times(w, transposed(w)), Fraction(-1))):
            return False
        if not definite(plus(times(w, transposed(w)), identity(len(w), -(lowest**2)))):
            return False
        square *= pair * _steepest_square(beta, lowest, highest)
    low, high = net.lower[-1], net.upper[-1]
    chosen = range(net.n_outputs) if output is None else output
    return upper >= 0 and (upper**2 >= square or all(low[i] == high[i] for i in chosen))


def _steepest_square(beta: Fraction, lowest: Fraction, highest: Fraction) -> Fraction:
    if beta * highest**2 < 1:
        r = highest
    elif beta * lowest**2 > 1:
        r = lowest
    else:
        return (1 + beta) ** 2 / (4 * beta)
    return ((1 + beta) * r / (1 + beta * r * r)) ** 2


def _rows_square(net, w: Matrix, output) -> Fraction:
    rows = [w[i] for i in output]
    low, high = net.lower[-1], net.upper[-1]
    if len(rows) == 2:
        difference = [a - b for a, b in zip(*rows)]
        linear = all(np.isinf(low[i]) and np.isinf(high[i]) for i in output)
        rows = [difference] if linear else [*rows, difference]
    return max(sum((a * a for a in row), Fraction(0)) for row in rows)


def solved(A: Matrix, B: Matrix) -> Matrix:
    """``A⁻¹ B`` by elimination."""
    M = [[*row, *right] for row, right in zip(A, B)]
    n = len(M)
    for i in range(n):
        p = next(j for j in range(i, n) if M[j][i] != 0)
        M[i], M[p] = M[p], M[i]
        M[i] = [a / M[i][i] for a in M[i]]
        for j in range(n):
            if j != i and M[j][i] != 0:
                M[j] = [a - M[j][i] * b for a, b in zip(M[j], M[i])]
    return [row[n:] for row in M]


def gradient(net, x, z: list[Fraction]) -> list[Fraction]:
    """``∂E/∂z`` from the residuals of the energy, exactly."""
    layers = [[Fraction(a) for a in np.asarray(x).tolist()]]
    starts = np.cumsum([0, *net.widths[1:]]).tolist()
    layers += [z[a:b] for a, b in pairwise(starts)]
    found = [[Fraction(0)] * n for n in net.widths]
    for k, (W, beta) in enumerate(zip(net.weights, net.beta)):
        w, weight = fractions(W), Fraction(net.gamma) ** k
        b, c = ([Fraction(a) for a in v.tolist()] for v in (net.biases[k], net.reconstruction_biases[k]))
        for matrix, bias, ahead, behind, factor in (
            (w, b, k + 1, k, weight),
            (transposed(w), [-a for a in c], k, k + 1, weight * Fraction(beta)),
        ):
            for i, row in enumerate(matrix):
                r = layers[ahead][i] - sum((a * v for a, v in zip(row, layers[behind])), Fraction(0)) - bias[i]
                found[ahead][i] += factor * r
                for j, a in enumerate(row):
                    found[behind][j] -= factor * a * r
    return [g for layer in found[1:] for g in layer]


def slope_reached(net, x, z, output, lower: float) -> bool:
    """Is the active set of ``z*(x)`` that of z, strictly, and the slope on it at least ``lower``? Exactly."""
    H, Q = program(net)
    lows, highs = np.concatenate(net.lower).tolist(), np.concatenate(net.upper).tolist()
    z = np.asarray(z).tolist()
    n = net.n_units
    free = [j for j in range(n) if z[j] not in (lows[j], highs[j])]
    point = [Fraction(0) if j in free else Fraction(z[j]) for j in range(n)]
    right = [[-g] for g in gradient(net, x, point)]
    for j, (value,) in zip(free, solved(part(H, free, free), [right[j] for j in free])):
        point[j] = value
    g = gradient(net, x, point)
    for j in range(n):
        if j in free:
            if g[j] != 0 or not lows[j] < point[j] < highs[j]:
                return False
        elif lows[j] < highs[j] and not (g[j] > 0 if z[j] == lows[j] else g[j] < 0):
            return False
    S = outputs(net, output)
    J = times(transposed([S[j] for j in free]), solved(part(H, free, free), [Q[j] for j in free]))
    return not definite(
        plus(identity(len(J), Fraction(lower) ** 2), times(J, transposed(J)), Fraction(-1)), strictly=True
    )


def true(net, cert: LiftedCertificate) -> bool:
    """Is what the certificate says proved by what it holds?"""
    upper = Fraction(cert.upper)
    if cert.kind == "sdp":
        above = matrix_proved(net, cert.multipliers, cert.output, upper)
    else:
        above = layers_proved(net, cert.multipliers, cert.output, upper, theorem=cert.kind == "theorem")
    below = cert.lower == 0.0 or slope_reached(net, cert.witness, cert.activations, cert.output, cert.lower)
    return cert.digest == net.digest and above and below


def edge(net, multipliers, output, near: float) -> float:
    """The least bound that the multipliers prove, by bisection, to 1e-10 of ``near``."""
    low, high = Fraction(near) * Fraction(1, 2), Fraction(near) * 2
    for _ in range(36):
        middle = (low + high) / 2
        middle = Fraction(isqrt(int(middle * middle * 2**120)), 2**60)
        if matrix_proved(net, multipliers, output, middle):
            high = middle
        else:
            low = middle
    return float(high)
