"""The tasks of a study of regularisers: searches over the values of a formulation, and networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from certnet.study.kinds.regularisers.data import RedrawnSplit
from certnet.study.kinds.regularisers.spec import Formulation, RegularisersSpec
from certnet.study.kinds.splits import TableSplit, table_split
from certnet.study.spec import Part, Study
from certnet.study.tasks import Settings, Task, seed_for

__all__ = ["NoiseSettings", "RegularisersSettings", "TrainingSettings", "regulariser_tasks"]

Stage = Literal["grid", "network"]


class TrainingSettings(Part):
    """How every network of a study is trained: keys of :class:`RegularisersSpec`."""

    hidden: list[int]
    epochs: int
    batch_size: int
    learning_rate: float
    device: str
    validation_fraction: float


class NoiseSettings(Part):
    """Levels η and draws of the noise on the test part."""

    levels: list[float]
    draws: int
    seed: int


class RegularisersSettings(Settings):
    """A search over values (stage "grid"), or a network.

    Attributes
    ----------
    data : RedrawnSplit or TableSplit
    folder : str
        What a table's path leads from.
    training : TrainingSettings
    noise : NoiseSettings
    method : str
        Name of the formulation.
    options : Formulation
    stage : {"grid", "network"}
    criterion : str
        By which the network's value is chosen of those that were searched; "" where there is no choice.
    """

    data: RedrawnSplit | TableSplit
    folder: str
    training: TrainingSettings
    noise: NoiseSettings
    method: str
    options: Formulation
    stage: Stage
    criterion: str


def regulariser_tasks(study: Study[RegularisersSpec]) -> list[Task[RegularisersSettings]]:
    """Data set by data set and trial by trial: the searches over values, and the networks that need them."""
    return [
        task
        for name in study.spec.data_names
        for trial in range(study.spec.trials)
        for method in study.spec.formulations
        for task in _tasks_of(study, name, trial, method)
    ]


def _tasks_of(
    study: Study[RegularisersSpec], name: str, trial: int, method: str
) -> Iterator[Task[RegularisersSettings]]:
    spec, formulation = study.spec, study.spec.formulations[method]
    split = _split_of(study, name, trial)
    training = TrainingSettings(**{key: getattr(spec, key) for key in TrainingSettings.model_fields})
    noise = NoiseSettings(levels=spec.noise, draws=spec.noise_draws, seed=seed_for(spec.seed, name, trial, "noise"))

    def task(stage: Stage, criterion: str, word: str, needs: Sequence[str]) -> Task[RegularisersSettings]:
        return Task(
            kind=spec.kind,
            name="/".join(filter(None, (name, f"trial {trial}", method, word))),
            settings=RegularisersSettings(
                trial=trial,
                data=split,
                folder="" if name in spec.datasets else str(study.folder.resolve()),
                training=training,
                noise=noise,
                method=method,
                options=formulation,
                stage=stage,
                criterion=criterion,
            ),
            # of the data set and the trial alone: all formulations begin with the same weights and the same order
            seed=seed_for(spec.seed, name, trial, "training"),
            needs=tuple(needs),
            group={"part": stage, "data": name, "method": method},
        )

    if len(formulation.values) <= 1:
        yield task("network", "", "", ())
        return
    search = task("grid", "", "grid", ())
    yield search
    for criterion in spec.criteria:
        yield task("network", criterion, criterion, (search.digest,))


def _split_of(study: Study[RegularisersSpec], name: str, trial: int) -> RedrawnSplit | TableSplit:
    """Tables have their own share of held-out rows; built-in sets have the study's, in place of fixed splits."""
    spec = study.spec
    if name not in spec.datasets:
        return table_split(study, name, trial)
    return RedrawnSplit(
        name=name,
        split=seed_for(spec.seed, name, "split", trial),
        acknowledge_ethics=spec.acknowledge_ethics,
        test_fraction=spec.test_fraction,
    )
