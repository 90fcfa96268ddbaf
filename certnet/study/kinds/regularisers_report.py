"""What the rows of the kind "regularisers" say: tables, the paper's statements looked at one by one, pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev
from typing import Any

import numpy as np

from certnet.data import dataset_info
from certnet.study.kinds.base import Check, Report, ReportTable, Row
from certnet.study.kinds.regularisers_notes import norm_ratio, notes
from certnet.study.kinds.regularisers_spec import RegularisersSpec, spec_of
from certnet.study.kinds.statistics import group_rows, whole_epochs
from certnet.study.spec import Study

__all__ = ["pictures", "report"]

Groups = dict[tuple[str, str, str], list[Row]]


def report(study: Study, rows: Sequence[Row]) -> Report:
    """Errors under noise, table 1 with the certified bracket, the values chosen; what holds and what does not."""
    spec, groups = spec_of(study), networks(rows)
    grids = [row for row in rows if row["status"] == "done" and row["stage"] == "grid"]
    tables = tuple(
        table
        for table in (_errors(groups), _norms(groups, spec), _chosen(groups, spec))
        if len(table.rows) > 1  # without a grid nothing was chosen
    )
    checks = (_certificates(rows), *_statements(groups, spec))
    return Report(tables, checks, (*_concerns(spec), *notes(groups, grids, spec)))


def networks(rows: Sequence[Row]) -> Groups:
    """Finished networks by data set, formulation and criterion, a row per trial."""
    found = [row for row in rows if row["status"] == "done" and row["stage"] == "network"]
    return group_rows(found, lambda row: (row["data"], row["method"], row["criterion"]))


# --------------------------------------------------------------------------------------------------------------- tables


def _errors(groups: Groups) -> ReportTable:
    levels = _levels(groups)
    head = ("data", "formulation", "chosen on", "trials", "training", *(f"η = {level}" for level in levels), "test MSE")
    body: list[tuple[str, ...]] = [head]
    for data in dict.fromkeys(data for data, _, _ in groups):
        mine = {key: same for key, same in groups.items() if key[0] == data}
        for (_, method, criterion), same in mine.items():
            training = [row["mae_train"] * row["target_scale"] for row in same]
            cells = [
                _spread(values) for values in (training, *([_mae(row, level) for row in same] for level in levels))
            ]
            mse = f"{fmean(row['mse_test'] for row in same):.4g}"
            body.append((data, method, criterion, str(len(same)), *cells, mse))
        trials = {row["trial"]: row["mae_constant"] * row["target_scale"] for same in mine.values() for row in same}
        constant = [_spread(list(trials.values()))] * len(levels)
        body.append((data, "(training mean)", "", str(len(trials)), "", *constant, ""))
    title = "Mean absolute error, in units of the target (mean ± standard deviation over trials); MSE standardised"
    return ReportTable(title, tuple(body))


def _norms(groups: Groups, spec: RegularisersSpec) -> ReportTable:
    layers = [f"W{k}" for k in range(1, len(spec.hidden) + 2)]
    bounds = ("product of hidden", "product of all", "LipSDP: L at most", "L at least", "largest / least norm")
    body: list[tuple[str, ...]] = [("data", "formulation", "chosen on", *(f"‖{name}‖" for name in layers), *bounds)]
    for (data, method, criterion), same in groups.items():
        norms = [fmean(row["norms"][name] for row in same) for name in layers]
        columns = [fmean(row[name] for row in same) for name in ("product_hidden", "product", "upper", "lower")]
        body.append((data, method, criterion, *(f"{value:.4g}" for value in (*norms, *columns, norm_ratio(same)))))
        printed = spec.published.get(data, {}).get(method)
        if printed is not None and (data, method, "published") not in {line[:3] for line in body}:
            blank = [""] * (len(layers) - len(printed) + 1)
            cells = [*(f"{value:g}" for value in printed[:-1]), *blank, f"{printed[-1]:g}", "", "", "", ""]
            body.append((data, method, "published", *cells))
    return ReportTable("Spectral norms, their product, and the certified bracket of L (means over trials)", tuple(body))


def _chosen(groups: Groups, spec: RegularisersSpec) -> ReportTable:
    body: list[tuple[str, ...]] = [("data", "formulation", "chosen on", "grid", "chosen (trials)")]
    for (data, method, criterion), same in groups.items():
        if criterion:
            counts = sorted(Counter(row["value"] for row in same).items())
            grid = ", ".join(f"{value:g}" for value in spec.formulations[method].values)
            body.append((data, method, criterion, grid, ", ".join(f"{value:g} ({n})" for value, n in counts)))
    return ReportTable("Values chosen on validation data", tuple(body))


def _spread(values: Sequence[float]) -> str:
    mean = f"{fmean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {pstdev(values):.2g}"


def _levels(groups: Groups) -> list[str]:
    return list(next(iter(groups.values()))[0]["mae"]) if groups else []


def _mae(row: Row, level: str) -> float:
    return float(row["mae"][level] * row["target_scale"])


# --------------------------------------------------------------------------------------------------------------- checks


def _certificates(rows: Sequence[Row]) -> Check:
    """Recomputed from all rows, failed ones too."""
    cases, violations = 0, []
    for row in rows:
        for level, allowed in row.get("mae_certified", {}).items():
            cases += 1
            if allowed < row["mae"][level] * (1.0 - 1e-9):
                violations.append(f"{row['task']}, η = {level}: {row['mae'][level]:.6g} > {allowed:.6g}")
    return Check("errors under noise are at most what the certificate allows", cases, tuple(violations))


def _statements(groups: Groups, spec: RegularisersSpec) -> Iterator[Check]:
    for first, second in spec.expected.training:
        yield _compared(f"{first} has a smaller training error than {second}", groups, first, second, (None,))
    for first, second in spec.expected.noise:
        claim = f"{first} has a smaller error than {second} at every noise level"
        yield _compared(claim, groups, first, second, tuple(_levels(groups)))


def _compared(claim: str, groups: Groups, first: str, second: str, levels: Sequence[str | None]) -> Check:
    """Means over trials, the same data set and criterion; None stands for the training part."""
    cases, violations = 0, []
    for (data, method, criterion), same in groups.items():
        rivals = [groups.get((data, second, other)) for other in dict.fromkeys((criterion, ""))]
        rival = next((found for found in rivals if found), None)
        if method != first or rival is None:
            continue
        for level in levels:
            cases += 1
            a, b = _mean(same, level), _mean(rival, level)
            if a >= b:
                where = "" if level is None else f", η = {level}"
                violations.append(f"{data}{criterion and f', {criterion}'}{where}: {a:.4g}, {second} {b:.4g}")
    return Check(claim, cases, tuple(violations), required=False)


def _mean(rows: Sequence[Row], level: str | None) -> float:
    return fmean(row["mae_train"] * row["target_scale"] if level is None else _mae(row, level) for row in rows)


def _concerns(spec: RegularisersSpec) -> Iterator[str]:
    for name in spec.datasets:
        concern = dataset_info(name).concern
        if concern:
            yield f"**{name} is ethically problematic**: {concern}. It is here to stand beside the published figures."


# ------------------------------------------------------------------------------------------------------------- pictures


def pictures(study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """C's figure 1, and for every data set and criterion his figures 2 (error and loss by epoch) and 3 (noise)."""
    from certnet.plot import CouplingDisplay, NoiseDisplay

    drawn: dict[str, Any] = {"coupling": CouplingDisplay.from_bound().figure_}
    groups, levels = networks(rows), _levels(networks(rows))
    for data in dict.fromkeys(data for data, _, _ in groups):
        for criterion in spec_of(study).criteria:
            lines = {
                method: same for (name, method, by), same in groups.items() if name == data and by in ("", criterion)
            }
            errors = {
                method: [[_mae(row, level) for level in levels] for row in same] for method, same in lines.items()
            }
            label = f"Mean absolute error on test data ({data})"
            noise = NoiseDisplay.from_errors([float(level) for level in levels], errors, error=label)
            drawn[f"noise-{data}-{criterion}"] = noise.figure_
            drawn |= _training(f"{data}-{criterion}", lines)
    return drawn


def _training(name: str, lines: dict[str, list[Row]]) -> dict[str, Any]:
    """Mean curves over trials, after every epoch."""
    from certnet.plot import LearningDisplay

    errors = {method: _curve(same, "mse_curve") for method, same in lines.items()}
    losses = {method: _curve(same, "loss_curve") for method, same in lines.items()}
    error, loss = LearningDisplay.from_curves(errors), LearningDisplay.from_curves(losses)
    error.ax_.set_ylabel("Training error (mean squared, standardised)")
    loss.ax_.set_ylabel("Training loss: error and penalty")
    for display in (error, loss):
        whole_epochs(display.ax_)
    return {f"training-error-{name}": error.figure_, f"training-loss-{name}": loss.figure_}


def _curve(rows: Sequence[Row], name: str) -> Any:
    return np.mean([row[name][1:] for row in rows], axis=0)
