"""The unit of work: settings that say everything, a seed of its own, and a name made from both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.study.spec import Part, canonical

__all__ = ["FORMAT", "Row", "Settings", "Task", "parse_shard", "seed_for", "shard"]

FORMAT: Final = "certnet-study-1"
"""Of rows and folders; it changes when what a row means changes."""


Row = dict[str, Any]
"""What a task came to, plain values (JSON)."""


class Settings(Part):
    """All that a row depends on, beside the seed and ``needs`` of its task; each kind of study adds its own.

    Validated once, where the task is made, and handed on as it is: workers unpickle it. The row's name is a digest of
    :meth:`plain`, so a field that is added, renamed or left out is another row.
    """

    trial: int

    def plain(self) -> dict[str, Any]:
        """Plain values (JSON)."""
        return self.model_dump(mode="json")


SettingsT_co = TypeVar("SettingsT_co", bound=Settings, covariant=True)


@dataclass(frozen=True, eq=False)
class Task(Generic[SettingsT_co]):
    """One row to be.

    Attributes
    ----------
    kind : str
    name : str
        For people: ``"servo/trial 3/C-l2"``.
    settings : Settings
    seed : int
    needs : tuple of str
        Digests of tasks whose artifacts this one is given, in order.
    group : mapping of str to str
        What tasks of similar duration share (part, method, start, data set), for the estimate of the time left; tasks
        with different ``part`` are never compared.
    folder : str
        What relative paths in the settings lead from. No part of the digest: machines see one study at several places.
    """

    kind: str
    name: str
    settings: SettingsT_co = field(repr=False)
    seed: int
    needs: tuple[str, ...] = ()
    group: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: str = field(default=".", repr=False)

    @cached_property
    def digest(self) -> str:
        """Name of the row's file: of everything that the row depends on, 32 hexadecimal digits."""
        said = {"format": FORMAT, "kind": self.kind, "settings": self.settings.plain(), "seed": self.seed}
        return hashlib.sha256(canonical(said | {"needs": list(self.needs)}).encode()).hexdigest()[:32]


def seed_for(seed: int, *names: str | int | float) -> int:
    """A seed (32 bits) from a study's seed and names: the same whatever the order, the machine or the other tasks."""
    words = np.frombuffer(hashlib.sha256("\0".join(map(str, names)).encode()).digest(), dtype="<u4")
    return int(np.random.SeedSequence([seed, *words.tolist()]).generate_state(1)[0])


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """``"2/5"`` as (2, 5).

    Raises
    ------
    InvalidInputError
    """
    if text is None:
        return None
    try:
        part, parts = (int(word) for word in text.split("/"))
    except ValueError as error:
        raise InvalidInputError(f"a shard is written i/n, for example 2/5, got {text!r}") from error
    if not 1 <= part <= parts:
        raise InvalidInputError(f"shard {text}: i goes from 1 to n")
    return part, parts


def shard(tasks: Sequence[Task[SettingsT_co]], part: int, parts: int) -> list[Task[SettingsT_co]]:
    """The tasks of part ``part`` of ``parts``; tasks that need each other, even through others, stay together."""
    group: dict[str, str] = {}

    def root(digest: str) -> str:
        while group.setdefault(digest, digest) != digest:
            digest = group[digest]
        return digest

    for task in tasks:
        for need in task.needs:
            group[root(task.digest)] = root(need)
    order = {leader: number for number, leader in enumerate(dict.fromkeys(root(task.digest) for task in tasks))}
    return [task for task in tasks if order[root(task.digest)] % parts == part - 1]
