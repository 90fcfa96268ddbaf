"""Starts and what refinement makes of them: the model, tasks and rows of the kinds "objectives" and "robustness"."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from certnet.certification import Certificate
from certnet.core.errors import InvalidInputError, SolverError, SolverUnavailableError
from certnet.core.outcome import Status
from certnet.data import Dataset
from certnet.networks.shallow import ShallowNetwork
from certnet.refinement import refine
from certnet.refinement.refinement import SOLVERS, require_solver
from certnet.study.kinds.base import Outcome, Row
from certnet.study.kinds.evaluation import Evaluation, evaluate, finite, network_bytes, network_from
from certnet.study.kinds.splits import data_of, load_split
from certnet.study.kinds.starts import ADMM_STARTS, AdmmStart, SgdStart, Starts, check_device, train_start
from certnet.study.spec import Attack, Count, Misplaced, Part, Positive, Study, StudySpec
from certnet.study.tasks import Task, seed_for

__all__ = ["Method", "RefinementSpec", "refinement_check", "refinement_execute", "refinement_tasks"]


class Method(Part):
    """What is done to a start: :func:`certnet.refine` with these options, or, with a table ``admm``, more ADMM.

    Attributes
    ----------
    starts : list of str, optional
        Which starts it is applied to; by default all.
    """

    starts: list[str] | None = None
    penalty: Literal["lipschitz", "l2"] = "lipschitz"
    method: Literal["joint", "alternating"] = "joint"
    patterns: Literal["all", "sampled"] = "all"
    n_patterns: Count | None = None
    cells: Count = 1
    max_rounds: Count = 10
    solver: str = "auto"
    admm: AdmmStart | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> Method:
        if self.cells > 1 and (self.penalty, self.method, self.patterns) != ("lipschitz", "joint", "all"):
            raise ValueError("cells above 1 needs the Lipschitz penalty, the joint method and all patterns")
        if self.n_patterns is not None and self.patterns == "all":
            raise ValueError('n_patterns is for patterns = "sampled"')
        return self


class RefinementSpec(StudySpec):
    """The keys of the kinds "objectives" and "robustness"."""

    hidden: Count = 100
    weights: Annotated[list[Positive], Field(min_length=1)] = Field(default=[0.01])
    starts: Starts
    methods: dict[str, Method] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _starts_exist(self) -> RefinementSpec:
        Misplaced.twice(("weights",), self.weights)
        for name, method in self.methods.items():
            if method.solver.upper() not in map(str.upper, SOLVERS):
                message = f"must be one of {', '.join(map(repr, SOLVERS))}, got {method.solver[:60]!r}"
                raise Misplaced(("methods", name, "solver"), message)
            Misplaced.check(("methods", name, "starts"), method.starts or (), self.starts.named, "starts")
            if name in self.starts.named:
                raise Misplaced(("methods", name), "has the name of a start")
        return self

    def applied_to(self, method: str) -> list[str]:
        """The starts of a method."""
        chosen = self.methods[method].starts
        return [name for name in self.starts.named if chosen is None or name in chosen]


def refinement_tasks(study: Study) -> list[Task]:
    """All starts and methods, data set by data set and trial by trial."""
    spec = study.spec
    if not isinstance(spec, RefinementSpec):
        raise TypeError(f"a RefinementSpec is needed, got {type(spec).__name__}")
    return [
        task
        for name in _data_names(study)
        for trial in range(spec.trials)
        for weight in spec.weights
        for task in _tasks_of(study, spec, name, trial, weight)
    ]


def _data_names(study: Study) -> list[str]:
    return [name for name, _ in data_of(study, 0)]


def _tasks_of(study: Study, spec: RefinementSpec, name: str, trial: int, weight: float) -> list[Task]:
    data = dict(data_of(study, trial))[name]
    common = {
        "data": data,
        "trial": trial,
        "weight": weight,
        "hidden": spec.hidden,
        "attack": spec.attack.model_dump(mode="json"),
        "attack_seed": seed_for(spec.seed, name, trial, "attack"),
        "time_limit": spec.time_limit,
    }
    prefix = f"{name}/trial {trial}" + (f"/weight {weight:g}" if len(spec.weights) > 1 else "")

    def task(start: str, method: str, options: Part, needs: Sequence[Task]) -> Task:
        settings = common | {"start": start, "method": method, "options": options.model_dump(mode="json")}
        return Task(
            kind=spec.kind,
            name="/".join(filter(None, (prefix, start, method))),
            settings=settings,
            seed=seed_for(spec.seed, name, trial, weight, start, method),
            needs=tuple(need.digest for need in needs),
            group={
                "part": "refinement" if method else "start",
                "data": name,
                "start": start,
                "method": method,
            },
            folder=str(study.folder.resolve()),
        )

    starts: dict[str, Task] = {}
    for start, options in spec.starts.named.items():
        needs = [starts[options.start]] if isinstance(options, AdmmStart) else []
        starts[start] = task(start, "", options, needs)
    rest = [
        task(start, method, options, [starts[start]])
        for method, options in spec.methods.items()
        for start in spec.applied_to(method)
    ]
    return [*starts.values(), *rest]


def refinement_check(study: Study) -> None:
    """Refuse solvers and devices that cannot be used here.

    Raises
    ------
    InvalidInputError
    MissingDependencyError
    """
    spec = study.spec
    if not isinstance(spec, RefinementSpec):
        raise TypeError(f"a RefinementSpec is needed, got {type(spec).__name__}")
    for name, start in spec.starts.named.items():
        if isinstance(start, SgdStart):
            check_device(start.device, study, "starts", name, "device")
    for name, method in spec.methods.items():
        try:
            require_solver(method.solver)
        except SolverUnavailableError as error:
            raise InvalidInputError(f"{study.place('methods', name, 'solver')}: {error}") from error


def refinement_execute(task: Task, artifacts: Sequence[bytes]) -> Outcome:
    """Train the start, or refine the one given, and measure the network."""
    said = task.settings
    data = load_split(said["data"], task.folder)
    given = network_from(artifacts[0]) if artifacts else None
    how = Evaluation(said["weight"], Attack(**said["attack"]), said["attack_seed"])
    certificate, begin = None, time.perf_counter()
    if said["method"] == "" or given is None:
        network, extra = _started(task, data, given)
        penalty = "lipschitz" if said["start"] in ADMM_STARTS else "l2"
    elif said["options"]["admm"] is not None:
        network, extra = train_start(
            "admm",
            said["options"]["admm"],
            data,
            hidden=said["hidden"],
            weight=how.weight,
            seed=task.seed,
            before=given,
        )
        penalty = "lipschitz"
    else:
        _warm_up()
        begin = time.perf_counter()
        network, certificate, extra = _refined(task, data, given)
        penalty = said["options"]["penalty"]
    spent = time.perf_counter() - begin
    measured, failure = evaluate(network, data, how, certificate)
    names = {
        "data": data.name,
        "split": said["data"]["split"],
        "trial": said["trial"],
        "weight": how.weight,
        "start": said["start"],
        "method": said["method"],
        "penalty": penalty,
        "objective": measured[f"objective_{penalty}"],
    }
    return Outcome({**names, **measured, "method_seconds": spent, **extra}, network_bytes(network), failure)


def _started(task: Task, data: Dataset, before: ShallowNetwork | None) -> tuple[ShallowNetwork, Row]:
    said = task.settings
    return train_start(
        said["start"],
        said["options"],
        data,
        hidden=said["hidden"],
        weight=said["weight"],
        seed=task.seed,
        before=before,
    )


def _refined(task: Task, data: Dataset, start: ShallowNetwork) -> tuple[ShallowNetwork, Certificate | None, Row]:
    """The refined network; of sampled patterns the candidate, which may be worse than the start (Y's "samp")."""
    said = task.settings
    options = {key: value for key, value in said["options"].items() if key not in ("starts", "admm")}
    done = refine(
        start,
        data.X_train,
        data.y_train,
        said["weight"],
        random_state=task.seed,
        time_limit=said["time_limit"],
        **options,
    )
    if done.status is Status.INTERRUPTED:  # refine returns the best so far, which is no result of a study
        raise KeyboardInterrupt
    extra: Row = {
        "refine_status": done.status.name,
        "improved": done.improved,
        "objective_start": finite(done.objective_before),
        "gap": finite(done.gap),
        "programs": len(done.trace) - 1,
    }
    if options["patterns"] == "all":
        return done.network, done.certificate, extra
    if done.candidate is None:
        raise SolverError(f"the restriction to sampled patterns gave no network: {done.status.advice}")
    return done.candidate, None, extra


@cache
def _warm_up() -> None:
    """Load the compiled kernels, once per process, so that the seconds of a method are its own."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 2))
    network = ShallowNetwork(rng.standard_normal((3, 2)), rng.standard_normal(3), rng.standard_normal(3), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for options in ({"cells": 2}, {"method": "alternating"}, {"penalty": "l2"}):
            refine(network, X, X[:, 0], 0.1, **options)  # type: ignore[arg-type]


def start_of(row: Mapping[str, Any], rows: Sequence[Row]) -> Row | None:
    """The finished row of the start that a row's network came from."""
    key = ("data", "trial", "weight", "start")
    found = (r for r in rows if r["status"] == "done" and r["method"] == "" and all(r[k] == row[k] for k in key))
    return next(found, None)
