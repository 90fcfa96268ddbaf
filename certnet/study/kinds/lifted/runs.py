"""What a task of a study of lifted networks does."""

from __future__ import annotations

from collections.abc import Sequence

from certnet.core.errors import InvalidInputError
from certnet.lifted import LiftedNetwork
from certnet.study.kinds.base import Outcome
from certnet.study.kinds.lifted.components import compare_components
from certnet.study.kinds.lifted.images import drawn_images
from certnet.study.kinds.lifted.measures import Certificates
from certnet.study.kinds.lifted.tasks import ComponentsSettings, LiftedSettings, MeasureSettings, TrainingSettings
from certnet.study.kinds.lifted.training import network_from, train_network
from certnet.study.tasks import Task

__all__ = ["lifted_execute"]


def lifted_execute(task: Task[LiftedSettings], artifacts: Sequence[bytes]) -> Outcome:
    """Train, measure, or compare, as the task says."""
    said = task.settings
    match said:
        case TrainingSettings():
            return train_network(said, task.seed, artifacts)
        case MeasureSettings():
            if len(artifacts) != 1:
                raise InvalidInputError(f"{task.name} needs one trained network, got {len(artifacts)}")
            return _measured(said, task.seed, artifacts[0])
        case ComponentsSettings():
            return compare_components(said, task.seed)


def _measured(said: MeasureSettings, seed: int, trained: bytes) -> Outcome:
    network, data = network_from(trained), drawn_images(said.images)
    names = {"part": said.measure, "data": said.images.name, "trial": said.trial, "network": said.name}
    if isinstance(network, LiftedNetwork):
        return Outcome({**names, **said.options.columns(network, data, seed)})
    if not isinstance(said.options, Certificates):
        raise InvalidInputError(f"{said.measure} is measured of lifted networks, and {said.name} is none")
    return Outcome({**names, **said.options.of_feed_forward(network, data, seed)})
