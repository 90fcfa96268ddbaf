"""Exact rational arithmetic for tests of the checkers."""

from __future__ import annotations

from fractions import Fraction

Matrix = list[list[Fraction]]


def definite(A: Matrix, *, strictly: bool = False) -> bool:
    """Is the symmetric A positive semidefinite (or definite)? Exact elimination, pivoting on the diagonal."""
    A = [row[:] for row in A]
    left = list(range(len(A)))
    while left:
        p = max(left, key=lambda i: A[i][i])
        if A[p][p] < 0 or any(A[i][i] < 0 for i in left):
            return False
        if A[p][p] == 0:
            return not strictly and all(A[i][j] == 0 for i in left for j in left)
        left.remove(p)
        for i in left:
            factor = A[i][p] / A[p][p]
            for j in left:
                A[i][j] -= factor * A[p][j]
    return True
