"""What is claimed: a bound on the slope of one network, in a region, in a norm, of its outputs or of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from certnet.claims.region import ALL, Region
from certnet.core.errors import InvalidInputError
from certnet.core.validation import whole_number
from certnet.networks.energy import LiftedEnergy
from certnet.networks.network import Network

__all__ = ["NORMS", "Claim", "Output", "output_refusal", "parse_output"]

NORMS: Final = ("l2", "linf")
"""Norms of the inputs; outputs are measured in l2, a single one in absolute value."""

Output = tuple[int, ...] | None
"""All outputs, one output (i,), or the difference (i, j) of two."""


@dataclass(frozen=True, eq=False)
class Claim:
    """``‖f(x) − f(y)‖₂ ≤ L ‖x − y‖`` for all x, y of a region, of an L that a proof bounds.

    Where the region has no width in some direction (an input that is held, a single point), L counts the slope of f at
    its points in that direction, too: then it may be more than pairs of the region show.

    Attributes
    ----------
    network : Network or LiftedEnergy
        f, or ``x ↦ z_L*(x)``.
    region : Region
        Where x and y are.
    norm : {"l2", "linf"}
        Of the inputs.
    output : tuple of one or two int, or None
        The output i or the difference ``f_i − f_j`` in the place of f; None for all outputs.
    """

    network: Network | LiftedEnergy
    region: Region = ALL
    norm: str = "l2"
    output: Output = None

    def refusal(self) -> str | None:
        """Why nothing of this form can be said of the network, if so."""
        if self.norm not in NORMS:
            return f"the norm {self.norm!r} is not one of {', '.join(NORMS)}"
        return output_refusal(self.output, self.network.n_outputs) or self.region.refusal(self.network.n_inputs)


def output_refusal(output: object, n_outputs: int) -> str | None:
    """Why ``output`` is neither None nor a tuple of one output or of two different ones, if so."""
    if output is None:
        return None
    indices = output if isinstance(output, tuple) else ()
    exist = all(type(i) is int and 0 <= i < n_outputs for i in indices)
    if exist and len(indices) in (1, 2) and len(set(indices)) == len(indices):
        return None
    return f"the output {output!r} is not one of the network's {n_outputs}, counted from 0, or two of them"


def parse_output(output: int | tuple[int, int] | None, n_outputs: int) -> Output:
    """``output`` as a caller gives it, an index or two different ones, as a tuple; None stays None.

    Raises
    ------
    InvalidInputError
    """
    if output is None:
        return None
    indices = output if isinstance(output, tuple | list) else (output,)
    chosen = tuple(whole_number(i, "output", most=n_outputs - 1) for i in indices)
    if len(chosen) not in (1, 2) or len(set(chosen)) != len(chosen):
        raise InvalidInputError(f"output must be one index or two different ones (a difference), got {output!r}")
    return chosen
