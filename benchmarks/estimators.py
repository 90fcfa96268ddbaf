"""``CertifiedRegressor`` and ``CertifiedRegressorCV`` as they come, beside scikit-learn's ``MLPRegressor``.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/estimators.py [--splits 3] [--out rows.csv] [DATA ...]
    python benchmarks/estimators.py --out rows.csv --report                     tables of the rows that are there

One hidden layer of 100 ReLU units, of all. ``MLPRegressor`` has its defaults but for the number of epochs, 1000 at most
instead of 200; "weight decay" is the same with an alpha that ``GridSearchCV`` chooses by the squared error in five
folds; "start" is the network that ``CertifiedRegressor`` begins with, whose weight decay and stopping it chose on a
fifth of the rows. Every split has a seed of its own, its number.

Errors are mean squared on the test part, in units of the training targets' variance; adversarial ones are under
``PGDAttack`` in the l2 norm of standardised inputs; L is what ``certify`` proves, in the same units. "rank" is the mean
rank among the rows' methods over all splits, 1 being the least error.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from _common import machine, print_table
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor

from certnet import CertifiedRegressor, CertifiedRegressorCV, FeedForward, certify, from_sklearn, load_dataset
from certnet.data import Dataset
from certnet.errors import NotConvergedWarning
from certnet.refinement import mean_squared_error
from certnet.robust import adversarial_mse

DATA: Final = ("servo", "machine", "solar", "wine", "diabetes", "rastrigin")
RADII: Final = (0.1, 0.3)
ALPHAS: Final = (1e-4, 1e-2, 1e-1, 1.0, 10.0)
FIGURES: Final = ("train", "test", "test_near", "test_far", "lipschitz", "seconds")
FIGURE_NAMES: Final = ("training error", "test error", "at ε = 0.1", "at ε = 0.3", "L proved", "CPU s")


@dataclass(frozen=True)
class Row:
    """One fitted estimator on one split."""

    data: str
    split: int
    method: str
    train: float
    test: float
    test_near: float
    test_far: float
    lipschitz: float
    seconds: float
    chosen: str


def perceptron(seed: int) -> MLPRegressor:
    return MLPRegressor(max_iter=1000, random_state=seed)


def plain(data: Dataset, seed: int) -> Iterator[tuple[str, Any, str]]:
    yield "MLPRegressor", perceptron(seed).fit(data.X_train, data.y_train), ""


def decayed(data: Dataset, seed: int) -> Iterator[tuple[str, Any, str]]:
    search = GridSearchCV(perceptron(seed), {"alpha": ALPHAS}, scoring="neg_mean_squared_error")
    search.fit(data.X_train, data.y_train)
    yield "MLPRegressor, weight decay", search.best_estimator_, f"alpha {search.best_params_['alpha']:g}"


def certified(data: Dataset, seed: int) -> Iterator[tuple[str, Any, str]]:
    model = CertifiedRegressor(random_state=seed).fit(data.X_train, data.y_train)
    choice = model.start_choice_
    yield "its start", model.estimator_, f"alpha {choice.alpha:g}, {choice.iterations} iterations" if choice else ""
    yield "CertifiedRegressor", model.network_, f"weight {model.weight:g}"


def validated(data: Dataset, seed: int) -> Iterator[tuple[str, Any, str]]:
    model = CertifiedRegressorCV(random_state=seed).fit(data.X_train, data.y_train)
    yield "CertifiedRegressorCV", model.network_, f"weight {model.weight_:g}"


Fitted = Callable[[Dataset, int], Iterator[tuple[str, Any, str]]]
GROUPS: Final[dict[Fitted, tuple[str, ...]]] = {
    plain: ("MLPRegressor",),
    decayed: ("MLPRegressor, weight decay",),
    certified: ("its start", "CertifiedRegressor"),
    validated: ("CertifiedRegressorCV",),
}
METHODS: Final = tuple(name for names in GROUPS.values() for name in names)


def measured(fit: Fitted, data: Dataset) -> list[Row]:
    """The rows that a fit gives; all of them have its CPU seconds, but for the start, which has none of its own."""
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", NotConvergedWarning)
        made = list(fit(data, data.split))
    seconds = time.process_time() - begin
    rows = []
    for name, model, chosen in made:
        network = FeedForward.of(from_sklearn(model) if hasattr(model, "get_params") else model)
        train, test = (
            mean_squared_error(network, X, y) for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test))
        )
        near, far = map(float, adversarial_mse(network, data.X_test, data.y_test, RADII).adversarial)
        spent = np.nan if name == "its start" else seconds
        upper = certify(network).upper
        rows.append(Row(data.name, data.split, name, train, test, near, far, upper, spent, chosen))
    return rows


def read_rows(path: Path | None) -> list[Row]:
    if path is None or not path.exists():
        return []
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
    with path.open(newline="") as file:
        return [
            Row(**{field.name: kinds[str(field.type)](line[field.name]) for field in fields(Row)})
            for line in csv.DictReader(file)
        ]


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if new:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def report(rows: Sequence[Row]) -> None:
    """Means over the splits that all methods have: set by set, then over sets with the mean ranks."""
    splits = set.intersection(*({(row.data, row.split) for row in rows if row.method == name} for name in METHODS))
    found = {(row.data, row.split, row.method): row for row in rows if (row.data, row.split) in splits}
    sets = [name for name in DATA if any(data == name for data, _ in splits)]

    def mean(data: str, method: str, figure: str) -> float:
        return statistics.mean(getattr(found[key], figure) for key in found if key[0] == data and key[2] == method)

    def shown(value: float, figure: str) -> str:
        return "" if value != value else f"{value:.{1 if figure == 'seconds' else 4}f}"

    def rank(method: str, figure: str) -> float:
        """Ties, of which there are none but in the last digits of equal networks, count for the better."""
        return statistics.mean(
            1 + sum(getattr(found[*s, name], figure) < getattr(found[*s, method], figure) for name in METHODS)
            for s in splits
        )

    print(f"\n{len(sets)} sets, {len(splits)} splits in all\n")
    print_table(
        ["data", "method", *FIGURE_NAMES],
        [
            [data, method, *(shown(mean(data, method, figure), figure) for figure in FIGURES)]
            for data, method in product(sets, METHODS)
        ],
    )
    print("\nmeans over the sets\n")
    errors = [(figure, title) for figure, title in zip(FIGURES, FIGURE_NAMES) if figure.startswith("test")]
    print_table(
        ["method", *FIGURE_NAMES, *(f"rank, {title}" for _, title in errors)],
        [
            [
                method,
                *(shown(statistics.mean(mean(data, method, figure) for data in sets), figure) for figure in FIGURES),
                *(f"{rank(method, figure):.2f}" for figure, _ in errors),
            ]
            for method in METHODS
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=list(DATA), metavar="DATA", help=f"of {', '.join(DATA)}")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a CSV file that is added to; rows that it holds are not made again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    chosen = parser.parse_args()
    print(machine(), flush=True)
    rows = read_rows(chosen.out)
    done = {(row.data, row.split, row.method) for row in rows}
    for split, data in product([] if chosen.report else range(chosen.splits), chosen.data):
        for fit, names in GROUPS.items():
            if all((data, split, name) in done for name in names):
                continue
            made = measured(fit, load_dataset(data, split=split))
            rows += made
            if chosen.out is not None:
                append_rows(chosen.out, made)
            for row in made:
                figures = " ".join(f"{getattr(row, figure):.4f}" for figure in FIGURES)
                print(f"{data} {split} {row.method}: {figures}; {row.chosen}", flush=True)
    report([row for row in rows if row.data in chosen.data and row.split < chosen.splits])


if __name__ == "__main__":
    main()
