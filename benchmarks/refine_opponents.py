"""Refinement at a certified L of 0.5, 1 and 2 against networks trained to the same L: errors, L, CPU seconds.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/refine_opponents.py --seeds 5 --out rows.csv
    python benchmarks/refine_opponents.py --seeds 5 --out rows.csv --report      tables of the rows that are there

Everyone has the same architecture and data: the split, a fifth of whose training part is for validation, follows the
seed. Opponents (``opponents.py``) train by Adam with a cosine schedule, once per learning rate and limit; rate and
number of steps are those of the least validation error, and the network is trained again with them on the whole
training part. ``refine`` starts from scikit-learn's MLPRegressor, stopped early, with a weight decay chosen on the same
validation part. "L by validation": it is refined, at effort "quick" and without the validation part, to all limits and
to 0.7 and 0.5 of them; the one up to the limit that has the least validation error is then refined to on the whole
training part. Every network is then certified by ``certnet.certify``; one that is above its limit is scaled down about
its mean output to meet it. For sorted pairs (deel-torchlip, GroupSort) L is the product of the norms of their layers,
that package's guarantee.

Errors are mean squared, in units of the training targets' variance; adversarial ones are under ``PGDAttack``, in the
l2 norm of standardised inputs. What serves several limits counts for each with an equal share of its CPU seconds.
deel-torchlip is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch
from _common import machine, print_table
from opponents import DEEL, METHODS, Method, Run, RunSettings, plain
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from certnet import FeedForward, certify, from_sklearn, load_dataset, refine
from certnet.core.validation import Float
from certnet.data import Dataset
from certnet.refinement import mean_squared_error
from certnet.robust import adversarial_mse

DATA: Final = ("servo", "machine", "solar", "wine", "diabetes", "rastrigin")
LIMITS: Final = (0.5, 1.0, 2.0)
RADII: Final = (0.1, 0.3)
OURS: Final = "certnet.refine"
OURS_VALIDATED: Final = "certnet.refine, L by validation"
SHARES: Final = (1.0, 0.7, 0.5)  # of the limit, among which validation chooses
RATES: Final = (1e-2, 3e-2)
DECAYS: Final = (1e-3, 1e-2, 1e-1, 1.0)
LOOKS: Final = 10
SETTLED: Final = 5  # of the looks: before, the dials still swing, and what validation sees is chance
INSIDE: Final = 1.0 - 1e-9  # scaled to a little below the limit: rounding must not leave it
SAME: Final = 1e-10  # relative: what a network in NumPy may differ from the one that was trained
ERRORS: Final = ("train", "test", "test_near", "test_far")
ERROR_NAMES: Final = ("training error", "test error", "at ε = 0.1", "at ε = 0.3")


@dataclass(frozen=True)
class Row:
    """One network: where it comes from, its errors, its certified L, and what it cost."""

    data: str
    hidden: str
    seed: int
    steps: int
    method: str
    limit: float
    train: float
    test: float
    test_near: float
    test_far: float
    lipschitz: float
    seconds: float
    chosen: str

    @property
    def key(self) -> tuple[str, str, int, int, str, float]:
        return self.data, self.hidden, self.seed, self.steps, self.method, self.limit


@dataclass(frozen=True, eq=False)
class Case:
    """A split of a data set with its validation part, and what to train on it; ``steps`` are those of opponents."""

    data: Dataset
    hidden: tuple[int, ...]
    limits: tuple[float, ...]
    steps: int
    seed: int

    def parts(self) -> tuple[Float, Float, Float, Float]:
        """X and y to fit, X and y to validate."""
        X, y = self.data.X_train, self.data.y_train
        order = np.random.default_rng(self.seed).permutation(len(X))
        held, kept = np.split(order, [len(X) // 5])
        return X[kept], y[kept], X[held], y[held]


@dataclass(frozen=True)
class Answer:
    """A network for one limit, its proved L, CPU seconds and the settings chosen."""

    limit: float
    network: FeedForward
    upper: float
    seconds: float
    chosen: str


# -------------------------------------------------------------------------------------------------------- the opponents


def opponent(method: Method, case: Case) -> list[Answer]:
    """Rates and steps by validation, then the networks on all training data, proved and scaled to their limits."""
    begin = time.process_time()
    X, y, X_held, y_held = case.parts()
    limits = [limit for limit in case.limits for _ in RATES]
    run = Run(method, case.hidden, X, y, limits, RATES * len(case.limits), RunSettings(case.steps, LOOKS, case.seed))
    scores = np.full((LOOKS, len(limits)), np.inf)
    for look, layers in enumerate(run.looks()):
        if look + 1 >= SETTLED:
            factor = (torch.tensor(limits) / run.slopes(layers)).clamp(max=1.0)[:, None]
            mean = run.outputs(layers, X).mean(dim=1, keepdim=True)
            outputs = mean + factor * (run.outputs(layers, X_held) - mean)
            scores[look] = (outputs - torch.tensor(y_held)).square().mean(dim=1).numpy()
    table = np.nan_to_num(scores, nan=np.inf).reshape(LOOKS, len(case.limits), len(RATES))
    best = [divmod(int(np.argmin(table[:, k])), len(RATES)) for k in range(len(case.limits))]
    networks = retrained(method, case, best)
    shared = (time.process_time() - begin) / len(case.limits)
    return [
        proved(method, network, norm, case, limit, shared, f"rate {RATES[rate]:g}, {look + 1} of {LOOKS} parts")
        for (network, norm), limit, (look, rate) in zip(networks, case.limits, best)
    ]


def retrained(method: Method, case: Case, best: Sequence[tuple[int, int]]) -> list[tuple[FeedForward, float]]:
    """One network per limit, each with its number of looks and rate; and the product of its layers' norms."""
    X, y = case.data.X_train, case.data.y_train
    settings = RunSettings(case.steps, LOOKS, case.seed)
    run = Run(method, case.hidden, X, y, case.limits, [RATES[rate] for _, rate in best], settings)
    made: dict[int, tuple[FeedForward, float]] = {}
    last = max(look for look, _ in best)
    for look, layers in enumerate(run.looks()):
        for member in (k for k, (stop, _) in enumerate(best) if stop == look):
            network = plain(run.chains, layers, member)
            trained = run.outputs(layers, X)[member].numpy()
            difference = float(np.abs(network.predict(X) - trained).max())
            if not difference <= SAME * max(1.0, float(np.abs(trained).max())):
                raise RuntimeError(f"{method.name}: the network differs by {difference:g} from the one trained")
            made[member] = network, float(np.prod([np.linalg.norm(W[member].numpy(), 2) for W, _ in layers]))
        if look == last:
            break
    return [made[k] for k in range(len(best))]


