"""What a refinement will cost, before it is begun: seconds of one core, and bytes."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Final, NamedTuple

from certnet.core.errors import InvalidInputError
from certnet.networks.network import Network
from certnet.refinement.deep import ON_ALL, Plan
from certnet.refinement.ground import LARGE, SAMPLE
from certnet.refinement.lbfgs import MEMORY
from certnet.solvers.estimate import available_bytes

__all__ = ["CHEAP", "FAIR", "DescentCost", "descent_cost", "require_room"]

CHEAP: Final = 2.2
"""Seconds, by this estimate, up to which the default takes the time for three descents and random moves."""

FAIR: Final = 3.2
"""The same for two descents."""

_FLOPS: Final = 1.6e10  # a second, in products of a block of rows
_PASS: Final = 2e-9  # seconds for what an activation does with one number, forth and back
_OVERHEAD: Final = 3e-4  # seconds of an evaluation of anything
_DEEPER: Final = 2.5  # times as many evaluations where there is more than one hidden layer
_OPENING: Final = 700  # evaluations of an opening, about
_FINISH: Final = 1000
_MOVE: Final = 600
_SHORT: Final = 1.0  # seconds of an evaluation that are not worth a refusal
_ROOM: Final = 0.8  # of the available memory

_log = logging.getLogger("certnet")


class DescentCost(NamedTuple):
    """Of the descents of a plan, good to a factor of about three.

    Attributes
    ----------
    seconds : float
        On one core.
    bytes : float
        Beside the samples.
    evaluation : float
        Seconds of one sum over all rows.
    """

    seconds: float
    bytes: float
    evaluation: float


def descent_cost(network: Network, n_rows: int, plan: Plan) -> DescentCost:
    """The cost of a plan for a network on so many rows.

    An evaluation takes three products of every row with every weight, and a Cholesky factor, an inverse and two or
    three products of the order of every hidden layer but the last, whose outputs are fewer.
    """
    widths = [network.n_inputs, *(len(layer.bias) for layer in network.layers)]
    parameters = sum(a * b + b for a, b in pairwise(widths))
    units = sum(widths[1:-1])
    orders = sum(n**3 for n in widths[1:-2]) + min(widths[-2:]) ** 3 + min(widths[0], widths[1]) ** 3 * 10

    def seconds(rows: int) -> float:
        return rows * (6.0 * parameters / _FLOPS + units * _PASS) + 8.0 * orders / _FLOPS + _OVERHEAD

    many = n_rows > LARGE
    early, full = seconds(SAMPLE if many else n_rows), seconds(n_rows)
    finish = plan.finish * ON_ALL if many else _FINISH
    rounds = 1 + min(plan.moves, plan.most)
    total = len(plan.openings) * _OPENING * early + (rounds - 1) * _MOVE * early + rounds * finish * full
    total *= _DEEPER if len(widths) > 3 else 1.0
    numbers = (2 * MEMORY + 20) * parameters + 8 * sum(n * n for n in widths[:-1])
    return DescentCost(total, 8.0 * numbers, full)


def require_room(network: Network, n_rows: int, plan: Plan, time_limit: float | None) -> None:
    """Say what descents will take, and refuse those that memory or a time limit has no room for.

    Raises
    ------
    InvalidInputError
    """
    cost, memory = descent_cost(network, n_rows, plan), _ROOM * available_bytes()
    _log.info("descents: about %.2g s on one core and %.2g GB beside the samples", cost.seconds, cost.bytes / 1e9)
    if cost.bytes > memory:
        raise InvalidInputError(
            f"{network!r}: descents would need about {cost.bytes / 1e9:.2g} GB beside the samples, there are "
            f"{memory / 1e9:.2g} GB: refine a smaller network"
        )
    if time_limit is not None and cost.evaluation > max(time_limit, _SHORT):
        raise InvalidInputError(
            f"one sum over all {n_rows} rows takes about {cost.evaluation:.2g} s, and the time limit is "
            f"{time_limit:g} s: allow more time, n_jobs threads, or take fewer rows"
        )
