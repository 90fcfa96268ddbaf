"""A Lipschitz certificate: data that proves a bound, and that anyone can check again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from certnet.claims.cards import card
from certnet.claims.claim import Claim, Multipliers, frozen
from certnet.claims.sealed import (
    MAX_FILE_BYTES,
    number,
    numbers,
    read_json,
    refuse_other_schema,
    seal,
    sealed_json,
    text,
    upper_written,
    verify_written,
    widths,
)
from certnet.claims.sealed import output as chosen_output
from certnet.core.digits import above, below
from certnet.core.errors import FileFormatError
from certnet.core.files import write_atomic
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward, require_network
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.shallow import Verdict

__all__ = ["SCHEMA", "Certificate", "seal", "square_above"]

SCHEMA: Final = "certnet-certificate-1"
_FIRST = ("schema", "upper", "upper_decimal", "upper_rational", "lower", "rho", "norm", "output", "units", "kind")
_MAX_FILE_BYTES = MAX_FILE_BYTES


def square_above(value: float) -> float:
    """The smallest double that is at least ``value²``; infinite where no double is."""
    square = value * value
    if not math.isfinite(square):
        return math.inf
    return square if Fraction(square) >= Fraction(value) ** 2 else math.nextafter(square, math.inf)


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""``lower ≤ L ≤ upper`` for one network: L is the least with ``‖f(x) − f(y)‖₂ ≤ L ‖x − y‖`` for all x, y.

    Attributes
    ----------
    upper : float
        Proved by ``multipliers`` for all x, y in real arithmetic, with the stored float64 weights.
    lower : float
        Proved by the gradient at ``witness``; 0 where no gradient could be told from rounding.
    rho : float
        ``upper²`` rounded up: the ρ of LipSDP (Y (2)) and of the objective.
    kind : {"shallow", "tree", "neuron", "layer", "composition", "product"}
        What the multipliers are. One hidden layer: t of :mod:`certnet.proofs.shallow` (with s of
        :mod:`certnet.proofs.sup_norm` for that norm), or a tree of cases with t in each
        (:mod:`certnet.proofs.tree`). Any depth: T of :mod:`certnet.proofs.deep`, one number per neuron
        or one per layer; or a chain of bounds (:mod:`certnet.proofs.chain`) of layers and pairs of layers
        ("composition") or of layers alone ("product").
    multipliers : ndarray, shape (h,), or tuple
        Shallow: t ≥ 0; ``T = upper · diag(t)`` are the multipliers of LipSDP's LMI, 0 charges a unit by its norm.
        Otherwise a tuple of arrays, or of a tree's nodes.
    witness : ndarray, shape (d,)
        The input whose gradient proves ``lower``.
    gap : float
        Relative gap between ρ and the dual value found beside it: how much a better search of this kind could still
        gain; for a tree, between ``upper²`` and ``lower²``. In floating point; the bound does not rest on it.
    norm : {"l2", "linf"}
        Norm of the inputs; several outputs are measured in l2.
    output : tuple of int, or None
        The output i, or the difference ``f_i − f_j``, that the claim is about; None for all outputs.
    around, radius : ndarray of shape (d,) and float, or None
        The ball ``‖x − around‖ ≤ radius`` that the claim is about; None where it is about all inputs.
    cheaper : mapping of str to float
        Other upper bounds by name, for comparison; floating point, not proved here.
    units : str
        What inputs and outputs are measured in (that of the network).
    digest : str
        SHA-256 of the network.
    """

    output_name: ClassVar[str] = "the prediction"

    upper: float
    lower: float
    multipliers: Multipliers
    witness: Float
    gap: float
    units: str
    digest: str
    shape: tuple[int, ...]
    method: str
    kind: str = "shallow"
    norm: str = "l2"
    output: tuple[int, ...] | None = None
    slopes: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    around: Float | None = None
    radius: float | None = None
    cheaper: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "witness", frozen("", self.witness))
        if self.around is not None:
            object.__setattr__(self, "around", frozen("", self.around))
        object.__setattr__(self, "multipliers", frozen(self.kind, self.multipliers))

    @property
    def rho(self) -> float:
        return square_above(self.upper)

    @property
    def subject(self) -> str:
        """What the claim is about, in words: the output, the norm of the inputs, the ball."""
        parts = []
        if self.output is not None:
            parts.append("output " + " minus output ".join(map(str, self.output)))
        if self.norm == "linf":
            parts.append("l-infinity norm of the input")
        if self.radius is not None:
            parts.append(f"within {self.radius:g} of a point")
        return ", ".join(parts)

    def __repr__(self) -> str:
        about = f", {self.subject}" if self.subject else ""
        gap = f", gap {self.gap:.1e}" if math.isfinite(self.gap) else ""
        return f"Certificate({below(self.lower)} <= L <= {above(self.upper)}{about}, {self.units} units{gap})"

    def _repr_html_(self) -> str:
        return card(self)

    def check(self, network: ShallowNetwork | FeedForward) -> Verdict:
        """Check both sides against ``network``, from the data alone; a verdict that is true or false.

        Raises
        ------
        InvalidInputError
            ``network`` is not a network.
        """
        require_network(network)
        if not all(type(side) in (float, np.float64) for side in (self.upper, self.lower)):
            return Verdict(False, "a side of the bracket is not a float")
        if self.digest not in digests(network):
            return Verdict(False, "the certificate is of another network (its digest differs)")
        deep = FeedForward.of(network)
        for name, mine, theirs in (
            ("units", self.units, network.units),
            ("slopes", self.slopes, tuple(phi.slopes for phi in deep.activations)),
            ("shape", self.shape, deep.widths),
        ):
            if mine != theirs:
                return Verdict(False, f"the certificate's {name} {mine!r}: what can be checked here is {theirs!r}")
        claim = Claim(deep, self.norm, self.output, self.around, self.radius)
        verdict = claim.holds(self.kind, self.multipliers, self.upper)
        if not verdict:
            return verdict
        if self.lower != 0.0:
            if not claim.contains(self.witness):
                return Verdict(False, "the witness of the lower bound does not lie in the ball")
            # NumPy compares a float32 after rounding the other number to one
            if not isinstance(self.lower, float) or not 0.0 < self.lower <= claim.slope_at(self.witness):
                return Verdict(False, f"the gradient at the witness does not prove L >= {self.lower!r}")
        return Verdict(True, f"{self.lower!r} <= L <= {self.upper!r} is proved ({self.units} units)")

    def to_json(self) -> str:
        """The certificate as JSON; floats in their shortest exact decimal form."""
        data = asdict(self) | {
            "schema": SCHEMA,
            "rho": self.rho,
            **upper_written(self.upper),
            "multipliers": _listed(self.multipliers),
            "witness": self.witness.tolist(),
            "around": None if self.around is None else self.around.tolist(),
            "gap": self.gap if math.isfinite(self.gap) else None,
        }
        return sealed_json(data, _FIRST)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the certificate as JSON, complete or not at all.

        Raises
        ------
        OutputError
            The file exists (and ``force`` is false) or cannot be written.
        """
        return write_atomic(path, self.to_json(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read a certificate.

        Raises
        ------
        FileFormatError
            The file is missing, too large, not JSON, of another schema, or has a field missing or of a wrong type.
        """
        return _parse(*read_json(path, _MAX_FILE_BYTES))


