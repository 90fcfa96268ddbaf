"""The lifted network as a user meets it: its energy, and what can be asked of it."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certnet.energy import LiftedEnergy
from certnet.lifted.inference import Inference, infer
from certnet.lifted.qp import SampleQP, sample_qp
from certnet.validation import Float

__all__ = ["LiftedNetwork"]


class LiftedNetwork(LiftedEnergy):
    """``x ↦ z_L*(x)`` with ``z*(x) = argmin_z E(z; x)``; parameters are those of :class:`~certnet.energy.LiftedEnergy`.

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
        output = self.infer(X, **options).output
        return output[:, 0] if self.n_outputs == 1 else output

    def qp(self, x: ArrayLike, clamp: ArrayLike | None = None) -> SampleQP:
        """Inference of one sample as an explicit sparse program, for any QP solver."""
        return sample_qp(self, x, clamp)
