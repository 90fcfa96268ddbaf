"""Pictures: their artists carry the data, files are what their suffix says, nothing global is touched."""

import subprocess
import sys

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError, MissingDependencyError, OutputError
from certnet.core.outcome import Status
from certnet.plot import (
    AdversarialCurveDisplay,
    BoundsDisplay,
    PredictionDisplay,
    TraceDisplay,
    figure_png,
    save_figure,
)
from certnet.refinement.trace import TraceRow
from certnet.robust.curves import AdversarialCurve

BOUNDS = {
    "before": {"lower": 3.0, "upper": 4.0, "product of spectral norms": 180.0},
    "after": {"lower": 0.875, "upper": 0.875, "product of spectral norms": 7.0, "row sums": 5.0},
}


@pytest.fixture(autouse=True)
def _needs_matplotlib(request):
    if "without_matplotlib" not in request.node.name:
        pytest.importorskip("matplotlib", reason="pictures need the plot extra")


def curves(top=9.0, norm="l2"):
    epsilons = np.array([0.1, 0.2])
    return {
        "before": AdversarialCurve(epsilons, np.array([2.0, 3.0]), 1.0, np.array([4.0, top]), norm),
        "after": AdversarialCurve(epsilons, np.array([1.5, 2.0]), 1.2, None, norm),
    }


