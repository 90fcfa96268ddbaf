"""Pictures of results. They read values that were computed elsewhere and solve nothing; matplotlib is optional."""

from certnet.plot.bounds import BoundsDisplay
from certnet.plot.coupling import CouplingDisplay, NoiseDisplay
from certnet.plot.curves import AdversarialCurveDisplay, TradeoffDisplay
from certnet.plot.figures import figure_png, save_figure
from certnet.plot.fits import PredictionDisplay, TraceDisplay
from certnet.plot.lifted import EnergyDisplay, FilterDisplay, GradientGapDisplay, LearningDisplay, RadiusDisplay
from certnet.plot.slopes import SlopesDisplay

__all__ = [
    "AdversarialCurveDisplay",
    "BoundsDisplay",
    "CouplingDisplay",
    "EnergyDisplay",
    "FilterDisplay",
    "GradientGapDisplay",
    "LearningDisplay",
    "NoiseDisplay",
    "PredictionDisplay",
    "RadiusDisplay",
    "SlopesDisplay",
    "TraceDisplay",
    "TradeoffDisplay",
    "figure_png",
    "save_figure",
]
