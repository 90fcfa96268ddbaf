"""The scikit-learn face: train or take a regressor, refine it, certify it, predict with it."""

from certnet.estimators.cv import CertifiedRegressorCV
from certnet.estimators.regressor import CertifiedRegressor

__all__ = ["CertifiedRegressor", "CertifiedRegressorCV"]