def line_with_label(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def legend_labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(display):
    return figure_png(display.figure_, dpi=40).startswith(b"\x89PNG\r\n\x1a\n")


def test_curves_carry_their_data():
    display = AdversarialCurveDisplay.from_curves(curves(), units="raw")
    ax = display.ax_
    attacked, certified = line_with_label(ax, "before"), line_with_label(ax, "_before, certified")
    np.testing.assert_array_equal(attacked.get_xdata(), [0.1, 0.2])
    np.testing.assert_array_equal(attacked.get_ydata(), [2.0, 3.0])
    np.testing.assert_array_equal(certified.get_ydata(), [4.0, 9.0])
    assert (attacked.get_linestyle(), certified.get_linestyle()) == ("-", "--")
    assert attacked.get_color() == certified.get_color() != line_with_label(ax, "after").get_color()
    assert "_after, certified" not in [line.get_label() for line in ax.lines]
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    np.testing.assert_array_equal(dotted[0].get_xydata(), [[0.0, 1.0], [0.1, 2.0]])
    assert "raw inputs" in ax.get_xlabel()
    assert r"\ell_2" in ax.get_xlabel()
    assert "raw target, squared" in ax.get_ylabel()
    assert legend_labels(ax) == ["before", "after", "attacked (lower bound)", "certified (upper bound)"]
    assert drawn(display)


@pytest.mark.parametrize(("top", "scale"), [(29.0, "linear"), (31.0, "log")])
def test_the_error_axis_is_logarithmic_where_the_range_is_wide(top, scale):
    display = AdversarialCurveDisplay.from_curves(curves(top), units="standardised")
    assert display.ax_.get_yscale() == scale
    low, high = display.ax_.get_ylim()
    assert low < 1.0
    assert high > top
    assert drawn(display)


def test_an_error_of_zero_keeps_the_axis_linear():
    curve = AdversarialCurve(np.array([0.0, 1.0]), np.array([0.0, 100.0]), 0.0)
    display = AdversarialCurveDisplay.from_curves({"exact": curve})
    assert display.ax_.get_yscale() == "linear"
    assert legend_labels(display.ax_) == ["exact", "attacked (lower bound)"]
    assert "inputs as given" in display.ax_.get_xlabel()


def test_bounds_are_brackets_and_markers_on_a_logarithmic_axis():
    display = BoundsDisplay.from_bounds(BOUNDS)
    ax = display.ax_
    assert ax.get_xscale() == "log"
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(spans, [(3.0, 4.0), (0.875, 0.875)])
    np.testing.assert_allclose([bar.get_y() + bar.get_height() / 2 for bar in ax.patches], [0, 1])
    products = line_with_label(ax, "product of spectral norms")
    np.testing.assert_array_equal(products.get_xydata(), [[180.0, 0], [7.0, 1]])
    np.testing.assert_array_equal(line_with_label(ax, "row sums").get_xydata(), [[5.0, 1]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"]
    assert [text.get_text() for text in ax.texts] == ["3 to 4", "0.875"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert drawn(display)


def test_bounds_that_are_close_start_at_zero():
    display = BoundsDisplay.from_bounds({"net": {"lower": 1.0, "upper": 2.0}}, title="L (raw)")
    assert display.ax_.get_xscale() == "linear"
    assert display.ax_.get_xlim()[0] == 0.0
    assert display.ax_.get_xlabel() == "L (raw)"
    assert display.ax_.get_legend() is None
    constant = BoundsDisplay.from_bounds({"constant network": {"lower": 0.0, "upper": 0.0}})
    assert drawn(constant)


def test_predictions_against_measurements():
    y = np.array([1.0, 2.0, 4.0])
    display = PredictionDisplay.from_predictions(y, {"before": [0.0, 2.0, 5.0], "after": y}, unit="mg/dl")
    ax = display.ax_
    np.testing.assert_array_equal(line_with_label(ax, "before").get_xydata(), [[1, 0], [2, 2], [4, 5]])
    np.testing.assert_array_equal(line_with_label(ax, "after").get_ydata(), y)
    diagonal = line_with_label(ax, "_diagonal")
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert ax.get_xlim() == ax.get_ylim()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Measured (mg/dl)", "Predicted (mg/dl)")
    assert legend_labels(ax) == ["before", "after"]
    assert drawn(display)


def test_predictions_of_one_constant_sample():
    display = PredictionDisplay.from_predictions([3.0], {"net": [3.0]})
    low, high = display.ax_.get_xlim()
    assert low < 3.0 < high
    assert display.ax_.get_xlabel() == "Measured"


def test_trace_by_stage():
    display = TraceDisplay.from_trace([0.25, 0.12, 0.11], ["input", "joint", "descent"])
    ax = display.ax_
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 0.25], [1, 0.12], [2, 0.11]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["input", "joint", "descent"]
    assert [text.get_text() for text in ax.texts] == ["0.25", "0.12", "0.11"]
    assert ax.get_yscale() == "linear"
    assert drawn(display)


def row(stage, objective, accepted):
    return TraceRow(stage, objective, objective, 1.0, accepted, Status.OPTIMAL, "", None, 0.0)


def test_the_stages_of_a_refinement_with_those_that_were_not_kept():
    rows = [row("input", float("inf"), True), row("one", 0.4, True), row("two", 0.5, False), row("3", 0.3, True)]
    display = TraceDisplay.from_rows([*rows, row("failed", float("nan"), False)])
    line, hollow = display.ax_.lines
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.4], [2, 0.3]])
    np.testing.assert_allclose(hollow.get_xydata(), [[1, 0.5]])
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["one", "two", "3"]
    assert drawn(display)
    with pytest.raises(InvalidInputError, match="at least one stage"):
        TraceDisplay.from_rows(rows[:1])
    with pytest.raises(InvalidInputError, match="kept has 1 entries, objectives has 2"):
        TraceDisplay(np.ones(2), ["a", "b"], [True])


def test_a_long_trace_thins_its_labels():
    display = TraceDisplay.from_trace(np.geomspace(100, 1, 50), [f"round {k}" for k in range(50)])
    assert display.ax_.get_yscale() == "log"
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels[:2] == ["round 0", "round 5"]
    assert len(labels) <= 13
    assert not display.ax_.texts


def test_given_axes_are_used_and_plot_returns_the_display():
    from matplotlib.figure import Figure

    left, right = Figure(figsize=(8, 4)).subplots(1, 2)
    display = TraceDisplay.from_trace([2.0, 1.0], ["a", "b"], ax=left)
    assert display.ax_ is left
    assert display.figure_ is left.figure
    assert not right.lines
    assert display.plot() is display
    assert display.ax_ is not left


