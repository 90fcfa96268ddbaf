"""One refinement in progress: certify every candidate, recompute, and keep the best."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from certnet.certification import Certificate
from certnet.certification.bracket import certify_checked
from certnet.claims.region import ALL, All, Region
from certnet.core.errors import CertificateError
from certnet.core.outcome import Status
from certnet.kernels.compilation import compile_seconds
from certnet.networks.network import Network
from certnet.programs.restriction import Solution
from certnet.refinement.task import Task
from certnet.refinement.trace import Measured, TraceRow
from certnet.solvers.solved import Solved
from certnet.solvers.watch import Watch

__all__ = ["Run", "Settings"]

_log = logging.getLogger("certnet")


@dataclass(frozen=True)
class Settings:
    """Of the work as a whole; see :func:`certnet.refinement.refinement.refine`.

    Attributes
    ----------
    name : str
        What works, for messages.
    watch : Watch
    random_state : int
    callback : callable or None
        Called with every row.
    """

    name: str
    watch: Watch
    random_state: int
    callback: Callable[[TraceRow], None] | None


class Run:
    """The best network so far, and the rows that led to it."""

    task: Task
    settings: Settings

    def __init__(self, network: Network, task: Task, settings: Settings) -> None:
        self._begin, self._compiling = time.perf_counter(), compile_seconds()
        self.task, self.settings = task, settings
        self.input = network
        self.stopped: Status | None = None
        self.trace: list[TraceRow] = []
        self.before: Measured = self.measure(network)
        self.best: Measured = self.before
        self.candidate: Measured | None = None
        self.solution: Solution | None = None

    def begin(self) -> None:
        """The trace's first row."""
        self.record("input", self.before, Solved(None, Status.OPTIMAL, ""), accepted=True)

    @property
    def seconds(self) -> float:
        """Since it began, without those that went into compiling and loading kernels."""
        return time.perf_counter() - self._begin - (compile_seconds() - self._compiling)

    def over(self) -> bool:
        """Is there a reason to start nothing more?"""
        if self.stopped is None and self.settings.watch.expired:
            self.stopped = Status.TIME_LIMIT
        return self.stopped is not None

    # ------------------------------------------------------------------------------------------------------- measuring

    def measure(self, network: Network) -> Measured:
        certificate = self.certified(network)
        mse = self.task.error(network)
        return Measured(network, self.task.value(network, mse, certificate), mse, certificate)

    def certified(self, network: Network) -> Certificate:
        return self._certified(network, self.task.region)

    def certified_everywhere(self, network: Network) -> Certificate:
        """For all inputs, whatever region the task is about."""
        return self._certified(network, ALL)

    def bound_everywhere(self, network: Network) -> float:
        """A bound of L for all inputs."""
        if network is self.input and isinstance(self.task.region, All):
            return self.before.certificate.upper
        return self.certified_everywhere(network).upper

    def _certified(self, network: Network, region: Region) -> Certificate:
        seed = self.settings.random_state
        return certify_checked(network, X=self.task.probes, tol=1e-7, random_state=seed, region=region)

    def record(self, stage: str, measured: Measured | None, solved: Solved, *, accepted: bool) -> None:
        row = TraceRow.of(stage, measured, solved, self.seconds, accepted=accepted)
        self.trace.append(row)
        _log.info("%s: objective %.6g, L <= %.6g, %.1f s", stage, row.objective, row.upper, row.seconds)
        if self.settings.callback is not None:
            self.settings.callback(row)

    def keep(self, stage: str, network: Network, solved: Solved) -> bool:
        """Measure a candidate and keep it if it is the best so far; False where it cannot be certified."""
        try:
            measured = self.measure(network)
        except CertificateError as error:
            _log.warning("%s: the candidate is dropped: %s", stage, error)
            self.record(stage, None, replace(solved, status=Status.SOLVER_FAILED), accepted=False)
            return False
        self.candidate = measured
        better = bool(measured.value < self.best.value)
        if better:
            self.best = measured
        self.record(stage, measured, solved, accepted=better)
        return True
