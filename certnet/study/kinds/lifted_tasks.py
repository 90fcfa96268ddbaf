"""The tasks of a study of lifted networks: a training per network and image set, then its measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from certnet.core.errors import DatasetError
from certnet.study.kinds.base import Outcome
from certnet.study.kinds.lifted_data import available, image_settings, require, resolved
from certnet.study.kinds.lifted_linear import compare_components
from certnet.study.kinds.lifted_measures import measure_network
from certnet.study.kinds.lifted_spec import LiftedSpec, TrainedNetwork
from certnet.study.kinds.lifted_training import train_network
from certnet.study.spec import Study
from certnet.study.tasks import Task, seed_for

__all__ = ["lifted_check", "lifted_execute", "lifted_tasks", "spec_of"]

_ELSEWHERE = {"table", "measures", "images", "start", "weight_scale"}
"""Keys of a network that its training does not depend on, or that its task has in another place."""


def lifted_execute(task: Task, artifacts: Sequence[bytes]) -> Outcome:
    """Train, measure, or compare, as the task says."""
    parts = {"training": train_network, "components": compare_components}
    return parts.get(task.settings["part"], measure_network)(task, artifacts)


def spec_of(study: Study) -> LiftedSpec:
    """The study's model, of the right type."""
    if not isinstance(study.spec, LiftedSpec):
        raise TypeError(f"a LiftedSpec is needed, got {type(study.spec).__name__}")
    return study.spec


def lifted_check(study: Study) -> None:
    """Refuse image sets whose files are not there and for which nothing stands in.

    Not of a built-in study: its rows say what is missing, and those of the sets that are there are worth having.

    Raises
    ------
    DatasetError
        The message says where to get the files.
    """
    if study.builtin:
        return
    spec = spec_of(study)
    named: dict[tuple[str, ...], Sequence[str]] = {
        ("networks", name, "images"): network.images for name, network in spec.networks.items()
    }
    if spec.components is not None:
        named["components", "images"] = spec.components.images
    for path, images in named.items():
        for name in resolved(images, spec.fallback):
            try:
                require(name)
            except DatasetError as error:
                raise DatasetError(f"{study.place(*path)}: {error}") from error


def lifted_tasks(study: Study) -> list[Task]:
    """All tasks, trial by trial, each network before its measures and before what starts from it."""
    spec = spec_of(study)
    return [task for trial in range(spec.trials) for task in _of_trial(spec, trial)]


def _of_trial(spec: LiftedSpec, trial: int) -> Iterator[Task]:
    if spec.components is not None:
        yield from _components(spec, trial)
    trained: dict[tuple[str, str], Task] = {}
    for name, network in spec.networks.items():
        for data in resolved(network.images, spec.fallback):
            needs = [] if network.start is None else [trained[network.start, data]]
            trained[name, data] = task = _training(spec, name, network, data, trial, needs)
            yield task
            yield from (_measure(spec, name, measure, data, trial, task) for measure in network.measures)


def _images(spec: LiftedSpec, data: str, trial: int) -> dict[str, Any]:
    return image_settings(data, spec.max_train, spec.max_test, seed_for(spec.seed, data, trial, "images"))


def _training(
    spec: LiftedSpec, name: str, network: TrainedNetwork, data: str, trial: int, needs: Sequence[Task]
) -> Task:
    plain = network.model_dump(mode="json", exclude=_ELSEWHERE)
    plain["epochs"] = min(network.epochs, spec.max_epochs or network.epochs)
    settings = {
        "part": "training",
        "name": name,
        "images": _images(spec, data, trial),
        "network": plain,
        "trial": trial,
        # networks of equal shape start from equal weights, as in Z
        "start_seed": seed_for(spec.seed, data, trial, "start"),
    }
    if network.weight_scale != 1.0:
        settings["weight_scale"] = network.weight_scale
    return Task(
        kind=spec.kind,
        name="/".join((*_prefix(spec, data, trial), name)),
        settings=settings,
        seed=seed_for(spec.seed, data, trial, name),
        needs=tuple(need.digest for need in needs),
        group={"data": data, "objective": network.objective, "method": name},
    )


def _measure(spec: LiftedSpec, name: str, measure: str, data: str, trial: int, trained: Task) -> Task:
    settings = {
        "part": "measure",
        "measure": measure,
        "name": name,
        "images": _images(spec, data, trial),
        "options": _options(spec, measure, data, trial),
        "trial": trial,
    }
    return Task(
        kind=spec.kind,
        name=f"{trained.name}/{measure}",
        settings=settings,
        seed=seed_for(spec.seed, data, trial, name, measure),
        needs=(trained.digest,),
        group={"data": data, "method": measure},
    )


def _options(spec: LiftedSpec, measure: str, data: str, trial: int) -> dict[str, Any]:
    if measure == "gradient":
        return {"gammas": list(spec.gammas), "samples": spec.gradient_samples}
    if measure == "energies":
        return {"others": [_images(spec, other, trial) for other in _others(spec, data)]}
    return {}


def _others(spec: LiftedSpec, data: str) -> list[str]:
    """The other image sets of the study that are there and have images of the same size."""
    named = [one for network in spec.networks.values() for one in resolved(network.images, spec.fallback)]
    return [one for one in dict.fromkeys(named) if one != data and _size(one) == _size(data) and available(one)]


def _size(name: str) -> tuple[int, int]:
    return {"digits": (8, 1), "cifar10": (32, 3), "cifar10-grey": (32, 1)}.get(name, (28, 1))


def _components(spec: LiftedSpec, trial: int) -> Iterator[Task]:
    given = spec.components
    if given is None:
        return
    for data in resolved(given.images, spec.fallback):
        for r in given.n_components:
            settings = {
                "part": "components",
                "images": _images(spec, data, trial),
                "n_components": r,
                "max_iterations": given.max_iterations,
                "trial": trial,
            }
            yield Task(
                kind=spec.kind,
                name="/".join((*_prefix(spec, data, trial), f"components-{r}")),
                settings=settings,
                seed=seed_for(spec.seed, data, trial, "components", r),
                group={"data": data, "method": "components"},
            )


def _prefix(spec: LiftedSpec, data: str, trial: int) -> tuple[str, ...]:
    return (data, f"trial {trial}") if spec.trials > 1 else (data,)
