"""Feedback, rate and first weights where an estimator is left to choose them: by the number of hidden layers.

With β = 1 a layer passes at most what it receives, and all of it only where the singular values of W_k are one (Høier
and Zach 2020, Theorem 1): through many layers Gaussian weights pass so little that outputs stay constant. Orthogonal
weights pass the most, and ``γ = 1/2`` carries the target back. Measured in docs/lifted.md, "Depth".
"""

from __future__ import annotations

from typing import Any, Final

from certnet.core.errors import InvalidInputError
from certnet.core.validation import positive_number

__all__ = ["AUTO", "feedback", "is_deep", "rate", "rates_to_try", "stops_early"]

AUTO: Final = "auto"

_DEEP: Final = 3
"""Hidden layers from which other defaults hold."""

_GAMMA, _DEEP_GAMMA = 0.125, 0.5
_RATES, _DEEP_RATES = (0.1, 0.03), (0.15, 0.05)
_ENOUGH: Final = 60
"""Samples of which some can be held back: nine at least decide."""
_RATE, _DEEP_RATE, _ADAM = 0.05, 0.15, 0.001


def is_deep(hidden: int) -> bool:
    """Are there so many hidden layers that the papers' feedback and Gaussian weights do not train?"""
    return hidden >= _DEEP


def feedback(gamma: Any, hidden: int) -> float:
    """γ: the number that is given, or 1/8 up to two hidden layers and 1/2 for more.

    Raises
    ------
    InvalidInputError
        Neither a positive number nor "auto".
    """
    if isinstance(gamma, str):
        _require_auto(gamma, "gamma")
        return _DEEP_GAMMA if is_deep(hidden) else _GAMMA
    return positive_number(gamma, "gamma")


def rate(learning_rate: Any, hidden: int, gamma: float, *, optimizer: str, in_energy: bool) -> float:
    """The learning rate: the number that is given, or 0.05 (0.15 where :func:`is_deep`) of back-propagation.

    ``in_energy`` says that it multiplies the contrastive gradient as it is, ``γ^{L−1}`` times that of back-propagation.
    Adam, which knows no scale, gets 0.001.

    Raises
    ------
    InvalidInputError
        Neither a positive number nor "auto".
    """
    if isinstance(learning_rate, str):
        _require_auto(learning_rate, "learning_rate")
        if optimizer == "adam":
            return _ADAM
        chosen = _DEEP_RATE if is_deep(hidden) else _RATE
        return chosen * gamma**-hidden if in_energy else chosen
    return positive_number(learning_rate, "learning_rate")


def rates_to_try(hidden: int, gamma: float, *, in_energy: bool) -> tuple[float, ...]:
    """Learning rates of which a validation chooses, the higher first, in the scale that :func:`rate` speaks of."""
    return tuple(
        chosen * gamma**-hidden if in_energy else chosen for chosen in (_DEEP_RATES if is_deep(hidden) else _RATES)
    )


def stops_early(early_stopping: Any, n: int) -> bool:
    """Are samples held back to stop by? "auto" does so from sixty samples on.

    Raises
    ------
    InvalidInputError
        Another word than "auto".
    """
    if isinstance(early_stopping, str):
        _require_auto(early_stopping, "early_stopping")
        return n >= _ENOUGH
    return bool(early_stopping)


def _require_auto(given: str, name: str) -> None:
    if given != AUTO:
        kind = "True, False" if name == "early_stopping" else "a positive number"
        raise InvalidInputError(f"{name} is {given!r}: {kind}, or 'auto', is needed")
