"""Certificates as JSON: a file that shows whether it was changed, and numbers read from it without surprises."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from certnet.core.digits import above
from certnet.core.errors import FileFormatError
from certnet.core.files import path_of
from certnet.core.validation import Float

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "MAX_FILE_BYTES",
    "number",
    "numbers",
    "output",
    "read_json",
    "refuse_other_schema",
    "seal",
    "sealed_json",
    "text",
    "upper_written",
    "verify_written",
    "widths",
]

MAX_FILE_BYTES: Final = 256 << 20


_READERS = {"certnet-certificate-1": "Certificate.load", "certnet-lifted-certificate-1": "LiftedCertificate.load"}


def seal(data: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON with sorted keys and no spaces, without the seal itself: shows that a file was changed."""
    rest = {name: value for name, value in data.items() if name != "seal"}
    written = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(written.encode()).hexdigest()


def upper_written(upper: float) -> dict[str, str]:
    """The bound as a decimal rounded up, and as the exact fraction that the double is."""
    return {"upper_decimal": above(upper, 12), "upper_rational": str(Fraction(upper))}


def sealed_json(data: Mapping[str, Any], first: Iterable[str]) -> str:
    """``data`` and its seal as JSON, the fields ``first`` leading; floats in their shortest exact decimal form."""
    plain = json.loads(json.dumps(dict(data), allow_nan=False))  # tuples become lists, as they will be read
    ordered = {name: plain.pop(name) for name in first} | plain
    return json.dumps(ordered | {"seal": seal(ordered)}, allow_nan=False, indent=1) + "\n"


def read_json(path: str | os.PathLike[str], limit: int = MAX_FILE_BYTES) -> tuple[object, Path]:
    """What a certificate's file of at most ``limit`` bytes holds, and its path.

    Raises
    ------
    FileFormatError
        The file is missing, too large, or not JSON; NaN and infinities are refused.
    """
    source = path_of(path)
    try:
        with source.open("rb") as handle:
            content = handle.read(limit + 1)  # a device has no size
        if len(content) > limit:
            raise FileFormatError(f"{source} is larger than {limit >> 20} MiB: not a certificate")
        text = content.decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_each_once), source
    except OSError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{source} is not a certificate (truncated, or not JSON): {error}") from error


def refuse_other_schema(data: object, source: Path, schema: str) -> dict[str, Any]:
    """``data``, if it is an object of this schema."""
    if isinstance(data, dict) and data.get("schema") == schema:
        return data
    found = data.get("schema") if isinstance(data, dict) else None
    shown = repr(found[:40]) if isinstance(found, str) else f"of type {type(found).__name__}"
    reader = _READERS.get(found) if isinstance(found, str) else None
    other = "" if reader is None else f" ({reader} reads it)"
    raise FileFormatError(f"{source} has schema {shown}{other}: this version of certnet reads {schema!r} here")


def verify_written(
    source: Path, data: Mapping[str, Any], right: Mapping[str, object], certificate: DataclassInstance
) -> None:
    """Refuse a file in which a field that follows from others, or the seal, does not fit them, and unknown fields."""
    unknown = data.keys() - right.keys() - {field.name for field in fields(certificate)} - {"schema"}
    if unknown:
        raise FileFormatError(f"{source}: {min(unknown)[:40]!r} is no field of a certificate: the file was altered")
    for name, value in right.items():
        if data[name] != value:
            raise FileFormatError(f"{source}: {name} does not fit the rest: the file was altered")


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


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; names that occur twice mean one thing to one reader and another to the next."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:40]!r} occurs twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of a certificate")
