"""What the numbers of a study of regularisers say in words, whatever a paper says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from certnet.study.kinds.regularisers.networks import Networks, constant_rows, mean_error, norm_ratio
from certnet.study.kinds.regularisers.spec import RegularisersSpec
from certnet.study.tasks import Row

__all__ = ["regulariser_notes"]


def regulariser_notes(networks: Networks, grids: Sequence[Row], spec: RegularisersSpec) -> Iterator[str]:
    """Paragraphs, data set by data set: who errs least, what noise costs, what the bounds are worth."""
    for data in dict.fromkeys(data for data, _, _ in networks):
        mine = {(method, criterion): same for (name, method, criterion), same in networks.items() if name == data}
        for criterion in spec.criteria:
            yield from _ranking(data, criterion, mine)
        yield from _coupling(data, mine, spec)
        yield from _idle(data, mine)
        yield _bounds(data, [row for same in mine.values() for row in same])
        yield from _ends(data, mine, spec)
    failed = [f"{row['data']}, {row['method']}, {value}" for row in grids for value in row["value_failures"]]
    if failed:
        yield f"Trainings of searches that failed and were passed over: {'; '.join(failed)}."


def _ranking(data: str, criterion: str, mine: Mapping[tuple[str, str], Sequence[Row]]) -> Iterator[str]:
    """The formulations in order, without noise and at the highest level."""
    lines = {method: same for (method, by), same in mine.items() if by in ("", criterion)}
    if len(lines) < 2:
        return
    levels = list(next(iter(lines.values()))[0]["mae"])
    said = []
    for level in dict.fromkeys((levels[0], levels[-1])):
        error = {method: mean_error(same, level) for method, same in lines.items()}
        order = sorted(error, key=lambda method: error[method])
        said.append(f"at η = {level}: " + ", ".join(f"{method} {error[method]:.4g}" for method in order))
    constant = mean_error(constant_rows(row for same in lines.values() for row in same), levels[0])
    beaten = [level for level in levels if all(mean_error(same, level) < constant for same in lines.values())]
    useless = [level for level in levels if all(mean_error(same, level) >= constant for same in lines.values())]
    yield (
        f"**{data}, values chosen on {criterion} validation data**, from the least error: {'; '.join(said)}. "
        f"The mean of the training part, which no noise moves, errs by {constant:.4g}; {_all('better', beaten)}, "
        f"{_all('worse', useless)}."
    )


def _coupling(data: str, mine: Mapping[tuple[str, str], Sequence[Row]], spec: RegularisersSpec) -> Iterator[str]:
    """Penalties that couple the layers against those that do not, at the highest level, trial by trial."""
    kinds = {method: one.regularizer for method, one in spec.formulations.items()}
    for (method, criterion), coupled in mine.items():
        for (other, by), single in mine.items():
            if (kinds[method], kinds[other], criterion) != ("coupled", "per-layer", by):
                continue
            level = list(coupled[0]["mae"])[-1]
            theirs = {row["trial"]: row["mae"][level] for row in single}
            pairs = [(row["mae"][level], theirs[row["trial"]]) for row in coupled if row["trial"] in theirs]
            if pairs:
                better = sum(a < b for a, b in pairs)
                ratio = fmean(a for a, _ in pairs) / fmean(b for _, b in pairs)
                yield (
                    f"**{data}, coupling, {criterion or 'one value'}**: at η = {level} the error of {method} is "
                    f"{ratio:.2f} times that of {other}, and the smaller one in {better} of {len(pairs)} trials; the "
                    f"largest norm of a layer is {norm_ratio(coupled):.1f} times the least, with {other} "
                    f"{norm_ratio(single):.1f} times."
                )


def _idle(data: str, mine: Mapping[tuple[str, str], Sequence[Row]]) -> Iterator[str]:
    """A max-norm limit that no weights reach gives the network without regularisation, weight for weight."""
    free = {row["trial"]: row for same in mine.values() for row in same if row["regularizer"] == "none"}
    for (method, criterion), same in mine.items():
        pairs = [(row, free[row["trial"]]) for row in same if row["trial"] in free and row["regularizer"] == "max-norm"]
        idle = sum(row["loss_curve"] == other["loss_curve"] for row, other in pairs)
        if idle:
            longest = max(row["longest_row"] for row, _ in pairs)
            yield (
                f"**{data}, {method}{' ' + criterion if criterion else ''}**: in {idle} of {len(pairs)} trials the "
                f"limit {pairs[0][0]['value']:g} was never reached (longest weights of a unit: {longest:.3g}), and the "
                "network is the one without regularisation."
            )


def _bounds(data: str, rows: Sequence[Row]) -> str:
    """The product of norms beside LipSDP, and what bounds tell about noise."""
    loose = [row["product"] / row["upper"] for row in rows if row["upper"] > 0.0]
    open_ = [row["upper"] / row["lower"] for row in rows if row["lower"] > 0.0]
    levels = list(rows[0]["mae"])
    text = f"**{data}, bounds**: over {len(rows)} networks"
    if loose:
        text += f" the product of norms is {min(loose):.2f} to {max(loose):.2f} times the LipSDP bound"
    if open_:
        text += f", which is at most {max(open_):.2f} times a slope that was found"
    lost = [row["mae"][levels[-1]] - row["mae"][levels[0]] for row in rows]
    upper, product = ([row[name] for row in rows] for name in ("upper", "product"))
    if min(len(set(lost)), len(set(upper)), len(set(product))) > 2:
        from scipy.stats import spearmanr  # here: it takes longer to load than all of the studies

        by = [f"{spearmanr(values, lost).statistic:.2f}" for values in (upper, product)]
        text += (
            f". Rank correlation of the error that η = {levels[-1]} adds with the LipSDP bound {by[0]}, "
            f"with the product {by[1]}"
        )
    return text + "."


def _ends(data: str, mine: Mapping[tuple[str, str], Sequence[Row]], spec: RegularisersSpec) -> Iterator[str]:
    """Choices at an end of their grid: a wider one might have served better."""
    said = []
    for (method, criterion), same in mine.items():
        values = spec.formulations[method].values
        for end, value in (("least", values[0]), ("largest", values[-1])) if criterion else ():
            hits = sum(row["value"] == value for row in same)
            if hits:
                said.append(f"{method} on {criterion} data: the {end} in {hits} of {len(same)} trials")
    if said:
        yield f"**{data}, choices at an end of their grid**: {'; '.join(said)}."


def _all(what: str, levels: Sequence[str]) -> str:
    return f"all formulations are {what} at η = {', '.join(levels)}" if levels else f"at no level all are {what}"