def proved(
    method: Method, network: FeedForward, norm: float, case: Case, limit: float, shared: float, chosen: str
) -> Answer:
    """The network, scaled down to the limit about its mean where it is above, and the bound that is proved of it."""
    begin = time.process_time()
    by_layers = method.sorts_pairs
    upper = norm / INSIDE if by_layers else certify(network).upper
    while upper > limit:  # once, but for the tolerance of the search
        factor = INSIDE * limit / upper
        network = scaled(network, factor, case.data.X_train)
        upper = factor * upper if by_layers else certify(network).upper
    return Answer(limit, network, upper, shared + time.process_time() - begin, chosen)


def scaled(network: FeedForward, factor: float, X: Float) -> FeedForward:
    """``m + factor (f − m)`` with m the mean of f on X."""
    *weights, V = network.weights
    *biases, c = network.biases
    mean = float(network.predict(X).mean())
    return FeedForward([*weights, factor * V], [*biases, factor * c + (1.0 - factor) * mean], network.activations)


# ----------------------------------------------------------------------------------------------------------------- ours


def ours(case: Case) -> list[Answer]:
    """``refine`` to each limit from one start."""
    begin = time.process_time()
    start = Start.chosen(case)
    shared = (time.process_time() - begin) / len(case.limits)
    return [refined(start, case, limit, limit, shared) for limit in case.limits]


