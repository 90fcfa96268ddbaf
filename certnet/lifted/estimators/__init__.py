"""Lifted networks as scikit-learn estimators: a classifier, a regressor, and a model of what data look like."""

from certnet.lifted.estimators.classifier import LiftedClassifier
from certnet.lifted.estimators.density import LiftedDensity
from certnet.lifted.estimators.regressor import LiftedRegressor

__all__ = ["LiftedClassifier", "LiftedDensity", "LiftedRegressor"]
