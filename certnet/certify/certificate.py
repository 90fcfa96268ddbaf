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

from certnet.certify.verify import Verdict, gradient_norm_below, verify_bound
from certnet.digits import above, below
from certnet.errors import FileFormatError
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
    multipliers : ndarray, shape (h,)
        t ≥ 0; ``T = upper · diag(t)`` are the multipliers of LipSDP's LMI. 0 charges a unit by its norm.
    witness : ndarray, shape (d,)
        The input whose gradient proves ``lower``.
    gap : float
        Relative gap between ρ and the dual value found beside it: how much a better search could still gain. About
        the search, in floating point; the bound does not rest on it.
    units : str
        What inputs and outputs are measured in (that of the network).
    digest : str
        SHA-256 of the network.
    """

    upper: float
    lower: float
    multipliers: Float
    witness: Float
    gap: float
    units: str
    digest: str
    shape: tuple[int, int, int]
    method: str
    norm: str = "l2"
    slopes: tuple[float, float] = (0.0, 1.0)
    created: str = ""
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("multipliers", "witness"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def rho(self) -> float:
        return square_above(self.upper)

    def __repr__(self) -> str:
        return f"Certificate({below(self.lower)} <= L <= {above(self.upper)}, {self.units} units, gap {self.gap:.1e})"

    def check(self, network: ShallowNetwork) -> Verdict:
        """Check both sides against ``network``, from the data alone; a verdict that is true or false."""
        if network.digest != self.digest:
            return Verdict(False, "the certificate is of another network (its digest differs)")
        for name, mine, theirs in (
            ("units", self.units, network.units),
            ("norm", self.norm, "l2"),
            ("slopes", self.slopes, (0.0, 1.0)),
            ("shape", self.shape, (network.n_inputs, network.n_hidden, network.n_outputs)),
        ):
            if mine != theirs:
                return Verdict(
                    False, f"the certificate's {name} {mine!r} are not those that can be checked, {theirs!r}"
                )
        verdict = verify_bound(network, self.multipliers, self.upper)
        if not verdict:
            return verdict
        if not (self.lower == 0.0 or 0.0 < self.lower <= gradient_norm_below(network, self.witness)):
            return Verdict(False, f"the gradient at the witness does not prove L >= {self.lower!r}")
        return Verdict(True, f"{self.lower!r} <= L <= {self.upper!r} is proved ({self.units} units)")

    def to_json(self) -> str:
        """The certificate as JSON; floats in their shortest exact decimal form."""
        data = asdict(self) | {"multipliers": self.multipliers.tolist(), "witness": self.witness.tolist()}
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
            multipliers=_numbers(data, "multipliers"),
            witness=_numbers(data, "witness"),
            gap=math.inf if data["gap"] is None else _number(data, "gap"),
            units=_text(data, "units"),
            digest=_text(data, "digest"),
            shape=_shape(data),
            method=_text(data, "method"),
            norm=_text(data, "norm"),
            slopes=_slopes(data),
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


def _shape(data: dict[str, Any]) -> tuple[int, int, int]:
    d, h, m = data["shape"]
    if not all(type(n) is int and 0 < n < 2**40 for n in (d, h, m)):
        raise TypeError("shape is not three positive integers")
    return d, h, m


def _slopes(data: dict[str, Any]) -> tuple[float, float]:
    low, high = _numbers(data, "slopes").tolist()
    return low, high


def _text(data: dict[str, Any], name: str) -> str:
    if not isinstance(data[name], str):
        raise TypeError(f"{name} is not a text")
    return str(data[name])
