"""What a study will take before it is run: from rows that there are, else by rules of thumb, which are only that.

The rules count the steps of a training, or the programs of a refinement, with seconds of one core of about 2.5 GHz that
were fitted to the rows of the built-in studies. They are right within a factor of about three for sets of some hundred
to some ten thousand samples, and say nothing of other kinds of work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

from certnet.study.kinds.refinement.methods import Method
from certnet.study.kinds.refinement.starts import AdmmStart, GradientStart, MlpStart, PgdStart
from certnet.study.progress import expected_of
from certnet.study.tasks import Row, Settings, Task

__all__ = ["Foreseen", "foresee"]

_IMAGES: Final = MappingProxyType({"digits": (1437, 64), "cifar10": (50000, 3072), "cifar10-grey": (50000, 1024)})
_OTHER_IMAGES: Final = (60000, 784)
_PROCESS: Final = 300.0  # MB of a worker that has loaded what it needs
_TORCH: Final = 250.0  # and PyTorch


@dataclass(frozen=True)
class Foreseen:
    """Time and memory of the tasks that are left.

    Attributes
    ----------
    seconds : float or None
        On one core; None where nothing is known of some task.
    measured : int
        Of how many tasks the time is that of rows alike.
    left : int
    memory : float
        MB for every worker.
    memory_measured : bool
        Was it, or is it a rule of thumb?
    """

    seconds: float | None
    measured: int
    left: int
    memory: float
    memory_measured: bool


def foresee(
    left: Sequence[Task[Settings]], finished: Sequence[tuple[Task[Settings], Row]], samples: Mapping[str, int]
) -> Foreseen:
    """What the tasks left will take.

    Parameters
    ----------
    left : sequence of Task
    finished : sequence of (Task, row)
    samples : mapping of str to int
        Training samples by data set, of those that could be read.
    """
    known = expected_of(left, finished)
    rules = [_rule(task, samples) if seconds is None else seconds for task, seconds in zip(left, known)]
    missing = any(seconds is None for seconds in rules)
    peaks = [float(row["memory_mb"]) for _, row in finished if row.get("memory_mb")]
    return Foreseen(
        None if missing else sum(seconds for seconds in rules if seconds is not None),
        sum(seconds is not None for seconds in known),
        len(left),
        max(peaks, default=max((_memory(task) for task in left), default=_PROCESS)),
        bool(peaks),
    )


def _rule(task: Task[Settings], samples: Mapping[str, int]) -> float | None:
    rule = _RULES.get(task.kind)
    return None if rule is None else rule(task.settings, samples.get(task.group.get("data", ""), 500))


def _refinement(said: Any, n: int) -> float:
    """A start or a method, once for every candidate of the weight and once more."""
    options, size = said.options, said.hidden / 100.0
    candidates = len(said.weights) + 1 if hasattr(said, "weights") and options.weighted else 1
    if isinstance(options, GradientStart):
        steps = options.epochs * max(1.0, n / options.batch_size)
        if options.tune:
            steps = sum(options.tune_epochs) * len(options.learning_rates) * max(1.0, n / options.batch_size)
        factor = options.n_steps if isinstance(options, PgdStart) else 1.0
        return candidates * steps * 2e-4 * (1.0 + factor) + 0.5
    if isinstance(options, MlpStart):
        return options.epochs * max(1.0, n / 200.0) * 1e-3 + 0.5
    admm = options if isinstance(options, AdmmStart) else options.admm if isinstance(options, Method) else None
    if admm is not None:
        return candidates * admm.max_iterations * 5e-3 * max(1.0, n / 200.0) * size + 0.5
    efforts = {"quick": 0.3, "default": 0.7, "thorough": 4.0}
    if options.effort is not None:
        each = efforts[options.effort]
    else:
        each = 0.15 * options.cells * (3.0 if options.method == "alternating" else 1.0)
    return float(candidates * each * max(1.0, n / 200.0) ** 0.5 * size + 0.5)


def _regulariser(said: Any, n: int) -> float:
    """Trainings by Adam in PyTorch: of all values in a search, of one for a network, and its certificate."""
    trainings = len(said.options.values) if said.stage == "grid" else 1
    return trainings * said.training.epochs * max(1.0, n / said.training.batch_size) * 1.5e-3 + 3.0


def _lifted(said: Any, n: int) -> float:
    """Both phases of a training for every sample, or a measure of a network."""
    if said.part != "training":
        return 15.0
    images, d = _IMAGES.get(said.images.name, _OTHER_IMAGES)
    recipe = said.network
    widths = [d, *recipe.hidden, 10]
    weights = sum(a * b for a, b in pairwise(widths))
    if recipe.objective == "linear-regression":
        return 15.0
    part = {"back-propagation": 0.2, "unsupervised": 0.7}.get(recipe.objective, 1.0)
    each = part * (2e-4 / recipe.batch_size + 3e-9 * weights)
    return float(recipe.epochs * min(images, said.images.max_train or images) * each + 5.0)


_RULES: Final[Mapping[str, Callable[[Any, int], float]]] = MappingProxyType(
    {
        "objectives": _refinement,
        "robustness": _refinement,
        "validated": _refinement,
        "regularisers": _regulariser,
        "lifted": _lifted,
    }
)


def _memory(task: Task[Settings]) -> float:
    """MB of a worker: what it loads, and twice its images in double precision."""
    said: Any = task.settings
    torch = _TORCH if task.kind == "regularisers" or isinstance(getattr(said, "options", None), GradientStart) else 0.0
    if task.kind != "lifted":
        return _PROCESS + torch
    images, d = _IMAGES.get(said.images.name, _OTHER_IMAGES)
    return _PROCESS + 2 * 8e-6 * d * min(images, said.images.max_train or images)
