"""Optional packages that tasks need: looked for before any work, without importing them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final

from certnet.backends.torch_ import import_torch
from certnet.core.errors import MissingDependencyError
from certnet.study.kinds import kind_named
from certnet.study.tasks import Settings, Task

__all__ = ["check_packages", "missing_packages"]

_DOORS: Final[MappingProxyType[str, Callable[[], Any]]] = MappingProxyType({"torch": import_torch})
"""What imports a package, and says how to install it where it is not there."""
_SHOWN: Final = 3


def check_packages(tasks: Sequence[Task[Settings]], left: Sequence[Task[Settings]]) -> None:
    """Refuse to begin where a package is missing that some of the tasks left need.

    Raises
    ------
    MissingDependencyError
        All that is missing, with the tasks that need it.
    """
    problems = missing_packages(tasks, left)
    if problems:
        raise MissingDependencyError("\n  ".join(problems))


def missing_packages(tasks: Sequence[Task[Settings]], left: Sequence[Task[Settings]]) -> list[str]:
    """A sentence for every package that is not installed here and that some of the tasks left need, with these tasks.

    Parameters
    ----------
    tasks : sequence of Task
        All of the study, each after those that it needs.
    left : sequence of Task
        Those that are to be computed.
    """
    wanted = {task.digest for task in left}
    needed: dict[str, list[Task[Settings]]] = {}
    for task in tasks:
        for package in kind_named(task.kind).packages(task) if task.digest in wanted else ():
            needed.setdefault(package, []).append(task)
    return [
        f"{reason}; {_who(found, tasks, wanted)}"
        for package, found in needed.items()
        if (reason := _why_missing(package))
    ]


def _why_missing(package: str) -> str:
    """Empty where it is installed."""
    if importlib.util.find_spec(package) is not None:
        return ""
    try:
        _DOORS[package]()
    except MissingDependencyError as error:
        return str(error)
    return ""


def _who(found: Sequence[Task[Settings]], tasks: Sequence[Task[Settings]], wanted: set[str]) -> str:
    """The tasks that need a package themselves, and how many wait for what these make."""
    reached = {task.digest for task in found}
    for task in tasks:
        if task.digest in wanted and any(need in reached for need in task.needs):
            reached.add(task.digest)
    names = ", ".join(task.name for task in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    others = len(reached) - len(found)
    goes_on = f", and {others} {'go' if others > 1 else 'goes'} on from what these make" if others else ""
    return f"{len(found)} of {len(wanted)} tasks {'need' if len(found) > 1 else 'needs'} it ({names}{more}){goes_on}"
