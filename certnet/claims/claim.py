"""What a bound is claimed of, and which checker decides on it. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.chain import ChainChecker
from certnet.proofs.deep import DeepChecker, gradient_below, in_ball, slopes_in_ball
from certnet.proofs.selection import fold_linear, select_output
from certnet.proofs.shallow import BoundChecker, Verdict, double_below
from certnet.proofs.sup_norm import SupChecker, gradient_sum_below
from certnet.proofs.tree import TreeChecker

__all__ = ["KINDS", "NORMS", "Checker", "Claim", "Multipliers", "frozen"]

KINDS: Final = ("shallow", "tree", "neuron", "layer", "composition", "product")
"""What multipliers can be: see :class:`~certnet.claims.certificate.Certificate`."""

NORMS: Final = ("l2", "linf")
"""Norms of the inputs; outputs are measured in l2, a single one in absolute value."""

Multipliers = Float | tuple[Any, ...]


class Checker(Protocol):
    """Multipliers of one network, prepared to test many bounds; ``refusal`` says why none follows."""

    refusal: str | None

    def holds(self, upper: float) -> Verdict: ...


@dataclass(frozen=True, eq=False)
class Claim:
    """A function and a norm: ``network``, one of its outputs or a difference of two, everywhere or in a ball.

    Attributes
    ----------
    network : FeedForward
    norm : {"l2", "linf"}
    output : tuple of one or two int, or None
        An output i, a difference ``f_i − f_j``, or all outputs.
    around, radius : ndarray of shape (d,) and float, or None
        The ball, in the same norm.
    """

    network: FeedForward
    norm: str = "l2"
    output: tuple[int, ...] | None = None
    around: Float | None = None
    radius: float | None = None

    def refusal(self) -> str | None:
        """Why nothing of this kind can be claimed, if so."""
        if self.norm not in NORMS:
            return f"the norm {self.norm!r} is not one of {', '.join(NORMS)}"
        if self.output is not None:
            if not _chooses(self.output, self.network.n_outputs):
                return (
                    f"the output {self.output!r} is not one of the network's {self.network.n_outputs}, or two of them"
                )
            try:
                _ = self.chosen
            except InvalidInputError:
                return f"the difference of the outputs {self.output!r} overflows: rescale the outputs"
        if (self.around is None) != (self.radius is None):
            return "a ball needs both a centre and a radius"
        if self.around is not None and self.radius is not None:
            if not _is_input(self.around, self.network.n_inputs):
                return "the centre of the ball is not one of the network's inputs"
            if not isinstance(self.radius, float) or not 0.0 <= self.radius < math.inf:
                return "the radius of the ball is not a finite non-negative number"
            if self.network.depth != 1:
                return "a ball is for one hidden layer"
        if self.norm == "linf" and (self.chosen.n_outputs != 1 or self.network.depth != 1):
            return "the l-infinity norm is for one hidden layer and one output"
        return None

    @cached_property
    def _selection(self) -> tuple[FeedForward, float]:
        return select_output(self.network, self.output)

    @property
    def chosen(self) -> FeedForward:
        """The network of the chosen outputs."""
        return self._selection[0]

    @cached_property
    def _folded(self) -> tuple[FeedForward, float]:
        return fold_linear(self.chosen)

    def network_for(self, kind: str) -> FeedForward:
        """The chosen network that multipliers of this kind speak of: LipSDP's has no linear layers."""
        return self._folded[0] if kind in ("neuron", "layer") else self.chosen

    def charge(self, kind: str = "") -> float:
        """What rounding left out of that network, as a slope in the norm of the claim."""
        slope = self._selection[1] + (self._folded[1] if kind in ("neuron", "layer") else 0.0)
        # ‖x‖₂ ≤ √d ‖x‖_∞
        factor = 1.0 if self.norm == "l2" else math.sqrt(self.network.n_inputs)
        return slope if slope == 0.0 else slope * factor * (1.0 + 1e-12)

    @cached_property
    def layer(self) -> ShallowNetwork:
        """Weights of the chosen network with one hidden layer; its activation is in :meth:`slopes`."""
        W, V = self.chosen.weights
        b, c = self.chosen.biases
        return ShallowNetwork(W, b, V, c)

    def slopes(self) -> tuple[Float, Float]:
        """Slopes of the units of one hidden layer, each (h,): those within reach in the ball, or all."""
        if self.around is not None and self.radius is not None:
            return slopes_in_ball(self.network, self.around, self.radius, norm=self.norm)
        low, high = self.network.activations[0].slopes
        h = self.network.widths[1]
        return np.full(h, low), np.full(h, high)

    @property
    def one_kink_at_zero(self) -> bool:
        """Is the activation linear on either side of zero, so that a tree of cases can prove something?"""
        return self.network.depth == 1 and self.network.activations[0].name in ("relu", "leaky_relu")

    def side_slopes(self) -> tuple[Float, Float]:
        """Slopes of the units left and right of their kink at zero, each (h,); in the ball one known slope for both."""
        phi = self.network.activations[0]
        left, right = (float(phi.derivative(np.array(side))) for side in (-1.0, 1.0))
        low, high = self.slopes()
        return np.where(low == high, low, left), np.where(low == high, high, right)

    def checker(self, kind: str, multipliers: Any) -> Checker | str:
        """The checker of these multipliers, without the charge; a text where they prove nothing of this claim."""
        refusal = self.refusal()
        if refusal is not None:
            return refusal
        several = isinstance(multipliers, tuple)
        if kind in ("shallow", "tree") and self.network.depth == 1:
            if kind == "tree" and self.norm == "l2" and several and self.one_kink_at_zero:
                left, right = self.side_slopes()
                return TreeChecker(self.layer, list(multipliers), low=left, high=right)
            low, high = self.slopes()
            if kind == "shallow" and self.norm == "l2" and not several:
                return BoundChecker(self.layer, multipliers, low=low, high=high)
            if kind == "shallow" and self.norm == "linf" and several and len(multipliers) == 2:
                return SupChecker(self.layer, *multipliers, low=low, high=high)
        if self.norm == "l2" and self.around is None and several:
            if kind in ("neuron", "layer"):
                return DeepChecker(self.network_for(kind), multipliers)
            if kind in ("composition", "product"):
                return ChainChecker(self.chosen, multipliers, pairs=kind == "composition")
        return f"multipliers of the kind {kind!r} prove nothing of this claim"

    def holds(self, kind: str, multipliers: Any, upper: object) -> Verdict:
        """Is ``L ≤ upper`` proved?"""
        checker = self.checker(kind, multipliers)
        if isinstance(checker, str):
            return Verdict(False, checker)
        charge = self.charge(kind)
        if charge == 0.0:
            return checker.holds(upper)  # type: ignore[arg-type] # what is not a number is refused there
        claimed = double_below(upper)
        if claimed is None or not math.isfinite(claimed) or not claimed >= charge:
            return Verdict(False, "the bound does not cover the rounding of a difference or a product of weights")
        return checker.holds(math.nextafter(claimed - charge, -math.inf))

    def raised(self, upper: float, kind: str) -> float:
        """``upper`` of the network for this kind with the charge on top, rounded up."""
        charge = self.charge(kind)
        # the last term is for bounds so small that the factor does nothing
        return upper if charge == 0.0 else (upper + charge) * (1.0 + 2.0**-49) + 2.0**-1070

    def slope_at(self, x: Float) -> float:
        """A proven lower bound on L: the gradient's norm at x, rounded down; 0 where nothing is proved."""
        below, charge = self.chosen_slope_at(x), self.charge()
        return below if charge == 0.0 else max(0.0, math.nextafter(below - charge, -math.inf))

    def chosen_slope_at(self, x: Float) -> float:
        """The same of the chosen network, and 0 outside of the ball."""
        if not self.contains(x):
            return 0.0
        return gradient_below(self.chosen, x) if self.norm == "l2" else gradient_sum_below(self.chosen, x)

    def contains(self, x: Float) -> bool:
        """Does x lie where the claim is made?"""
        if self.around is None or self.radius is None:
            return True
        return x.shape == self.around.shape and in_ball(x, self.around, self.radius, norm=self.norm)


def _chooses(output: object, n_outputs: int) -> bool:
    """Is it a tuple of one output, or of two different ones?"""
    return (
        isinstance(output, tuple)
        and all(type(i) is int and 0 <= i < n_outputs for i in output)
        and len(output) == len(set(output))
        and len(output) in (1, 2)
    )


def _is_input(x: object, n_inputs: int) -> bool:
    """Is it a finite vector of doubles? Another type would be rounded to another point."""
    return isinstance(x, np.ndarray) and x.dtype == np.float64 and x.shape == (n_inputs,) and bool(np.isfinite(x).all())


def frozen(kind: str, multipliers: Float | Sequence[Any]) -> Multipliers:
    """Multipliers as read-only arrays, a tree as a tuple of its nodes."""
    if kind == "tree" or not isinstance(multipliers, tuple):
        return tuple(multipliers) if kind == "tree" else _read_only(multipliers)
    return tuple(map(_read_only, multipliers))


def _read_only(values: Any) -> Float:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array
