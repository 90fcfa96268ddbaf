"""What follows one restriction: rounds of the alternating method, and rounds that leave the cell."""

from __future__ import annotations

import numpy as np

from certnet.certification import Certificate
from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import whole_cell
from certnet.refinement.descent import MAX_ORDER, Descent, descend_checked
from certnet.refinement.restricting import Restricting
from certnet.refinement.run import Run
from certnet.solvers.solved import Solved

__all__ = ["alternate", "leave_cell"]

_STALL = 1e-6  # relative decrease at which rounds end
_DESCENT = 4000  # quasi-Newton iterations of a round beyond the cell
_LEAST_SECONDS = 0.1  # that a descent gets, however late it is


def alternate(restricting: Restricting, max_rounds: int) -> None:
    """Algorithm 1 of Y: the certificate's multipliers of the current network, then weights with them fixed."""
    run = restricting.run
    every = _eta(run.input, run.before.certificate)
    reached, eta, total = np.inf, every[restricting.cell.units], float(every.sum())
    if eta.sum() > total:
        eta *= total / eta.sum()  # sampled: Σ η stays below 2
    for number in range(1, max_rounds + 1):
        if not restricting.restrict(f"alternating round {number}", LipschitzPenalty(eta)) or run.candidate is None:
            return
        last = run.candidate
        if not last.value < reached - _STALL * abs(last.value) or run.stopped is not None:
            return
        if number < max_rounds and run.over():
            return
        reached, eta = last.value, _eta(last.network, last.certificate)


def leave_cell(restricting: Restricting, cells: int, weight: float) -> None:
    """Descend on the true objective with patterns free, restrict again in the cell that is reached, and so on.

    The first descent is from the restriction's optimum and from the input, for neither leads to the better network in
    all cases; the rounds go on from the best. At most ``cells`` cells are visited, the first one included.
    """
    run = restricting.run
    for number in range(2, cells + 1):
        before = run.best.value
        if run.over():
            return
        _descend(run, f"descent {number - 1}", run.best.network, weight)
        if number == 2 and not run.over():
            _descend(run, "descent from the input", run.input, weight)
        if run.over():
            return
        restricting.cell = whole_cell(require_shallow(run.best.network))
        restricting.restrict(f"restriction {number}")
        if run.stopped is not None or not run.best.value < before - _STALL * abs(before):
            return


def _descend(run: Run, stage: str, start: Network, weight: float) -> None:
    start = require_shallow(start)
    if start.n_inputs + start.n_outputs > MAX_ORDER:
        return  # the restriction to the new cell is all that is left
    task, watch = run.task, run.settings.watch
    best: list[ShallowNetwork] = []
    how = Descent(max(watch.left, _LEAST_SECONDS), _DESCENT, run.settings.random_state, watch.should_stop)
    try:
        network = descend_checked(start, task.X, task.y, weight, how, lambda net, _: best.append(net)).network
        interrupted = watch.interrupted
    except KeyboardInterrupt:  # Ctrl-C
        network, interrupted = best[-1] if best else start, True
    if interrupted:
        run.stopped = Status.INTERRUPTED
    status, word = (Status.INTERRUPTED, "interrupted") if interrupted else (Status.OPTIMAL, "descent")
    if network is not start:
        run.keep(stage, network, Solved(None, status, word))


def _eta(network: Network, certificate: Certificate) -> Float:
    """η of the units in the program's normalisation: ``η_j = ‖V_:j‖² / T_j`` with ``T = upper · t``."""
    v = np.linalg.norm(require_shallow(network).V, axis=0)
    T = certificate.upper * np.asarray(certificate.multipliers)
    eta = np.divide(v**2, T, out=np.zeros_like(T), where=T > 0.0)
    # a unit that was charged by its norm has no multiplier: the least that keeps it in the program
    return np.maximum(eta * (1.0 - 1e-9), 1e-9 / len(eta))
