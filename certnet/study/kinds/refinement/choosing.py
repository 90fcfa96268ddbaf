"""The tasks and rows of the kind "validated": starts and methods, each with the weight that does best on data unseen.

In every trial a share of the training part is held out. A start is trained on the rest with every candidate of the
weight; the network of the least adversarial error on what was held out, at the middle radius of the attack (the
median of errors that grow with the radius), is one of two that it hands on, and the other is trained on the whole
training part with the weight so chosen. A method goes on from the first, with every candidate, to choose its own
weight, and from the second to its result. Nothing of the test part is seen before the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import SerializeAsAny

from certnet.core.errors import InvalidInputError, SolverError
from certnet.data import Dataset
from certnet.networks.shallow import ShallowNetwork
from certnet.robust import PGDAttack, adversarial_mse
from certnet.study.kinds.artifacts import packed, unpacked
from certnet.study.kinds.base import Outcome
from certnet.study.kinds.refinement.chains import chained
from certnet.study.kinds.refinement.evaluation import Evaluation, evaluate, finite
from certnet.study.kinds.refinement.methods import warm_up
from certnet.study.kinds.refinement.spec import ValidatedSpec
from certnet.study.kinds.refinement.steps import Given, Step
from certnet.study.kinds.splits import Split, split_of
from certnet.study.spec import Attack, Study
from certnet.study.tasks import Settings, Task, seed_for

__all__ = ["Choice", "ValidatedSettings", "middle_radii", "validated_execute", "validated_tasks"]


class ValidatedSettings(Settings):
    """A start to train (``method`` is empty), or a method and the start that it is applied to.

    Attributes
    ----------
    data : Split
    weights : list of float
        Candidates.
    validation_fraction : float
    validation_seed : int
        Of the rows held out; the same for all networks of one data set and trial.
    hidden, time_limit
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
    weights: list[float]
    validation_fraction: float
    validation_seed: int
    hidden: int
    attack: Attack
    attack_seed: int
    time_limit: float | None
    start: str
    method: str
    options: SerializeAsAny[Step]


def validated_tasks(study: Study[ValidatedSpec]) -> list[Task[ValidatedSettings]]:
    """All starts and methods, data set by data set and trial by trial."""
    spec = study.spec
    return [task for name in spec.data_names for trial in range(spec.trials) for task in _tasks_of(study, name, trial)]


def _tasks_of(study: Study[ValidatedSpec], name: str, trial: int) -> list[Task[ValidatedSettings]]:
    spec, data = study.spec, split_of(study, name, trial)
    common = {
        **spec.model_dump(include={"weights", "validation_fraction", "hidden", "time_limit"}),
        "trial": trial,
        "data": data,
        "validation_seed": seed_for(spec.seed, name, trial, "validation"),
        "attack": spec.attack,
        "attack_seed": seed_for(spec.seed, name, trial, "attack"),
    }

    def task(
        start: str, method: str, options: Step, needs: Sequence[str], group: dict[str, str]
    ) -> Task[ValidatedSettings]:
        return Task(
            kind=spec.kind,
            name="/".join(filter(None, (f"{name}/trial {trial}", start, method))),
            settings=ValidatedSettings(**common, start=start, method=method, options=options),
            seed=seed_for(spec.seed, name, trial, start, method),
            needs=tuple(needs),
            group=group,
            folder=str(study.folder.resolve()),
        )

    return chained(spec, name, task)


@dataclass(frozen=True, eq=False)
class Pair:
    """A network of the rows that candidates are trained on, and one of the whole training part."""

    part: ShallowNetwork | None = None
    whole: ShallowNetwork | None = None

    @classmethod
    def read(cls, artifact: bytes) -> Pair:
        arrays = unpacked(artifact)
        part, whole = ({key[1:]: a for key, a in arrays.items() if key[0] == letter} for letter in "pw")
        return cls(*(ShallowNetwork.from_arrays(one, Path("network.npz")) for one in (part, whole)))

    def written(self) -> bytes:
        both = (("p", self.part), ("w", self.whole))
        return packed(**{f"{letter}{key}": a for letter, one in both if one for key, a in one.arrays().items()})


