"""Optional packages that tasks need: looked for before any work, without importing them."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final

from certnet.backends.torch_ import import_torch
from certnet.core.errors import CertnetWarning, MissingDependencyError
from certnet.study.kinds import kind_named
from certnet.study.tasks import Settings, Task

__all__ = ["check_packages", "missing_packages"]

_DOORS: Final[MappingProxyType[str, Callable[[], Any]]] = MappingProxyType({"torch": import_torch})
"""What imports a package, and says how to install it where it is not there."""
_SHOWN: Final = 3


def check_packages(tasks: Sequence[Task[Settings]], left: Sequence[Task[Settings]]) -> None:
    """Refuse to begin where no task that is left can do without a package that is missing; warn where some cannot.

    Raises
    ------
    MissingDependencyError
        All that is missing, with the tasks that need it.

    Warns
    -----
    CertnetWarning
        The same, where other tasks can be computed: those that need it will fail.
    """
    found = _missing(tasks, left)
    if found and len(set[str]().union(*found.values())) == len({task.digest for task in left}):
        raise MissingDependencyError("\n  ".join(found))
    for said in found:
        warnings.warn(f"{said}: these will fail, the others are computed", CertnetWarning, stacklevel=3)


def missing_packages(tasks: Sequence[Task[Settings]], left: Sequence[Task[Settings]]) -> list[str]:
    """A sentence for every package that is not installed here and that some of the tasks left need, with these tasks.

    Parameters
    ----------
    tasks : sequence of Task
        All of the study, each after those that it needs.
    left : sequence of Task
        Those that are to be computed.
    """
    return list(_missing(tasks, left))


def _missing(tasks: Sequence[Task[Settings]], left: Sequence[Task[Settings]]) -> dict[str, set[str]]:
    """These sentences, each with the digests of the tasks that cannot be computed."""
    wanted = {task.digest for task in left}
    needed: dict[str, list[Task[Settings]]] = {}
    for task in tasks:
        for package in kind_named(task.kind).packages(task) if task.digest in wanted else ():
            needed.setdefault(package, []).append(task)
    found = {}
    for package, theirs in needed.items():
        if reason := _why_missing(package):
            stopped = _stopped(theirs, tasks, wanted)
            found[f"{reason}; {_who(theirs, len(stopped), len(wanted))}"] = stopped
    return found


def _why_missing(package: str) -> str:
    """Empty where it is installed."""
    if importlib.util.find_spec(package) is not None:
        return ""
    try:
        _DOORS[package]()
    except MissingDependencyError as error:
        return str(error)
    return ""


def _stopped(theirs: Sequence[Task[Settings]], tasks: Sequence[Task[Settings]], wanted: set[str]) -> set[str]:
    """Digests of the tasks that need a package themselves, and of those that wait for what these make."""
    reached = {task.digest for task in theirs}
    for task in tasks:
        if task.digest in wanted and any(need in reached for need in task.needs):
            reached.add(task.digest)
    return reached


def _who(theirs: Sequence[Task[Settings]], stopped: int, wanted: int) -> str:
    names = ", ".join(task.name for task in theirs[:_SHOWN])
    more = f" and {len(theirs) - _SHOWN} more" if len(theirs) > _SHOWN else ""
    others = stopped - len(theirs)
    goes_on = f", and {others} {'go' if others > 1 else 'goes'} on from what these make" if others else ""
    return f"{len(theirs)} of {wanted} tasks {'need' if len(theirs) > 1 else 'needs'} it ({names}{more}){goes_on}"
