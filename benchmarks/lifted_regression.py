"""Lifted regressors beside scikit-learn's, refined networks and the back-propagation twin, at equal certified L.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/lifted_regression.py [--splits 10] [--out rows.csv]
    python benchmarks/lifted_regression.py --out rows.csv --report            tables of the rows that are there
    python benchmarks/lifted_regression.py --quick                            two small sets, one split, few epochs

All networks have two hidden layers of 64 ReLU units. The data are certnet's splits, standardised, with at most 300 rows
of the training part and 100 of the test part, drawn by the split's number, which is every seed too. 15 % of the rows
are held back for validation, the same ones for all methods. Every method makes several networks, its knob being

    LiftedRegressor         weight decay of the last layer; rate 0.1, 100 epochs at most, stopped by validation
    MLPRegressor, stopped   alpha; 500 epochs at most, stopped by validation
    certnet.refine          the L that it is asked for, from MLPRegressor, stopped, with its default alpha; effort
                            "quick", asked to stop after 1 CPU second each
    twin                    the number of epochs and the rate, from the first weights of the lifted networks

"LiftedRegressor()" and "MLPRegressor()" are one network each, as it comes, the latter trained on all rows.

For every limit of L a network whose certified L is above it has its outputs drawn together about their mean by the
factor that meets the limit. Of a method's networks one is taken by the least validation error after that
("validation"), or as the one with the largest certified L that needs no factor ("largest"; the one with the least L
where all need one). The test part decides nothing. L is proved: by the matrix inequality of ``lipschitz_bound`` for
lifted networks, by ``certify`` for the others.

Errors are mean squared, in units of the training targets' variance. The attack is the same for all: projected gradient
in the l2 norm of standardised inputs, which climbs and descends the output, with the exact input gradient of either
kind of network; a larger radius keeps what was found at a smaller one. The steepest gradient that it met is a slope,
found but not proved.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from _common import machine, print_table
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor

from certnet import FeedForward, certify, from_sklearn, load_dataset, refine
from certnet.core.validation import Float
from certnet.errors import NotConvergedWarning, SolverError
from certnet.lifted import LiftedNetwork, LiftedRegressor, initial_network
from certnet.lifted.learn.arguments import seed_of
from certnet.lifted.sensitivity import vjp
from certnet.lifted.twin_ import train_twin
from certnet.robust.balls import admissible, ball_of

DATA: Final = ("servo", "machine", "solar", "wine", "diabetes", "rastrigin")
LEVELS: Final = (0.5, 1.0, 2.0, 4.0)
RADII: Final = (0.1, 0.3)
RULES: Final = ("validation", "largest")
HELD: Final = 0.15  # of the rows, as LiftedRegressor does
PATIENCE: Final = 20  # epochs, of MLPRegressor
BETAS: Final = {"1": 1.0, "1/4": 0.25, "0": 0.0}
DECAYS: Final = (1e-5, 1e-3, 1e-2)
ALPHAS: Final = (1e-4, 1.0, 10.0, 100.0)
RATES: Final = (0.1, 0.03)
STEPS: Final = 8
INSIDE: Final = 1.0 - 1e-12
TOL: Final = 1e-8  # of the activations that gradients are taken at


@dataclass(frozen=True)
class Size:
    """How much is done."""

    hidden: tuple[int, ...] = (64, 64)
    rows: int = 300
    test_rows: int = 100
    epochs: int = 100
    default_epochs: int = 200
    mlp_epochs: int = 500
    looks: tuple[int, ...] = (5, 10, 20, 40, 80)  # epochs of the twin
    refine_seconds: float = 1.0


FULL: Final = Size()
QUICK: Final = Size(rows=100, epochs=6, default_epochs=6, mlp_epochs=40, looks=(3, 6), refine_seconds=0.3)


@dataclass(frozen=True, eq=False)
class Case:
    """A split: rows to fit on, rows that are held back, and the test part."""

    name: str
    split: int
    X: Float
    y: Float
    X_test: Float
    y_test: Float
    size: Size = FULL

    @classmethod
    def of(cls, name: str, split: int, size: Size = FULL) -> Case:
        data = load_dataset(name, split=split)
        generator = np.random.default_rng(split)
        rows = generator.permutation(len(data.X_train))[: size.rows]
        test = generator.permutation(len(data.X_test))[: size.test_rows]
        return cls(name, split, data.X_train[rows], data.y_train[rows], data.X_test[test], data.y_test[test], size)

    @cached_property
    def parts(self) -> tuple[Float, Float, Float, Float]:
        """X and y to fit on, X and y held back: the very rows that a LiftedRegressor with this seed holds back."""
        seed = seed_of(self.split, None)
        fit, held = train_test_split(np.arange(len(self.X)), test_size=HELD, random_state=seed)
        return self.X[fit], self.y[fit], self.X[held], self.y[held]


# --------------------------------------------------------------------------------------------------------- the networks

Slopes = Callable[[Float], tuple[Float, Float]]
"""X ↦ the outputs (N,) and their gradients (N, d)."""


def lifted_slopes(net: LiftedNetwork) -> Slopes:
    """By one linear system per sample on the units off their limits."""

    def at(X: Float) -> tuple[Float, Float]:
        found = net.infer(X, tol=TOL, threads=1)
        return found.output[:, 0], vjp(net, X, found, np.ones((len(X), 1)))

    return at


def plain_slopes(net: FeedForward) -> Slopes:
    return lambda X: (net.predict(X), net.gradients(X)[:, 0, :])


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network with its proved L, where its knob stood, and what it cost."""

    knob: str
    outputs: Callable[[Float], Float]
    slopes: Slopes
    upper: float
    seconds: float
    attacks: list[Attack] = field(default_factory=list)

    def attacked(self, case: Case) -> list[Attack]:
        """On the test part, one for each radius; once."""
        if not self.attacks:
            self.attacks.extend(attacks(self.slopes, case.X_test, RADII))
        return self.attacks


