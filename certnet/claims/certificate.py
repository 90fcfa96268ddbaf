"""A Lipschitz certificate: data that proves a bound, and that anyone can check again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from certnet.claims import sealed
from certnet.claims.cards import card
from certnet.claims.claim import Claim, Output
from certnet.claims.families import FAMILIES, FEED_FORWARD, Family, Identity
from certnet.claims.kinds import Multipliers, Proof, Witness, frozen, layout_of, proof_of, read_only, witness_of
from certnet.claims.region import Region, region_of
from certnet.claims.verdict import Verdict
from certnet.core.digits import above, below
from certnet.core.errors import AlteredCertificateError, InvalidInputError
from certnet.core.files import write_atomic
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.networks.network import Network

__all__ = ["Certificate", "square_above"]


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""``lower ≤ L ≤ upper`` for one network: L is the least with ``‖f(x) − f(y)‖₂ ≤ L ‖x − y‖`` for all x, y.

    In a region, for all x, y there; where that has no width L counts the slopes of f there, in all directions
    (:class:`~certnet.claims.claim.Claim`).

    The :class:`~certnet.claims.claim.Claim` is made of ``norm``, ``output`` and the region (``around`` and ``radius``,
    or ``box``), of the network that ``digest`` tells; ``kind`` and ``multipliers`` are its proof.

    Attributes
    ----------
    upper : float
        Proved by ``multipliers`` for all x, y in real arithmetic, with the stored float64 weights.
    lower : float
        Proved by the gradient at ``witness``; 0 where no gradient could be told from rounding.
    rho : float
        ``upper²`` rounded up: the ρ of LipSDP (Y (2)) and of the objective.
    kind : str
        What the multipliers are. One hidden layer: "shallow", t of :mod:`certnet.proofs.shallow` (with s of
        :mod:`certnet.proofs.sup_norm` for that norm), or "tree", a tree of cases with t in each
        (:mod:`certnet.proofs.tree`). Any depth: "neuron" or "layer", T of :mod:`certnet.proofs.deep`, or a chain of
        bounds (:mod:`certnet.proofs.chain`) of layers and pairs of layers ("composition") or of layers alone
        ("product"); in a region "regional" (:mod:`certnet.proofs.regional`), or "parts", a tree of cases at any depth
        (:mod:`certnet.proofs.parts`). Lifted networks: "sdp" (:mod:`certnet.proofs.lifted_matrix`), or limits of
        singular values, "layerwise" or "theorem" (:mod:`certnet.proofs.lifted_layers`).
    multipliers : ndarray, shape (h,), or tuple
        Shallow: t ≥ 0; ``T = upper · diag(t)`` are the multipliers of LipSDP's LMI, 0 charges a unit by its norm.
        Otherwise a tuple of arrays, or of a tree's nodes.
    witness : ndarray, shape (d,)
        The input whose gradient proves ``lower``.
    activations : ndarray, shape (n,), or None
        Of a lifted network: ``z*`` at the witness.
    gap : float
        Relative gap between ρ and the dual value found beside it: how much a better search of this kind could still
        gain; for a tree or parts, between ``upper²`` and ``lower²``. In floating point; the bound does not rest on it.
    norm : {"l2", "linf"}
        Norm of the inputs; several outputs are measured in l2.
    output : tuple of int, or None
        The output i, or the difference ``f_i − f_j``, that the claim is about; None for all outputs.
    around, radius : ndarray of shape (d,) and float, or None
        The ball ``‖x − around‖ ≤ radius`` that the claim is about; None where it is about no ball.
    box : pair of ndarray of shape (d,), or None
        The box ``box[0] ≤ x ≤ box[1]`` that the claim is about, its limits may be infinite; None where it is about no
        box. With neither a ball nor a box the claim is about all inputs.
    cheaper : mapping of str to float
        Other upper bounds by name, for comparison; floating point, not proved here.
    units : str
        What inputs and outputs are measured in (that of the network).
    digest : str
        SHA-256 of the network.
    shape : tuple of int
        Its widths.
    slopes : tuple of pairs of float
        Of its activations.
    family : {"feed-forward", "lifted"}
        The kind of network.
    read : str
        What the network was read from, in words; empty where it was given as arrays.
    """

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
    output: Output = None
    slopes: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    around: Float | None = None
    radius: float | None = None
    cheaper: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    activations: Float | None = None
    family: str = FEED_FORWARD.name
    read: str = ""
    box: tuple[Float, Float] | None = None

    def __post_init__(self) -> None:
        if self.box is not None:
            object.__setattr__(self, "box", tuple(read_only(end) for end in self.box))
        for name in ("witness", "around", "activations"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, read_only(getattr(self, name)))
        object.__setattr__(self, "multipliers", frozen(self.multipliers))

    # ------------------------------------------------------------------------------------------------- claim and proof

    @property
    def region(self) -> Region:
        """Where the claim is made."""
        return region_of(self.around, self.radius, self.box)

    @property
    def proof(self) -> Proof:
        """What ``kind`` and ``multipliers`` are together."""
        return proof_of(self.family, self.kind, self.norm, self.multipliers)

    @property
    def slope_witness(self) -> Witness:
        """What shows the lower side."""
        return witness_of(self.family).of(self.witness, self.activations)

    def claim(self, network: Network | LiftedEnergy) -> Claim:
        """What is claimed, of this network."""
        return Claim(network, self.region, self.norm, self.output)

    def check(self, network: Network | LiftedEnergy) -> Verdict:
        """Check both sides against ``network``, from the data alone; a verdict that is true or false.

        Raises
        ------
        InvalidInputError
            ``network`` is not a network of the family.
        """
        family = FAMILIES[self.family]
        family.require(network)
        if not all(type(side) in (float, np.float64) for side in (self.upper, self.lower)):
            return Verdict(False, "a side of the bracket is not a float")
        refusal = self._another(family.identify(network))
        if refusal is not None:
            return Verdict(False, refusal)
        try:
            claim = self.claim(network)
        except InvalidInputError as error:  # limits that are no box
            return Verdict(False, str(error))
        verdict = self.proof.check(claim, self.upper)
        if not verdict:
            return verdict
        if self.lower != 0.0:
            verdict = self.slope_witness.check(claim, self.lower)
            if not verdict:
                return verdict
        return Verdict(True, f"{self.lower!r} <= L <= {self.upper!r} is proved ({self.units} units)")

    def _another(self, theirs: Identity) -> str | None:
        """Why the network is not the one that the certificate is of, if so."""
        if self.digest not in (theirs.digest, *theirs.others):
            return "the certificate is of another network (its digest differs)"
        for name in ("units", "slopes", "shape"):
            mine, found = getattr(self, name), getattr(theirs, name)
            if mine != found:
                return f"the certificate's {name} {mine!r}: what can be checked here is {found!r}"
        return None

    # --------------------------------------------------------------------------------------------------------- in words

    @property
    def rho(self) -> float:
        return square_above(self.upper)

    @property
    def output_name(self) -> str:
        """What moves, in words."""
        return FAMILIES[self.family].output_name

    @property
    def subject(self) -> str:
        """What the claim is about, in words: the output, the norm of the inputs, the ball."""
        parts = []
        if self.output is not None:
            parts.append("output " + " minus output ".join(map(str, self.output)))
        if self.norm == "linf":
            parts.append("l-infinity norm of the input")
        return ", ".join(filter(None, (*parts, self.region.words)))

    def __repr__(self) -> str:
        about = f", {self.subject}" if self.subject else ""
        gap = f", gap {self.gap:.1e}" if math.isfinite(self.gap) else ""
        how = f"{self.units} units{gap}" if self.family == FEED_FORWARD.name else self.kind
        return f"{FAMILIES[self.family].title}({below(self.lower)} <= L <= {above(self.upper)}{about}, {how})"

    def _repr_html_(self) -> str:
        return card(self)

    # ------------------------------------------------------------------------------------------------------------ files

    def to_json(self) -> str:
        """The certificate as JSON; floats in their shortest exact decimal form."""
        family = FAMILIES[self.family]
        derived = {"schema": family.schema, **sealed.upper_written(self.upper), "rho": self.rho}
        plain = {name: derived[name] if name in derived else _plain(getattr(self, name)) for name in family.fields}
        plain["gap"] = self.gap if math.isfinite(self.gap) else None
        if self.read:
            plain["read"] = self.read
        if self.box is not None:
            plain["box"] = sealed.limits_written(self.box)
        return sealed.sealed_json(plain, family.first)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the certificate as JSON, complete or not at all.

        Raises
        ------
        OutputError
            The file exists (and ``force`` is false) or cannot be written; a number of the certificate is NaN or
            infinite.
        """
        return write_atomic(path, self.to_json(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read a certificate of any family.

        Raises
        ------
        FileFormatError
            The file is missing, too large, not JSON, of another schema, altered, or has a field missing or of a wrong
            type.
        """
        return _parsed(*sealed.read_json(path))


