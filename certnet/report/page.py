"""The HTML page: it stands alone, reads in the light, in the dark and on paper, and answers a stranger's questions."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from certnet.claims.cards import meaning
from certnet.claims.certificate import Certificate
from certnet.core.digits import above, below

__all__ = ["html_page"]

_NORMS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"l2": ("₂", "altogether (the root of the sum of the squares of all changes)"), "linf": ("_∞", "each")}
)
_OFF: Final = 0.1  # of the example: how far an input is off

# Pictures are drawn on white: in the dark they are turned over, with their hues kept.
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #222; --ground: #fff; --faint: #595959; --line: #ddd; --box: #f3f3f3;
  --warn: #D55E00; --warn-ground: #fdf3ec; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #d8d8d8; --ground: #131416; --faint: #a0a0a0; --line: #3a3c40; --box: #222427;
    --warn: #f08a3c; --warn-ground: #2b1d12; }
  img { filter: invert(.92) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 58rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; }
th, td { padding: .25rem .9rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .3rem 1.2rem; margin: 1rem 0; }
dt { color: var(--faint); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; } figcaption { color: var(--faint); }
code, pre { background: var(--box); border-radius: .2rem; } code { padding: .1rem .3rem; }
pre { padding: .6rem .8rem; overflow-x: auto; }
.card { border: 1px solid var(--line); border-radius: .4rem; padding: 0 1rem; margin: 1rem 0; }
.claim { font-size: 1.15em; }
.warning { border-color: var(--warn); background: var(--warn-ground); }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  th, td { padding: .25rem .5rem; } }
@media print {
  :root { color-scheme: light; --ink: #000; --ground: #fff; --faint: #444; --line: #bbb; --box: #f3f3f3;
    --warn-ground: #fff; }
  @page { margin: 18mm 16mm; }
  body { font-size: 10.5pt; max-width: none; margin: 0; padding: 0; }
  img { filter: none; max-height: 11cm; }
  .wide, pre { overflow: visible; } pre { white-space: pre-wrap; }
  h1, h2 { break-after: avoid; } tr, figure, .card, pre { break-inside: avoid; } thead { display: table-header-group; }
}
"""


def html_page(
    title: str,
    paragraphs: Sequence[str],
    rows: Sequence[Sequence[str]],
    certificate: Certificate,
    pictures: Sequence[tuple[bytes, str]],
    commands: Sequence[str],
    *,
    facts: Mapping[str, str] = MappingProxyType({}),
    warnings: Sequence[str] = (),
    sections: Mapping[str, Sequence[Sequence[str]]] = MappingProxyType({}),
    without_pictures: str = "",
) -> str:
    """One self-contained page: text, tables, PNG pictures with captions, the certificate in words, and commands.

    Parameters
    ----------
    title : str
    paragraphs : sequence of str
        What was done, below the title.
    rows : sequence of sequences of str
        The table of figures, its head first.
    certificate : Certificate
        In words: what is proved, what that means, and what it does not mean.
    pictures : sequence of (bytes, str)
        PNG and caption.
    commands : sequence of str
        That check the certificate again.
    facts : mapping of str to str
        Of the model and of the data, by name.
    warnings : sequence of str
        In a box below the table.
    sections : mapping of str to tables
        Further tables by their headings.
    without_pictures : str
        Stands in the pictures' place where there are none: why, and how to get them.
    """
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>\n"
        for png, caption in pictures
    )
    if without_pictures and not pictures:
        figures = (
            f"<p>{html.escape(without_pictures, quote=False)}</p>\n"  # with a command, to be copied or searched for
        )
    box = f'<div class="card warning">{_paragraphs(warnings)}</div>\n' if warnings else ""
    more = "".join(f"<h2>{html.escape(heading)}</h2>\n{_grid(body)}" for heading, body in sections.items())
    known = f"<h2>Which model, which data</h2>\n{_facts(facts)}" if facts else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head>