def lifted(knob: str, net: LiftedNetwork, begin: float) -> Candidate:
    upper = net.lipschitz_bound("sdp", lower=False).upper
    spent = time.process_time() - begin
    return Candidate(knob, lambda X: net.predict(X, threads=1).ravel(), lifted_slopes(net), upper, spent)


def plain(knob: str, net: FeedForward, begin: float) -> Candidate:
    upper = certify(net).upper
    return Candidate(knob, net.predict, plain_slopes(net), upper, time.process_time() - begin)


# ----------------------------------------------------------------------------------------------------------- the attack


@dataclass(frozen=True, eq=False)
class Attack:
    """The least and the largest output found in the balls around the samples, and the steepest gradient there."""

    lowest: Float
    highest: Float
    steepest: float


def attacks(slopes: Slopes, X: Float, radii: Sequence[float]) -> Iterator[Attack]:
    r"""Projected gradients for increasing radii: ``u ← Π(u ± α g / ‖g‖₂)``, δ = ε u, α from 1 to 0.01."""
    ball = ball_of("l2")
    values, gradients = slopes(X)
    low, high, steepest = values.copy(), values.copy(), 0.0
    drawn = ball.steepest(ball.sample(np.random.default_rng(0), *X.shape))  # where the gradient is zero
    for radius in radii:
        for sign in (1.0, -1.0):
            Z, u = admissible(ball, X, np.zeros_like(X), radius)
            for step in (*np.geomspace(1.0, 0.01, STEPS), None):
                values, gradients = slopes(Z)
                low, high = np.minimum(low, values), np.maximum(high, values)
                steepest = max(steepest, float(np.linalg.norm(gradients, axis=1).max()))
                if step is not None:
                    flat = ~gradients.any(axis=1, keepdims=True)
                    direction = np.where(flat, drawn, sign * ball.steepest(gradients))
                    Z, u = admissible(ball, X, ball.project(u + step * direction), radius)
        yield Attack(low, high, steepest)


# ---------------------------------------------------------------------------------------------------------- the methods


def regressors(beta: float) -> Callable[[Case], Iterator[Candidate]]:
    def made(case: Case) -> Iterator[Candidate]:
        for decay in DECAYS:
            begin = time.process_time()
            model = LiftedRegressor(
                case.size.hidden,
                beta=beta,
                weight_decay=decay,
                learning_rate=RATES[0],
                max_epochs=case.size.epochs,
                early_stopping=True,
                standardise=False,
                random_state=case.split,
            )
            try:
                model.fit(case.X, case.y)
            except SolverError:
                continue
            yield lifted(f"decay {decay:g}", model.network_, begin)

    return made


def regressor_as_it_comes(case: Case) -> Iterator[Candidate]:
    begin = time.process_time()
    size = case.size
    model = LiftedRegressor(size.hidden, max_epochs=size.default_epochs, standardise=False, random_state=case.split)
    yield lifted("", model.fit(case.X, case.y).network_, begin)


