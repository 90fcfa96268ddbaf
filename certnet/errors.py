"""What certnet raises and warns, under the name that callers catch it by; defined in :mod:`certnet.core.errors`."""

from certnet.core.errors import (
    CertificateError,
    CertnetError,
    CertnetWarning,
    DatasetError,
    FileFormatError,
    InvalidInputError,
    MissingDependencyError,
    NotConvergedWarning,
    NotReachedError,
    OutputError,
    RoseWarning,
    ScaleWarning,
    SolverError,
    SolverUnavailableError,
    UnsupportedModelError,
)

__all__ = [
    "CertificateError",
    "CertnetError",
    "CertnetWarning",
    "DatasetError",
    "FileFormatError",
    "InvalidInputError",
    "MissingDependencyError",
    "NotConvergedWarning",
    "NotReachedError",
    "OutputError",
    "RoseWarning",
    "ScaleWarning",
    "SolverError",
    "SolverUnavailableError",
    "UnsupportedModelError",
]
