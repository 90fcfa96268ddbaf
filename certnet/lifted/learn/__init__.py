"""Learning lifted networks: what is minimised, both phases of a batch, optimisers, and one loop with checkpoints."""

from certnet.lifted.learn.fraction import linear_fraction
from certnet.lifted.learn.initial import initial_network
from certnet.lifted.learn.loop import train
from certnet.lifted.learn.objective import OBJECTIVES, Objective
from certnet.lifted.learn.settings import Training
from certnet.lifted.learn.trained import Trained

__all__ = ["OBJECTIVES", "Objective", "Trained", "Training", "initial_network", "linear_fraction", "train"]
