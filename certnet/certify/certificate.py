"""A Lipschitz certificate: data that proves a bound, and that anyone can check again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.certify.verify import BoundChecker, Verdict
from certnet.certify.verify_deep import DeepChecker, ProductChecker, gradient_below, in_ball, slopes_in_ball
from certnet.digits import above, below
from certnet.errors import FileFormatError
from certnet.feedforward import FeedForward
from certnet.files import write_atomic
from certnet.network import ShallowNetwork
from certnet.validation import Float

__all__ = ["SCHEMA", "Certificate", "square_above"]

SCHEMA: Final = "certnet-certificate-1"
_MAX_FILE_BYTES = 256 << 20


def square_above(value: float) -> float:
    """The smallest double that is at least ``value²``; infinite where no double is."""
    square = value * value
    if not math.isfinite(square):
        return math.inf
    return square if Fraction(square) >= Fraction(value) ** 2 else math.nextafter(square, math.inf)


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""``lower ≤ L ≤ upper`` for one network, with L its l2 → l2 Lipschitz constant over the whole input space.

    Attributes
    ----------
    upper : float
        Proved by ``multipliers``: ``upper · I − ½ M(multipliers) ⪰ 0`` (:mod:`certnet.certify.verify`), so that
        ``‖f(x) − f(y)‖₂ ≤ upper ‖x − y‖₂`` for all x, y. It holds for the real-arithmetic network with the stored
        float64 weights.
    lower : float
        Proved by the gradient at ``witness``; 0 where no gradient could be told from rounding.
    rho : float
        ``upper²`` rounded up: the ρ of LipSDP (Y (2)) and of the objective.
    kind : {"shallow", "neuron", "layer", "product"}
        What the multipliers are: t of :mod:`certnet.certify.verify` for one hidden layer; T of
        :mod:`certnet.certify.verify_deep`, one number per neuron or one per layer; or bounds of the layers' spectral
        norms, whose product bounds L.
    multipliers : ndarray, shape (h,), or tuple of ndarray
        Shallow: t ≥ 0; ``T = upper · diag(t)`` are the multipliers of LipSDP's LMI, 0 charges a unit by its norm.
        Otherwise one vector per hidden layer (per layer, for a product).
    witness : ndarray, shape (d,)
        The input whose gradient proves ``lower``.
    gap : float
        Relative gap between ρ and the dual value found beside it: how much a better search could still gain. About
        the search, in floating point; the bound does not rest on it.
    around, radius : ndarray of shape (d,) and float, or None
        The ball ``‖x − around‖₂ ≤ radius`` that the claim is about; None where it is about all inputs.
    units : str
        What inputs and outputs are measured in (that of the network).
    digest : str
        SHA-256 of the network.
    """

    upper: float
    lower: float
    multipliers: Float | tuple[Float, ...]
    witness: Float
    gap: float
    units: str
    digest: str
    shape: tuple[int, ...]
    method: str
    kind: str = "shallow"
    norm: str = "l2"
    slopes: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    around: Float | None = None
    radius: float | None = None
    created: str = ""
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "witness", _frozen(self.witness))
        if self.around is not None:
            object.__setattr__(self, "around", _frozen(self.around))
        given = self.multipliers
        frozen = tuple(map(_frozen, given)) if isinstance(given, tuple) else _frozen(given)
        object.__setattr__(self, "multipliers", frozen)

    @property
    def rho(self) -> float:
        return square_above(self.upper)

    def __repr__(self) -> str:
        where = "" if self.radius is None else f" within {self.radius:g} of a point"
        gap = f", gap {self.gap:.1e}" if math.isfinite(self.gap) else ""
        return f"Certificate({below(self.lower)} <= L <= {above(self.upper)}{where}, {self.units} units{gap})"

    def check(self, network: ShallowNetwork | FeedForward) -> Verdict:
        """Check both sides against ``network``, from the data alone; a verdict that is true or false."""
        if self.digest not in digests(network):
            return Verdict(False, "the certificate is of another network (its digest differs)")
        deep = FeedForward.of(network)
        for name, mine, theirs in (
            ("units", self.units, network.units),
            ("norm", self.norm, "l2"),
            ("slopes", self.slopes, tuple(phi.slopes for phi in deep.activations)),
            ("shape", self.shape, deep.widths),
        ):
            if mine != theirs:
                return Verdict(False, f"the certificate's {name} {mine!r}: what can be checked here is {theirs!r}")
        verdict = self._check_upper(deep)
        if not verdict:
            return verdict
        if self.around is not None and self.lower > 0.0 and not in_ball(self.witness, self.around, self.radius or 0.0):
            return Verdict(False, "the witness of the lower bound does not lie in the ball")
        if not (self.lower == 0.0 or 0.0 < self.lower <= gradient_below(deep, self.witness)):
            return Verdict(False, f"the gradient at the witness does not prove L >= {self.lower!r}")
        return Verdict(True, f"{self.lower!r} <= L <= {self.upper!r} is proved ({self.units} units)")

    def _check_upper(self, network: FeedForward) -> Verdict:
        if self.kind == "shallow" and network.depth == 1 and not isinstance(self.multipliers, tuple):
            layer = ShallowNetwork(network.weights[0], network.biases[0], network.weights[1], network.biases[1])
            if (self.around is None) != (self.radius is None):
                return Verdict(False, "a ball needs both a centre and a radius")
            if self.around is None or self.radius is None:
                low, high = (np.full(network.n_hidden, slope) for slope in network.activations[0].slopes)
            elif self.around.shape != (network.n_inputs,) or not 0.0 <= self.radius < math.inf:
                return Verdict(False, "the ball is not one of the network's inputs")
            else:
                low, high = slopes_in_ball(network, self.around, self.radius)
            return BoundChecker(layer, self.multipliers, low=low, high=high).holds(self.upper)
        if self.around is not None or self.radius is not None:
            return Verdict(False, f"a ball cannot be checked with multipliers of the kind {self.kind!r}")
        if self.kind in ("neuron", "layer") and isinstance(self.multipliers, tuple):
            return DeepChecker(network, self.multipliers).holds(self.upper)
        if self.kind == "product" and isinstance(self.multipliers, tuple):
            return ProductChecker(network, self.multipliers).holds(self.upper)
        return Verdict(False, f"multipliers of the kind {self.kind!r} prove nothing of this network")

    def to_json(self) -> str:
        """The certificate as JSON; floats in their shortest exact decimal form."""
        given = self.multipliers
        multipliers = [t.tolist() for t in given] if isinstance(given, tuple) else given.tolist()
        around = None if self.around is None else self.around.tolist()
        data = asdict(self) | {"multipliers": multipliers, "witness": self.witness.tolist(), "around": around}
        if not math.isfinite(self.gap):
            data["gap"] = None
        return json.dumps({"schema": SCHEMA, "rho": self.rho} | data, allow_nan=False, indent=1) + "\n"

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
            if source.stat().st_size > _MAX_FILE_BYTES:
                raise FileFormatError(f"{source} is larger than {_MAX_FILE_BYTES >> 20} MiB: not a certificate")
            data = json.loads(source.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except OSError as error:
            raise FileFormatError(f"{source} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"{source} is not a certificate (truncated, or not JSON): {error}") from error
        return _parse(data, source)


def digests(network: ShallowNetwork | FeedForward) -> tuple[str, ...]:
    """The digest of a network, and that of the same network as a :class:`ShallowNetwork` where it is one."""
    if isinstance(network, FeedForward) and network.depth == 1 and network.activations[0].name == "relu":
        return network.digest, network.shallow().digest
    return (network.digest,)


def _frozen(values: Float) -> Float:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of a certificate")


def _parse(data: object, source: Path) -> Certificate:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise FileFormatError(f"{source} has schema {found!r}: this version of certnet reads {SCHEMA!r}")
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
            slopes=_slopes(data),
            around=None if data["around"] is None else _numbers(data, "around"),
            radius=None if data["radius"] is None else _number(data, "radius"),
            created=_text(data, "created"),
            seconds=_number(data, "seconds"),
            versions=dict(data["versions"]),
        )
        rho = _number(data, "rho")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(f"{source} is not a complete certificate: {error}") from error
    if rho != certificate.rho:
        raise FileFormatError(f"{source}: rho is not the square of upper, rounded up: the file was altered")
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


def _multipliers(data: dict[str, Any]) -> Float | tuple[Float, ...]:
    if data["kind"] == "shallow":
        return _numbers(data, "multipliers")
    if not isinstance(data["multipliers"], list):
        raise TypeError("multipliers is not a list")
    return tuple(_numbers({"multipliers": layer}, "multipliers") for layer in data["multipliers"])


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
