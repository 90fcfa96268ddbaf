"""A step from data, and a network that is there already, to a network: what starts and methods have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from certnet.certification import Certificate
from certnet.data import Dataset
from certnet.networks.shallow import ShallowNetwork
from certnet.study.spec import Part
from certnet.study.tasks import Row

__all__ = ["Given", "Made", "Penalty", "Step"]

Penalty = Literal["lipschitz", "l2"]


@dataclass(frozen=True, eq=False)
class Given:
    """What a step works with.

    Attributes
    ----------
    data : Dataset
    before : ShallowNetwork, optional
        The network to go on from.
    hidden : int
        Width of a network that is made anew.
    weight : float
        λ of both objectives.
    seed : int
    time_limit : float, optional
        Seconds.
    """

    data: Dataset
    before: ShallowNetwork | None
    hidden: int
    weight: float
    seed: int
    time_limit: float | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """What a step came to: the network, whose objective it lowers, its certificate if there is one, more columns."""

    network: ShallowNetwork
    penalty: Penalty
    columns: Row = field(default_factory=dict)
    certificate: Certificate | None = None


class Step(Part, ABC):
    """A table of a study file that says how a network is made."""

    @property
    @abstractmethod
    def weighted(self) -> bool:
        """Does the network depend on the weight that is given?"""

    @abstractmethod
    def make(self, given: Given) -> Made:
        """The network, trained on the training part."""
