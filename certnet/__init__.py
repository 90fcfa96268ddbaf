"""certnet: refine pretrained ReLU regressors by convex programs and certify their Lipschitz constants."""

from certnet._version import __version__
from certnet.certify import Certificate, certify
from certnet.network import ShallowNetwork

__all__ = ["Certificate", "ShallowNetwork", "__version__", "certify"]
