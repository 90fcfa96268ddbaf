"""Pictures of a study of regularisers, from its rows; matplotlib comes through :mod:`certnet.plot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certnet.study.kinds.pictures import learning_display
from certnet.study.kinds.regularisers.networks import error_of, levels_of, trained_networks
from certnet.study.kinds.regularisers.spec import RegularisersSpec
from certnet.study.spec import Study
from certnet.study.tasks import Row

__all__ = ["regulariser_pictures"]


def regulariser_pictures(study: Study[RegularisersSpec], rows: Sequence[Row]) -> dict[str, Any]:
    """C's figure 1, and for every data set and criterion his figures 2 (error and loss by epoch) and 3 (noise)."""
    from certnet.plot import CouplingDisplay, NoiseDisplay

    drawn: dict[str, Any] = {"coupling": CouplingDisplay.from_bound().figure_}
    networks = trained_networks(rows)
    levels = levels_of(networks)
    for data in dict.fromkeys(data for data, _, _ in networks):
        for criterion in study.spec.criteria:
            lines = {
                method: same for (name, method, by), same in networks.items() if name == data and by in ("", criterion)
            }
            errors = {
                method: [[error_of(row, level) for level in levels] for row in same] for method, same in lines.items()
            }
            label = f"Mean absolute error on test data ({data})"
            noise = NoiseDisplay.from_errors([float(level) for level in levels], errors, error=label)
            drawn[f"noise-{data}-{criterion}"] = noise.figure_
            drawn |= _training(f"{data}-{criterion}", lines)
    return drawn


def _training(name: str, lines: dict[str, Sequence[Row]]) -> dict[str, Any]:
    """Mean curves over trials, after every epoch."""
    error, loss = (
        learning_display({method: _curve(same, curve) for method, same in lines.items()})
        for curve in ("mse_curve", "loss_curve")
    )
    error.ax_.set_ylabel("Training error (mean squared, standardised)")
    loss.ax_.set_ylabel("Training loss: error and penalty")
    return {f"training-error-{name}": error.figure_, f"training-loss-{name}": loss.figure_}


def _curve(rows: Sequence[Row], name: str) -> Any:
    return np.mean([row[name][1:] for row in rows], axis=0)
