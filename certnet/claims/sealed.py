"""Certificates as JSON: a file that shows whether it was changed, and numbers read from it without surprises."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.claims.kinds import Multipliers
from certnet.core.digits import above
from certnet.core.errors import AlteredCertificateError, FileFormatError, OutputError
from certnet.core.files import path_of
from certnet.core.validation import Float

__all__ = [
    "MAX_FILE_BYTES",
    "limits",
    "limits_written",
    "multipliers",
    "number",
    "numbers",
    "output",
    "read_json",
    "schema_of",
    "seal",
    "sealed_json",
    "slopes",
    "text",
    "upper_written",
    "verify_written",
    "widths",
]

MAX_FILE_BYTES: Final = 256 << 20
"""More is no certificate."""


def seal(data: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON with sorted keys and no spaces, without the seal itself: shows that a file was changed."""
    rest = {name: value for name, value in data.items() if name != "seal"}
    written = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(written.encode()).hexdigest()


def upper_written(upper: float) -> dict[str, str]:
    """The bound as a decimal rounded up, and as the exact fraction that the double is.

    Raises
    ------
    OutputError
        It is NaN or infinite.
    """
    if not math.isfinite(upper):
        raise OutputError(
            "upper of the certificate is NaN or infinite: such a certificate proves nothing and is not written"
        )
    return {"upper_decimal": above(upper, 12), "upper_rational": str(Fraction(upper))}


def sealed_json(data: Mapping[str, Any], first: Iterable[str]) -> str:
    """``data`` and its seal as JSON, the fields ``first`` leading; floats in their shortest exact decimal form."""
    try:
        plain = json.loads(json.dumps(dict(data), allow_nan=False))  # tuples become lists, as they will be read
    except ValueError as error:
        bad = next((name for name, value in data.items() if not _writable(value)), "a field")
        raise OutputError(
            f"{bad} of the certificate is NaN or infinite: such a certificate proves nothing and is not written"
        ) from error
    ordered = {name: plain.pop(name) for name in first} | plain
    return json.dumps(ordered | {"seal": seal(ordered)}, allow_nan=False, indent=1) + "\n"


def read_json(path: str | os.PathLike[str]) -> tuple[object, Path]:
    """What a certificate's file of at most :data:`MAX_FILE_BYTES` holds, and its path.

    Raises
    ------
    FileFormatError
        The file is missing, too large, or not JSON; NaN and infinities are refused.
    """
    source = path_of(path)
    try:
        with source.open("rb") as handle:
            content = handle.read(MAX_FILE_BYTES + 1)  # a device has no size
        if len(content) > MAX_FILE_BYTES:
            raise FileFormatError(f"{source} is larger than {MAX_FILE_BYTES >> 20} MiB: not a certificate")
        text = content.decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_each_once), source
    except OSError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{source} is not a certificate ({_kind_of(content)}): {error}") from error


def schema_of(data: object, source: Path, known: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The schema that the object states, if it is one of those that are known, and the object.

    Raises
    ------
    FileFormatError
    """
    found = data.get("schema") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(found, str) and found in known:
        return found, data
    shown = repr(found[:40]) if isinstance(found, str) else f"of type {type(found).__name__}"
    reads = " and ".join(map(repr, known))
    raise FileFormatError(f"{source} has schema {shown}: this version of certnet reads {reads}")


def verify_written(source: Path, data: Mapping[str, Any], right: Mapping[str, object], names: Iterable[str]) -> None:
    """Refuse a file in which a field that follows from others, or the seal, does not fit them, and unknown fields."""
    unknown = data.keys() - right.keys() - set(names) - {"schema"}
    if unknown:
        raise AlteredCertificateError(
            f"{source}: {min(unknown)[:40]!r} is no field of a certificate: the file was altered"
        )
    for name, value in right.items():
        if data[name] != value:
            raise AlteredCertificateError(f"{source}: {name} does not fit the rest: the file was altered")


def _writable(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _kind_of(content: bytes) -> str:
    """What a file that is no JSON seems to be."""
    if content[:2] == b"PK" or content[:6] == b"\x93NUMPY":
        return "it seems to be a model or arrays: the certificate is named first, then the model"
    return "truncated, or not JSON"


def number(data: Mapping[str, Any], name: str) -> float:
    value = data[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is not finite")
    return float(value)


def numbers(data: Mapping[str, Any], name: str) -> Float:
    values = data[name]
    if not isinstance(values, list):
        raise TypeError(f"{name} is not a list")
    return np.array([number({name: value}, name) for value in values], dtype=np.float64)


def limits_written(ends: Iterable[Float]) -> list[list[float | None]]:
    """Lower and upper limits as lists; null for an infinite one, which JSON has no number for."""
    return [[float(x) if math.isfinite(x) else None for x in end] for end in ends]


def limits(data: Mapping[str, Any], name: str) -> tuple[Float, Float]:
    """What :func:`limits_written` made of lower and upper limits."""
    ends = data[name]
    if not isinstance(ends, list) or len(ends) != 2 or not all(isinstance(end, list) for end in ends):
        raise TypeError(f"{name} is not a list of lower and one of upper limits")
    low, high = (
        np.array([free if x is None else number({name: x}, name) for x in end], dtype=np.float64)
        for end, free in zip(ends, (-np.inf, np.inf))
    )
    if low.shape != high.shape or not low.size or bool((low > high).any()):
        raise ValueError(f"{name} is no box: a lower limit is above its upper one, or their numbers differ")
    return low, high


def text(data: Mapping[str, Any], name: str) -> str:
    if not isinstance(data[name], str):
        raise TypeError(f"{name} is not a text")
    return str(data[name])


def output(data: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The chosen output, two of them, or None."""
    if data["output"] is None:
        return None
    if not isinstance(data["output"], list) or not all(type(i) is int for i in data["output"]):
        raise TypeError("output is not a list of integers")
    return tuple(data["output"])


def widths(data: Mapping[str, Any], *, least: int) -> tuple[int, ...]:
    """The widths of a network with at least so many layers of them."""
    shape = data["shape"]
    counted = {2: "two", 3: "three"}[least]
    if not isinstance(shape, list) or len(shape) < least:
        raise TypeError(f"shape is not a list of {counted} or more positive integers")
    if not all(type(n) is int and 0 < n < 2**40 for n in shape):
        raise TypeError(f"shape is not {counted} or more positive integers")
    return tuple(shape)


def slopes(data: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    """Pairs (low, high), one per hidden layer."""
    if not isinstance(data["slopes"], list):
        raise TypeError("slopes is not a list")
    pairs = [numbers({"slopes": pair}, "slopes").tolist() for pair in data["slopes"]]
    return tuple((low, high) for low, high in pairs)


def multipliers(data: Mapping[str, Any], layout: str) -> Multipliers:
    """The numbers of a proof: one vector, several, or the nodes of a tree, which their checker knows how to read."""
    given = data["multipliers"]
    if layout == "vector":
        return numbers(data, "multipliers")
    if not isinstance(given, list):
        raise TypeError("multipliers is not a list")
    if layout == "nodes":
        return tuple(given)
    return tuple(numbers({"multipliers": part}, "multipliers") for part in given)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; names that occur twice mean one thing to one reader and another to the next."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:40]!r} occurs twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of a certificate")
