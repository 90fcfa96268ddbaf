"""Which task needs which: starts that go on from others, and methods that are applied to starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from certnet.study.kinds.refinement.spec import RefinementSpec, ValidatedSpec
from certnet.study.kinds.refinement.steps import Step
from certnet.study.tasks import Settings, Task

__all__ = ["chained"]

S = TypeVar("S", bound=Settings)

Make = Callable[[str, str, Step, Sequence[str], dict[str, str]], Task[S]]
"""The task of a start, a method (empty for the start itself), its options, digests that it needs, and its group."""


def chained(spec: RefinementSpec | ValidatedSpec, data: str, make: Make[S]) -> list[Task[S]]:
    """The tasks of one data set and trial: all starts, then every method on the starts that it is for."""

    def task(start: str, method: str, options: Step, needs: Sequence[str]) -> Task[S]:
        part = "refinement" if method else "start"
        return make(start, method, options, needs, {"part": part, "data": data, "start": start, "method": method})

    starts: dict[str, Task[S]] = {}
    for start, options in spec.starts.named.items():
        before = spec.starts.before(start)
        starts[start] = task(start, "", options, [] if before is None else [starts[before].digest])
    rest = [
        task(start, method, options, [starts[start].digest])
        for method, options in spec.methods.items()
        for start in spec.applied_to(method)
    ]
    return [*starts.values(), *rest]
