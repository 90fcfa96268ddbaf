r"""What learning minimises over the parameters θ: mean energies of phases, each with its sign.

    unsupervised   (1/N) Σ_i min_z E(z; x_i)                                   Høier and Zach (2020), (18)
    contrastive    (1/N) Σ_i [ min_z E_i(z) − min_z E(z; x_i) ]   ≥ 0          Zach and Estellers (2019), (9)
    lifted         (1/N) Σ_i min_z E_i(z)                                      Zach and Estellers (2019), (5), (6)
    semi_supervised
        (1/N_l) Σ_{i labelled} [ min_z E_i(z) − min_z E(z; x_i) ]  +  α (1/N) Σ_i min_z E(z; x_i)

E_i is the energy with the output clamped, ``z_L = y_i``, or ``E(z; x_i) + weight · ℓ(z_L, y_i)`` with a convex loss ℓ.
The last, which Høier and Zach leave to future work, is the second for the N_l samples that have a target and the first
for all N, times α, the ``unsupervised_weight``. With the clamp, "lifted" with one-hot targets trains
class-conditional energies (Høier and Zach, Remark 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from certnet.core.errors import InvalidInputError
from certnet.core.validation import positive_number
from certnet.lifted.loss_functions import MarginLoss, SquaredLoss

__all__ = ["OBJECTIVES", "Objective"]

OBJECTIVES: Final = MappingProxyType(
    {
        "unsupervised": (1.0, 0.0),
        "contrastive": (-1.0, 1.0),
        "lifted": (0.0, 1.0),
        "semi_supervised": (-1.0, 1.0),
    }
)
"""Signs of the free phase and of the phase that sees the target; of samples with a target in the last."""


@dataclass(frozen=True)
class Objective:
    """An objective by name, and how its second phase sees the target.

    Parameters
    ----------
    kind : {"unsupervised", "contrastive", "lifted", "semi_supervised"}
    loss : "clamp", "squared", "margin" or a loss of :mod:`certnet.lifted.loss_functions`
        "squared" is ``½ ‖z_L − y‖²``; "margin" is ``MarginLoss()``, of class labels.
    weight : float
        Of the loss, positive; without effect for the clamp.
    unsupervised_weight : float
        ``α ≥ 0``, of "semi_supervised" alone. The contrastive part has the scale of ``γ^{L−1} ½‖z_L − y‖²``, the
        unsupervised one that of the inputs' own squares.

    Raises
    ------
    InvalidInputError
        Another name, a weight that is not positive, a negative α.
    """

    kind: str = "contrastive"
    loss: Any = "clamp"
    weight: float = 1.0
    unsupervised_weight: float = 1e-4

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in OBJECTIVES:
            raise InvalidInputError(f"objective is {self.kind!r}: one of {', '.join(OBJECTIVES)}")
        if isinstance(self.loss, str) and self.loss == "margin":
            object.__setattr__(self, "loss", MarginLoss())
        if isinstance(self.loss, str) and self.loss not in ("clamp", "squared"):
            raise InvalidInputError(
                f"loss is {self.loss!r}: 'clamp', 'squared', 'margin', or a loss of certnet.lifted.loss_functions"
            )
        missing = [name for name in ("targets", "value", "gradient", "hessian") if not hasattr(self.loss, name)]
        if not isinstance(self.loss, str) and missing:
            raise InvalidInputError(f"loss is {type(self.loss).__name__}, which has no {', '.join(missing)}: see Loss")
        if isinstance(self.loss, SquaredLoss):
            object.__setattr__(self, "loss", "squared")
        object.__setattr__(self, "weight", positive_number(self.weight, "loss_weight"))
        alpha = positive_number(self.unsupervised_weight, "unsupervised_weight", zero=True)
        object.__setattr__(self, "unsupervised_weight", alpha)

    @property
    def free_sign(self) -> float:
        """+1, −1, or 0 where the free phase is not needed."""
        return OBJECTIVES[self.kind][0]

    @property
    def target_sign(self) -> float:
        """+1, or 0 where there are no targets."""
        return OBJECTIVES[self.kind][1]

    @property
    def contrasts(self) -> bool:
        """Is the free energy taken off that of the phase that sees the target?"""
        return self.free_sign < 0.0

    @property
    def mixes(self) -> bool:
        """Are there samples without a target?"""
        return self.kind == "semi_supervised"

    @property
    def clamps(self) -> bool:
        return self.target_sign != 0.0 and self.loss == "clamp"