def test_no_global_figure_and_no_warning_about_many_figures():
    code = (
        "import sys, warnings; warnings.simplefilter('error'); import certnet.plot as p; "
        "assert 'matplotlib' not in sys.modules; "
        "[p.TraceDisplay.from_trace([2, 1], ['a', 'b']) for _ in range(25)]; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_png_and_svg_by_suffix(tmp_path):
    figure = TraceDisplay.from_trace([2.0, 1.0], ["a", "b"]).figure_
    png = save_figure(figure, tmp_path / "trace.PNG", dpi=50)
    svg = save_figure(figure, str(tmp_path / "trace.svg"))
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert b"<svg" in svg.read_bytes()
    width, height = np.frombuffer(png.read_bytes()[16:24], dtype=">u4")
    assert (width, height) == (320, 210)  # 6.4 x 4.2 inches
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.PNG", "trace.svg"]


def test_pictures_are_not_overwritten_unless_forced(tmp_path):
    figure = TraceDisplay.from_trace([2.0, 1.0], ["a", "b"]).figure_
    path = tmp_path / "trace.png"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists: name another file"):
        save_figure(figure, path)
    assert path.read_text() == "mine"
    save_figure(figure, path, force=True, dpi=30)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="does not exist"):
        save_figure(figure, tmp_path / "missing" / "trace.png")
    with pytest.raises(InvalidInputError, match=r"ends in neither \.png nor \.svg"):
        save_figure(figure, tmp_path / "trace.pdf")


def test_what_is_no_figure():
    with pytest.raises(InvalidInputError, match="figure must be a matplotlib figure, got TraceDisplay"):
        figure_png(TraceDisplay.from_trace([1.0], ["a"]))
    with pytest.raises(InvalidInputError, match="dpi must be"):
        figure_png(TraceDisplay.from_trace([1.0], ["a"]).figure_, dpi=0)
    with pytest.raises(InvalidInputError, match=r"TraceDisplay\.plot needs a matplotlib Axes, got str"):
        TraceDisplay.from_trace([1.0], ["a"], ax="left")


def test_the_extra_is_named_without_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"certnet\[plot\]"):
        TraceDisplay.from_trace([1.0], ["a"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdversarialCurveDisplay.from_curves({}), "curves must be a mapping .* with 1 to 7 entries"),
        (lambda: AdversarialCurveDisplay.from_curves({"a": [1.0]}), r"curves\['a'\] must be an AdversarialCurve"),
        (
            lambda: AdversarialCurveDisplay.from_curves({"a": curves()["after"], "b": curves(norm="linf")["after"]}),
            "norms l2, linf: draw one norm per picture",
        ),
        (lambda: AdversarialCurveDisplay.from_curves(curves(), units="metres"), "units must be one of"),
        (lambda: BoundsDisplay.from_bounds({str(k): BOUNDS["after"] for k in range(8)}), "1 to 7 entries"),
        (lambda: BoundsDisplay.from_bounds({"a": {"upper": 1.0}}), "at least 'lower' and 'upper'"),
        (lambda: BoundsDisplay.from_bounds({"a": {"lower": 2.0, "upper": 1.0}}), "lower 2 exceeds upper 1"),
        (lambda: BoundsDisplay.from_bounds({"a": {"lower": 0.0, "upper": np.nan}}), r"\['upper'\] must be a finite"),
        (
            lambda: BoundsDisplay.from_bounds({"a": {"lower": 0.0} | {f"upper{k or ''}": 1.0 for k in range(9)}}),
            "at most 7 further upper bounds",
        ),
        (lambda: PredictionDisplay.from_predictions([1.0], {"a": [1.0, 2.0]}), "has 2 values, y_true has 1"),
        (lambda: PredictionDisplay.from_predictions([], {"a": []}), "y_true has no samples"),
        (lambda: PredictionDisplay.from_predictions([1.0], {"a": [np.inf]}), "NaN or infinite"),
        (lambda: TraceDisplay.from_trace([1.0, 2.0], ["a"]), "2 objectives and 1 labels"),
        (lambda: TraceDisplay.from_trace([], []), "at least one stage"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_a_notebook_shows_the_display_itself():
    display = BoundsDisplay.from_bounds({"net": {"lower": 1.0, "upper": 2.0}})
    assert display._repr_png_().startswith(b"\x89PNG")
