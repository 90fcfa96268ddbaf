"""What certnet raises. Every message says what was wrong, where, and what to do."""

__all__ = [
    "AlteredCertificateError",
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


class CertnetError(Exception):
    """Base of every error that certnet raises on purpose."""


class InvalidInputError(CertnetError, ValueError):
    """An argument has a wrong shape, type or value (NaN, infinite, out of range)."""


class UnsupportedModelError(CertnetError, ValueError):
    """A model of a kind that certnet does not read; the message names the kinds that it does."""


class FileFormatError(CertnetError, ValueError):
    """A file is truncated, of another format, or holds what its format does not allow."""


class OutputError(CertnetError, OSError):
    """An output exists already and may not be overwritten, or cannot be written; nothing half-written is left."""


class MissingDependencyError(CertnetError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class SolverError(CertnetError, RuntimeError):
    """A solver failed and left no usable point."""


class NotReachedError(InvalidInputError, SolverError):
    """No network within the limits that were asked for was found: they are too tight, or the work was too short."""


class SolverUnavailableError(SolverError):
    """A solver is not installed, has no licence, or cannot solve this kind of program."""


class CertificateError(CertnetError, ValueError):
    """A certificate does not prove what it claims, or is not a certificate of this network."""


class AlteredCertificateError(CertificateError, FileFormatError):
    """A file is a certificate by its schema, but its fields do not fit each other: it was altered or is incomplete."""


class DatasetError(CertnetError, LookupError):
    """A data set cannot be found, downloaded or trusted (its sha256 differs)."""


class CertnetWarning(UserWarning):
    """Base of every warning that certnet issues."""


class NotConvergedWarning(CertnetWarning):
    """A solver stopped before it reached its tolerance; the status of the result says what to try."""


class RoseWarning(CertnetWarning):
    """A refinement lowered its training objective, and the error on held-out samples or the certified L rose."""


class ScaleWarning(CertnetWarning):
    """Inputs differ so much in their spread that one number L hardly says anything of the narrow ones."""
