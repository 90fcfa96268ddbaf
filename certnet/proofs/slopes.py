r"""Proved intervals of the partial derivatives of a network, for all inputs or in a region. NumPy only.

    lower_oi ≤ (f_o(x + t e_i) − f_o(x)) / t ≤ upper_oi        for all x and x + t e_i of the region, t ≠ 0

and ``∂f_o/∂x_i`` lies there wherever it exists in the region, on its border too and along inputs that it holds: a unit
counts as being on one piece of its activation where its limits keep it off the kink. An end at 0 or beyond proves
the output monotone in the input, in the region.

There are two proofs, and each end needs one. Interval arithmetic (:mod:`certnet.proofs.intervals`) takes the slopes of
all units for independent of each other at every layer; :meth:`SlopeIntervals.check` does it again. A multiplier per
unit that bends (:mod:`certnet.proofs.sectors`) proves more at depth; the file keeps them for the ends they prove.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims import sealed
from certnet.claims.claim import Claim, Output
from certnet.claims.families import FEED_FORWARD, identity
from certnet.claims.kinds import read_only
from certnet.claims.region import ALL, Region
from certnet.claims.verdict import Verdict
from certnet.core.errors import (
    AlteredCertificateError,
    CertificateError,
    FileFormatError,
    InvalidInputError,
    UnsupportedModelError,
)
from certnet.core.files import write_atomic
from certnet.core.validation import Float
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.proofs.intervals import Intervals, slopes_of_products
from certnet.proofs.regions import UnitSlopes, slopes_at
from certnet.proofs.relaxation import Ends, inputs_of, limits
from certnet.proofs.sectors import SectorChecker, Sectors
from certnet.proofs.slope_files import EndProof, matrix_in, more_in, region_written
from certnet.proofs.slope_rows import FeatureSlope, as_html, as_text, feature_rows, sentences_of
from certnet.proofs.subject import Subject

__all__ = [
    "SlopeIntervals",
    "ends_of",
    "holds_slopes",
    "slope_ends",
    "slopes_everywhere",
    "slopes_reached",
    "too_large",
    "with_room",
]

_SCHEMA: Final = "certnet-slopes-1"
_SCHEMA_2: Final = "certnet-slopes-2"
"""Of intervals that hold a region, a chosen output, names or multipliers."""

_KIND: Final = "slopes"
_FIRST: Final = ("schema", "kind", "lower", "upper", "units")
_FIELDS: Final = (*_FIRST, "digest", "shape", "slopes", "read")
_MORE: Final = ("norm", "output", "around", "radius", "box", "inputs", "outputs", "reached", "multipliers")
_ROOM: Final = 1e-12  # of an interval's size: sums in another order on another machine still prove it
_LARGEST: Final = 1 << 26  # entries of a layer's matrix


@dataclass(frozen=True, eq=False)
class SlopeIntervals:
    """Intervals of the slopes of outputs along every input, with what tells the network and why they are true.

    Attributes
    ----------
    lower, upper : ndarray, shape (m, d)
        Proved in real arithmetic for the stored float64 weights; outputs per input, in ``units``. One row where an
        ``output`` is chosen.
    units : str
        What inputs and outputs are measured in (that of the network).
    digest : str
        SHA-256 of the network.
    shape : tuple of int
        Its widths.
    slopes : tuple of pairs of float
        Of its activations.
    read : str
        What the network was read from, in words.
    region : All, Ball or Box
        Where the slopes are taken.
    norm : {"l2", "linf"}
        That of a ball.
    output : tuple of int, or None
        The output (i,) or the difference (i, j) of two that the intervals are of; None for all outputs.
    inputs, outputs : tuple of str
        Names of all inputs and outputs of the network, where it has some; words, which prove nothing.
    reached : tuple of pairs of ndarray, shape (n_k,)
        Of every hidden layer the least and the greatest slopes that the proof goes by; they hold those that occur in
        the region. Empty where it goes by all slopes of the activations.
    multipliers : tuple of (o, i, side, T)
        For the ends that interval arithmetic does not prove: row, input, 1 for the upper or −1 for the lower end, and
        T (N,) of the units that bend (:mod:`certnet.proofs.sectors`).
    """

    lower: Float
    upper: Float
    units: str
    digest: str
    shape: tuple[int, ...]
    slopes: tuple[tuple[float, float], ...]
    read: str = ""
    region: Region = ALL
    norm: str = "l2"
    output: Output = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    reached: tuple[tuple[Float, Float], ...] = ()
    multipliers: tuple[EndProof, ...] = ()

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        reached = tuple((read_only(low), read_only(high)) for low, high in self.reached)
        object.__setattr__(self, "reached", reached)
        held = tuple((o, i, side, read_only(T)) for o, i, side, T in self.multipliers)
        object.__setattr__(self, "multipliers", held)

    @classmethod
    def of(cls, network: Network) -> SlopeIntervals:
        """The intervals that interval arithmetic proves of a network, for all inputs.

        :func:`certnet.certify_features` proves smaller ones at depth, and in regions.

        Raises
        ------
        InvalidInputError
            It is no network of layers.
        UnsupportedModelError
            It has convolutions that are too large to be written out as matrices.
        CertificateError
            Products of its weights overflow.
        """
        network = require_network(network)
        refusal = too_large(network)
        if refusal is not None:
            raise UnsupportedModelError(f"{network!r}: {refusal}")
        ends = slope_ends(network)
        if ends is None:
            raise CertificateError(f"{network!r}: products of its weights overflow: rescale the outputs or the inputs")
        known = identity(network)
        lower, upper = with_room(ends)
        about = network.about
        return cls(
            lower,
            upper,
            known.units,
            known.digest,
            known.shape,
            known.slopes,
            about.read,
            inputs=about.inputs,
            outputs=about.outputs,
        )

    # ---------------------------------------------------------------------------------------------------- what they say

    @property
    def monotone(self) -> NDArray[np.int64]:
        """Of every output and input 1 where it is proved never to fall, −1 never to rise, 0 otherwise or constant."""
        return (self.lower >= 0.0).astype(np.int64) - (self.upper <= 0.0).astype(np.int64)

    @property
    def input_names(self) -> list[str]:
        """Of the columns of ``lower`` and ``upper``."""
        return list(self.inputs) or [f"input {i}" for i in range(self.lower.shape[-1])]

    @property
    def output_names(self) -> list[str]:
        """Of their rows."""
        if self.output is None:
            return list(self.outputs) or [f"output {o}" for o in range(len(self.lower))]
        known = dict(enumerate(self.outputs))
        return [" minus ".join(known.get(o, f"output {o}") for o in self.output)]

    def table(self) -> list[FeatureSlope]:
        """Rows (output, name, unit, lower, upper, verdict), output by output, the largest slopes first.

        ``pandas.DataFrame(intervals.table())`` has these columns.
        """
        return feature_rows(self)

    @property
    def sentences(self) -> list[str]:
        """One for every interval, its ends rounded outward."""
        return list(sentences_of(self))

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.shape))
        known = int(np.count_nonzero(self.monotone))
        parts = [sizes, f"{known} of {self.lower.size} proved monotone", f"{self.units} units"]
        parts += [] if self.output is None else self.output_names
        parts += [self.region.words] if self.region.words else []
        return f"SlopeIntervals({', '.join(parts)})"

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    # ------------------------------------------------------------------------------------------------------ their proof

    def check(self, network: Network) -> Verdict:
        """Are the intervals proved of ``network``? From its weights, and the multipliers where there are some.

        Raises
        ------
        InvalidInputError
            ``network`` is no network of layers.
        """
        network = require_network(network)
        refusal = too_large(network)
        if refusal is not None:
            return Verdict(False, refusal)
        theirs = identity(network)
        if self.digest not in (theirs.digest, *theirs.others):
            return Verdict(False, "the slope intervals are of another network (its digest differs)")
        for name in ("units", "slopes", "shape"):
            mine, found = getattr(self, name), getattr(theirs, name)
            if mine != found:
                return Verdict(False, f"the intervals' {name} {mine!r}: what can be checked here is {found!r}")
        for name, n in (("inputs", network.n_inputs), ("outputs", network.n_outputs)):
            mine, found = getattr(self, name), getattr(network.about, name)
            if mine and (len(mine) != n or (found and mine != found)):
                return Verdict(False, f"the names of the {name} are not those of the network")
        subject = Subject.of(Claim(network, self.region, self.norm, self.output))
        return Verdict(False, subject) if isinstance(subject, str) else self._proved(subject)

    def _proved(self, subject: Subject) -> Verdict:
        slopes = list(self.reached) or slopes_everywhere(subject.network)
        refusal = self._slopes_refusal(slopes_reached(subject)) if self.reached else None
        if refusal is not None:
            return Verdict(False, refusal)
        ends = ends_of(subject, slopes)
        if ends is None:
            return Verdict(False, "products of the weights overflow")
        shape = ends.low.shape
        if self.lower.shape != shape or self.upper.shape != shape:
            return Verdict(False, f"the intervals are of shapes {self.lower.shape} and {self.upper.shape}")
        not_proved = (-1, ~(self.lower <= ends.low)), (1, ~(self.upper >= ends.high))  # NaN proves nothing
        left = [(int(o), int(i), side) for side, which in not_proved for o, i in np.argwhere(which)]
        if left and self.multipliers and Sectors.fit(subject.network, slopes):
            left = self._without_proof(subject, slopes, left)
        if left:
            o, i, _ = min(left)
            claimed = f"[{self.lower[o, i]!r}, {self.upper[o, i]!r}]"
            which = o if self.output is None else " minus output ".join(map(str, self.output))
            return Verdict(False, f"the slope of output {which} along input {i} is not proved to lie in {claimed}")
        where = f", {self.region.words}" if self.region.words else ""
        return Verdict(True, f"all {self.lower.size} intervals are proved ({self.units} units{where})")

    def _slopes_refusal(self, occur: UnitSlopes) -> str | None:
        """Why a proof that goes by the slopes ``reached`` proves nothing where these occur, if so."""
        if len(self.reached) != len(occur):
            return f"there are slopes of {len(self.reached)} layers, the network has {len(occur)} hidden layers"
        for k, ((low, high), (least, most)) in enumerate(zip(self.reached, occur)):
            if low.shape != least.shape or high.shape != least.shape:
                return f"layer {k} has {least.size} units, and slopes of {low.size} and {high.size}"
            held = (low <= least) & (most <= high) & np.isfinite(low) & np.isfinite(high)
            if not held.all():
                j = int(np.argmin(held))
                return (
                    f"unit {j} of layer {k} may have slopes from {least[j]:g} to {most[j]:g} in the region: the "
                    f"proof goes by {low[j]:g} to {high[j]:g}"
                )
        return None

    def _without_proof(
        self, subject: Subject, slopes: UnitSlopes, ends: list[tuple[int, int, int]]
    ) -> list[tuple[int, int, int]]:
        """Those ends that no multipliers prove."""
        sectors = Sectors.of(subject.chosen, slopes)
        known = {(o, i, side): T for o, i, side, T in self.multipliers}
        charge = subject.charge()
        left = []
        for o, i, side in ends:
            T = known.get((o, i, side))
            end = float((self.upper if side == 1 else -self.lower)[o, i])
            if T is None or not SectorChecker(sectors, o, i, side, T).proves(discharged(end, charge)):
                left.append((o, i, side))
        return left

    # ------------------------------------------------------------------------------------------------------------ files

    @property
    def _plain(self) -> bool:
        """Does a file of the first schema say it all?"""
        more = (self.output is not None, self.inputs, self.outputs, self.reached, self.multipliers)
        return self.region == ALL and self.norm == "l2" and not any(more)

    def to_json(self) -> str:
        """The intervals as sealed JSON; floats in their shortest exact decimal form."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in ("units", "digest", "shape", "slopes")}
        plain |= {"kind": _KIND, "lower": self.lower.tolist(), "upper": self.upper.tolist()}
        if self.read:
            plain["read"] = self.read
        if self._plain:
            return sealed.sealed_json(plain | {"schema": _SCHEMA}, _FIRST)
        plain |= {name: getattr(self, name) for name in ("norm", "output", "inputs", "outputs")}
        plain |= region_written(self.region)
        plain["reached"] = [[low.tolist(), high.tolist()] for low, high in self.reached]
        plain["multipliers"] = [[o, i, side, T.tolist()] for o, i, side, T in self.multipliers]
        return sealed.sealed_json(plain | {"schema": _SCHEMA_2}, _FIRST)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the intervals as JSON, complete or not at all.

        Raises
        ------
        OutputError
            The file exists (and ``force`` is false) or cannot be written; an end is NaN or infinite.
        """
        return write_atomic(path, self.to_json(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SlopeIntervals:
        """Read what :meth:`save` wrote, in this version or before.

        Raises
        ------
        FileFormatError
            The file is missing, too large, not JSON, of another schema, altered, or has a field missing or of a wrong
            type.
        """
        content, source = sealed.read_json(path)
        schema, data = sealed.schema_of(content, source, (_SCHEMA, _SCHEMA_2))
        try:
            if sealed.text(data, "kind") != _KIND:
                raise ValueError(f"its kind is not {_KIND!r}")
            found = cls(
                lower=matrix_in(data, "lower"),
                upper=matrix_in(data, "upper"),
                units=sealed.text(data, "units"),
                digest=sealed.text(data, "digest"),
                shape=sealed.widths(data, least=FEED_FORWARD.least_widths),
                slopes=sealed.slopes(data),
                read=sealed.text(data, "read") if "read" in data else "",
                **(more_in(data) if schema == _SCHEMA_2 else {}),
            )
            right = {"seal": sealed.seal(data)}
            sealed.text(data, "seal")
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError, InvalidInputError) as error:
            raise AlteredCertificateError(f"{source} holds no complete slope intervals: {error}") from error
        sealed.verify_written(source, data, right, (*_FIELDS, *(_MORE if schema == _SCHEMA_2 else ())))
        return found


def holds_slopes(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it holds slope intervals; whether it does is for :meth:`SlopeIntervals.load` to say."""
    try:
        content, _ = sealed.read_json(path)
    except FileFormatError:
        return False
    return isinstance(content, dict) and content.get("schema") in (_SCHEMA, _SCHEMA_2)


