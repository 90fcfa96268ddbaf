"""What is done to a start: the options of :func:`certnet.refine` in a study file, and their use."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, Literal

import numpy as np
from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from certnet.core.errors import InvalidInputError, SolverError
from certnet.core.outcome import Status
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.refinement import refine
from certnet.study.kinds.refinement.evaluation import finite
from certnet.study.kinds.refinement.starts import AdmmStart
from certnet.study.kinds.refinement.steps import Given, Made, Penalty, Step
from certnet.study.spec import Count
from certnet.study.tasks import Row

__all__ = ["Method", "warm_up"]


class Method(Step):
    """What is done to a start: :func:`certnet.refine` with these options, or, with a table ``admm``, more ADMM.

    Attributes
    ----------
    starts : list of str, optional
        Which starts it is applied to; by default all.
    effort : {"quick", "default", "thorough"}, optional
        Instead of the options from ``method`` on, which name the papers' programs: those that refine chooses itself.
    """

    starts: list[str] | None = None
    penalty: Penalty = "lipschitz"
    method: Literal["joint", "alternating"] = "joint"
    patterns: Literal["all", "sampled"] = "all"
    n_patterns: Count | None = None
    cells: Count = 1
    max_rounds: Count = 10
    solver: str = "auto"
    admm: AdmmStart | None = None
    effort: Literal["quick", "default", "thorough"] | None = None

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without an effort as before there was one: rows are named by this."""
        plain: dict[str, Any] = handler(self)
        if self.effort is None:
            plain.pop("effort", None)
        return plain

    @model_validator(mode="after")
    def _fit_together(self) -> Method:
        others = self.model_fields_set - {"starts", "effort"}
        if self.effort is not None and others:
            raise ValueError(f"effort chooses the programs itself: remove it, or {', '.join(sorted(others))}")
        if self.cells > 1 and (self.penalty, self.method, self.patterns) != ("lipschitz", "joint", "all"):
            raise ValueError("cells above 1 needs the Lipschitz penalty, the joint method and all patterns")
        if self.n_patterns is not None and self.patterns == "all":
            raise ValueError('n_patterns is for patterns = "sampled"')
        return self

    @property
    def weighted(self) -> bool:
        return True

    def make(self, given: Given) -> Made:
        """The refined network; of sampled patterns the candidate, which may be worse than the start (Y's "samp")."""
        if given.before is None:
            raise InvalidInputError("a method refines the network of a start, and none is given")
        if self.admm is not None:
            return self.admm.make(given)
        done = refine(
            given.before,
            given.data.X_train,
            given.data.y_train,
            given.weight,
            random_state=given.seed,
            time_limit=given.time_limit,
            **self._options(),
        )
        if done.status is Status.INTERRUPTED:  # refine returns the best so far, which is no result of a study
            raise KeyboardInterrupt
        columns: Row = {
            "refine_status": done.status.name,
            "improved": done.improved,
            "objective_start": finite(done.objective_before),
            "gap": finite(done.gap),
            "programs": len(done.trace) - 1,
        }
        if self.patterns == "all":
            return Made(require_shallow(done.network), self.penalty, columns, done.certificate)
        if done.candidate is None:
            raise SolverError(f"the restriction to sampled patterns gave no network: {done.status.advice}")
        return Made(require_shallow(done.candidate), self.penalty, columns)

    def _options(self) -> dict[str, Any]:
        """Of refine: an effort, or the programs of the papers, named one by one."""
        if self.effort is not None:
            return {"effort": self.effort}
        return {
            "penalty": self.penalty,
            "method": self.method,
            "patterns": self.patterns,
            "n_patterns": self.n_patterns,
            "cells": self.cells,
            "max_rounds": self.max_rounds,
            "solver": self.solver,
        }


@cache
def warm_up() -> None:
    """Load the compiled kernels, once per process, so that the seconds of a method are its own."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 2))
    network = ShallowNetwork(rng.standard_normal((3, 2)), rng.standard_normal(3), rng.standard_normal(3), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refine(network, X, X[:, 0], 0.1)
        refine(network, X, X[:, 0], 0.1, cells=2)
        refine(network, X, X[:, 0], 0.1, method="alternating")
        refine(network, X, X[:, 0], 0.1, penalty="l2")
