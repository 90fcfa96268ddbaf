"""How much work a refinement does where nobody says which: descents, then a restriction to the cell that they reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from certnet.claims.region import All
from certnet.core.errors import InvalidInputError, NotReachedError
from certnet.core.outcome import Status
from certnet.core.spelling import did_you_mean
from certnet.core.validation import positive_number
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.goal import FitAtMost
from certnet.programs.restriction import whole_cell
from certnet.refinement.cost import CHEAP, FAIR, descent_cost
from certnet.refinement.deep import (
    BROAD,
    BROADLY,
    DEFAULT,
    OPENINGS,
    QUICK,
    SLIM,
    THOROUGH,
    Plan,
    descend_deep,
    descend_in_region,
)
from certnet.refinement.ground import Ground
from certnet.refinement.head import head_is_relu, polish_head
from certnet.refinement.journal import Journal
from certnet.refinement.restricting import Restricting, Solving
from certnet.refinement.run import Run
from certnet.searches.vectors import search_vectors
from certnet.solvers.estimate import Size, own_estimate

__all__ = ["EFFORTS", "Effort", "chosen_effort", "work"]

_MANY_INPUTS: Final = 32  # from which one descent begins with broad kinks


@dataclass(frozen=True)
class Effort:
    """Descents, and what the restriction after them may cost.

    Attributes
    ----------
    plan : Plan
    seconds : float
        By the estimate of the program; beyond it there is none.
    time_limit : float or None
    """

    plan: Plan
    seconds: float
    time_limit: float | None = None

    def for_network(self, network: Network, n_rows: int) -> Effort:
        """The same, with fewer descents by default where they would take long by estimate, the best ones first."""
        many = network.n_inputs >= _MANY_INPUTS
        if self.plan is THOROUGH and many:  # of which a time limit may leave one
            return replace(self, plan=replace(THOROUGH, openings=(BROAD, *OPENINGS)))
        if self.plan is not DEFAULT:
            return self
        for plan, seconds in ((DEFAULT, CHEAP), (SLIM, FAIR)):
            if descent_cost(network, n_rows, plan).seconds <= seconds:
                return replace(self, plan=plan)
        return replace(self, plan=BROADLY if many else QUICK)


EFFORTS: Final[Mapping[str, Effort]] = MappingProxyType(
    {"quick": Effort(QUICK, 0.0), "default": Effort(DEFAULT, 2.0), "thorough": Effort(THOROUGH, 60.0)}
)


def chosen_effort(effort: str | float) -> Effort:
    """The effort of a name, or the thorough one within so many seconds.

    Raises
    ------
    InvalidInputError
        Another name, or a number that is not positive.
    """
    if isinstance(effort, str):
        if effort not in EFFORTS:
            raise InvalidInputError(
                f"effort must be one of {', '.join(map(repr, EFFORTS))}, or a number of seconds, got {effort!r}"
                f"{did_you_mean(effort, EFFORTS)}"
            )
        return EFFORTS[effort]
    seconds = positive_number(effort, "effort")
    return replace(EFFORTS["thorough"], time_limit=seconds)


def work(run: Run, effort: Effort, solving: Solving, journal: Journal) -> None:
    """Descents from the input of ``run``, and a restriction around the best network, as far as there is time."""
    task = run.task
    start = run.input if isinstance(run.input, FeedForward) else FeedForward.of(run.input)
    ground = Ground(
        start,
        task.rows,
        task.goal,
        task.loss,
        keep_biases="biases" in task.keep,
        keep_first="first layer" in task.keep,
        limits=task.limits,
        seed=run.settings.random_state,
    )
    descend_deep(run, ground, start, effort.plan, journal)
    if task.restricted and effort.seconds > 0.0 and run.stopped is None and not run.over():
        _restrict(run, run.best.network, effort.seconds, solving)
    if not isinstance(task.region, All) and run.stopped is None:
        descend_in_region(run, ground, journal)
    if isinstance(task.goal, FitAtMost) and run.best.value == np.inf and run.stopped is None:
        raise NotReachedError(
            f"max_mse={task.goal.limit:g} was not reached: allow a larger error, give more effort, or start from a "
            "network that fits better"
        )


def _restrict(run: Run, network: Network, seconds: float, solving: Solving) -> None:
    if isinstance(network, ShallowNetwork):
        cell = whole_cell(require_shallow(network))
        if own_estimate(Size.of(run.task.program(cell))).seconds <= seconds:
            Restricting(run, cell, solving).restrict("restriction to the cell")
        return
    if not isinstance(network, FeedForward) or run.task.limits is not None or not head_is_relu(network):
        return
    task, settings = run.task, run.settings
    polished = polish_head(
        network,
        task.X,
        task.y,
        task.goal,
        multipliers=search_vectors(network, random_state=settings.random_state).multipliers,
        watch=settings.watch,
        sample_weight=task.memory.weights,
        loss=task.loss,
        seconds=seconds,
    )
    solved = polished.solved
    if solved.status is Status.INTERRUPTED:
        run.stopped = Status.INTERRUPTED
    if polished.network is not network:
        named = "restriction of the last two layers"
        run.keep(named, polished.network, replace(solved, solution=None))
