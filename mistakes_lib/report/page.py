"""A report as one HTML page that needs no network; ``page.html`` is its Jinja template."""

import html
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mistakes_lib.support.signs import typeset

__all__ = ["report_html"]

COLOURS = ("#0173b2", "#de8f05", "#029e73")


def report_html(report, *, title="Where does this classifier fail?", pictures=None):
    """The page of a :class:`~mistakes_lib.report.facts.Report`.

    Args:
        report: :class:`~mistakes_lib.report.facts.Report`.
        title: heading of the page.
        pictures: dict of test row → "data:image/…" for every row of the report's extremes, which
            then name their file, class and predicted class; None: a table of rows.

    Returns:
        str: HTML with its scripts inside; some 5 MB, for plotly is among them.

    Example:
        >>> import numpy as np
        >>> from mistakes_lib.features.feature_set import FeatureSet
        >>> from mistakes_lib.report.facts import make_report
        >>> rng = np.random.default_rng(0)
        >>> def draw(n):  # two features that are the logits; one label in four is wrong
        ...     logits = rng.normal(size=(n, 2))
        ...     return FeatureSet(logits, logits, logits.argmax(axis=1) ^ (rng.random(n) < 0.25))
        >>> page = report_html(make_report(draw(100), draw(100), draw(100)), title="Is it wrong?")
        >>> "<h1>Is it wrong?</h1>" in page
        True
    """
    facts = report.facts
    environment = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent))
    page = environment.get_template("page.html")
    explorer = _explorer(facts["explorer"])
    return page.render(
        **{k: v for k, v in facts.items() if k != "explorer"},
        title=title,
        pictures=pictures,
        ours=report.rule,
        best={verdict["set"]: verdict["best"] for verdict in facts["verdicts"]},
        explorer=Markup(explorer.to_html(full_html=False, include_plotlyjs=True)),
        reliability=Markup(
            _reliability(facts["calibration"]).to_html(full_html=False, include_plotlyjs=False)
        ),
        percent=lambda value: "–" if value is None else f"{value:.1%}",
        three=lambda value: typeset(f"{value:.3f}") if isinstance(value, float) else value,
        one=lambda value: typeset(f"{value:.1f}"),
    )


def _explorer(methods):
    """Precision, recall and risk against coverage, with a slider over the thresholds."""
    figure = go.Figure()
    for colour, (name, rows) in zip(COLOURS, methods.items(), strict=False):
        coverage = [1 - flagged for flagged in rows["flagged"]]
        for quantity, dash in (("recall", "solid"), ("precision", "dash"), ("risk", "dot")):
            figure.add_scatter(
                x=coverage,
                y=rows[quantity],
                name=f"{html.escape(name)}: {quantity}",
                line={"color": colour, "dash": dash},
                visible=True if name == next(iter(methods)) else "legendonly",
            )
    rows = next(iter(methods.values()))
    steps = []
    for i, threshold in enumerate(rows["threshold"]):
        coverage = 1 - rows["flagged"][i]
        precision = rows["precision"][i]
        shown = typeset(f"{threshold:.4g}")
        text = (
            f"threshold {shown}: coverage {coverage:.1%}, risk {rows['risk'][i]:.1%}, "
            f"recall {'–' if rows['recall'][i] is None else format(rows['recall'][i], '.1%')}, "
            f"precision {'–' if precision is None else f'{precision:.1%}'}"
        )
        line = {"type": "line", "x0": coverage, "x1": coverage, "y0": 0, "y1": 1, "yref": "paper"}
        change = {"shapes": [line], "title.text": text}
        steps.append({"method": "relayout", "args": [change], "label": shown})
    start = len(steps) // 10
    figure.update_layout(
        sliders=[{"steps": steps, "active": start, "currentvalue": {"prefix": "threshold "}}],
        shapes=steps[start]["args"][0]["shapes"],
        title={"text": steps[start]["args"][0]["title.text"], "font": {"size": 14}},
        xaxis={"title": {"text": "coverage"}, "range": [0, 1]},
        yaxis={"title": {"text": "recall, precision, risk"}, "range": [0, 1]},
        template="plotly_white",
        height=520,
    )
    return figure


def _reliability(calibration):
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], line={"color": "#8c959f"}, name="perfect")
    figure.add_scatter(
        x=calibration["confidence"],
        y=calibration["accuracy"],
        mode="lines+markers",
        line={"color": COLOURS[0]},
        name="calibrated",
    )
    figure.update_layout(
        xaxis={"title": {"text": "confidence"}},
        yaxis={"title": {"text": "accuracy"}},
        template="plotly_white",
        height=380,
        width=480,
    )
    return figure
