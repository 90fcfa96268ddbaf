"""The tasks of a study of lifted networks: a training per network and image set, then its measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from pydantic import SerializeAsAny, SerializerFunctionWrapHandler, model_serializer

from certnet.study.kinds.lifted.images import ImageSettings, available, resolved, whole_of
from certnet.study.kinds.lifted.measures import (
    Certificates,
    Energies,
    Filters,
    Forward,
    Gradients,
    Measuring,
    Passes,
)
from certnet.study.kinds.lifted.spec import Components, LiftedSpec, Measure, Recipe, TrainedNetwork
from certnet.study.spec import Study
from certnet.study.tasks import Settings, Task, seed_for

__all__ = [
    "ComponentsSettings",
    "LiftedSettings",
    "MeasureSettings",
    "TrainingSettings",
    "lifted_packages",
    "lifted_tasks",
]


_BY_TORCH: Final = ("back-propagation", "rr-layers")


class TrainingSettings(Settings):
    """A network to train; ``start_seed`` and ``weight_scale`` are of its first weights, where it has no start."""

    part: Literal["training"] = "training"
    name: str
    images: ImageSettings
    network: Recipe
    start_seed: int
    weight_scale: float = 1.0

    @model_serializer(mode="wrap")
    def _told_where_it_is_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A scale of one is not written: rows without it keep their digests."""
        plain: dict[str, Any] = handler(self)
        return {key: value for key, value in plain.items() if (key, value) != ("weight_scale", 1.0)}


class MeasureSettings(Settings):
    """A measure of a trained network, which is the artifact that the task needs."""

    part: Literal["measure"] = "measure"
    measure: Measure
    name: str
    images: ImageSettings
    options: SerializeAsAny[Measuring]


class ComponentsSettings(Settings):
    """One linear layer to compare with the leading eigenvectors."""

    part: Literal["components"] = "components"
    images: ImageSettings
    n_components: int
    max_iterations: int


LiftedSettings = TrainingSettings | MeasureSettings | ComponentsSettings


def lifted_tasks(study: Study[LiftedSpec]) -> list[Task[LiftedSettings]]:
    """All tasks, trial by trial, each network before its measures and before what starts from it."""
    return [task for trial in range(study.spec.trials) for task in _of_trial(study.spec, trial)]


def lifted_packages(task: Task[LiftedSettings]) -> tuple[str, ...]:
    """PyTorch, where it trains."""
    said = task.settings
    return ("torch",) if isinstance(said, TrainingSettings) and said.network.objective in _BY_TORCH else ()


def _of_trial(spec: LiftedSpec, trial: int) -> Iterator[Task[LiftedSettings]]:
    if spec.components is not None:
        yield from _components(spec, spec.components, trial)
    trained: dict[tuple[str, str], Task[TrainingSettings]] = {}
    for name, network in spec.networks.items():
        for data in resolved(network.images, spec.fallback):
            needs = [] if network.start is None else [trained[network.start, data].digest]
            trained[name, data] = task = _training(spec, name, network, data, trial, needs)
            yield task
            yield from (_measure(spec, measure, data, task) for measure in network.measures)


def _images(spec: LiftedSpec, data: str, trial: int) -> ImageSettings:
    seed = seed_for(spec.seed, data, trial, "images")
    return ImageSettings(name=data, max_train=spec.max_train, max_test=spec.max_test, seed=seed)


def _training(
    spec: LiftedSpec, name: str, network: TrainedNetwork, data: str, trial: int, needs: Sequence[str]
) -> Task[TrainingSettings]:
    return Task(
        kind=spec.kind,
        name="/".join((*_prefix(spec, data, trial), name)),
        settings=TrainingSettings(
            trial=trial,
            name=name,
            images=_images(spec, data, trial),
            network=network.recipe(spec.max_epochs),
            # networks of equal shape start from equal weights, as in Z
            start_seed=seed_for(spec.seed, data, trial, "start"),
            weight_scale=network.weight_scale,
        ),
        seed=seed_for(spec.seed, data, trial, name),
        needs=tuple(needs),
        group={"data": data, "objective": network.objective, "method": name},
    )


def _measure(spec: LiftedSpec, measure: Measure, data: str, trained: Task[TrainingSettings]) -> Task[MeasureSettings]:
    said = trained.settings
    return Task(
        kind=spec.kind,
        name=f"{trained.name}/{measure}",
        settings=MeasureSettings(
            trial=said.trial,
            measure=measure,
            name=said.name,
            images=said.images,
            options=_options(spec, measure, data, said.trial),
        ),
        seed=seed_for(spec.seed, data, said.trial, said.name, measure),
        needs=(trained.digest,),
        group={"data": data, "method": measure},
    )


def _options(spec: LiftedSpec, measure: Measure, data: str, trial: int) -> Measuring:
    if measure == "gradient":
        return Gradients(gammas=spec.gammas, samples=spec.gradient_samples)
    if measure == "energies":
        return Energies(others=[_images(spec, other, trial) for other in _others(spec, data)])
    return _PLAIN[measure]()


_PLAIN: Final[dict[str, type[Measuring]]] = {
    "certificate": Certificates,
    "filters": Filters,
    "forward": Forward,
    "passes": Passes,
}


def _others(spec: LiftedSpec, data: str) -> list[str]:
    """The other image sets of the study that are there and have images of the same size."""
    named = [one for network in spec.networks.values() for one in resolved(network.images, spec.fallback)]
    return [one for one in dict.fromkeys(named) if one != data and _size(one) == _size(data) and available(one)]


def _size(name: str) -> tuple[int, int]:
    sizes = {"digits": (8, 1), "cifar10": (32, 3), "cifar10-grey": (32, 1)}
    return sizes.get(whole_of(name), (28, 1))


def _components(spec: LiftedSpec, given: Components, trial: int) -> Iterator[Task[ComponentsSettings]]:
    for data in resolved(given.images, spec.fallback):
        for r in given.n_components:
            yield Task(
                kind=spec.kind,
                name="/".join((*_prefix(spec, data, trial), f"components-{r}")),
                settings=ComponentsSettings(
                    trial=trial,
                    images=_images(spec, data, trial),
                    n_components=r,
                    max_iterations=given.max_iterations,
                ),
                seed=seed_for(spec.seed, data, trial, "components", r),
                group={"data": data, "method": "components"},
            )


def _prefix(spec: LiftedSpec, data: str, trial: int) -> tuple[str, ...]:
    return (data, f"trial {trial}") if spec.trials > 1 else (data,)
