"""``python -m certnet.proofs CERTIFICATE MODEL``: check a certificate with the trusted base alone.

CERTIFICATE is a file that the ``save`` of a certificate or of slope intervals wrote, MODEL the ``.npz`` that a
network's ``save`` wrote. Exit code 0: both sides, or all intervals, are proved; 1: they are not, or the file was
altered, and why; 2: misuse: the first file is no certificate, or the model cannot be read. Models in other formats are
read by ``certnet check``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from certnet.claims.certificate import Certificate
from certnet.claims.families import FAMILIES
from certnet.claims.verdict import Verdict
from certnet.core.digits import above, below
from certnet.core.errors import AlteredCertificateError, CertnetError
from certnet.core.files import path_of
from certnet.networks.feedforward import FeedForward
from certnet.proofs.slopes import SlopeIntervals, holds_slopes

__all__ = ["main"]

_USAGE = "usage: python -m certnet.proofs CERTIFICATE MODEL   (a JSON file, a network's .npz file)"


def main(arguments: Sequence[str]) -> int:
    """Check the certificate in the first file against the model in the second; the exit code."""
    if len(arguments) != 2 or any(name in ("-h", "--help") for name in arguments):
        sys.stderr.write(f"{_USAGE}\n")
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    proof, model = map(path_of, arguments)
    if not proof.is_file():
        sys.stderr.write(f"error: {proof} does not exist: check the path\n")
        return 2
    try:
        claim = SlopeIntervals.load(proof) if holds_slopes(proof) else Certificate.load(proof)
    except AlteredCertificateError as error:
        sys.stdout.write(f"refused: {error}\n")
        return 1
    except CertnetError as error:  # not even a certificate
        sys.stderr.write(f"error: {error}\n")
        return 2
    try:
        verdict = _checked(claim, model)
    except CertnetError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if not verdict:
        sys.stdout.write(f"refused: {verdict.reason}\n")
        return 1
    if isinstance(claim, Certificate):
        about = f" ({claim.subject})" if claim.subject else ""
        sys.stdout.write(f"holds: {below(claim.lower)} <= L <= {above(claim.upper)}{about}\n")
    else:
        sys.stdout.write("\n".join([f"holds: {verdict.reason}", *claim.sentences, ""]))
    return 0


def _checked(claim: Certificate | SlopeIntervals, model: Path) -> Verdict:
    if isinstance(claim, Certificate):
        return claim.check(FAMILIES[claim.family].load(model))
    return claim.check(FeedForward.load(model))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
