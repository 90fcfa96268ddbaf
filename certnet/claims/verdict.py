"""The answer to a question that a proof decides."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Whether a bound is proved; true or false in a condition.

    Attributes
    ----------
    holds : bool
    reason : str
        Where it fails, or what was shown.
    """

    holds: bool
    reason: str

    def __bool__(self) -> bool:
        return self.holds
