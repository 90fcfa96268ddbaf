"""What perturbations of the inputs do to error and class: attacks from below, certificates from above."""

from certnet.robust.attacks import PGDAttack
from certnet.robust.curves import AdversarialCurve, adversarial_mse, certified_mse
from certnet.robust.radii import certified_accuracy, certified_radius

__all__ = [
    "AdversarialCurve",
    "PGDAttack",
    "adversarial_mse",
    "certified_accuracy",
    "certified_mse",
    "certified_radius",
]
