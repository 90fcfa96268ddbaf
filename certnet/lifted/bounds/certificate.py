"""A Lipschitz certificate of a lifted network: data that proves a bound, and that anyone can check again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from certnet.claims.cards import card
from certnet.claims.sealed import (
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
from certnet.networks.energy import LiftedEnergy, require_lifted
from certnet.proofs.lifted_layers import LayerChecker
from certnet.proofs.lifted_matrix import MatrixChecker, Output
from certnet.proofs.lifted_slope import slope_below
from certnet.proofs.shallow import Verdict

__all__ = ["KINDS", "LIFTED_SCHEMA", "LiftedCertificate", "checker"]

LIFTED_SCHEMA: Final = "certnet-lifted-certificate-1"
KINDS: Final = ("sdp", "layerwise", "theorem")
"""What multipliers can be: of :mod:`certnet.proofs.lifted_matrix`, or limits of singular values
(:mod:`certnet.proofs.lifted_layers`)."""
_FIRST = ("schema", "upper", "upper_decimal", "upper_rational", "lower", "output", "kind")


@dataclass(frozen=True, eq=False)
class LiftedCertificate:
    r"""``lower ≤ L ≤ upper``: L is the least with ``‖z_L*(x) − z_L*(y)‖₂ ≤ L ‖x − y‖₂`` for all x, y.

    Attributes
    ----------
    upper : float
        Proved by ``multipliers`` for all inputs in real arithmetic, with the stored float64 parameters.
    lower : float
        Proved by the slope at ``witness``; 0 where no slope could be told from rounding.
    kind : {"sdp", "layerwise", "theorem"}
        What the multipliers are. It can differ from the method that was asked for: the least proved bound counts.
    multipliers : tuple of ndarray
        "sdp": t (n,), and a vector (n,) per unit without limits. Otherwise limits of the layers' singular values.
    witness, activations : ndarray, shapes (d,) and (n,)
        The input whose slope proves ``lower``, and ``z*`` there.
    gap : float
        Relative gap of ``upper²`` at which the search for multipliers stopped; infinite where unknown. In floating
        point; the bound does not rest on it.
    output : tuple of int, or None
        The output i, or the difference ``z_i − z_j``, that the claim is about; None for all outputs.
    cheaper : mapping of str to float
        The bounds of the other methods, each proved when it was made; no claim of this certificate, and not checked
        again.
    shape, digest
        Widths and SHA-256 of the network.
    """

    norm: ClassVar[str] = "l2"
    output_name: ClassVar[str] = "the network's output"
    units: ClassVar[str] = "the network's own"
    radius: ClassVar[None] = None

    upper: float
    lower: float
    kind: str
    multipliers: tuple[Float, ...]
    witness: Float
    activations: Float
    digest: str
    shape: tuple[int, ...]
    method: str
    output: Output = None
    gap: float = math.inf
    cheaper: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(map(_read_only, self.multipliers)))
        for name in ("witness", "activations"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    def __repr__(self) -> str:
        about = "" if self.output is None else ", output " + " minus output ".join(map(str, self.output))
        return f"LiftedCertificate({below(self.lower)} <= L <= {above(self.upper)}{about}, {self.kind})"

    def _repr_html_(self) -> str:
        return card(self)  # type: ignore[arg-type]  # it has what a card shows

    def check(self, net: LiftedEnergy) -> Verdict:
        """Check both sides against ``net``, from the data alone; a verdict that is true or false.

        Raises
        ------
        InvalidInputError
            ``net`` is not a lifted network.
        """
        require_lifted(net)
        if not all(type(side) in (float, np.float64) for side in (self.upper, self.lower)):
            return Verdict(False, "a side of the bracket is not a float")
        if self.digest != net.digest:
            return Verdict(False, "the certificate is of another network (its digest differs)")
        if self.shape != net.widths:
            return Verdict(False, f"the certificate's shape {self.shape!r}: the network's is {net.widths!r}")
        if self.kind not in KINDS:
            return Verdict(False, f"multipliers of the kind {self.kind!r} prove nothing of a lifted network")
        verdict = checker(net, self.kind, self.multipliers, self.output).holds(self.upper)
        if not verdict:
            return verdict
        if self.lower != 0.0:
            slope = slope_below(net, self.witness, self.activations, self.output)
            if not isinstance(self.lower, float) or not 0.0 < self.lower <= slope:
                return Verdict(False, f"the slope at the witness does not prove L >= {self.lower!r}")
        return Verdict(True, f"{self.lower!r} <= L <= {self.upper!r} is proved")

    def to_json(self) -> str:
        """The certificate as JSON; floats in their shortest exact decimal form."""
        data = asdict(self) | {
            "schema": LIFTED_SCHEMA,
            **upper_written(self.upper),
            "multipliers": [part.tolist() for part in self.multipliers],
            "witness": self.witness.tolist(),
            "activations": self.activations.tolist(),
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
    def load(cls, path: str | os.PathLike[str]) -> LiftedCertificate:
        """Read a certificate.

        Raises
        ------
        FileFormatError
            The file is missing, too large, not JSON, of another schema, altered, or has a field missing or of a wrong
            type.
        """
        return _parse(*read_json(path))


def checker(net: LiftedEnergy, kind: str, multipliers: Sequence[Any], output: Output) -> MatrixChecker | LayerChecker:
    """The checker of these multipliers."""
    if kind == "sdp":
        return MatrixChecker(net, multipliers, output)
    return LayerChecker(net, multipliers, output, theorem=kind == "theorem")


def _read_only(values: Any) -> Float:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _parse(content: object, source: Path) -> LiftedCertificate:
    data = refuse_other_schema(content, source, LIFTED_SCHEMA)
    try:
        certificate = LiftedCertificate(
            upper=number(data, "upper"),
            lower=number(data, "lower"),
            kind=text(data, "kind"),
            multipliers=_multipliers(data),
            witness=numbers(data, "witness"),
            activations=numbers(data, "activations"),
            digest=text(data, "digest"),
            shape=widths(data, least=2),
            method=text(data, "method"),
            output=chosen_output(data),
            gap=math.inf if data["gap"] is None else number(data, "gap"),
            cheaper={str(name): number(data["cheaper"], name) for name in data["cheaper"]},
            created=text(data, "created"),
            seconds=number(data, "seconds"),
            versions=dict(data["versions"]),
        )
        right = {**upper_written(certificate.upper), "seal": seal(data)}
        for name in right:
            text(data, name)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{source} is not a complete certificate: {error}") from error
    verify_written(source, data, right, certificate)
    return certificate


def _multipliers(data: Mapping[str, Any]) -> tuple[Float, ...]:
    if not isinstance(data["multipliers"], list):
        raise TypeError("multipliers is not a list")
    return tuple(numbers({"multipliers": part}, "multipliers") for part in data["multipliers"])
