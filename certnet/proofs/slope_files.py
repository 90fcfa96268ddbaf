"""Parts of the files of slope intervals, read without surprises. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from certnet.claims import sealed
from certnet.claims.region import Ball, Box, Region, region_of
from certnet.core.validation import Float

__all__ = ["EndProof", "matrix_in", "more_in", "region_written"]

EndProof = tuple[int, int, int, Float]
"""Row o and input i of an interval, 1 for its upper and −1 for its lower end, multipliers of the units that bend."""


def region_written(region: Region) -> dict[str, Any]:
    """The fields of a region."""
    return {
        "around": region.centre.tolist() if isinstance(region, Ball) else None,
        "radius": region.radius if isinstance(region, Ball) else None,
        "box": sealed.limits_written((region.lower, region.upper)) if isinstance(region, Box) else None,
    }


def matrix_in(data: Mapping[str, Any], name: str) -> Float:
    """The rows of a matrix, all of one length."""
    if not isinstance(data[name], list):
        raise TypeError(f"{name} is not a list of rows")
    rows = [sealed.numbers({name: row}, name) for row in data[name]]
    if not rows or len({len(row) for row in rows}) != 1:
        raise ValueError(f"{name} has rows of different lengths")
    return np.array(rows)


def more_in(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the second schema adds."""
    around = None if data["around"] is None else sealed.numbers(data, "around")
    radius = None if data["radius"] is None else sealed.number(data, "radius")
    if (around is None) != (radius is None):
        raise ValueError("a ball has both a centre and a radius")
    box = None if data["box"] is None else sealed.limits(data, "box")
    return {
        "region": region_of(around, radius, box),
        "norm": sealed.text(data, "norm"),
        "output": sealed.output(data),
        "inputs": _names(data, "inputs"),
        "outputs": _names(data, "outputs"),
        "reached": tuple(_pair(part) for part in _list(data, "reached")),
        "multipliers": tuple(_end_proof(part) for part in _list(data, "multipliers")),
    }


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(data[name], list):
        raise TypeError(f"{name} is not a list")
    return list(data[name])


def _names(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    names = _list(data, name)
    if not all(isinstance(one, str) for one in names):
        raise TypeError(f"{name} are not names")
    return tuple(names)


def _pair(part: object) -> tuple[Float, Float]:
    if not isinstance(part, list) or len(part) != 2:
        raise TypeError("the slopes of a layer are not two lists")
    low, high = (sealed.numbers({"reached": end}, "reached") for end in part)
    return low, high


def _end_proof(part: object) -> EndProof:
    if not isinstance(part, list) or len(part) != 4 or not all(type(n) is int for n in part[:3]):
        raise TypeError("the multipliers of an end are not its row, its input, its side, and a list")
    o, i, side, T = part
    return o, i, side, sealed.numbers({"multipliers": T}, "multipliers")
