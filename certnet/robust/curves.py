"""Error and accuracy under perturbation against its radius: what an attack finds, and what is proved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array, positive_number
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.robust.attacks import PGDAttack
from certnet.robust.balls import ball_of
from certnet.robust.radii import Certificates, certified_accuracy, global_bounds
from certnet.robust.residuals import squared_residuals

__all__ = ["AccuracyCurve", "AdversarialCurve", "accuracy_curve", "adversarial_mse", "certified_mse"]

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, eq=False)
class AdversarialCurve:
    """``(1/N) Σ_i ‖f(x_i + δ_i) − y_i‖²`` under attack, for several radii of the perturbation.

    The mean is over samples and the squared norm sums over outputs; for one output this is the mean squared error.

    Attributes
    ----------
    epsilons : ndarray, shape (K,)
        Radii, increasing, in the units of the inputs.
    adversarial : ndarray, shape (K,)
        The error an attack reached: a lower bound of the worst case, in squared units of the target.
    clean : float
        The error without perturbation.
    certified : ndarray, shape (K,), or None
        An upper bound of the worst case, from a Lipschitz bound; it must lie above ``adversarial``.
    norm : {"l2", "linf"}
        Norm of the perturbation of one sample.

    Raises
    ------
    InvalidInputError
        Radii that are negative or do not increase, arrays of another length, errors that are negative, fall with
        the radius or lie below the clean one, an unknown norm.
    """

    epsilons: Float
    adversarial: Float
    clean: float
    certified: Float | None = None
    norm: str = "l2"

    def __post_init__(self) -> None:
        ball_of(self.norm)
        object.__setattr__(self, "epsilons", _read_only(_radii(self.epsilons)))
        object.__setattr__(self, "clean", positive_number(self.clean, "clean", zero=True))
        object.__setattr__(self, "adversarial", self._checked("adversarial", self.adversarial))
        if self.certified is not None:
            object.__setattr__(self, "certified", self._checked("certified", self.certified))

    def _checked(self, name: str, value: Float) -> Float:
        array = finite_array(value, name, ndim=(1,))
        if array.shape != self.epsilons.shape:
            raise InvalidInputError(f"{name} has {array.size} values, epsilons has {self.epsilons.size}")
        # a certified value at ε = 0 is the clean error squared out of its root, equal up to rounding
        floor = self.clean if name == "adversarial" else self.clean * (1.0 - _ROUNDING)
        if np.any(np.diff(array, prepend=floor) < 0.0):
            raise InvalidInputError(
                f"{name} falls with the radius or below the clean error {self.clean:g}: a perturbation that is "
                "admissible at one radius is admissible at every larger one"
            )
        return _read_only(array)

    @property
    def consistent(self) -> bool | None:
        """``certified ≥ adversarial`` at every radius, up to 1e-9 relative; None where nothing is certified.

        False disproves the Lipschitz bound: an attack went further than the bound allows.
        """
        if self.certified is None:
            return None
        return bool(np.all(self.certified >= self.adversarial * (1.0 - _ROUNDING)))


def adversarial_mse(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    epsilons: ArrayLike,
    attack: PGDAttack | None = None,
    *,
    lipschitz: float | None = None,
) -> AdversarialCurve:
    """``(1/N) Σ_i max_{k' ≤ k} ‖f(x_i + δ_i(ε_k')) − y_i‖²`` for radii ε_1 < ε_2 < …

    An attack found at a smaller radius is admissible at a larger one, so each sample keeps the worst so far.

    Parameters
    ----------
    net : ShallowNetwork or FeedForward
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    epsilons : array_like, shape (K,)
        Radii, increasing, in the units of the inputs.
    attack : PGDAttack, optional
        By default ``PGDAttack()``, in the l2 norm.
    lipschitz : float, optional
        Certified upper bound of the l2 Lipschitz constant of ``net``; it adds the certified curve of
        :func:`certified_mse`, in the norm of the attack.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN or infinite entries, radii that are negative or do not increase, a negative bound.
    UnsupportedModelError
        An activation that is given by its slopes alone, and has no values.
    """
    net = require_network(net)
    attack = PGDAttack() if attack is None else attack
    radii = _radii(epsilons)
    certified = None if lipschitz is None else certified_mse(net, X, y, radii, lipschitz, norm=attack.norm)
    clean = squared_residuals(net, X, y)
    adversarial = [float(np.mean(worst)) for worst in _running_worst(net, X, y, radii, attack, clean)]
    return AdversarialCurve(radii, np.array(adversarial), float(np.mean(clean)), certified, attack.norm)


def certified_mse(
    net: Network, X: ArrayLike, y: ArrayLike, epsilons: ArrayLike, lipschitz: float, norm: str = "l2"
) -> Float:
    """``(1/N) Σ_i (‖f(x_i) − y_i‖ + L ε κ)²`` with κ = 1 for l2 and κ = √d for l∞, shape (K,).

    An upper bound of the error under every perturbation of the radius, since ``‖f(x+δ) − f(x)‖_2 ≤ L ‖δ‖_2``
    and ``‖δ‖_2 ≤ √d ‖δ‖_∞``. Evaluated in float64, rounded to nearest.

    Parameters
    ----------
    net : ShallowNetwork or FeedForward
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    epsilons : array_like, shape (K,)
        Radii, increasing, in the units of the inputs.
    lipschitz : float
        Certified upper bound L of the l2 Lipschitz constant of ``net``, in the same units.
    norm : {"l2", "linf"}
        Norm of the perturbation.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN or infinite entries, radii that are negative or do not increase, a negative bound, an
        unknown norm.
    UnsupportedModelError
        As in :func:`adversarial_mse`.
    """
    net = require_network(net)
    bound = positive_number(lipschitz, "lipschitz", zero=True) * ball_of(norm).l2_radius(net.n_inputs)
    residuals = np.sqrt(squared_residuals(net, X, y))
    return np.array([np.mean((residuals + bound * radius) ** 2) for radius in _radii(epsilons)])


@dataclass(frozen=True, eq=False)
class AccuracyCurve:
    """Shares of samples that are classified right at every point within a radius, for several radii.

    Attributes
    ----------
    radii : ndarray, shape (K,)
        Norms of the perturbation, increasing, in the units of the inputs.
    everywhere : ndarray, shape (K,)
        As far as bounds of slopes for all inputs prove it.
    nearby : ndarray, shape (K,)
        As far as relaxation and bounds of slopes in the balls themselves prove it: never below.
    clean : float
        Share that is classified right without perturbation: no share is above.
    norm : {"l2", "linf"}
    """

    radii: Float
    everywhere: Float
    nearby: Float
    clean: float
    norm: str = "l2"


def accuracy_curve(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    radii: ArrayLike,
    certificates: Certificates | None = None,
    *,
    norm: str = "l2",
    method: str = "region",
) -> AccuracyCurve:
    """Certified accuracy by bounds for all inputs, and beside it by bounds in the balls; both are proved.

    Parameters
    ----------
    net, X, y, certificates, norm
        As in :func:`certnet.robust.certified_accuracy`.
    radii : array_like, shape (K,)
        At least 0, increasing.
    method : {"region", "relaxation"}
        What is tried in the balls.

    Raises
    ------
    InvalidInputError, CertificateError, UnsupportedModelError
        As in :func:`certnet.robust.certified_accuracy`; radii that do not increase.
    """
    sizes = _radii(radii)
    if method not in ("region", "relaxation"):
        raise InvalidInputError(f'method must be "region" or "relaxation", got {method!r}')
    net = require_network(net)
    known = global_bounds(net, norm) if certificates is None and net.n_outputs > 1 else certificates
    everywhere, nearby = (
        certified_accuracy(net, X, y, sizes, known, norm=norm, method=how) for how in ("global", method)
    )
    right = np.argmax(net.forward(X), axis=1) == finite_array(y, "y", ndim=(1,))
    return AccuracyCurve(sizes, everywhere, nearby, float(np.mean(right)), norm)


def _running_worst(
    net: Network, X: ArrayLike, y: ArrayLike, radii: Float, attack: PGDAttack, clean: Float
) -> Iterator[Float]:
    worst = clean
    for radius in radii:
        worst = np.maximum(worst, squared_residuals(net, attack.perturb(net, X, y, radius), y))
        yield worst


def _radii(epsilons: ArrayLike) -> Float:
    radii = finite_array(epsilons, "epsilons", ndim=(1,))
    if radii.size == 0 or radii[0] < 0.0 or np.any(np.diff(radii) <= 0.0):
        raise InvalidInputError(f"epsilons must be non-negative and strictly increasing, got {radii.tolist()}")
    return radii


def _read_only(array: Float) -> Float:
    array.flags.writeable = False
    return array
