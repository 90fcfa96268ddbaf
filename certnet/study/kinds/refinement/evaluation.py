"""One network, measured: objectives, errors, attacks, and a certified bracket; and means of its curves over trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from certnet.certification import Certificate, certify
from certnet.data import Dataset
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.objectives import l2_penalty, mean_squared_error
from certnet.robust import PGDAttack, adversarial_mse
from certnet.study.spec import Attack
from certnet.study.tasks import Row

__all__ = ["Evaluation", "curve_mean", "evaluate", "finite", "median_error"]


@dataclass(frozen=True)
class Evaluation:
    """How networks of one study are measured.

    Attributes
    ----------
    weight : float
        λ of both objectives.
    attack : Attack
    attack_seed : int
        The same for all networks of one data set and trial, so that they meet the same attacks.
    """

    weight: float
    attack: Attack
    attack_seed: int


def evaluate(
    network: ShallowNetwork, data: Dataset, how: Evaluation, certificate: Certificate | None = None
) -> tuple[Row, str]:
    """The columns of a network, and why they cannot be (empty where they can): an attack above its certified limit.

    Objectives and ``mse`` are on the training part, the curves on the test part; ``lower`` and ``upper`` bracket the
    Lipschitz constant. All in standardised units.
    """
    proof = certify(network, X=data.X_train) if certificate is None else certificate
    mse = mean_squared_error(network, data.X_train, data.y_train)
    attack = PGDAttack(how.attack.norm, how.attack.steps, how.attack.restarts, random_state=how.attack_seed)
    curve = adversarial_mse(network, data.X_test, data.y_test, how.attack.epsilons, attack, lipschitz=proof.upper)
    certified: list[float] = [] if curve.certified is None else curve.certified.tolist()
    row: Row = {
        "objective_l2": mse + how.weight * l2_penalty(network),
        "objective_lipschitz": mse + how.weight * proof.rho,
        "mse": mse,
        "mse_test": curve.clean,
        "lower": proof.lower,
        "upper": proof.upper,
        "adversarial_mse": _by_radius(how.attack.epsilons, curve.adversarial.tolist()),
        "certified_mse": _by_radius(how.attack.epsilons, certified),
    }
    return row, _violation(row["adversarial_mse"], row["certified_mse"], bool(curve.consistent))


def curve_mean(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Mean over rows of a curve (``adversarial_mse``, ``certified_mse``), by radius."""
    return {epsilon: fmean(row[name][epsilon] for row in rows) for epsilon in rows[0][name]}


def median_error(rows: Sequence[Row]) -> float:
    """Y's criterion: the median over the radii of the adversarial error, here of its mean over trials."""
    return float(median(curve_mean(rows, "adversarial_mse").values()))


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinities, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def _by_radius(epsilons: list[float], values: list[float]) -> Mapping[str, float]:
    return {f"{epsilon:g}": value for epsilon, value in zip(epsilons, values)}


def _violation(attacked: Mapping[str, float], certified: Mapping[str, float], consistent: bool) -> str:
    if consistent:
        return ""
    where = next(epsilon for epsilon in attacked if certified[epsilon] < attacked[epsilon])
    return (
        f"the certified error {certified[where]:.9g} at radius {where} is below {attacked[where]:.9g}, which an attack "
        "reached: the certificate is wrong, please report it"
    )