def perceptron(case: Case, alpha: float) -> MLPRegressor:
    return MLPRegressor(
        hidden_layer_sizes=case.size.hidden, alpha=alpha, max_iter=case.size.mlp_epochs, random_state=case.split
    )


def perceptron_as_it_comes(case: Case) -> Iterator[Candidate]:
    begin = time.process_time()
    yield plain("", FeedForward.of(from_sklearn(perceptron(case, 1e-4).fit(case.X, case.y))), begin)


def stopped(case: Case, alpha: float) -> FeedForward:
    """MLPRegressor after the epoch with the least validation error."""
    X, y, X_held, y_held = case.parts
    model, best, least, waited = perceptron(case, alpha), None, math.inf, 0
    for _ in range(case.size.mlp_epochs):
        model.partial_fit(X, y)
        error = float(np.mean((model.predict(X_held) - y_held) ** 2))
        waited = 0 if error < least else waited + 1
        if error < least:
            best, least = copy.deepcopy(model), error
        if waited == PATIENCE:
            break
    return FeedForward.of(from_sklearn(best))


def perceptrons(case: Case) -> Iterator[Candidate]:
    for alpha in ALPHAS:
        begin = time.process_time()
        yield plain(f"alpha {alpha:g}", stopped(case, alpha), begin)


def refined(case: Case) -> Iterator[Candidate]:
    X, y, _, _ = case.parts
    begin = time.process_time()
    start = stopped(case, ALPHAS[0])
    for target in LEVELS:
        first = time.process_time()

        def late(first: float = first) -> bool:
            return time.process_time() - first > case.size.refine_seconds

        result = refine(start, X, y, target_lipschitz=target, effort="quick", should_stop=late)
        yield plain(f"L {target:g}", FeedForward.of(result.network), begin)
        begin = time.process_time()


def twins(case: Case) -> Iterator[Candidate]:
    """One training per rate, looked at after some epochs; it goes on with the next seed's order of samples."""
    X, y, _, _ = case.parts
    seed = seed_of(case.split, None)
    units = ["relu"] * len(case.size.hidden) + ["linear"]
    start = initial_network(
        (X.shape[1], *case.size.hidden, 1),
        beta=0.0,
        gamma=0.125,
        units=units,
        random_state=np.random.default_rng((seed, 1)),
    )
    for rate in RATES:
        net, done = start, 0
        for look in case.size.looks:
            begin = time.process_time()
            options: dict[str, Any] = {"batch_size": 10, "learning_rate": rate, "device": "cpu"}
            try:
                twin = train_twin(net, X, y, epochs=look - done, random_state=case.split + look, **options)
            except SolverError:  # diverged
                break
            net, done = twin.network, look  # type: ignore[assignment]
            yield plain(f"rate {rate:g}, {look} epochs", twin.feed_forward(), begin)


AS_THEY_COME: Final = ("LiftedRegressor()", "MLPRegressor()")
METHODS: Final[dict[str, Callable[[Case], Iterator[Candidate]]]] = {
    AS_THEY_COME[0]: regressor_as_it_comes,
    AS_THEY_COME[1]: perceptron_as_it_comes,
    **{f"LiftedRegressor, β = {name}": regressors(beta) for name, beta in BETAS.items()},
    "MLPRegressor, stopped": perceptrons,
    "certnet.refine": refined,
    "twin": twins,
}
REFERENCE: Final = "LiftedRegressor, β = 1"


# ------------------------------------------------------------------------------------------------------------- the rows


@dataclass(frozen=True)
class Row:
    """One network: as it was made (no rule), or as a rule took it for a limit of L, which is inf where there is none.

    The adversarial errors and the slope are NaN where there is no rule: only what is taken is attacked.
    """

    data: str
    split: int
    method: str
    rule: str
    limit: float
    knob: str
    train: float
    validation: float
    test: float
    test_near: float
    test_far: float
    slope: float
    lipschitz: float
    seconds: float

    @property
    def key(self) -> tuple[str, int, str]:
        return self.data, self.split, self.method


