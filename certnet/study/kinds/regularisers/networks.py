"""The finished networks of a study of regularisers, and what report, notes and pictures read off their rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from certnet.study.kinds.statistics import finished, grouped
from certnet.study.tasks import Row

__all__ = ["Networks", "constant_rows", "error_of", "levels_of", "mean_error", "norm_ratio", "trained_networks"]

Networks = Mapping[tuple[str, str, str], Sequence[Row]]
"""By data set, formulation and criterion, a row per trial."""


def trained_networks(rows: Iterable[Row]) -> Networks:
    """Those that there are."""
    return grouped(finished(rows, stage="network"), lambda row: (row["data"], row["method"], row["criterion"]))


def levels_of(networks: Networks) -> list[str]:
    """Noise levels, the least first; none without networks."""
    return list(next(iter(networks.values()))[0]["mae"]) if networks else []


def error_of(row: Row, level: str | None) -> float:
    """Mean absolute error in units of the target, at a noise level of the test part; None is the training part."""
    return float((row["mae_train"] if level is None else row["mae"][level]) * row["target_scale"])


def mean_error(rows: Iterable[Row], level: str | None) -> float:
    """Over trials."""
    return fmean(error_of(row, level) for row in rows)


def constant_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows, one per trial, of the mean of the training part as a prediction: no noise moves it."""
    return [
        {"mae": dict.fromkeys(row["mae"], row["mae_constant"]), "target_scale": row["target_scale"]}
        for row in {row["trial"]: row for row in rows}.values()
    ]


def norm_ratio(rows: Sequence[Row]) -> float:
    """The layers' largest norm over their least, mean over trials; infinite where a layer is zero."""
    pairs = [(max(row["norms"].values()), min(row["norms"].values())) for row in rows]
    return fmean(most / least if least > 0.0 else math.inf for most, least in pairs)
