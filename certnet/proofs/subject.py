"""What the numbers of a proof speak of: the function that a claim is about, as weights and slopes. NumPy only.

An output, or the difference of two, is the network with another last layer; linear layers are multiplied into their
neighbours. Both are rounded, and the rounding is charged (:mod:`certnet.proofs.selection`). Within a region a unit that
cannot leave one piece of its activation has a known slope (:mod:`certnet.proofs.regions`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from certnet.claims.claim import Claim
from certnet.claims.region import All
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.hidden import HiddenWeights
from certnet.networks.network import Network
from certnet.proofs.regions import UnitSlopes, contains, slopes_in, slopes_within
from certnet.proofs.selection import fold_linear, select_output

__all__ = ["Subject"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A claim about a network of layers that something can be proved of.

    Attributes
    ----------
    claim : Claim
    network : FeedForward
        The claim's.
    """

    claim: Claim
    network: FeedForward

    @classmethod
    def of(cls, claim: Claim) -> Subject | str:
        """The subject of a claim; a sentence where nothing of this kind can be proved."""
        refusal = claim.refusal()
        if refusal is not None:
            return refusal
        if not isinstance(claim.network, Network):
            return "the claim is about a lifted network: its proofs are of another kind"
        subject = cls(claim, FeedForward.of(claim.network))
        return subject._out_of_reach() or subject

    def _out_of_reach(self) -> str | None:
        """Why no proof is known of such a claim, if so."""
        try:
            _ = self.chosen
        except InvalidInputError:
            return f"the difference of the outputs {self.claim.output!r} overflows: rescale the outputs"
        return None

    # ------------------------------------------------------------------------------------------------------- functions

    @cached_property
    def _selection(self) -> tuple[FeedForward, float]:
        return select_output(self.network, self.claim.output)

    @property
    def chosen(self) -> FeedForward:
        """The network of the chosen outputs."""
        return self._selection[0]

    @property
    def everywhere(self) -> bool:
        """Is the claim about all inputs?"""
        return isinstance(self.claim.region, All)

    @cached_property
    def reached(self) -> UnitSlopes:
        """Slopes of the units of all hidden layers within the region."""
        return slopes_within(self.claim.region, self.network, self.claim.norm)

    def within(self, slopes: UnitSlopes) -> FeedForward:
        """The network of the chosen outputs with these slopes of its units."""
        hidden = [replace(layer, reached=pair) for layer, pair in zip(self.chosen.layers, slopes)]
        return FeedForward.from_layers([*hidden, self.chosen.layers[-1]], self.chosen.units)

    @cached_property
    def _folding(self) -> tuple[FeedForward, float]:
        return fold_linear(self.chosen)

    @property
    def folded(self) -> FeedForward:
        """The network of the chosen outputs without its linear layers."""
        return self._folding[0]

    def charge(self, *, folded: bool = False) -> float:
        """What rounding left out of the chosen (and folded) network, as a slope in the norm of the claim."""
        slope = self._selection[1] + (self._folding[1] if folded else 0.0)
        # ‖x‖₂ ≤ √d ‖x‖_∞
        factor = 1.0 if self.claim.norm == "l2" else math.sqrt(self.network.n_inputs)
        return slope if slope == 0.0 else slope * factor * (1.0 + 1e-12)

    # ------------------------------------------------------------------------------------------------- one hidden layer

    @cached_property
    def hidden(self) -> HiddenWeights:
        """Weights of the chosen network with one hidden layer; its activation is in :attr:`slopes`."""
        W, V = self.chosen.weights
        return HiddenWeights(W, self.chosen.biases[0], V)

    @cached_property
    def slopes(self) -> tuple[Float, Float]:
        """Slopes of the units of one hidden layer, each (h,): those within reach in the region, or all."""
        return slopes_in(self.claim.region, self.network, self.claim.norm)

    @property
    def one_kink_at_zero(self) -> bool:
        """Is the activation linear on either side of zero, so that a tree of cases can prove something?"""
        known = self.network.depth == 1 and not self.network.structured
        return known and self.network.activations[0].name in ("relu", "leaky_relu")

    @property
    def side_slopes(self) -> tuple[Float, Float]:
        """Slopes of the units left and right of their kink at zero, each (h,); in the ball one known slope for both."""
        phi = self.network.activations[0]
        left, right = (float(phi.derivative(np.array(side))) for side in (-1.0, 1.0))
        low, high = self.slopes
        return np.where(low == high, low, left), np.where(low == high, high, right)

    def contains(self, x: Float) -> bool:
        """Does x lie where the claim is made, beyond doubt from rounding?"""
        return contains(self.claim.region, x, self.claim.norm)
