"""What the pictures of several kinds share; matplotlib comes through :mod:`certnet.plot`."""

from __future__ import annotations

from typing import Any

__all__ = ["learning_display"]


def learning_display(losses: Any, scores: Any = None, **labels: str) -> Any:
    """Curves by epoch, with ticks at whole numbers alone: there is no epoch 2.5."""
    from certnet.plot import LearningDisplay

    display = LearningDisplay.from_curves(losses, scores, **labels)
    display.ax_.xaxis.get_major_locator().set_params(integer=True)
    return display
