r"""What solving a restriction will cost, before it is begun: seconds of one core, and bytes.

With n distinct rows, d inputs, k units, m outputs and p = d + 1, a step of the own method costs one factorisation of
the order k p (or of n m coupling rows, whichever is less), ``n k p² `` for the curvature of the cells and ``k d⁴`` for
the common corner; a generic solver has a row for each of the ``n k`` inequalities and eliminates ``k`` blocks of
``(d + 1)(d + 2) / 2`` entries. Rates are those of one core of 2020 or so, good to a factor of two or three: to decide
what not to begin, never a promise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction

__all__ = ["Estimate", "Size", "available_bytes", "conic_estimate", "own_estimate", "unfit"]

_STEPS: Final = 25  # of an interior-point method
_FLOPS: Final = 1.5e10  # a second, in products of large matrices
_SLOW_FLOPS: Final = 1.0e9  # in a generic sparse factorisation
_PASSES: Final = 1.7e-7  # seconds for all that a step does with one inequality
_FORMING: Final = 3e-6  # seconds for a nonzero of a program on its way through CVXPY
_FORMED: Final = 250  # bytes for one, at the peak
_KEPT_PRODUCTS: Final = 20_000_000  # numbers, of the own method
_DEFAULT_BYTES: Final = 4 << 30  # where the system does not tell
_ROOM: Final = 0.8  # of the available memory, that a program may take


class Estimate(NamedTuple):
    """What a solve costs in all, what is spent before its first step, and one step."""

    seconds: float
    bytes: float
    setup: float
    step: float


@dataclass(frozen=True)
class Size:
    """What the cost depends on.

    Attributes
    ----------
    rows, inputs, units, outputs : int
    certified : bool
        Whether the penalty is the certified one, with its matrix inequality.
    """

    rows: int
    inputs: int
    units: int
    outputs: int = 1
    certified: bool = True

    @classmethod
    def of(cls, program: Restriction) -> Size:
        m, k = program.directions.shape
        return cls(program.n_samples, program.n_inputs, k, m, isinstance(program.penalty, LipschitzPenalty))

    def with_rows(self, rows: int) -> Size:
        """The same with another number of rows."""
        return replace(self, rows=rows)

    def __str__(self) -> str:
        return f"{self.rows} distinct rows of {self.inputs} inputs with {self.units} units"


def own_estimate(size: Size) -> Estimate:
    """Of the interior-point method of :mod:`certnet.solvers.interior`, for a weight or a limit on the slope."""
    n, d, k, m, p = float(size.rows), float(size.inputs), size.units, size.outputs, size.inputs + 1.0
    pairs, order = p * (p + 1.0) / 2.0, k * p
    n_rows = d * m + m * (m + 1.0) / 2.0 + d * (d + 1.0) / 2.0 if size.certified else 0.0
    # the Newton matrix as a whole, or by units with samples as rows
    whole = order**3 / 3.0 + order**2 * n_rows + order * n_rows**2
    parts = 1.2 * order * (n * m + n_rows) ** 2 + (n * m + n_rows) ** 3 / 3.0
    dense = whole < parts
    blocks = k * (100.0 * d**3 + 2.0 * d**4) if size.certified else 0.0
    cells = n * k * (_PASSES + 2.0 * pairs / _FLOPS)
    step = (min(whole, parts) + n_rows**3 / 3.0 + blocks) / _FLOPS + cells
    setup = 10.0 * cells + (n * order**2 / _FLOPS if dense else 0.0)
    width = n_rows + (0.0 if dense else n * m)
    corner = d**4 + 4.0 * n_rows**2 if size.certified else 0.0
    numbers = 2.0 * order * width + width**2 + (2.0 * order**2 if dense else 0.0)
    numbers += 12.0 * n * k + min(n * pairs, _KEPT_PRODUCTS) + corner + 8.0 * k * p**2
    return Estimate(setup + _STEPS * step, 8.0 * numbers, setup, step)


def conic_estimate(size: Size) -> Estimate:
    """Of a generic interior-point solver through CVXPY."""
    n, k, m, p = float(size.rows), size.units, size.outputs, size.inputs + 1.0
    order = k * p + m
    fit = min(n * m, order)  # rows of the fit, after QR
    corner = p * (p + 1.0) / 2.0 if size.certified else 0.0
    nonzeros = n * k * p + fit * order + k * corner**2
    # the fit couples all units; every inequality touches its unit's weights; every block is dense
    factor = order * fit**2 + fit**3 / 3.0 + 60.0 * n * k * p**2 + 2.0 * k * corner**3
    setup = _FORMING * nonzeros + 2.0 * n * m * order * fit / _FLOPS
    step = factor / _SLOW_FLOPS
    numbers = 3.0 * n * m * order + 2.0 * order * fit
    return Estimate(setup + _STEPS * step, 8.0 * numbers + _FORMED * nonzeros, setup, step)


def unfit(name: str, size: Size, estimated: Callable[[Size], Estimate], seconds: float) -> str | None:
    """Why a solver is not to begin a program of that size with so many seconds at hand, and what to do; else None.

    Parameters
    ----------
    name : str
        Of the solver, for the message.
    size : Size
    estimated : callable
        Its estimate.
    seconds : float
    """
    memory, cost = _ROOM * available_bytes(), estimated(size)
    if cost.bytes <= memory and cost.seconds <= seconds:
        return None
    needs = f"{name} would need about {_words(cost.seconds)} and {cost.bytes / 1e9:.2g} GB for {size}"
    has = f"there are {_words(seconds)} and {memory / 1e9:.2g} GB"
    low, high = 0, size.rows
    while high - low > max(1, low // 50):  # the largest number of rows that fits
        middle = (low + high) // 2
        less = estimated(size.with_rows(middle))
        low, high = (middle, high) if less.bytes <= memory and less.seconds <= seconds else (low, middle)
    fewer = f"take at most about {float(f'{low:.2g}'):g} rows" if low > 1 else "take fewer units or inputs"
    return f"{needs}, {has}: {fewer}, or descend only"


def _words(seconds: float) -> str:
    if seconds == float("inf"):
        return "any time"
    return f"{seconds:.2g} s" if seconds < 100.0 else f"{seconds / 60.0:.2g} min"


def available_bytes() -> float:
    """Memory that a new computation may take: what the system calls available, within the limit of a container."""
    return min(_available_here(), _container_bytes())


def _available_here() -> float:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * float(line.split()[1])
    with suppress(OSError, ValueError, AttributeError):
        return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return float(_DEFAULT_BYTES)


def _container_bytes() -> float:
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or "max"
        return float("inf")
