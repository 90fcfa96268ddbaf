"""What the options of ``certnet refine`` ask for, as :func:`certnet.refinement.refine` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from certnet.cli.choices import Effort, KeptPart
from certnet.cli.regions import Place
from certnet.core.errors import InvalidInputError

__all__ = ["DEFAULT_WEIGHT", "Asked", "effort_of", "kept_of", "limits_of", "signs_of"]

DEFAULT_WEIGHT: Final = 0.01

_SIGNS: Final = {"increasing": 1, "decreasing": -1}
_KEPT: Final = {KeptPart.BIASES: "biases", KeptPart.FIRST_LAYER: "first layer"}

Names = Sequence[str]


@dataclass(frozen=True)
class Asked:
    """Options of a refinement; None and empty where nothing is said.

    Attributes
    ----------
    standardise : bool
        Through :class:`certnet.CertifiedRegressor`, in units standardised by the data.
    effort, target_lipschitz, max_mse, cells, method, penalty, solver, huber_threshold, time_limit
        As typed.
    weight : float or None
    loss : str
    keep : tuple of str
    prune, optimality_gap : bool
    checkpoint : Path or None
    """

    weight: float | None
    standardise: bool
    effort: str | float | None
    target_lipschitz: float | None
    max_mse: float | None
    loss: str
    huber_threshold: float | None
    keep: tuple[str, ...]
    prune: bool
    checkpoint: Path | None
    cells: int | None
    method: str | None
    penalty: str | None
    solver: str | None
    optimality_gap: bool
    time_limit: float | None

    def __post_init__(self) -> None:
        programs = [f"--{name}" for name in ("cells", "method", "penalty", "solver") if getattr(self, name) is not None]
        if programs:
            for name, given in (
                ("--effort", self.effort is not None),
                ("--keep", bool(self.keep)),
                ("--checkpoint", self.checkpoint is not None),
            ):
                if given:
                    raise InvalidInputError(
                        f"{', '.join(programs)} {'ask' if len(programs) > 1 else 'asks'} for the papers' programs, and "
                        f"{name} is for the work that is chosen without: leave one out"
                    )
        for name in ("target_lipschitz", "max_mse"):
            if self.weight is not None and getattr(self, name) is not None:
                raise InvalidInputError(f"--weight and --{name.replace('_', '-')} are two goals: give one of them")
        if self.huber_threshold is not None and self.loss != "huber":
            raise InvalidInputError("--huber-threshold is for --loss huber: give both, or neither")
        if self.standardise:
            for name in ("optimality_gap", "keep", "prune", "checkpoint"):
                if getattr(self, name):
                    raise InvalidInputError(
                        f"--{name.replace('_', '-')} is for the model in its own units: leave out --standardise"
                    )

    def require_fits(self, place: Place) -> None:
        """Refuse a region beside what is of all inputs.

        Raises
        ------
        InvalidInputError
        """
        ways = {"--box": place.box, "--around-data": place.around_data, "--around": place.around}
        region = next((name for name, given in ways.items() if given is not None), None)
        names = ("cells", "method", "penalty", "solver", "optimality_gap")
        others = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]
        if region is not None and others:
            raise InvalidInputError(
                f"{region} is for the default work, and {', '.join(others)} for all inputs: choose one"
            )
        if self.standardise and place.around is not None and place.units == "model":
            raise InvalidInputError(
                "--around with --radius is a ball in the model's own units, which is none in those of --standardise: "
                "give --box, or leave --standardise out"
            )

    @property
    def charge(self) -> float:
        """The weight, that of Python where none is given."""
        return DEFAULT_WEIGHT if self.weight is None else self.weight

    @property
    def heard(self) -> bool:
        """Is Ctrl-C heard between the steps of the work?"""
        return str(self.solver or "auto").upper() in ("AUTO", "CERTNET")

    @property
    def told_effort(self) -> str | float | None:
        """The effort, None where programs are asked for instead."""
        programs = any(given is not None for given in (self.cells, self.method, self.penalty, self.solver))
        return None if programs else (self.effort or "default")

    def options(self) -> dict[str, Any]:
        """For :func:`certnet.refinement.refine`, and those that :class:`certnet.CertifiedRegressor` knows as well."""
        both = {
            "effort": self.effort,
            "target_lipschitz": self.target_lipschitz,
            "max_mse": self.max_mse,
            "loss": self.loss,
            "huber_threshold": self.huber_threshold,
            "cells": self.cells,
            "method": self.method,
            "penalty": self.penalty,
            "solver": self.solver,
            "time_limit": self.time_limit,
        }
        given = {name: value for name, value in both.items() if value is not None}
        if self.standardise:
            return given
        alone = {"keep": self.keep, "prune": self.prune, "optimality_gap": self.optimality_gap}
        return given | alone | {"checkpoint": self.checkpoint}


def effort_of(text: str | None) -> str | float | None:
    """A name, in any case, or a number of seconds."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        lowered = text.strip().lower()
        return lowered if lowered in get_args(Effort) else text


def kept_of(given: Sequence[KeptPart]) -> tuple[str, ...]:
    """What stays as it is, as Python names it."""
    return tuple(_KEPT[name] for name in given)


def signs_of(given: Names, names: Names) -> dict[int, int]:
    """1 or −1 of inputs by their index, from ``NAME=increasing`` or ``NAME=decreasing``.

    Raises
    ------
    InvalidInputError
        No such input, one twice, another word.
    """
    signs: dict[int, int] = {}
    for text in given:
        i, word = _named(text, names, signs, "--monotone", "NAME=increasing or NAME=decreasing")
        if word not in _SIGNS:
            raise InvalidInputError(f"--monotone {text!r}: increasing or decreasing is needed, got {word!r}")
        signs[i] = _SIGNS[word]
    return signs


def limits_of(given: Names, names: Names) -> dict[int, tuple[float, float]]:
    """(low, high) of inputs by their index, from ``NAME=LOW:HIGH``, where either may be left empty.

    Raises
    ------
    InvalidInputError
        No such input, one twice, ends that are no numbers or in the wrong order.
    """
    limits: dict[int, tuple[float, float]] = {}
    for text in given:
        i, ends = _named(text, names, limits, "--slope-limit", "NAME=LOW:HIGH, such as age=0:2 or age=:2")
        low, colon, high = ends.partition(":")
        try:
            pair = float(low or "-inf"), float(high or "inf")
        except ValueError as error:
            raise InvalidInputError(f"--slope-limit {text!r}: LOW and HIGH are numbers, as in age=-0.5:2") from error
        if not colon or np.isnan(pair).any() or pair[0] > pair[1]:
            raise InvalidInputError(f"--slope-limit {text!r}: NAME=LOW:HIGH is needed, the first being the lower one")
        limits[i] = pair
    return limits


def _named(text: str, names: Names, taken: dict[int, Any], option: str, form: str) -> tuple[int, str]:
    """The input and what is said of it; a name may have a sign of equality in it."""
    name, equal, said = text.rpartition("=")
    if not equal or not name:
        raise InvalidInputError(f"{option} {text!r}: {form} is needed")
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.0)
        raise InvalidInputError(f"{option}: there is no input {name!r}; did you mean {near[0]!r}?")
    i = list(names).index(name)
    if i in taken:
        raise InvalidInputError(f"{option} speaks of {name!r} twice")
    return i, said.strip().lower()
