"""What every trainer returns."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from certnet._version import __version__
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["TrainResult", "versions"]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained network and how it came about.

    Attributes
    ----------
    network : ShallowNetwork or FeedForward
        With one hidden layer, or more.
    loss_curve : tuple of float
        What is minimised, on all training data: at the start, then after every epoch or iteration.
    validation_curve : tuple of float
        The loss without regularisation on the validation data at the same moments; empty without such data.
    settings : mapping
        Everything that was chosen, the device included: plain values, ready for a table.
    seed : int
    seconds : float
        Wall-clock time.
    versions : mapping of str to str
        Of certnet and the packages that computed.
    history : mapping of str to tuple of float
        Further curves of a method, named by it.
    """

    network: ShallowNetwork | FeedForward
    loss_curve: tuple[float, ...]
    validation_curve: tuple[float, ...]
    settings: Mapping[str, Any]
    seed: int
    seconds: float
    versions: Mapping[str, str]
    history: Mapping[str, tuple[float, ...]]


def versions(**others: str) -> dict[str, str]:
    """Versions of certnet, NumPy and Python, and of the others given."""
    return {"certnet": __version__, "numpy": np.__version__, "python": platform.python_version(), **others}
