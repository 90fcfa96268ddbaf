"""What all proofs share: they are asked of a claim and a bound, and prepare a checker that takes many bounds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from certnet.claims.claim import Claim, Output
from certnet.claims.kinds import nothing_of
from certnet.claims.region import All
from certnet.claims.verdict import Verdict
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.inflation import inflated
from certnet.proofs.rounding import double_below, shown
from certnet.proofs.subject import Subject

__all__ = ["Checker", "LayeredProof", "LiftedProof", "MultiplierChecker", "ProductChecker", "lifted_refusal"]


class Checker(ABC):
    """Numbers that may prove something of one network, prepared to test many bounds.

    Attributes
    ----------
    refusal : str or None
        Why no bound at all follows from these numbers, if so.
    """

    refusal: str | None = None

    def holds(self, upper: object) -> Verdict:
        """Is ``L ≤ upper`` proved?"""
        objection = self.refusal or self.objection(upper)
        return Verdict(True, f"L <= {upper!r} is proved") if objection is None else Verdict(False, objection)

    @abstractmethod
    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved, if so; asked where there is no ``refusal``."""

    @abstractmethod
    def smallest(self, guess: float) -> float | None:
        """A bound near ``guess`` that :meth:`holds`: the guess inflated as little as the rounding errors ask for.

        None when none near it is proved.
        """


class MultiplierChecker(Checker):
    """Multipliers that prove a bound where a matrix that they and its square make is semidefinite.

    Attributes
    ----------
    proves : callable or None
        Whether a bound is proved; None where no input moves an output, so that every bound is.
    """

    proves: Callable[[float], bool] | None = None

    def objection(self, upper: object) -> str | None:
        claimed = double_below(upper)
        if self.proves is None and claimed == 0.0:
            return None
        if claimed is None or not 0.0 < claimed < 2.0**500:
            return f"the bound {shown(upper)} is not a positive number of reasonable size"
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = self.proves is None or self.proves(claimed)
        return None if proved else f"the multipliers do not prove L <= {upper!r}"

    def smallest(self, guess: float) -> float | None:
        return None if self.refusal is not None else inflated(self.holds, guess)


class ProductChecker(Checker):
    """Numbers whose product is the bound.

    Attributes
    ----------
    product : float
        The bound that they prove, rounded up; infinite where there is a refusal.
    """

    product: float = math.inf

    def objection(self, upper: object) -> str | None:
        claimed = double_below(upper)
        if claimed is None or not self.product <= claimed < math.inf:
            return f"the product of the layers' bounds does not prove L <= {str(upper)[:40]}"
        return None

    def smallest(self, guess: float) -> float | None:
        return self.product if self.refusal is None else None


@dataclass(frozen=True, eq=False)
class LayeredProof(ABC):
    """A proof of a bound of a network of layers.

    Attributes
    ----------
    KIND : str
        Its name in messages.
    LAYOUT : {"vector", "vectors", "nodes"}
        What its numbers are: one array, a tuple of them, or the nodes of a tree.
    FOLDED : bool
        Whether they speak of the network without its linear layers.
    STRUCTURED : bool
        Whether they know of convolutions and of units that are carried past an activation.
    """

    KIND: ClassVar[str]
    LAYOUT: ClassVar[str] = "vectors"
    FOLDED: ClassVar[bool] = False
    STRUCTURED: ClassVar[bool] = False

    multipliers: Any

    @abstractmethod
    def checker(self, subject: Subject) -> Checker | None:
        """The checker of these numbers; None where they prove nothing of the subject."""

    def check(self, claim: Claim, bound: object) -> Verdict:
        """Does the proof show ``L ≤ bound`` of the claim?"""
        subject = Subject.of(claim)
        if isinstance(subject, str):
            return Verdict(False, subject)
        known = self.STRUCTURED or not subject.network.structured
        checker = self.checker(subject) if known else None
        if checker is None:
            return Verdict(False, nothing_of(self.KIND))
        charge = subject.charge(folded=self.FOLDED)
        if charge == 0.0:
            return checker.holds(bound)
        claimed = double_below(bound)
        if claimed is None or not math.isfinite(claimed) or not claimed >= charge:
            return Verdict(False, "the bound does not cover the rounding of a difference or a product of weights")
        return checker.holds(math.nextafter(claimed - charge, -math.inf))

    def raised(self, subject: Subject, upper: float) -> float:
        """``upper``, which the checker proves, with the charge of the claim on top, rounded up."""
        charge = subject.charge(folded=self.FOLDED)
        # the last term is for bounds so small that the factor does nothing
        return upper if charge == 0.0 else (upper + charge) * (1.0 + 2.0**-49) + 2.0**-1070


@dataclass(frozen=True, eq=False)
class LiftedProof(ABC):
    """A proof of a bound of ``x ↦ z_L*(x)`` of a lifted network, for all inputs in the l2 norm."""

    LAYOUT: ClassVar[str] = "vectors"

    multipliers: tuple[Float, ...]

    @abstractmethod
    def checker(self, net: LiftedEnergy, output: Output) -> Checker:
        """The checker of these numbers for a network and one of its outputs."""

    def check(self, claim: Claim, bound: object) -> Verdict:
        """Does the proof show ``L ≤ bound`` of the claim?"""
        refusal = lifted_refusal(claim)
        if refusal is not None or not isinstance(claim.network, LiftedEnergy):
            return Verdict(False, str(refusal))
        return self.checker(claim.network, claim.output).holds(bound)


def lifted_refusal(claim: Claim) -> str | None:
    """Why no proof is known of such a claim about a lifted network, if so."""
    if not isinstance(claim.network, LiftedEnergy):
        return "the claim is not about a lifted network"
    if claim.norm != "l2" or not isinstance(claim.region, All):
        return "bounds of lifted networks are for all inputs, in the l2 norm"
    return claim.refusal()