@dataclass(frozen=True, eq=False)
class Scaled:
    """``m + s (f − m)`` with m the mean of f on the rows fitted and ``s = min(1, limit / L)``; its L is s L."""

    candidate: Candidate
    limit: float
    mean: float

    @property
    def factor(self) -> float:
        upper = self.candidate.upper
        return 1.0 if upper <= self.limit else INSIDE * self.limit / upper

    @property
    def upper(self) -> float:
        upper = self.candidate.upper
        return upper if upper <= self.limit else math.nextafter(self.factor * upper, math.inf)

    def drawn(self, values: Float) -> Float:
        return self.mean + self.factor * (values - self.mean)

    def error(self, X: Float, y: Float) -> float:
        return float(np.mean((self.drawn(self.candidate.outputs(X)) - y) ** 2))

    def worst(self, case: Case) -> list[float]:
        """The mean of the worst squared residuals found, for each radius."""
        ends = [(self.drawn(found.lowest), self.drawn(found.highest)) for found in self.candidate.attacked(case)]
        return [float(np.mean(np.maximum((low - case.y_test) ** 2, (high - case.y_test) ** 2))) for low, high in ends]


def taken(made: Sequence[Candidate], means: Sequence[float], limit: float, rule: str, case: Case) -> Scaled:
    """The network that a rule takes, brought to the limit; the test part is not looked at."""
    scaled = [Scaled(candidate, limit, mean) for candidate, mean in zip(made, means)]
    if rule == "validation":
        return min(scaled, key=lambda s: s.error(*case.parts[2:]))
    inside = [s for s in scaled if s.factor == 1.0]
    return max(inside, key=lambda s: s.candidate.upper) if inside else min(scaled, key=lambda s: s.candidate.upper)


def measured(case: Case, method: str) -> list[Row]:
    """All rows of a method on a split; what a rule took has the seconds of all that it could take."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", NotConvergedWarning)
        made = list(METHODS[method](case))
    X, y, X_held, y_held = case.parts
    means = [float(np.mean(candidate.outputs(X))) for candidate in made]

    def row(scaled: Scaled, rule: str, seconds: float) -> Row:
        limit, network = scaled.limit, scaled.candidate
        near, far = scaled.worst(case) if rule else (math.nan, math.nan)
        slope = scaled.factor * network.attacked(case)[-1].steepest if rule else math.nan
        parts = ((X, y), (X_held, y_held), (case.X_test, case.y_test))
        train, validation, test = (scaled.error(*part) for part in parts)
        start = (case.name, case.split, method, rule, limit, network.knob)
        return Row(*start, train, validation, test, near, far, slope, scaled.upper, seconds)

    rows = [row(Scaled(candidate, math.inf, mean), "", candidate.seconds) for candidate, mean in zip(made, means)]
    total = sum(candidate.seconds for candidate in made)
    limits = (math.inf,) if method in AS_THEY_COME else (*LEVELS, math.inf)
    return rows + [row(taken(made, means, limit, rule, case), rule, total) for rule, limit in product(RULES, limits)]


def read_rows(path: Path | None) -> list[Row]:
    if path is None or not path.exists():
        return []
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
    with path.open(newline="") as file:
        return [
            Row(**{item.name: kinds[str(item.type)](line[item.name]) for item in fields(Row)})
            for line in csv.DictReader(file)
        ]


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Row)])
        if new:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


# ----------------------------------------------------------------------------------------------------------- the tables


class Table:
    """Means of rows over the splits that all methods have."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.methods = [name for name in METHODS if any(row.method == name for row in rows)]
        have = [{(row.data, row.split) for row in rows if row.method == name} for name in self.methods]
        self.cases = sorted(set.intersection(*have)) if have else []
        self.sets = [name for name in DATA if any(data == name for data, _ in self.cases)]
        self._rows = {(row.data, row.split, row.method, row.rule, row.limit): row for row in rows if row.rule}

    def values(self, method: str, rule: str, limit: float, figure: str, data: str | None = None) -> list[float]:
        """Of every split, in the order of ``cases``."""
        cases = [case for case in self.cases if data in (None, case[0])]
        return [float(getattr(self._rows[(*case, method, rule, limit)], figure)) for case in cases]

    def mean(self, method: str, rule: str, limit: float, figure: str, data: str | None = None) -> float:
        """Over the splits of a set, or then over the sets."""
        if data is None:
            return statistics.mean(self.mean(method, rule, limit, figure, name) for name in self.sets)
        return statistics.mean(self.values(method, rule, limit, figure, data))

    def pair(self, method: str, rule: str, limit: float) -> str:
        """Test error, and the adversarial one at the largest radius."""
        return f"{self.mean(method, rule, limit, 'test'):.3f} ({self.mean(method, rule, limit, 'test_far'):.3f})"

    def behind(self, method: str, rule: str, limit: float) -> tuple[str, str]:
        """Test errors less those of the reference: mean and standard error over sets and splits, and sets with less."""
        pairs = {
            data: [a - b for a, b in zip(*(self.values(m, rule, limit, "test", data) for m in (method, REFERENCE)))]
            for data in self.sets
        }
        mean = statistics.mean(statistics.mean(differences) for differences in pairs.values())
        spread = [statistics.variance(d) / len(d) for d in pairs.values() if len(d) > 1]
        error = math.sqrt(sum(spread)) / len(pairs) if len(spread) == len(pairs) else math.nan
        less = sum(statistics.mean(differences) < 0.0 for differences in pairs.values())
        return f"{mean:+.4f} ± {error:.4f}", f"{less} of {len(pairs)}"