def _listed(multipliers: Multipliers) -> list[Any]:
    if isinstance(multipliers, tuple):
        return [part.tolist() if isinstance(part, np.ndarray) else part for part in multipliers]
    return multipliers.tolist()


def digests(network: ShallowNetwork | FeedForward) -> tuple[str, ...]:
    """The digest of a network, and that of the same network as a :class:`ShallowNetwork` where it is one."""
    if isinstance(network, FeedForward) and network.depth == 1 and network.activations[0].name == "relu":
        return network.digest, network.shallow().digest
    return (network.digest,)


def _parse(content: object, source: Path) -> Certificate:
    data = refuse_other_schema(content, source, SCHEMA)
    try:
        certificate = Certificate(
            upper=number(data, "upper"),
            lower=number(data, "lower"),
            multipliers=_multipliers(data),
            kind=text(data, "kind"),
            witness=numbers(data, "witness"),
            gap=math.inf if data["gap"] is None else number(data, "gap"),
            units=text(data, "units"),
            digest=text(data, "digest"),
            shape=widths(data, least=3),
            method=text(data, "method"),
            norm=text(data, "norm"),
            output=chosen_output(data),
            slopes=_slopes(data),
            around=None if data["around"] is None else numbers(data, "around"),
            radius=None if data["radius"] is None else number(data, "radius"),
            cheaper={str(name): number(data["cheaper"], name) for name in data["cheaper"]},
            created=text(data, "created"),
            seconds=number(data, "seconds"),
            versions=dict(data["versions"]),
        )
        right = {"rho": certificate.rho, **upper_written(certificate.upper), "seal": seal(data)}
        for name in right:
            (number if name == "rho" else text)(data, name)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{source} is not a complete certificate: {error}") from error
    verify_written(source, data, right, certificate)
    return certificate


def _multipliers(data: dict[str, Any]) -> Multipliers:
    if data["kind"] == "shallow" and data["norm"] != "linf":
        return numbers(data, "multipliers")
    if not isinstance(data["multipliers"], list):
        raise TypeError("multipliers is not a list")
    if data["kind"] == "tree":
        return tuple(data["multipliers"])  # its checker knows what a node is
    return tuple(numbers({"multipliers": layer}, "multipliers") for layer in data["multipliers"])


def _slopes(data: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    if not isinstance(data["slopes"], list):
        raise TypeError("slopes is not a list")
    pairs = [numbers({"slopes": pair}, "slopes").tolist() for pair in data["slopes"]]
    return tuple((low, high) for low, high in pairs)