def ours_validated(case: Case) -> list[Answer]:
    """``refine`` to the L, of those up to the limit, that has the least validation error where the rest is refined."""
    begin = time.process_time()
    start = Start.chosen(case)
    X, y, X_held, y_held = case.parts()
    scores = {
        target: mean_squared_error(
            refine(start.part, X, y, target_lipschitz=target, effort="quick").network, X_held, y_held
        )
        for target in sorted({share * limit for share in SHARES for limit in case.limits})
    }
    shared = (time.process_time() - begin) / len(case.limits)
    best = {
        limit: min((target for target in scores if target <= limit), key=scores.__getitem__) for limit in case.limits
    }
    answers = []
    for target in sorted(set(best.values())):
        serves = [limit for limit in case.limits if best[limit] == target]
        made = refined(start, case, serves[0], target, 0.0)
        answers += [replace(made, limit=limit, seconds=shared + made.seconds / len(serves)) for limit in serves]
    return answers


def refined(start: Start, case: Case, limit: float, target: float, shared: float) -> Answer:
    begin = time.process_time()
    done = refine(start.whole, case.data.X_train, case.data.y_train, target_lipschitz=target)
    seconds = time.process_time() - begin
    network = FeedForward.of(done.network)
    upper = certify(network).upper
    while upper > limit:  # by the tolerance of the search
        network = scaled(network, INSIDE * limit / upper, case.data.X_train)
        upper = certify(network).upper
    return Answer(limit, network, upper, shared + seconds, f"decay {start.decay:g}, L at most {target:g}")


@dataclass(frozen=True, eq=False)
class Start:
    """MLPRegressor, stopped early, of the weight decay with the least validation error, which ``part`` has not seen."""

    whole: FeedForward
    part: FeedForward
    decay: float

    @classmethod
    def chosen(cls, case: Case) -> Start:
        X, y, X_held, y_held = case.parts()

        def fitted(decay: float, X: Float, y: Float) -> FeedForward:
            model = MLPRegressor(
                hidden_layer_sizes=case.hidden,
                alpha=decay,
                early_stopping=True,
                n_iter_no_change=20,
                learning_rate_init=3e-3,
                max_iter=500,
                random_state=case.seed,
            )
            return FeedForward.of(from_sklearn(model.fit(X, y)))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            parts = [fitted(decay, X, y) for decay in DECAYS]
            best = int(np.argmin([mean_squared_error(part, X_held, y_held) for part in parts]))
            return cls(fitted(DECAYS[best], case.data.X_train, case.data.y_train), parts[best], DECAYS[best])


OWN: Final = {OURS: ours, OURS_VALIDATED: ours_validated}


# ------------------------------------------------------------------------------------------------------------- the rows


def measured(case: Case, name: str, answers: Sequence[Answer]) -> list[Row]:
    """The rows of one method on one split."""
    data, rows = case.data, []
    for answer in answers:
        train, test = (
            mean_squared_error(answer.network, X, y)
            for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test))
        )
        near, far = adversarial_mse(answer.network, data.X_test, data.y_test, RADII).adversarial
        rows.append(
            Row(
                data.name,
                written(case.hidden),
                case.seed,
                case.steps,
                name,
                answer.limit,
                train,
                test,
                float(near),
                float(far),
                answer.upper,
                answer.seconds,
                answer.chosen,
            )
        )
    return rows


def written(hidden: Sequence[int]) -> str:
    return "-".join(map(str, hidden))


def read_rows(path: Path | None) -> list[Row]:
    if path is None or not path.exists():
        return []
    kinds: dict[str, Callable[[str], object]] = {"int": int, "float": float, "str": str}
    with path.open(newline="") as file:
        return [
            Row(**{field.name: kinds[str(field.type)](line[field.name]) for field in fields(Row)})  # type: ignore[arg-type]
            for line in csv.DictReader(file)
        ]


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if new:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


# ----------------------------------------------------------------------------------------------------------- the tables


