"""A certificate as a card for notebooks: HTML with a small picture, no scripts, no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from certnet.core.digits import above, below

if TYPE_CHECKING:
    from certnet.claims.certificate import Certificate

__all__ = ["card", "meaning"]

_WIDTH, _LEFT, _ROW = 560, 190, 24
_PROVED, _CHEAPER, _TEXT = "#0072B2", "#999999", "currentColor"


def meaning(certificate: Certificate) -> str:
    """The upper bound in one sentence."""
    norm = "l2" if certificate.norm == "l2" else "l-infinity"
    what = certificate.output_name
    if certificate.output is not None:
        what = "output " + " minus output ".join(map(str, certificate.output))
    where = "" if certificate.radius is None else f", within {certificate.radius:g} of the given point"
    where = ", within the given box" if certificate.box is not None else where
    return (
        f"{what} moves by at most {above(certificate.upper, 4)} per unit of input "
        f"({norm} norm, {certificate.units} units){where}"
    )


def card(certificate: Certificate) -> str:
    """HTML: the bracket, what it means, the bracket beside cheaper bounds, and where it comes from."""
    sentence = meaning(certificate)
    rows = [
        ("network", "-".join(map(str, certificate.shape)) + f", digest {certificate.digest[:12]}…"),
        *([("read from", certificate.read)] if certificate.read else []),
        ("proved by", f"{certificate.kind} multipliers ({certificate.method})"),
        ("found in", f"{certificate.seconds:.3g} s, {certificate.created}"),
    ]
    left = 'style="text-align:left"'
    table = "".join(f"<tr><td {left}>{escape(name)}</td><td {left}>{escape(value)}</td></tr>" for name, value in rows)
    return (
        '<div style="border:1px solid #8888;border-radius:6px;padding:10px 14px;display:inline-block;max-width:600px">'
        f"<div><b>{below(certificate.lower)} ≤ L ≤ {above(certificate.upper)}</b></div>"
        f"<div>{escape(sentence[0].upper() + sentence[1:])}.</div>"
        f"{_picture(certificate)}"
        f'<table style="font-size:smaller">{table}</table>'
        '<div style="font-size:smaller;opacity:.7">Both sides are proved for the network with the stored weights in '
        "real arithmetic; <code>certificate.check(network)</code> re-checks them.</div></div>"
    )


def _picture(certificate: Certificate) -> str:
    """The proved bracket as a bar, cheaper upper bounds as marks below it, on one axis from zero."""
    cheaper = sorted(certificate.cheaper.items(), key=lambda item: item[1])
    longest = max([certificate.upper, *(value for _, value in cheaper)])
    if not longest > 0.0:
        return ""
    height = _ROW * (1 + len(cheaper)) + 6

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 90) * value / longest

    middle = _ROW / 2
    lower, upper = x(certificate.lower), x(certificate.upper)
    parts = [
        _label("proved bracket", middle),
        f'<rect x="{lower:.1f}" y="{middle - 6}" width="{max(upper - lower, 2.0):.1f}" height="12" fill="{_PROVED}"/>',
        _value(above(certificate.upper, 4), upper, middle),
    ]
    for row, (name, value) in enumerate(cheaper, start=1):
        y = middle + row * _ROW
        parts += [
            _label(name, y),
            f'<line x1="{_LEFT}" x2="{x(value):.1f}" y1="{y}" y2="{y}" stroke="{_CHEAPER}" stroke-dasharray="2 3"/>',
            f'<rect x="{x(value) - 1.5:.1f}" y="{y - 6}" width="3" height="12" fill="{_CHEAPER}"/>',
            _value(above(value, 4), x(value), y),
        ]
    axis = f'<line x1="{_LEFT}" x2="{_LEFT}" y1="0" y2="{height}" stroke="{_TEXT}"/>'
    return (
        f'<svg width="{_WIDTH}" height="{height}" role="img" aria-label="bracket beside cheaper upper bounds">'
        f"{axis}{''.join(parts)}</svg>"
    )


def _label(text: str, y: float) -> str:
    return f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" font-size="12" fill="{_TEXT}">{escape(text)}</text>'


def _value(text: str, x: float, y: float) -> str:
    return f'<text x="{x + 6:.1f}" y="{y + 4}" font-size="12" fill="{_TEXT}">{escape(text)}</text>'
