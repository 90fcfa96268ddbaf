"""The tasks and rows of the kinds "objectives" and "robustness": starts, and methods applied to them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import SerializeAsAny

from certnet.networks.shallow import ShallowNetwork
from certnet.study.kinds.artifacts import packed, unpacked
from certnet.study.kinds.base import Outcome
from certnet.study.kinds.refinement.chains import chained
from certnet.study.kinds.refinement.evaluation import Evaluation, evaluate
from certnet.study.kinds.refinement.methods import warm_up
from certnet.study.kinds.refinement.spec import RefinementSpec
from certnet.study.kinds.refinement.steps import Given, Step
from certnet.study.kinds.splits import Split, split_of
from certnet.study.spec import Attack, Study
from certnet.study.tasks import Settings, Task, seed_for

__all__ = ["RefinementSettings", "refinement_execute", "refinement_tasks"]


class RefinementSettings(Settings):
    """A start to train (``method`` is empty), or a method and the start that it is applied to.

    Attributes
    ----------
    data : Split
    weight, hidden, time_limit
        As in the study file.
    attack : Attack
    attack_seed : int
        The same for all networks of one data set and trial, so that they meet the same attacks.
    start, method : str
        Their names in the study file.
    options : Step
        The table of the method, or of the start.
    """

    data: Split
    weight: float
    hidden: int
    attack: Attack
    attack_seed: int
    time_limit: float | None
    start: str
    method: str
    options: SerializeAsAny[Step]


def refinement_tasks(study: Study[RefinementSpec]) -> list[Task[RefinementSettings]]:
    """All starts and methods, data set by data set and trial by trial."""
    spec = study.spec
    return [
        task
        for name in spec.data_names
        for trial in range(spec.trials)
        for weight in spec.weights
        for task in _tasks_of(study, name, trial, weight)
    ]


def _tasks_of(study: Study[RefinementSpec], name: str, trial: int, weight: float) -> list[Task[RefinementSettings]]:
    spec, data = study.spec, split_of(study, name, trial)
    prefix = f"{name}/trial {trial}" + (f"/weight {weight:g}" if len(spec.weights) > 1 else "")

    def task(
        start: str, method: str, options: Step, needs: Sequence[str], group: dict[str, str]
    ) -> Task[RefinementSettings]:
        return Task(
            kind=spec.kind,
            name="/".join(filter(None, (prefix, start, method))),
            settings=RefinementSettings(
                trial=trial,
                data=data,
                weight=weight,
                hidden=spec.hidden,
                attack=spec.attack,
                attack_seed=seed_for(spec.seed, name, trial, "attack"),
                time_limit=spec.time_limit,
                start=start,
                method=method,
                options=options,
            ),
            seed=seed_for(spec.seed, name, trial, weight, start, method),
            needs=tuple(needs),
            group=group,
            folder=str(study.folder.resolve()),
        )

    return chained(spec, name, task)


def refinement_execute(task: Task[RefinementSettings], artifacts: Sequence[bytes]) -> Outcome:
    """Train the start, or refine the one given, and measure the network."""
    said = task.settings
    data = said.data.load(task.folder)
    before = ShallowNetwork.from_arrays(unpacked(artifacts[0]), Path("network.npz")) if artifacts else None
    if said.method:
        warm_up()
    begin = time.perf_counter()
    made = said.options.make(Given(data, before, said.hidden, said.weight, task.seed, said.time_limit))
    spent = time.perf_counter() - begin
    how = Evaluation(said.weight, said.attack, said.attack_seed)
    measured, failure = evaluate(made.network, data, how, made.certificate)
    names = {
        "data": data.name,
        "split": said.data.split,
        "trial": said.trial,
        "weight": said.weight,
        "start": said.start,
        "method": said.method,
        "penalty": made.penalty,
        "objective": measured[f"objective_{made.penalty}"],
    }
    return Outcome(
        {**names, **measured, "method_seconds": spent, **made.columns}, packed(**made.network.arrays()), failure
    )
