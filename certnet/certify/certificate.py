"""A Lipschitz certificate: data that proves a bound, and that anyone can check again."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.certify.card import card
from certnet.certify.claim import Claim, Multipliers, frozen
from certnet.certify.verify import Verdict
from certnet.digits import above, below
from certnet.errors import FileFormatError
from certnet.feedforward import FeedForward
from certnet.files import write_atomic
from certnet.network import ShallowNetwork
from certnet.validation import Float

__all__ = ["SCHEMA", "Certificate", "seal", "square_above"]

SCHEMA: Final = "certnet-certificate-1"
_FIRST = ("schema", "upper", "upper_decimal", "upper_rational", "lower", "rho", "norm", "output", "units", "kind")
_MAX_FILE_BYTES = 256 << 20


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
        What the multipliers are. One hidden layer: t of :mod:`certnet.certify.verify` (with s of
        :mod:`certnet.certify.verify_linf` for that norm), or a tree of cases with t in each
        (:mod:`certnet.certify.verify_tree`). Any depth: T of :mod:`certnet.certify.verify_deep`, one number per neuron
        or one per layer; or a chain of bounds (:mod:`certnet.certify.verify_chain`) of layers and pairs of layers
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
        """Check both sides against ``network``, from the data alone; a verdict that is true or false."""
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
            "upper_decimal": above(self.upper, 12),
            "upper_rational": str(Fraction(self.upper)),
            "multipliers": _listed(self.multipliers),
            "witness": self.witness.tolist(),
            "around": None if self.around is None else self.around.tolist(),
            "gap": self.gap if math.isfinite(self.gap) else None,
        }
        data = json.loads(json.dumps(data, allow_nan=False))  # tuples become lists, as they will be read
        first = {name: data.pop(name) for name in _FIRST}
        return json.dumps(first | data | {"seal": seal(first | data)}, allow_nan=False, indent=1) + "\n"

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
        source = Path(path)
        try:
            with source.open("rb") as handle:
                content = handle.read(_MAX_FILE_BYTES + 1)  # a device has no size
            if len(content) > _MAX_FILE_BYTES:
                raise FileFormatError(f"{source} is larger than {_MAX_FILE_BYTES >> 20} MiB: not a certificate")
            data = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
        except OSError as error:
            raise FileFormatError(f"{source} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"{source} is not a certificate (truncated, or not JSON): {error}") from error
        return _parse(data, source)


def seal(data: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON with sorted keys and no spaces, without the seal itself: shows that a file was changed."""
    rest = {name: value for name, value in data.items() if name != "seal"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _listed(multipliers: Multipliers) -> list[Any]:
    if isinstance(multipliers, tuple):
        return [part.tolist() if isinstance(part, np.ndarray) else part for part in multipliers]
    return multipliers.tolist()


def digests(network: ShallowNetwork | FeedForward) -> tuple[str, ...]:
    """The digest of a network, and that of the same network as a :class:`ShallowNetwork` where it is one."""
    if isinstance(network, FeedForward) and network.depth == 1 and network.activations[0].name == "relu":
        return network.digest, network.shallow().digest
    return (network.digest,)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of a certificate")


def _parse(data: object, source: Path) -> Certificate:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        shown = repr(found[:40]) if isinstance(found, str) else f"of type {type(found).__name__}"
        raise FileFormatError(f"{source} has schema {shown}: this version of certnet reads {SCHEMA!r}")
    try:
        certificate = Certificate(
            upper=_number(data, "upper"),
            lower=_number(data, "lower"),
            multipliers=_multipliers(data),
            kind=_text(data, "kind"),
            witness=_numbers(data, "witness"),
            gap=math.inf if data["gap"] is None else _number(data, "gap"),
            units=_text(data, "units"),
            digest=_text(data, "digest"),
            shape=_shape(data),
            method=_text(data, "method"),
            norm=_text(data, "norm"),
            output=_output(data),
            slopes=_slopes(data),
            around=None if data["around"] is None else _numbers(data, "around"),
            radius=None if data["radius"] is None else _number(data, "radius"),
            cheaper={str(name): _number(data["cheaper"], name) for name in data["cheaper"]},
            created=_text(data, "created"),
            seconds=_number(data, "seconds"),
            versions=dict(data["versions"]),
        )
        rho = _number(data, "rho")
        decimal, rational = _text(data, "upper_decimal"), _text(data, "upper_rational")
        sealed, right_seal = _text(data, "seal"), seal(data)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{source} is not a complete certificate: {error}") from error
    upper = certificate.upper
    for name, found, right in (
        ("rho", rho, certificate.rho),
        ("upper_decimal", decimal, above(upper, 12)),
        ("upper_rational", rational, str(Fraction(upper))),
        ("seal", sealed, right_seal),
    ):
        if found != right:
            raise FileFormatError(f"{source}: {name} does not fit the rest: the file was altered")
    return certificate


def _number(data: dict[str, Any], name: str) -> float:
    value = data[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is not finite")
    return float(value)


def _numbers(data: dict[str, Any], name: str) -> Float:
    values = data[name]
    if not isinstance(values, list):
        raise TypeError(f"{name} is not a list")
    return np.array([_number({name: value}, name) for value in values], dtype=np.float64)


def _multipliers(data: dict[str, Any]) -> Multipliers:
    if data["kind"] == "shallow" and data["norm"] != "linf":
        return _numbers(data, "multipliers")
    if not isinstance(data["multipliers"], list):
        raise TypeError("multipliers is not a list")
    if data["kind"] == "tree":
        return tuple(data["multipliers"])  # its checker knows what a node is
    return tuple(_numbers({"multipliers": layer}, "multipliers") for layer in data["multipliers"])


def _output(data: dict[str, Any]) -> tuple[int, ...] | None:
    if data["output"] is None:
        return None
    if not isinstance(data["output"], list) or not all(type(i) is int for i in data["output"]):
        raise TypeError("output is not a list of integers")
    return tuple(data["output"])


def _shape(data: dict[str, Any]) -> tuple[int, ...]:
    widths = data["shape"]
    if not isinstance(widths, list) or len(widths) < 3:
        raise TypeError("shape is not a list of three or more positive integers")
    if not all(type(n) is int and 0 < n < 2**40 for n in widths):
        raise TypeError("shape is not three or more positive integers")
    return tuple(widths)


def _slopes(data: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    if not isinstance(data["slopes"], list):
        raise TypeError("slopes is not a list")
    pairs = [_numbers({"slopes": pair}, "slopes").tolist() for pair in data["slopes"]]
    return tuple((low, high) for low, high in pairs)


def _text(data: dict[str, Any], name: str) -> str:
    if not isinstance(data[name], str):
        raise TypeError(f"{name} is not a text")
    return str(data[name])
