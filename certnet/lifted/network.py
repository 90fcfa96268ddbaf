"""The lifted network as a user meets it: its energy, and what can be asked of it."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certnet.claims.certificate import Certificate
from certnet.core.validation import Float
from certnet.lifted.bounds import Guarantee, certified_radius, lipschitz_bound
from certnet.lifted.bounds.radius import Certificates
from certnet.lifted.dual import Duals, duality_gap, duals
from certnet.lifted.forward import forward_pass
from certnet.lifted.inference import Inference, infer, outputs
from certnet.lifted.losses import Loss, infer_with_loss
from certnet.lifted.scoring import class_energies, scores
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import SampleQP, sample_qp

__all__ = ["LiftedNetwork"]


class LiftedNetwork(LiftedEnergy):
    """``x ↦ z_L*(x)`` with ``z*(x) = argmin_z E(z; x)``; parameters are those of
    :class:`~certnet.networks.energy.LiftedEnergy`.

    Examples
    --------
    >>> import numpy as np
    >>> net = LiftedNetwork([[[1.0, 0.0]], [[2.0]]], beta=[1.0, 0.0], gamma=0.5)
    >>> net.predict(np.array([[1.0, 5.0], [-1.0, 5.0]])).round(6)
    array([2., 0.])
    """

    def infer(self, X: ArrayLike, **options: Any) -> Inference:
        """Activations of every row of X; options are those of :func:`certnet.lifted.inference.infer`."""
        return infer(self, X, **options)

    def predict(self, X: ArrayLike, **options: Any) -> Float:
        """``z_L*`` at every row of X (N, d): shape (N,) for one output, else (N, n_L)."""
        output = outputs(self, X, **options)
        return output[:, 0] if self.n_outputs == 1 else output

    def forward(self, X: ArrayLike, *, reconstruct: bool = True, tol: float = 1e-6) -> Inference:
        """One pass through the layers in place of a minimisation: :func:`certnet.lifted.forward.forward_pass`."""
        return forward_pass(self, X, reconstruct=reconstruct, tol=tol)

    def qp(self, x: ArrayLike, clamp: ArrayLike | None = None) -> SampleQP:
        """Inference of one sample as an explicit sparse program, for any QP solver."""
        return sample_qp(self, x, clamp)

    def infer_with_loss(self, X: ArrayLike, loss: str | Loss, targets: ArrayLike, **options: Any) -> Inference:
        """``argmin_z E(z; x) + weight · ℓ(z_L, y)``.

        ``loss`` is "squared", "huber", "cross_entropy", "squared_hinge" or one of
        :mod:`certnet.lifted.loss_functions`; options are those of :func:`certnet.lifted.losses.infer_with_loss`.
        """
        return infer_with_loss(self, X, loss, targets, **options)

    def dual(self, X: ArrayLike, inference: Inference) -> Duals:
        """λ_k and μ_k of an inference, the dual variables of its energy: :func:`certnet.lifted.dual.duals`."""
        return duals(self, X, inference)

    def gap(self, X: ArrayLike, inference: Inference, clamp: ArrayLike | None = None) -> Float:
        """What the energies of an inference lie above the minimum at most: :func:`certnet.lifted.dual.duality_gap`."""
        return duality_gap(self, X, inference, clamp)

    def lipschitz_bound(self, method: str = "sdp", **options: Any) -> Certificate:
        """A proved bracket of the Lipschitz constant of ``x ↦ z_L*(x)``: "theorem", "layerwise" or "sdp".

        Options are those of :func:`certnet.lifted.bounds.lipschitz_bound`.
        """
        return lipschitz_bound(self, method, **options)

    def certified_radius(self, X: ArrayLike, certificate: Certificates = "sdp", **options: Any) -> Guarantee:
        """Predicted class, margin and certified radius of every row of X.

        Options are those of :func:`certnet.lifted.bounds.certified_radius`.
        """
        return certified_radius(self, X, certificate, **options)

    def scores(self, X: ArrayLike, **options: Any) -> Float:
        """``min_z E(z; x)`` of every row of X, shape (N,): larger means less like the training data."""
        return scores(self, X, **options)

    def class_energies(self, X: ArrayLike, **options: Any) -> Float:
        """``min_{z: z_L = e_c} E(z; x)`` of every row of X and every class c, (N, n_L): the least says the class.

        Options are those of :func:`certnet.lifted.scoring.class_energies`.
        """
        return class_energies(self, X, **options)
