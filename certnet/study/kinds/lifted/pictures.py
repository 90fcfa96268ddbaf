"""Pictures of a study of lifted networks, from its rows; matplotlib comes through :mod:`certnet.plot`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np

from certnet.study.kinds.lifted.measures import filters_of
from certnet.study.kinds.lifted.spec import LiftedSpec
from certnet.study.kinds.pictures import learning_display
from certnet.study.kinds.statistics import finished, grouped
from certnet.study.spec import Study
from certnet.study.tasks import Row

__all__ = ["lifted_pictures"]

_COLOURS: Final = 7  # more lines cannot be told apart


def lifted_pictures(study: Study[LiftedSpec], rows: Sequence[Row]) -> dict[str, Any]:
    """Matplotlib figures by name; those of the first trial."""
    first = finished(rows, trial=0)
    tables = {name: network.table or network.objective for name, network in study.spec.networks.items()}
    parts = (_filters(first), _energies(first), _radii(first), _gradients(first), _curves(first, tables))
    return {name: figure for part in parts for name, figure in part}


def _filters(rows: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    from certnet.plot import FilterDisplay

    for row in finished(rows, part="filters"):
        W = filters_of(row["filters"], row["shape"])
        title = f"{row['data']}, {row['network']}"
        yield (
            f"filters-{row['data']}-{row['network']}",
            FilterDisplay.from_filters(W, row["shape"], title=title).figure_,
        )


def _energies(rows: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    from certnet.plot import EnergyDisplay

    for row in finished(rows, part="energies"):
        values = {name: np.array(one) for name, one in islice(row["quantiles"].items(), _COLOURS)}
        yield f"energies-{row['data']}-{row['network']}", EnergyDisplay.from_energies(values).figure_


def _radii(rows: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    """Certified accuracy by the SDP bound."""
    from certnet.plot import RadiusDisplay

    for data, same in grouped(finished(rows, part="certificate"), lambda row: row["data"]).items():
        radii = {row["network"]: np.array(row["radii"]) for row in same[:_COLOURS]}
        right = {name: values >= 0.0 for name, values in radii.items()}
        yield f"radii-{data}", RadiusDisplay.from_radii(radii, right).figure_


def _gradients(rows: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    from certnet.plot import GradientGapDisplay

    for row in finished(rows, part="gradient"):
        layers = {f"layer {k}": np.array(values) for k, values in enumerate(row["errors"][:_COLOURS], start=1)}
        yield (
            f"gradient-{row['data']}-{row['network']}",
            GradientGapDisplay.from_errors(np.array(row["gammas"]), layers).figure_,
        )


def _curves(rows: Sequence[Row], tables: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Loss and test accuracy by epoch, the networks of one table together."""
    learned = [row for row in finished(rows, part="training") if "loss" in row]
    for (data, table), same in grouped(learned, lambda row: (row["data"], tables[row["network"]])).items():
        chosen = same[:_COLOURS]
        losses = {row["network"]: np.array(row["loss"]) for row in chosen}
        scores = {row["network"]: np.array(row["accuracy"]) for row in chosen if row.get("accuracy")}
        yield f"learning-{data}-{table}", learning_display(losses, scores, score="Test accuracy").figure_