def report(rows: Sequence[Row]) -> None:
    table = Table(rows)
    if not table.cases:
        print("no split has rows of all methods")
        return
    print(f"\n{len(table.sets)} sets, {len(table.cases)} splits in all; methods with rows: {', '.join(table.methods)}")
    figures = {"test": "test error", "test_near": "at ε = 0.1", "test_far": "at ε = 0.3"}
    print("\nno limit on L, by validation\n")
    names = {**figures, "slope": "slope found", "lipschitz": "L at most", "seconds": "CPU s"}
    digits = {"seconds": 1, "slope": 2, "lipschitz": 2}
    print_table(
        ["data", "method", *names.values()],
        [
            [data or "all", name]
            + [f"{table.mean(name, 'validation', math.inf, f, data):.{digits.get(f, 3)}f}" for f in names]
            for data, name in product([*table.sets, None], table.methods)
        ],
    )
    methods = [name for name in table.methods if name not in AS_THEY_COME]
    for rule in RULES:
        print(f"\nmeans over the sets, rule: {rule}; test error (at ε = {RADII[-1]:g})\n")
        print_table(
            ["method", *(f"L ≤ {limit:g}" for limit in LEVELS), "no limit", "its L", "CPU s"],
            [
                [
                    name,
                    *(table.pair(name, rule, limit) for limit in (*LEVELS, math.inf)),
                    *(f"{table.mean(name, rule, math.inf, figure):.1f}" for figure in ("lipschitz", "seconds")),
                ]
                for name in methods
            ],
        )
        print(f"\nmeans over the sets, rule: {rule}\n")
        print_table(
            [
                "L at most",
                "method",
                *figures.values(),
                "L proved",
                f"test error less that of {REFERENCE}",
                "sets with less",
            ],
            [
                [f"{limit:g}", name, *(f"{table.mean(name, rule, limit, f):.4f}" for f in (*figures, "lipschitz"))]
                + (["", ""] if name == REFERENCE or REFERENCE not in methods else [*table.behind(name, rule, limit)])
                for limit, name in product(LEVELS, methods)
            ],
        )
        print(f"\ntest errors, set by set, rule: {rule}\n")
        print_table(
            ["L at most", "method", *table.sets],
            [
                [f"{limit:g}", name, *(f"{table.mean(name, rule, limit, 'test', data):.3f}" for data in table.sets)]
                for limit, name in product(LEVELS, methods)
            ],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="DATA", help=f"of {', '.join(DATA)}; all by default")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, help="a CSV file that is added to; rows that it holds are not made again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    parser.add_argument("--quick", action="store_true", help="servo and diabetes, one split, few epochs: a look")
    chosen = parser.parse_args()
    print(machine(), flush=True)
    data = chosen.data or (["servo", "diabetes"] if chosen.quick else list(DATA))
    size, splits = (QUICK, 1) if chosen.quick else (FULL, chosen.splits)
    rows = read_rows(chosen.out)
    done = {row.key for row in rows}
    for split, name, method in product([] if chosen.report else range(splits), data, chosen.methods):
        if (name, split, method) in done:
            continue
        begin = time.process_time()
        made = measured(Case.of(name, split, size), method)
        rows += made
        if chosen.out is not None:
            append_rows(chosen.out, made)
        last = next(row for row in made if row.rule == "validation" and row.limit == math.inf)
        print(
            f"{name} {split} {method}: test {last.test:.3f}, {last.test_near:.3f}, {last.test_far:.3f}; L "
            f"{last.slope:.2f} to {last.lipschitz:.2f}; {last.knob or 'as it comes'}; "
            f"{time.process_time() - begin:.1f} s",
            flush=True,
        )
    report([row for row in rows if row.data in data and row.split < splits and row.method in chosen.methods])


if __name__ == "__main__":
    main()
