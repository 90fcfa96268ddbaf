"""Two networks side by side: figures measured on data, as rows of a table and as an HTML page with pictures."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from certnet.certification import Certificate, certify
from certnet.core.digits import above, below
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.objectives import mean_squared_error
from certnet.robust import AdversarialCurve, PGDAttack, adversarial_mse

__all__ = ["Evaluation", "evaluate", "html_page", "table"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one network is worth on one data set, every figure recomputed from the network and the data.

    Attributes
    ----------
    train_mse, test_mse : float
    curve : AdversarialCurve
        On the test part, with the certified curve beside the attacked one.
    certificate : Certificate
    cheaper : dict of str to float
        Cheaper upper bounds of the Lipschitz constant.
    objective : float
        ``train mse + weight · ρ``.
    seconds : float
        To certify it.
    """

    train_mse: float
    test_mse: float
    curve: AdversarialCurve
    certificate: Certificate
    cheaper: Mapping[str, float]
    objective: float
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Plain numbers and lists, for JSON."""
        return {
            "train_mse": self.train_mse,
            "test_mse": self.test_mse,
            "epsilons": self.curve.epsilons.tolist(),
            "adversarial_mse": self.curve.adversarial.tolist(),
            "certified_mse": None if self.curve.certified is None else self.curve.certified.tolist(),
            "lipschitz_lower": self.certificate.lower,
            "lipschitz_upper": self.certificate.upper,
            "cheaper_upper_bounds": dict(self.cheaper),
            "objective": self.objective,
            "seconds": self.seconds,
        }


def evaluate(
    network: ShallowNetwork,
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    weight: float,
    epsilons: ArrayLike,
    attack: PGDAttack | None = None,
) -> Evaluation:
    """Certify ``network``, attack it on the test part, and recompute its objective on the training part."""
    start = time.perf_counter()
    certificate = certify(network, X=train[0], tol=1e-7)
    seconds = time.perf_counter() - start
    train_mse = mean_squared_error(network, *train)
    return Evaluation(
        train_mse=train_mse,
        test_mse=mean_squared_error(network, *test),
        curve=adversarial_mse(network, *test, epsilons, attack, lipschitz=certificate.upper),
        certificate=certificate,
        cheaper=certificate.cheaper,
        objective=train_mse + weight * certificate.rho,
        seconds=seconds,
    )


def table(
    models: Mapping[str, Evaluation], seconds: Mapping[str, float], *, epsilons: Sequence[float] | None = None
) -> list[tuple[str, ...]]:
    """Rows of text: a head with the models' names, then one row per figure.

    ``seconds`` is what each took to make; ``epsilons`` are the radii to show, all that were evaluated by default.
    """
    values = list(models.values())
    rows: list[tuple[str, ...]] = [("", *models)]

    def add(name: str, cells: Sequence[str]) -> None:
        rows.append((name, *cells))

    add("objective (train MSE + weight · L²)", [f"{v.objective:.4f}" for v in values])
    add("train MSE", [f"{v.train_mse:.4f}" for v in values])
    add("test MSE", [f"{v.test_mse:.4f}" for v in values])
    for i, epsilon in enumerate(values[0].curve.epsilons):
        if epsilon > 0.0 and (epsilons is None or epsilon in epsilons):
            add(f"adversarial test MSE, ε = {epsilon:g}", [f"{v.curve.adversarial[i]:.4f}" for v in values])
    add("Lipschitz constant, at least", [below(v.certificate.lower, 5) for v in values])
    add("Lipschitz constant, at most (certified)", [above(v.certificate.upper, 5) for v in values])
    add("product of spectral norms", [above(v.cheaper["product of spectral norms"], 5) for v in values])
    add("seconds to certify", [f"{v.seconds:.4f}" for v in values])
    add("seconds to train or refine", [f"{seconds[name]:.1f}" for name in models])
    return rows


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 58rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .9rem; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #555; }
code { background: #f3f3f3; padding: .1rem .3rem; }
.card { border: 1px solid #bbb; border-radius: .4rem; padding: 1rem; }
"""


def html_page(
    title: str,
    paragraphs: Sequence[str],
    rows: Sequence[Sequence[str]],
    certificate: Certificate,
    pictures: Sequence[tuple[bytes, str]],
    commands: Sequence[str],
) -> str:
    """One self-contained page: text, table, the certificate in words, PNG pictures with captions, and commands."""
    head, *body = rows
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in body)
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>\n"
        for png, caption in pictures
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head>
<body>
<h1>{html.escape(title)}</h1>
{"".join(f"<p>{html.escape(text)}</p>" for text in paragraphs)}
<table><thead><tr>{"".join(f"<th>{html.escape(cell)}</th>" for cell in head)}</tr></thead>
<tbody>
{cells}</tbody></table>
{figures}<h2>The certificate</h2>
<div class="card">{_in_words(certificate)}</div>
<h2>Check it again</h2>
<pre>{html.escape(chr(10).join(commands))}</pre>
</body></html>
"""


def _in_words(certificate: Certificate) -> str:
    d, h, m = certificate.shape
    return (
        f"<p>For all inputs x and y of the {d}-{h}-{m} network with SHA-256 <code>{certificate.digest[:16]}…</code>, "
        f"‖f(x) − f(y)‖₂ ≤ <b>{above(certificate.upper)}</b> ‖x − y‖₂ ({html.escape(certificate.units)} units). "
        f"No number below {below(certificate.lower)} would do: the gradient at the witness is that steep.</p>"
        f"<p>It is proved by {int(np.count_nonzero(certificate.multipliers))} multipliers and one matrix inequality of "
        f"order {d + m}, with every rounding error accounted for.</p>"
    )
