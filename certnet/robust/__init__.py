"""What perturbations of the inputs do to the error: attacks from below, certificates from above."""

from certnet.robust.attacks import PGDAttack
from certnet.robust.curves import AdversarialCurve, adversarial_mse, certified_mse

__all__ = ["AdversarialCurve", "PGDAttack", "adversarial_mse", "certified_mse"]