# ------------------------------------------------------------------------------------------------------- the arithmetic


def too_large(network: Network) -> str | None:
    """Why no slope intervals are proved of a network with layers that are no matrices, if so."""
    if network.structured and max(a * b for a, b in zip(network.widths, network.widths[1:])) > _LARGEST:
        return "slope intervals need the layers as matrices, and a convolution of it is too large to be written as one"
    return None


def slope_ends(network: Network) -> Intervals | None:
    """The ends that interval arithmetic proves of a network for all inputs; None where numbers overflow."""
    return slopes_of_products(network.weights, slopes_everywhere(network))


def slopes_everywhere(network: Network) -> UnitSlopes:
    """Slopes of the units of all hidden layers at any input."""
    return [layer.unit_slopes for layer in network.layers[:-1]]


def slopes_reached(subject: Subject, *, room: float = 0.0) -> UnitSlopes:
    """Slopes of the units of all hidden layers at the inputs of the claim's region, and next to them.

    A limit that lies on a kink does not keep a unit off it. ``room`` widens limits by that part of their size.
    """
    claim, network = subject.claim, subject.network
    found = limits(network, inputs_of(claim.region, network.n_inputs, claim.norm))
    slopes = []
    for layer, ends in zip(network.layers, found):
        near = Ends(np.nextafter(ends.left[0], -np.inf), np.nextafter(ends.right[0], np.inf))
        slopes.append(slopes_at(layer, near, room=room))
    return slopes


def ends_of(subject: Subject, slopes: UnitSlopes) -> Intervals | None:
    """The ends that interval arithmetic proves of the chosen outputs, slopes of units given; None on overflow."""
    ends = slopes_of_products(subject.chosen.weights, slopes)
    charge = subject.charge()
    if ends is None or charge == 0.0:
        return ends
    if not math.isfinite(charge):
        return None
    return Intervals(np.nextafter(ends.low - charge, -np.inf), np.nextafter(ends.high + charge, np.inf))


def discharged(end: float, charge: float) -> float:
    """What is left to be proved of the chosen outputs as they are stored: ``end − charge``, rounded down."""
    return end if charge == 0.0 else math.nextafter(end - charge, -math.inf)


def with_room(ends: Intervals) -> tuple[Float, Float]:
    """Lower and upper ends that another machine proves as well; zero stays zero."""
    room = _ROOM * np.maximum(np.abs(ends.low), np.abs(ends.high))
    lower = np.where(ends.low == 0.0, 0.0, ends.low - room)
    return lower, np.where(ends.high == 0.0, 0.0, ends.high + room)
