"""What the rows of the kind "regularisers" say: tables, and the paper's statements looked at one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, pstdev

from certnet.data import dataset_info
from certnet.study.kinds.regularisers.networks import (
    Networks,
    constant_rows,
    error_of,
    levels_of,
    mean_error,
    norm_ratio,
    trained_networks,
)
from certnet.study.kinds.regularisers.notes import regulariser_notes
from certnet.study.kinds.regularisers.spec import RegularisersSpec
from certnet.study.kinds.reports import Check, Column, Report, filled, tabulated
from certnet.study.kinds.statistics import Group, finished, key_column
from certnet.study.spec import Study
from certnet.study.tasks import Row

__all__ = ["regulariser_report"]

_PRINTED = "published"
"""In place of a criterion: of figures that a paper prints."""

_KEY = (key_column("data", 0), key_column("formulation", 1), key_column("chosen on", 2))


def regulariser_report(study: Study[RegularisersSpec], rows: Sequence[Row]) -> Report:
    """Errors under noise, table 1 with the certified bracket, the values chosen; what holds and what does not."""
    spec, networks = study.spec, trained_networks(rows)
    tables = (
        tabulated(
            "Mean absolute error, in units of the target (mean ± standard deviation over trials); MSE standardised",
            _error_columns(networks),
            _error_lines(networks),
        ),
        tabulated(
            "Spectral norms, their product, and the certified bracket of L (means over trials)",
            _norm_columns(spec),
            _norm_lines(networks, spec),
        ),
        tabulated(
            "Values chosen on validation data",
            _choice_columns(spec),
            [Group(key, same) for key, same in networks.items() if key[2]],
        ),
    )
    checks = (_certificates(rows), *_statements(networks, spec))
    notes = regulariser_notes(networks, finished(rows, stage="grid"), spec)
    return Report(filled(tables), checks, (*_concerns(spec), *notes))


# --------------------------------------------------------------------------------------------------------------- tables


def _error_lines(networks: Networks) -> Iterator[Group]:
    for data in dict.fromkeys(data for data, _, _ in networks):
        mine = [Group(key, same) for key, same in networks.items() if key[0] == data]
        yield from mine
        yield Group((data, "(training mean)", ""), constant_rows(row for line in mine for row in line.rows))


def _error_columns(networks: Networks) -> list[Column[Group]]:
    return [
        *_KEY,
        Column("trials", lambda line: str(len(line.rows))),
        _spread("training", None),
        *(_spread(f"η = {level}", level) for level in levels_of(networks)),
        Column("test MSE", _blank_without("mse_test", lambda rows: f"{fmean(row['mse_test'] for row in rows):.4g}")),
    ]


def _spread(head: str, level: str | None) -> Column[Group]:
    """Mean and standard deviation of an error over trials."""

    def said(rows: Sequence[Row]) -> str:
        values = [error_of(row, level) for row in rows]
        mean = f"{fmean(values):.4g}"
        return mean if len(values) == 1 else f"{mean} ± {pstdev(values):.2g}"

    return Column(head, _blank_without("mae_train" if level is None else "mae", said))


def _blank_without(name: str, said: Callable[[Sequence[Row]], str]) -> Callable[[Group], str]:
    """Nothing where the rows do not have this figure."""
    return lambda line: said(line.rows) if name in line.rows[0] else ""


def _norm_lines(networks: Networks, spec: RegularisersSpec) -> Iterator[Group]:
    """Every network, and once below it what the paper prints of its formulation."""
    printed = {(data, method): norms for data, own in spec.published.items() for method, norms in own.items()}
    for (data, method, criterion), same in networks.items():
        yield Group((data, method, criterion), same)
        norms = printed.pop((data, method), None)
        if norms is not None:
            hidden = {f"W{k}": norm for k, norm in enumerate(norms[:-1], 1)}
            yield Group((data, method, _PRINTED), [{"norms": hidden, "product_hidden": norms[-1]}])


def _norm_columns(spec: RegularisersSpec) -> list[Column[Group]]:
    def figure(head: str, value: Callable[[Row], float | None]) -> Column[Group]:
        def cell(line: Group) -> str:
            values = [found for row in line.rows if (found := value(row)) is not None]
            return format(fmean(values), "g" if line.key[2] == _PRINTED else ".4g") if values else ""

        return Column(head, cell)

    def norm(layer: str) -> Column[Group]:
        return figure(f"‖{layer}‖", lambda row: row["norms"].get(layer))

    return [
        *_KEY,
        *(norm(f"W{k}") for k in range(1, len(spec.hidden) + 2)),
        figure("product of hidden", lambda row: row["product_hidden"]),
        figure("product of all", lambda row: row.get("product")),
        figure("LipSDP: L at most", lambda row: row.get("upper")),
        figure("L at least", lambda row: row.get("lower")),
        Column("largest / least norm", lambda line: "" if line.key[2] == _PRINTED else f"{norm_ratio(line.rows):.4g}"),
    ]


def _choice_columns(spec: RegularisersSpec) -> list[Column[Group]]:
    def chosen(line: Group) -> str:
        counts = sorted(Counter(row["value"] for row in line.rows).items())
        return ", ".join(f"{value:g} ({n})" for value, n in counts)

    def grid(line: Group) -> str:
        return ", ".join(f"{value:g}" for value in spec.formulations[line.key[1]].values)

    return [*_KEY, Column("grid", grid), Column("chosen (trials)", chosen)]


# --------------------------------------------------------------------------------------------------------------- checks


def _certificates(rows: Sequence[Row]) -> Check:
    """Recomputed from all rows, failed ones too."""

    def cases() -> Iterator[str]:
        for row in rows:
            for level, allowed in row.get("mae_certified", {}).items():
                mae = row["mae"][level]
                holds = not allowed < mae * (1.0 - 1e-9)
                yield "" if holds else f"{row['task']}, η = {level}: {mae:.6g} > {allowed:.6g}"

    return Check.of("errors under noise are at most what the certificate allows", cases())


def _statements(networks: Networks, spec: RegularisersSpec) -> Iterator[Check]:
    for first, second in spec.expected.training:
        statement = f"{first} has a smaller training error than {second}"
        yield Check.of(statement, _compared(networks, first, second, (None,)), required=False)
    for first, second in spec.expected.noise:
        statement = f"{first} has a smaller error than {second} at every noise level"
        yield Check.of(statement, _compared(networks, first, second, levels_of(networks)), required=False)


def _compared(networks: Networks, first: str, second: str, levels: Sequence[str | None]) -> Iterator[str]:
    """Means over trials, the same data set and criterion; None stands for the training part."""
    for (data, method, criterion), same in networks.items():
        rivals = [networks.get((data, second, other)) for other in dict.fromkeys((criterion, ""))]
        rival = next((found for found in rivals if found), None)
        if method != first or rival is None:
            continue
        for level in levels:
            a, b = mean_error(same, level), mean_error(rival, level)
            where = "" if level is None else f", η = {level}"
            yield f"{data}{criterion and f', {criterion}'}{where}: {a:.4g}, {second} {b:.4g}" if a >= b else ""


def _concerns(spec: RegularisersSpec) -> Iterator[str]:
    for name in spec.datasets:
        concern = dataset_info(name).concern
        if concern:
            yield f"**{name} is ethically problematic**: {concern}. It is here to stand beside the published figures."
