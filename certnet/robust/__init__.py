"""What perturbations of the inputs do to error and class: attacks from below, certificates from above."""

from certnet.robust.attacks import PGDAttack
from certnet.robust.curves import AccuracyCurve, AdversarialCurve, accuracy_curve, adversarial_mse, certified_mse
from certnet.robust.intervals import prediction_intervals
from certnet.robust.radii import CertifiedRadii, certified_accuracy, certified_radius

__all__ = [
    "AccuracyCurve",
    "AdversarialCurve",
    "CertifiedRadii",
    "PGDAttack",
    "accuracy_curve",
    "adversarial_mse",
    "certified_accuracy",
    "certified_mse",
    "certified_radius",
    "prediction_intervals",
]
