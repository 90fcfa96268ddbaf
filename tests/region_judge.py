"""What a certificate of a region says, decided again in rational arithmetic: slopes that are enough, and the form."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from exact import definite
from judge import dot, rows, sides

from certnet.claims.region import Ball, Box, Region
from certnet.networks.feedforward import FeedForward
from certnet.proofs.storage import _shares

Array = Any


def form_is_definite(
    Ws: Sequence[list[list[Fraction]]],
    slopes: Sequence[Sequence[tuple[Fraction, Fraction]]],
    T: Sequence[Sequence[Fraction]],
    diagonal: Sequence[Fraction],
) -> bool:
    """``Σ ρ_i y_i² + Σ 2 T_j (r_j² − w_j² p_j²) − ‖V y_K‖² ≥ 0`` in y and all r_j = z_j − c_j p_j of bending units."""
    d, order = len(diagonal), len(diagonal) + sum(map(len, T))
    M = [[Fraction(0)] * order for _ in range(order)]

    def add(row: list[Fraction], weight: Fraction) -> None:
        for i, a in enumerate(row):
            if a:
                for j, b in enumerate(row):
                    M[i][j] += weight * a * b

    for i, number in enumerate(diagonal):
        M[i][i] += number
    state = [[Fraction(i == j) for j in range(order)] for i in range(d)]
    free = d
    for W, known, t in zip(Ws, slopes, T):
        numbers, state_above = iter(t), []
        for line, (low, high) in zip(W, known):
            p = [sum((a * b for a, b in zip(line, column)), Fraction(0)) for column in zip(*state)]
            c, w = (low + high) / 2, (high - low) / 2
            z = [c * a for a in p]
            if low < high:
                tau = next(numbers)
                add(p, -2 * tau * w * w)
                M[free][free] += 2 * tau
                z[free] += 1
                free += 1
            state_above.append(z)
        state = state_above
    for line in Ws[-1]:
        add([sum((a * b for a, b in zip(line, column)), Fraction(0)) for column in zip(*state)], Fraction(-1))
    return definite(M)


def regional_is_proved(net: FeedForward, parts: Sequence[Array], upper: float, norm: str, output: Any = None) -> bool:
    """Do these multipliers prove the bound with the slopes that they go by? Of units that move, all of them."""
    parts = list(parts)
    weights = parts.pop() if norm == "linf" else None
    low, high = ([rows(part)[0] for part in parts[k::3]] for k in (1, 2))
    Ws = [rows(layer.operator.matrix) for layer in net.layers]
    if output is not None:
        i, *others = output
        Ws[-1] = [[a - b for a, b in zip(Ws[-1][i], Ws[-1][others[0]])] if others else Ws[-1][i]]
    rho = Fraction(upper) ** 2
    diagonal = [rho] * net.n_inputs
    if weights is not None:
        shares = _shares(weights, net.n_inputs, np.ones(net.n_inputs, dtype=bool))
        assert not isinstance(shares, str)
        diagonal = [rho * Fraction(share) for share in shares.tolist()]
        assert sum(map(Fraction, shares.tolist())) <= 1
    slopes = [list(zip(a, b)) for a, b in zip(low, high)]
    numbers = []
    for k, (dead, known, given) in enumerate(zip(_dead(Ws, slopes), slopes, parts[::3])):
        bending = [gone for gone, (a, b) in zip(dead, known) if a < b]
        assert len(bending) == len(given)
        numbers.append([Fraction(1) if gone else Fraction(float(t)) for gone, t in zip(bending, given)])
        for j in np.flatnonzero(dead):
            Ws[k][j] = [Fraction(0)] * len(Ws[k][j])
            for line in Ws[k + 1]:
                line[j] = Fraction(0)
    if any(t <= 0 for layer in numbers for t in layer):
        return False
    return form_is_definite(Ws, slopes, numbers, diagonal)


def lies_within(region: Region, x: Array, norm: str) -> bool:
    """Exactly."""
    if isinstance(region, Box):
        return bool(((region.lower <= x) & (x <= region.upper)).all())
    if isinstance(region, Ball):
        apart = [abs(Fraction(a) - Fraction(b)) for a, b in zip(x.tolist(), region.centre.tolist())]
        radius = Fraction(region.radius)
        return sum(a * a for a in apart) <= radius**2 if norm == "l2" else max(apart) <= radius
    return True


def slopes_occur_within(net: FeedForward, parts: Sequence[Array], points: Sequence[list[Fraction]]) -> bool:
    """Are the slopes at these points, off kinks, among those that the proof goes by?"""
    for x in points:
        for layer, low, high in zip(net.layers, parts[1::3], parts[2::3]):
            left, right = sides(layer.activation)
            z = [dot(w, x) + b for w, b in zip(rows(layer.operator.matrix), rows(layer.bias)[0])]
            slope = [left if a < 0 else right for a in z]
            if not all(
                a == 0 or least <= s <= most for a, s, least, most in zip(z, slope, low.tolist(), high.tolist())
            ):
                return False
            x = [s * a for s, a in zip(slope, z)]
    return True


# ------------------------------------------------------------------------------------------------ units that matter


def _dead(
    Ws: Sequence[list[list[Fraction]]], slopes: Sequence[Sequence[tuple[Fraction, Fraction]]]
) -> list[list[bool]]:
    """Hidden units that cannot move, or move nothing: no path of non-zero weights and slopes leads through them."""
    flat = [[low == high == 0 for low, high in known] for known in slopes]
    moved, found = [True] * len(Ws[0][0]), []
    for W, still in zip(Ws, flat):
        moved = [not s and any(a and m for a, m in zip(line, moved)) for line, s in zip(W, still)]
        found.append(moved)
    heard = [True] * len(Ws[-1])
    for k in range(len(found) - 1, -1, -1):
        columns = list(zip(*Ws[k + 1]))
        heard = [any(a and h for a, h in zip(column, heard)) and not s for column, s in zip(columns, flat[k])]
        found[k] = [not (m and h) for m, h in zip(found[k], heard)]
    return found
