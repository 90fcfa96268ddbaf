"""Lifted networks: activations that minimise a convex energy, in batches, with certified Lipschitz bounds."""

from certnet.lifted.inference import Inference, infer
from certnet.lifted.network import LiftedNetwork

__all__ = ["Inference", "LiftedNetwork", "infer"]