<body>
<h1>{html.escape(title)}</h1>
{_paragraphs(paragraphs)}
{_grid(rows)}{box}{known}<h2>What is proved</h2>
<div class="card">{_in_words(certificate)}</div>
<h2>What it means</h2>
{_list(_means(certificate))}
<h2>What it does not mean</h2>
{_list(_does_not_mean(certificate))}
{f"<h2>Pictures</h2>{chr(10)}{figures}" if figures else ""}{more}<h2>Check it again</h2>
<pre>{html.escape(chr(10).join(commands))}</pre>
</body></html>
"""


def _means(certificate: Certificate) -> list[str]:
    """The bound in sentences with numbers; all of them follow from the claim alone."""
    moved = above(math.nextafter(_OFF * certificate.upper, math.inf), 4)
    where = ", as long as they stay inside the region" if _is_local(certificate) else ""
    return [
        f"{_sentence(meaning(certificate))}.",
        f"Inputs that are off by {_OFF:g} {_NORMS[certificate.norm][1]} move it by at most {moved}, whoever chose the "
        f"error, for samples seen or unseen{where}.",
        f"The true constant lies between {below(certificate.lower, 4)} and {above(certificate.upper, 4)}: the bound "
        f"is too large by a factor of at most {_factor(certificate)}.",
    ]


def _does_not_mean(certificate: Certificate) -> list[str]:
    """What a reader could take it for, and it is not."""
    several = certificate.shape[0] > 1
    return [
        "That predictions are right. Errors on data are measured, not proved, and hold for these data.",
        "That an input moves the prediction so much. Most move it less; what an attack found stands beside it.",
        *(
            [
                "How steep the model is along one input: the bound is for all of them together, in any direction; "
                "along one it may be much smaller (certify_features)."
            ]
            if several and certificate.norm == "l2"
            else []
        ),
        "Anything outside the region: not one step beyond its limits."
        if _is_local(certificate)
        else "That the bound is tight where the data are: it holds for all inputs, also for those that never occur. "
        "In a region it may be much smaller.",
        "Anything of another network: after further training, rounding to fewer digits or another scaling of its "
        "inputs the model has another digest.",
        "Anything of rounding while a prediction is computed: it speaks of the stored weights in real arithmetic.",
    ]


def _is_local(certificate: Certificate) -> bool:
    return certificate.radius is not None or certificate.box is not None


def _factor(certificate: Certificate) -> str:
    return above(certificate.upper / certificate.lower, 3) if certificate.lower > 0.0 else "unknown size"


def _in_words(certificate: Certificate) -> str:
    sizes = "-".join(map(str, certificate.shape))
    subject = f", {html.escape(certificate.subject)}" if certificate.subject else ""
    norm = _NORMS[certificate.norm][0]
    return (
        f'<p class="claim">‖f(x) − f(y)‖₂ ≤ <b>{above(certificate.upper)}</b> ‖x − y‖{norm}</p>'
        f"<p>for all inputs x and y{' of the region' if certificate.region.words else ''}, f the {sizes} network with "
        f"SHA-256 <code>{certificate.digest[:16]}…</code> ({_units(certificate)}{subject}). "
        f"No number below {below(certificate.lower)} would do: the gradient at the witness is that steep.</p>"
        f"<p>It is proved by {_proof_in_words(certificate)}, with every rounding error accounted for. Whoever has the "
        "network and the certificate can check it without trusting the program that found it.</p>"
    )


def _proof_in_words(certificate: Certificate) -> str:
    d, *hidden, m = certificate.shape
    # in the maximum norm weights of the inputs stand behind the multipliers of the units
    weights = f", {d} weights of the inputs" if certificate.norm == "linf" else ""
    if certificate.kind == "shallow":
        of_units = certificate.multipliers[0] if weights else certificate.multipliers
        n = int(np.count_nonzero(of_units))
        return f"{n} multipliers{weights} and one matrix inequality of order {d + m}"
    if certificate.kind == "neuron":
        parts = certificate.multipliers[: len(hidden)]
        n = sum(int(np.count_nonzero(part)) for part in parts)
        return f"{n} multipliers, one per hidden unit{weights}, and one matrix inequality of order {d + sum(hidden)}"
    if certificate.kind == "tree":
        return "a tree of cases, with multipliers and a matrix inequality in each"
    if certificate.kind == "regional":
        return "multipliers of the units that can bend in the region, layer by layer"
    if certificate.kind == "parts":
        return "cutting inputs or units into parts, with multipliers in each"
    return f"bounds of its layers, one after another (a proof of the kind “{html.escape(certificate.kind)}”)"


def _units(certificate: Certificate) -> str:
    return "units as given" if certificate.units == "as given" else f"{certificate.units} units"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"


def _facts(facts: Mapping[str, str]) -> str:
    told = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{told}</dl>\n"


def _grid(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in body)
    return (
        f'<div class="wide"><table><thead><tr>{"".join(f"<th>{html.escape(cell)}</th>" for cell in head)}</tr>'
        f"</thead>\n<tbody>\n{cells}</tbody></table></div>\n"
    )
