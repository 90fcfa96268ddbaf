r"""What floating point may have lost: bounds on rounding errors, and numbers that keep their side. NumPy only.

A sum of k products is wrong by at most ``γ_k = k u / (1 − k u)`` times the sum of their sizes, whatever the order of
summation (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), in IEEE 754 double precision with rounding to
nearest and matrix products formed from ordinary sums of products. Scaling by powers of two loses nothing but what
underflows, which is charged apart.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.validation import Float

__all__ = [
    "EPS",
    "SAFETY",
    "U",
    "double_below",
    "exponent_of",
    "frobenius_above",
    "gamma",
    "norm",
    "norm_above",
    "product_above",
    "read_numbers",
    "row_norms_above",
    "shown",
    "sum_and_width",
    "two_sum_error",
]

U = 2.0**-53
EPS = 2.0**-52
SAFETY = 1.0625
"""Every error bound is itself computed in floating point from non-negative numbers: this covers its own rounding."""


def gamma(k: int) -> float:
    """``γ_k``, the relative error bound of k rounded operations."""
    return SAFETY * k * U / (1.0 - 2.0 * k * U)


def double_below(value: object) -> float | None:
    """The largest double that is at most ``value``; None for what is not a real number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    value = int(value) if isinstance(value, np.integer) else value
    try:
        double = float(value)
    except OverflowError:
        return None
    return math.nextafter(double, -math.inf) if math.isfinite(double) and double > value else double


def shown(value: object) -> str:
    """A bound as a message repeats it: whatever it is, at most forty characters."""
    text = repr(value) if not isinstance(value, int) or value.bit_length() < 64 else "(a huge integer)"
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_numbers(values: ArrayLike, name: str, n: int, owners: str) -> Float | str:
    """``values`` (n,), one number per owner and none negative; a sentence where they are something else."""
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return f"the {name}s are not numbers"
    if numbers.shape != (n,):
        return f"there are {numbers.shape} {name}s, the network has {n} {owners}"
    if not np.isfinite(numbers).all():
        return f"{name} {int(np.argmin(np.isfinite(numbers)))} is NaN or infinite"
    if (numbers < 0.0).any():
        return f"{name} {int(np.argmax(numbers < 0.0))} is negative"
    return numbers


def exponent_of(magnitude: Float | float) -> NDArray[np.int32]:
    """e with ``magnitude · 2^−e`` in [½, 1), and 0 for zero."""
    return np.frexp(magnitude)[1].astype(np.int32)


def two_sum_error(a: Float, b: Float, total: Float) -> Float:
    """``a + b − total``, exactly, for ``total = a + b`` in floating point (Knuth's TwoSum)."""
    back = total - a
    return (a - (total - back)) + (b - back)


def sum_and_width(low: Float, high: Float) -> tuple[Float, Float]:
    """σ and δ with ``[low, high] ⊆ [½ (σ − δ), ½ (σ + δ)]``, as doubles; exact for the slopes 0 and 1."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinite or NaN means refused
        total, width = low + high, high - low
        # what the two sums lost to rounding, added to the width
        lost = np.abs(two_sum_error(low, high, total)) + np.abs(two_sum_error(high, -low, width))
    return total, np.where(lost > 0.0, (width + lost) * (1.0 + 8.0 * U), width)


def product_above(product: float, factor: float) -> float:
    """At least ``product · factor``, both non-negative; zero only where one of them is."""
    return 0.0 if 0.0 in (product, factor) else math.nextafter(product * factor, math.inf)


def norm(values: Float) -> float:
    """``‖values‖`` but for relative rounding: entries are scaled by a power of two, for tiny ones have no squares."""
    unit = int(np.frexp(float(np.abs(values).max(initial=0.0)))[1])
    return float(np.ldexp(np.linalg.norm(np.ldexp(values, -unit)), unit))


def norm_above(w: Float) -> float:
    """At least the norm of a vector whose entries carry one rounding each."""
    top = float(np.abs(w).max())
    if top == 0.0 or not math.isfinite(top):
        return top
    unit = int(np.frexp(top)[1])
    size = float(np.linalg.norm(np.ldexp(w, -unit))) * (1.0 + gamma(len(w) + 8)) + 2.0**-500
    return math.nextafter(float(np.ldexp(size, unit)), math.inf)


def row_norms_above(W: Float, order: int | None, k: float) -> Float:
    """At least the norms of the rows of W, in NumPy's ``order``; k is the relative error that is charged."""
    unit = np.frexp(np.abs(W).max(axis=1))[1]  # squares of tiny weights underflow
    size = np.ldexp(np.linalg.norm(np.ldexp(W, -unit[:, None]), order, axis=1), unit)
    return size * (1.0 + k) + 2.0**-1074


def frobenius_above(W: Float) -> float:
    """At least ``‖W‖_F``; zero only where W is, or has no entries."""
    top = float(np.abs(W).max(initial=0.0))
    if top == 0.0:
        return 0.0
    scaled = float(np.linalg.norm(W / top)) * (1.0 + 1e-6)  # far above the rounding of any sum in reach
    return math.nextafter(scaled * top, math.inf) + 2.0**-1000
