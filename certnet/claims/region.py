"""Where a claim is made: of all inputs, or of those in a ball. Regions are convex, so that segments stay inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from certnet.core.validation import Float

__all__ = ["ALL", "All", "Ball", "Region", "region_of"]


@dataclass(frozen=True)
class All:
    """All inputs."""

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
    radius : float
    """

    centre: Float
    radius: float

    @property
    def words(self) -> str:
        return f"within {self.radius:g} of a point"

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


Region = All | Ball

ALL: Final = All()


def region_of(around: Float | None, radius: float | None) -> Region:
    """The region that a certificate's two fields speak of; a ball that lacks one of them is refused when it is used."""
    return ALL if around is None and radius is None else Ball(around, radius)  # type: ignore[arg-type]