@dataclass(frozen=True, eq=False)
class Choice:
    """The candidates of one step.

    Attributes
    ----------
    scores : dict of float to float
        Adversarial validation errors by weight; infinite where the training failed.
    weight : float
        Of the least one.
    network : ShallowNetwork
        Of that weight, trained on the part.
    """

    scores: dict[float, float]
    weight: float
    network: ShallowNetwork

    @classmethod
    def of(cls, said: ValidatedSettings, part: Dataset, before: ShallowNetwork | None, seed: int) -> Choice:
        """Train with every candidate, and measure on the rows held out, which are ``part``'s test rows.

        Raises
        ------
        SolverError
            The training failed with every candidate.
        """
        scores, best, failure = dict[float, float](), None, ""
        for weight in said.weights if said.options.weighted else said.weights[:1]:
            given = Given(part, before, said.hidden, weight, seed, said.time_limit)
            try:
                network = said.options.make(given).network
            except SolverError as error:
                scores[weight], failure = math.inf, str(error)
                continue
            scores[weight] = _error(network, part, said)
            if best is None or scores[weight] < scores[best[0]]:
                best = weight, network
        if best is None:
            raise SolverError(f"no candidate of the weight could be trained: {failure}")
        return cls(scores, *best)


def middle_radii(epsilons: Sequence[float]) -> list[float]:
    """The radii in the middle, whose mean error is the median of errors that grow with the radius: one, or two."""
    n = len(epsilons)
    return list(epsilons[(n - 1) // 2 : n // 2 + 1])


def _error(network: ShallowNetwork, part: Dataset, said: ValidatedSettings) -> float:
    attack = PGDAttack(said.attack.norm, said.attack.steps, said.attack.restarts, random_state=said.attack_seed)
    radii = middle_radii(said.attack.epsilons)
    return float(np.mean(adversarial_mse(network, part.X_test, part.y_test, radii, attack).adversarial))


def _held_out(data: Dataset, fraction: float, seed: int) -> Dataset:
    """The training part, parted: what candidates are trained on, and what they are measured on as its test part."""
    n = len(data.y_train)
    held = round(fraction * n)
    if not 1 <= held < n:
        raise InvalidInputError(
            f"{data.name} has {n} training rows: validation_fraction={fraction:g} leaves none for one of the two parts"
        )
    rows = np.random.default_rng(seed).permutation(n)
    rest, out = rows[held:], rows[:held]
    X, y = data.X_train, data.y_train
    return replace(data, X_train=X[rest], y_train=y[rest], X_test=X[out], y_test=y[out])


def validated_execute(task: Task[ValidatedSettings], artifacts: Sequence[bytes]) -> Outcome:
    """Choose the weight on validation data, train or refine with it on the whole training part, and measure."""
    said = task.settings
    data = said.data.load(task.folder)
    before = Pair.read(artifacts[0]) if artifacts else Pair()
    if said.method:
        warm_up()
    begin = time.perf_counter()
    part = _held_out(data, said.validation_fraction, said.validation_seed)
    choice = Choice.of(said, part, before.part, task.seed)
    chosen = time.perf_counter()
    made = said.options.make(Given(data, before.whole, said.hidden, choice.weight, task.seed, said.time_limit))
    spent = time.perf_counter() - chosen
    measured, failure = evaluate(
        made.network, data, Evaluation(choice.weight, said.attack, said.attack_seed), made.certificate
    )
    names = {
        "data": data.name,
        "split": said.data.split,
        "trial": said.trial,
        "weight": choice.weight,
        "start": said.start,
        "method": said.method,
        "validation": {f"{weight:g}": finite(score) for weight, score in choice.scores.items()},
        "penalty": made.penalty,
        "objective": measured[f"objective_{made.penalty}"],
    }
    seconds = {"choice_seconds": chosen - begin, "method_seconds": spent}
    return Outcome(
        {**names, **measured, **seconds, **made.columns}, Pair(choice.network, made.network).written(), failure
    )