def square_above(value: float) -> float:
    """The smallest double that is at least ``value²``; infinite where no double is."""
    square = value * value
    if not math.isfinite(square):
        return math.inf
    return square if Fraction(square) >= Fraction(value) ** 2 else math.nextafter(square, math.inf)


def _plain(value: Any) -> Any:
    """Arrays as lists, at any place in a tuple or a mapping."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return dict(value) if isinstance(value, Mapping) else value


def _parsed(content: object, source: Path) -> Certificate:
    schemas = {family.schema: family for family in FAMILIES.values()}
    schema, data = sealed.schema_of(content, source, schemas)
    family = schemas[schema]
    try:
        certificate = _read(family, data)
        # what follows from the rest, and must fit it
        right: dict[str, Any] = {"rho": certificate.rho} if "rho" in family.fields else {}
        right |= sealed.upper_written(certificate.upper) | {"seal": sealed.seal(data)}
        for name in right:
            (sealed.number if name == "rho" else sealed.text)(data, name)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise AlteredCertificateError(f"{source} is not a complete certificate: {error}") from error
    sealed.verify_written(source, data, right, (*family.fields, "read", "box"))
    return certificate


def _read(family: Family, data: Mapping[str, Any]) -> Certificate:
    """The certificate in the fields of a file; what a family does not write has its default."""
    own = family.own(data)
    kind = sealed.text(data, "kind")
    return Certificate(
        upper=sealed.number(data, "upper"),
        lower=sealed.number(data, "lower"),
        multipliers=sealed.multipliers(data, layout_of(family.name, kind, own.get("norm", "l2"))),
        kind=kind,
        witness=sealed.numbers(data, "witness"),
        gap=math.inf if data["gap"] is None else sealed.number(data, "gap"),
        digest=sealed.text(data, "digest"),
        shape=sealed.widths(data, least=family.least_widths),
        method=sealed.text(data, "method"),
        output=sealed.output(data),
        cheaper={str(name): sealed.number(data["cheaper"], name) for name in data["cheaper"]},
        created=sealed.text(data, "created"),
        seconds=sealed.number(data, "seconds"),
        versions=dict(data["versions"]),
        family=family.name,
        read=sealed.text(data, "read") if "read" in data else "",
        box=sealed.limits(data, "box") if "box" in data else None,
        **own,
    )
