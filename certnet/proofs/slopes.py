r"""Proved intervals of the partial derivatives of a network, for all inputs. NumPy only.

    lower_oi ≤ (f_o(x + t e_i) − f_o(x)) / t ≤ upper_oi        for all inputs x and all t ≠ 0

so that also ``∂f_o/∂x_i`` lies there wherever it exists. An end at 0 or beyond proves the output monotone in the input.
The proof is interval arithmetic (:mod:`certnet.proofs.intervals`), which :meth:`SlopeIntervals.check` does again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims import sealed
from certnet.claims.families import FEED_FORWARD, identity
from certnet.claims.kinds import read_only
from certnet.claims.verdict import Verdict
from certnet.core.digits import above, below
from certnet.core.errors import AlteredCertificateError, CertificateError, FileFormatError, UnsupportedModelError
from certnet.core.files import write_atomic
from certnet.core.validation import Float
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.proofs.intervals import Intervals, slopes_of_products

__all__ = ["SlopeIntervals", "holds_slopes", "slope_ends"]

_SCHEMA: Final = "certnet-slopes-1"
_KIND: Final = "slopes"
_FIRST: Final = ("schema", "kind", "lower", "upper", "units")
_FIELDS: Final = (*_FIRST, "digest", "shape", "slopes", "read")
_ROOM: Final = 1e-12  # of an interval's size: sums in another order on another machine still prove it


@dataclass(frozen=True, eq=False)
class SlopeIntervals:
    """Intervals of the slopes of every output along every input, for all inputs, with what tells the network.

    Attributes
    ----------
    lower, upper : ndarray, shape (m, d)
        Proved in real arithmetic for the stored float64 weights; outputs per input, in ``units``.
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
    """

    lower: Float
    upper: Float
    units: str
    digest: str
    shape: tuple[int, ...]
    slopes: tuple[tuple[float, float], ...]
    read: str = ""

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @classmethod
    def of(cls, network: Network) -> SlopeIntervals:
        """The intervals that are proved of a network.

        Raises
        ------
        InvalidInputError
            It is no network of layers.
        UnsupportedModelError
            It has convolutions or skips.
        CertificateError
            Products of its weights overflow.
        """
        network = require_network(network)
        if network.structured:
            raise UnsupportedModelError(f"{network!r}: {_DENSE_ONLY}")
        ends = slope_ends(network)
        if ends is None:
            raise CertificateError(f"{network!r}: products of its weights overflow: rescale the outputs or the inputs")
        room = _ROOM * np.maximum(np.abs(ends.low), np.abs(ends.high))
        lower = np.where(ends.low == 0.0, 0.0, ends.low - room)
        upper = np.where(ends.high == 0.0, 0.0, ends.high + room)
        known = identity(network)
        return cls(lower, upper, known.units, known.digest, known.shape, known.slopes, network.about.read)

    @property
    def monotone(self) -> NDArray[np.int64]:
        """Of every output and input 1 where it is proved never to fall, −1 never to rise, 0 otherwise or constant."""
        return (self.lower >= 0.0).astype(np.int64) - (self.upper <= 0.0).astype(np.int64)

    @property
    def sentences(self) -> list[str]:
        """One for every interval, its ends rounded outward."""
        return [
            f"{below(low)} <= slope of output {o} along input {i} <= {above(high)}"
            for o, ends in enumerate(zip(self.lower.tolist(), self.upper.tolist()))
            for i, (low, high) in enumerate(zip(*ends))
        ]

    def check(self, network: Network) -> Verdict:
        """Are the intervals proved of ``network``? From its weights alone.

        Raises
        ------
        InvalidInputError
            ``network`` is no network of layers.
        """
        network = require_network(network)
        if network.structured:
            return Verdict(False, _DENSE_ONLY)
        theirs = identity(network)
        if self.digest not in (theirs.digest, *theirs.others):
            return Verdict(False, "the slope intervals are of another network (its digest differs)")
        for name in ("units", "slopes", "shape"):
            mine, found = getattr(self, name), getattr(theirs, name)
            if mine != found:
                return Verdict(False, f"the intervals' {name} {mine!r}: what can be checked here is {found!r}")
        ends = slope_ends(network)
        if ends is None:
            return Verdict(False, "products of the weights overflow")
        if self.lower.shape != ends.low.shape or self.upper.shape != ends.low.shape:
            return Verdict(False, f"the intervals are of shapes {self.lower.shape} and {self.upper.shape}")
        proved = (self.lower <= ends.low) & (self.upper >= ends.high)  # NaN proves nothing
        if not proved.all():
            o, i = (int(j) for j in np.argwhere(~proved)[0])
            claimed = f"[{self.lower[o, i]!r}, {self.upper[o, i]!r}]"
            return Verdict(False, f"the slope of output {o} along input {i} is not proved to lie in {claimed}")
        return Verdict(True, f"all {ends.low.size} intervals are proved ({self.units} units)")

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.shape))
        known = int(np.count_nonzero(self.monotone))
        return f"SlopeIntervals({sizes}, {known} of {self.lower.size} proved monotone, {self.units} units)"

    # ------------------------------------------------------------------------------------------------------------ files

    def to_json(self) -> str:
        """The intervals as sealed JSON; floats in their shortest exact decimal form."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in ("units", "digest", "shape", "slopes")}
        plain |= {"schema": _SCHEMA, "kind": _KIND, "lower": self.lower.tolist(), "upper": self.upper.tolist()}
        if self.read:
            plain["read"] = self.read
        return sealed.sealed_json(plain, _FIRST)

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
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, too large, not JSON, of another schema, altered, or has a field missing or of a wrong
            type.
        """
        content, source = sealed.read_json(path)
        _, data = sealed.schema_of(content, source, (_SCHEMA,))
        try:
            if sealed.text(data, "kind") != _KIND:
                raise ValueError(f"its kind is not {_KIND!r}")
            found = cls(
                lower=_rows(data, "lower"),
                upper=_rows(data, "upper"),
                units=sealed.text(data, "units"),
                digest=sealed.text(data, "digest"),
                shape=sealed.widths(data, least=FEED_FORWARD.least_widths),
                slopes=sealed.slopes(data),
                read=sealed.text(data, "read") if "read" in data else "",
            )
            right = {"seal": sealed.seal(data)}
            sealed.text(data, "seal")
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise AlteredCertificateError(f"{source} holds no complete slope intervals: {error}") from error
        sealed.verify_written(source, data, right, _FIELDS)
        return found


def holds_slopes(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it holds slope intervals; whether it does is for :meth:`SlopeIntervals.load` to say."""
    try:
        content, _ = sealed.read_json(path)
    except FileFormatError:
        return False
    return isinstance(content, dict) and content.get("schema") == _SCHEMA


_DENSE_ONLY: Final = "slope intervals are for layers given by matrices, without skips or convolutions"


def slope_ends(network: Network) -> Intervals | None:
    """The ends that interval arithmetic proves of a network of dense layers; None where numbers overflow."""
    slopes = [layer.unit_slopes for layer in network.layers[:-1]]
    return slopes_of_products(network.weights, slopes)


def _rows(data: Mapping[str, Any], name: str) -> Float:
    """The rows of a matrix, all of one length."""
    if not isinstance(data[name], list):
        raise TypeError(f"{name} is not a list of rows")
    rows = [sealed.numbers({name: row}, name) for row in data[name]]
    if not rows or len({len(row) for row in rows}) != 1:
        raise ValueError(f"{name} has rows of different lengths")
    return np.array(rows)
