"""What to try where an error on data that were not trained on rose although the objective fell.

An objective trades fit for slope, so the training error tells which of the two was given too much: where it fell, the
network fits its training data too closely and should be flatter; where it rose as well, too much of the fit was given
away. Within a thousandth it tells neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from certnet.programs.goal import FitAtMost, Goal, SlopeAtMost

__all__ = ["Change", "Knob"]

_ROUNDING: Final = 1e-6  # relative: what is no rise
_SAME: Final = 1e-3  # relative: what tells nothing of its direction
_DIGITS: Final = 4


@dataclass(frozen=True)
class Change:
    """An error or a bound before and after a refinement."""

    before: float
    after: float

    @property
    def rose(self) -> bool:
        """By more than rounding."""
        return self.after > self.before + _ROUNDING * abs(self.before)

    @property
    def slight(self) -> bool:
        """Within a thousandth."""
        return abs(self.after - self.before) <= _SAME * abs(self.before)

    def __str__(self) -> str:
        """``"from 462 to 1569"``, with four digits, or as many as tell the two apart."""
        digits = (d for d in range(_DIGITS, 18) if f"{self.before:.{d}g}" != f"{self.after:.{d}g}")
        d = next(digits, _DIGITS)
        return f"from {self.before:.{d}g} to {self.after:.{d}g}"


@dataclass(frozen=True)
class Knob:
    """What sets the balance of fit and slope, by the name that whoever is told knows it by.

    Attributes
    ----------
    name : str
    flattens : bool
        Does more of it make the network flatter?
    choice : str
        How to choose it where a guess will not do, as an imperative.
    """

    name: str = "weight"
    flattens: bool = True
    choice: str = "choose it by validation (CertifiedRegressorCV)"

    @classmethod
    def of(cls, goal: Goal | None, *, shell: bool = False) -> Knob:
        """Of the goal of a refinement; ``shell``: as the options of the command line."""
        if isinstance(goal, SlopeAtMost):
            knob = cls("target_lipschitz", flattens=False)
        elif isinstance(goal, FitAtMost):
            knob = cls("max_mse", choice="compare several by the error on held-out samples")
        else:
            knob = cls()
        if not shell:
            return knob
        return cls(f"--{knob.name.replace('_', '-')}", knob.flattens, "compare several by --validation")

    @property
    def flatter(self) -> str:
        """What makes the network flatter: ``"a larger weight"``."""
        return f"a {'larger' if self.flattens else 'smaller'} {self.name}"

    @property
    def closer(self) -> str:
        """What makes it fit more closely."""
        return f"a {'smaller' if self.flattens else 'larger'} {self.name}"

    def advice(self, train: Change, unseen: Change) -> str:
        """What the training error says of a rise on data that were not trained on, and what to try."""
        if unseen.slight:
            return f"that is less than a thousandth, and no reason for another {self.name}"
        return self.cure(train)

    def cure(self, train: Change) -> str:
        """The same of a rise that is not slight."""
        if train.slight:
            return f"the training error is about the same and does not tell which {self.name} is better: {self.choice}"
        if train.after < train.before:
            return (
                "the training error fell, so the network fits its training data too closely: try "
                f"{self.flatter}, or {self.choice}"
            )
        return f"the training error rose as well, so the network was made too flat: try {self.closer}, or {self.choice}"