def report(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Means over the splits that all methods have: over sets, set by set, and what the goal asks."""
    have = {name: {(row.data, row.seed) for row in rows if row.method == name} for name in names}
    absent = [name for name in names if not have[name]]
    names = [name for name in names if have[name]]
    if absent:
        print(f"no rows yet: {', '.join(absent)}")
    if not names:
        return
    common = set.intersection(*(have[name] for name in names))
    rows = [row for row in rows if (row.data, row.seed) in common and row.method in names]
    sets = list(dict.fromkeys(row.data for row in rows))
    limits = sorted({row.limit for row in rows})
    print(f"\n{len(sets)} sets, {len(common)} splits in all\n")

    def mean(name: str, data: str, limit: float, value: str) -> float:
        return statistics.mean(
            getattr(row, value) for row in rows if (row.method, row.data, row.limit) == (name, data, limit)
        )

    def over_sets(name: str, limit: float, value: str) -> float:
        return statistics.mean(mean(name, data, limit, value) for data in sets)

    values = (*ERRORS, "lipschitz", "seconds")
    print_table(
        ["L at most", "method", *ERROR_NAMES, "L proved", "CPU s"],
        [
            [f"{limit:g}", name]
            + [f"{over_sets(name, limit, value):.{1 if value == 'seconds' else 4}f}" for value in values]
            for limit in limits
            for name in names
        ],
    )
    for value, title in zip(ERRORS, ERROR_NAMES):
        print(f"\n{title}, set by set\n")
        print_table(
            ["L at most", "method", *sets],
            [
                [f"{limit:g}", name, *(f"{mean(name, data, limit, value):.4f}" for data in sets)]
                for limit in limits
                for name in names
            ],
        )
    others = [name for name in names if name not in OWN]
    for own in (name for name in names if name in OWN and others):
        print(f"\n{own} over the best opponent\n")
        print_table(
            ["L at most", "sets with the least training error", *ERROR_NAMES],
            [
                [
                    f"{limit:g}",
                    _least({data: [mean(n, data, limit, "train") for n in (own, *others)] for data in sets}),
                    *(
                        f"{over_sets(own, limit, value) / min(over_sets(name, limit, value) for name in others):.3f}"
                        for value in ERRORS
                    ),
                ]
                for limit in limits
            ],
        )


def _least(errors: Mapping[str, Sequence[float]]) -> str:
    """Of how many sets the first error is the least, and of which it is not."""
    behind = [data for data, (own, *others) in errors.items() if own > min(others)]
    return f"{len(errors) - len(behind)} of {len(errors)}" + (f" (not {', '.join(behind)})" if behind else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=list(DATA), metavar="DATA", help=f"of {', '.join(DATA)}")
    parser.add_argument("--hidden", nargs="+", type=int, default=[64, 64])
    parser.add_argument("--limits", nargs="+", type=float, default=list(LIMITS))
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600, help="of Adam, for every opponent")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *OWN], choices=[*METHODS, *OWN], metavar="METHOD")
    parser.add_argument("--out", type=Path, help="a CSV file that is added to; rows that it holds are not made again")
    parser.add_argument("--report", action="store_true", help="only print the tables of --out")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}", flush=True)
    rows = read_rows(chosen.out)
    hidden = tuple(chosen.hidden)
    names = [name for name in chosen.methods if name in OWN or not METHODS[name].needs_deel or DEEL]
    if len(names) < len(chosen.methods) and not chosen.report:
        print("left out: deel-torchlip, which is not installed (pip install deel-torchlip)")
    done = {row.key for row in rows}
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    for seed, data, name in product([] if chosen.report else seeds, chosen.data, names):
        steps = 0 if name in OWN else chosen.steps
        wanted = [limit for limit in chosen.limits if (data, written(hidden), seed, steps, name, limit) not in done]
        if not wanted:
            continue
        case = Case(load_dataset(data, split=seed), hidden, tuple(wanted), steps, seed)
        made = measured(case, name, OWN[name](case) if name in OWN else opponent(METHODS[name], case))
        rows += made
        if chosen.out is not None:
            append_rows(chosen.out, made)
        for row in made:
            figures = " ".join(f"{getattr(row, value):.4f}" for value in (*ERRORS, "lipschitz"))
            print(f"{data} {seed} {name} {row.limit:g}: {figures} {row.seconds:.1f} s; {row.chosen}", flush=True)
    shown = [
        row
        for row in rows
        if row.hidden == written(hidden)
        and row.data in chosen.data
        and row.seed in seeds
        and row.limit in chosen.limits
        and row.steps in (0, chosen.steps)
    ]
    report(shown, chosen.methods)


if __name__ == "__main__":
    main()
