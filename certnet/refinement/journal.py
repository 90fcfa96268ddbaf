"""What a descent has done so far, in a file: a run that was killed goes on from it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from certnet.core.validation import Float
from certnet.refinement.checkpoint import Checkpoint

__all__ = ["Journal"]

_SECONDS: Final = 30.0  # between two writings within a stage


class Journal:
    """The ends of all stages, in their order, and the best point of the one at work, where that is a long one.

    A run that is taken up again goes through the same stages and finds the ends of those that were finished here, so
    that it comes to what it would have come to. A stage that was broken off within its first half minute begins anew;
    a later one goes on from its best point, where its end may be another.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        None keeps nothing.
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self._checkpoint = checkpoint
        state: Mapping[str, Any] = (checkpoint.load() if checkpoint is not None else None) or {}
        self._ends: list[Float] = [state[f"end {k}"] for k in range(int(state.get("ends", 0)))]
        self._within: Float | None = state.get("within")
        self._at, self._written = 0, time.perf_counter()

    def finished(self) -> Float | None:
        """The end of the next stage, if it was finished before."""
        if self._at < len(self._ends):
            self._at += 1
            return self._ends[self._at - 1].copy()
        return None

    def begun(self, x: Float) -> Float:
        """Where the next stage begins: at x, or where it was broken off."""
        within, self._within = self._within, None
        return x if within is None or within.shape != x.shape else within

    def pass_by(self, best: Float) -> None:
        """Called between steps: writes the best point of the stage now and then."""
        if time.perf_counter() - self._written > _SECONDS:
            self._write(best)

    def end(self, x: Float) -> None:
        """A stage is finished."""
        if self._checkpoint is not None:
            self._ends.append(np.array(x))
            self._at += 1
            self._write(None)

    def _write(self, within: Float | None) -> None:
        if self._checkpoint is None:
            return
        ends = {f"end {k}": x for k, x in enumerate(self._ends)}
        self._checkpoint.save({"ends": len(self._ends), **ends, **({} if within is None else {"within": within})})
        self._written = time.perf_counter()
