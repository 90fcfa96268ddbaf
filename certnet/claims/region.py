"""Where a claim is made: of all inputs, of a ball, or of a box. Regions are convex, so that segments stay inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.frames import plain_array
from certnet.core.validation import Float, finite_array, positive_number

__all__ = ["ALL", "All", "Ball", "Box", "Region", "region_of", "require_region"]


@dataclass(frozen=True)
class All:
    """All inputs."""

    name: ClassVar[str] = "space of inputs"

    @property
    def words(self) -> str:
        """How a sentence goes on that speaks of this region; empty where nothing is to be said."""
        return ""

    def refusal(self, n_inputs: int) -> str | None:
        """Why it is no region of inputs of this number, if so."""
        return None


@dataclass(frozen=True, eq=False)
class Ball:
    """The inputs with ``‖x − centre‖ ≤ radius``, in the norm of the claim.

    Attributes
    ----------
    centre : ndarray, shape (d,)
        In the units of the network, as the radius.
    radius : float
    """

    name: ClassVar[str] = "ball"

    centre: Float
    radius: float

    def __post_init__(self) -> None:
        # what cannot be read as numbers stays as it is, and is refused where the ball is used
        try:
            object.__setattr__(self, "centre", _locked(finite_array(self.centre, "the centre", ndim=(1,))))
            object.__setattr__(self, "radius", positive_number(self.radius, "the radius", zero=True))
        except InvalidInputError:
            return

    @property
    def words(self) -> str:
        return f"within {self.radius:g} of a point"

    @property
    def limits(self) -> tuple[list[float], float]:
        """Centre and radius as plain numbers."""
        return self.centre.tolist(), self.radius

    def refusal(self, n_inputs: int) -> str | None:
        if self.centre is None or self.radius is None:
            return "a ball needs both a centre and a radius"
        # another type than double would be rounded to another point
        right = isinstance(self.centre, np.ndarray) and self.centre.dtype == np.float64
        if not (right and self.centre.shape == (n_inputs,) and bool(np.isfinite(self.centre).all())):
            return "the centre of the ball is not one of the network's inputs"
        if not isinstance(self.radius, float) or not 0.0 <= self.radius < math.inf:
            return "the radius of the ball is not a finite non-negative number"
        return None


@dataclass(frozen=True, eq=False)
class Box:
    """The inputs with ``lower ≤ x ≤ upper``, entry by entry.

    Parameters
    ----------
    lower, upper : array_like, shape (d,)
        In the units of the network; entries may be infinite (no limit on that side) or equal (an input that is held).

    Raises
    ------
    InvalidInputError
        Of different shapes, NaN, or a lower limit above its upper one.

    Examples
    --------
    >>> Box([0.0, -1.0], [1.0, float("inf")])
    Box(2 inputs, 1 without a limit)
    """

    name: ClassVar[str] = "box"

    lower: Float
    upper: Float

    def __post_init__(self) -> None:
        ends = [_limits(getattr(self, name), name) for name in ("lower", "upper")]
        low, high = ends
        if low.shape != high.shape or not low.size:
            raise InvalidInputError(f"a box needs as many lower as upper limits: there are {low.size} and {high.size}")
        wrong = (low > high) | (low == np.inf) | (high == -np.inf)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise InvalidInputError(f"input {i} of the box would lie between {low[i]:g} and {high[i]:g}: swap them?")
        for name, end in zip(("lower", "upper"), ends):
            object.__setattr__(self, name, _locked(end))

    @classmethod
    def around(cls, X: ArrayLike, margin: float = 0.0) -> Box:
        """The smallest box around the rows of X (N, d), every side moved out by ``margin`` of its range.

        An input that is the same in all rows is held there.

        Raises
        ------
        InvalidInputError
            X has no rows, or is not a matrix of finite numbers; a negative margin.
        """
        rows = finite_array(X, "X", ndim=(2,))
        if not len(rows):
            raise InvalidInputError("X has no rows: a box around data needs at least one")
        margin = positive_number(margin, "margin", zero=True)
        low, high = rows.min(axis=0), rows.max(axis=0)
        with np.errstate(over="ignore"):  # what overflows is no limit
            more = margin * (high - low) if margin > 0.0 else 0.0
            return cls(low - more, high + more)

    @property
    def words(self) -> str:
        return f"in a box of {len(self.lower)} inputs"

    @property
    def limits(self) -> tuple[list[float], list[float]]:
        """Both limits as plain numbers."""
        return self.lower.tolist(), self.upper.tolist()

    def refusal(self, n_inputs: int) -> str | None:
        if self.lower.shape != (n_inputs,):
            return f"the box has {len(self.lower)} inputs, the network has {n_inputs}"
        return None

    def __repr__(self) -> str:
        free = int(np.sum(np.isinf(self.lower) | np.isinf(self.upper)))
        held = int(np.sum(self.lower == self.upper))
        more = [f"{n} {what}" for n, what in ((free, "without a limit"), (held, "held")) if n]
        return f"Box({', '.join([f'{len(self.lower)} inputs', *more])})"


Region = All | Ball | Box

ALL: Final = All()


def require_region(region: object, n_inputs: int) -> Region:
    """``region``, if it is one of inputs of this number.

    Raises
    ------
    InvalidInputError
    """
    if not isinstance(region, All | Ball | Box):
        raise InvalidInputError(f"region must be a certnet.Box or a certnet.Ball, got {type(region).__name__}")
    refusal = region.refusal(n_inputs)
    if refusal is not None:
        raise InvalidInputError(refusal)
    return region


def region_of(around: Float | None, radius: float | None, box: tuple[Float, Float] | None = None) -> Region:
    """The region that a certificate's fields speak of; a ball that lacks one of them is refused when it is used.

    Raises
    ------
    InvalidInputError
        Limits that are no box, or a box and a ball at once.
    """
    ball = around is not None or radius is not None
    if box is not None:
        if ball:
            raise InvalidInputError("a region is a box or a ball, not both")
        return Box(*box)
    return _as_it_stands(around, radius) if ball else ALL


def _as_it_stands(centre: object, radius: object) -> Ball:
    """A ball of what a certificate holds, not converted: another type than double would be another ball."""
    made = object.__new__(Ball)
    object.__setattr__(made, "centre", centre)
    object.__setattr__(made, "radius", radius)
    return made


def _limits(value: ArrayLike, name: str) -> Float:
    """Numbers (d,), which may be infinite."""
    raw = plain_array(value, name)
    if raw.ndim != 1:
        raise InvalidInputError(f"{name} has shape {raw.shape}: a box needs one number per input")
    limits = raw.astype(np.float64, copy=True)
    if np.isnan(limits).any():
        raise InvalidInputError(f"{name} has NaN at input {int(np.argmax(np.isnan(limits)))}: use inf for no limit")
    return limits + 0.0  # -0.0 is 0.0


def _locked(array: Float) -> Float:
    array.flags.writeable = False
    return array
