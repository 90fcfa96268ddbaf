"""certnet: refine pretrained ReLU regressors by convex programs and certify their Lipschitz constants."""

from certnet._version import __version__
from certnet.network import ShallowNetwork

__all__ = ["ShallowNetwork", "__version__"]
