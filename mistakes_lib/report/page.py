"""A report as one HTML page that needs no network."""

import html

import plotly.graph_objects as go
from jinja2 import Environment
from markupsafe import Markup

__all__ = ["report_html"]

COLOURS = ("#0173b2", "#de8f05", "#029e73")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; } .scroll { overflow-x: auto; }
.wide { min-width: 44rem; }
th, td { text-align: right; padding: .25rem .75rem; border-bottom: 1px solid #d0d7de; }
th:first-child, td:first-child { text-align: left; }
.best { font-weight: 600; } .ours td:first-child { color: #0173b2; font-weight: 600; }
.verdict { border-left: .3rem solid #0173b2; padding: .2rem 1rem; margin: 1rem 0;
  background: #f6f8fa; }
.alarm { border-left: .3rem solid #b3261e; padding: .2rem 1rem; margin: 1rem 0;
  background: #fdf1f0; }
.understood td { text-align: left; overflow-wrap: anywhere; }
.note { color: #57606a; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: 1rem; }
.pictures figure { margin: 0; } .pictures img { display: block; height: 7rem; max-width: 100%;
  object-fit: contain; }
figcaption { font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere; }
.wrong { color: #b3261e; font-weight: 600; }
</style></head><body>
<h1>{{ title }}</h1>
<p class="note">{{ inputs.counts.train }} training, {{ inputs.counts.validation }} validation and
{{ inputs.counts.test }} test inputs; {{ inputs.features }} features, {{ inputs.classes }} classes;
test accuracy {{ percent(inputs.accuracy.test) }}.</p>
{% if source %}
<p class="note">{{ source.model }}; images: {{ source.images }}. Training: {{ source.sets.train }};
validation: {{ source.sets.validation }}; test: {{ source.sets.test }}. If the network was trained
on images of the validation or the test set, what is said here is too good to be true.</p>
{% endif %}

{% for alarm in alarms %}
<div class="alarm"><p><strong>{{ alarm.alarm }}.</strong> Likeliest cause: {{ alarm.cause }}.
What to do: {{ alarm.cure }}.</p></div>
{% endfor %}
{% if understood %}
<h2>What was understood</h2>
<table class="understood">{% for line in understood %}
<tr><th>{{ line.what }}</th><td>{{ line.found }}</td></tr>{% endfor %}</table>
{% endif %}

<h2>Verdicts</h2>
{% for verdict in verdicts %}
<div class="verdict"><p><strong>{{ verdict.set }}</strong>: does the likelihood of the features tell
them from trusted inputs? <strong>{{ verdict.flagged_by_likelihood }}</strong>. AUROC
{{ three(verdict.auroc) }} ({{ three(verdict.low) }} to {{ three(verdict.high) }}), U-test
log₁₀ p = {{ one(verdict.log10_p) }}; rank {{ verdict.rank }} of {{ verdict.methods }} methods.
Best: {{ verdict.best }} ({{ three(verdict.best_auroc) }}).</p></div>
{% endfor %}
<p class="note">AUROC: how often a random trusted input gets a higher score than a random suspect
one; one half is chance. A tiny p with an AUROC near one half is significant, not useful.</p>

<h2>A detector ready for use</h2>
{% if detector.threshold is none %}
<p>There are too few correct validation predictions to promise so few false alarms: this detector
flags nothing. Bring more validation inputs, or allow more false alarms.</p>
{% else %}
<p>{{ ours }} flags inputs with a score below {{ three(detector.threshold) }} ({{ detector.rule }}).
On the test set it flags {{ percent(detector.false_alarms) }} of the correct predictions and
{{ percent(detector.caught) }} of the wrong ones; among what it lets pass, the error rate is
{{ percent(detector.error_after) }} instead of {{ percent(detector.error_before) }}.</p>
{% endif %}

<h2>What a threshold would do</h2>
<p>Move the slider: flagged inputs are refused. <em>Precision</em>: share of flagged inputs that are
mistakes. <em>Recall</em>: share of mistakes that are flagged. <em>Coverage</em>: share of inputs
kept. <em>Risk</em>: error rate among these.</p>
<div class="scroll"><div class="wide">{{ explorer }}</div></div>

<h2>Method by method</h2>
{% for name, rows in methods.items() %}
<h3>{{ name }}</h3>
<div class="scroll"><table><tr>{% for column in rows[0] %}<th>{{ column }}</th>{% endfor %}</tr>
{% for row in rows %}
<tr class="{{ 'ours' if row.method == ours }} {{ 'best' if row.method == best[name] }}">
{% for value in row.values() %}<td>{{ three(value) }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}
<p class="note">The failures are the positive class. FPR95: share of trusted inputs refused while
95 % of the suspect ones are caught. Low and high bound the AUROC.</p>
{% for name, reason in left_out.items() %}
<p class="note">Left out, as it cannot be fitted to these inputs: {{ name }} ({{ reason }}).</p>
{% endfor %}

<h2>Calibration</h2>
<p>Temperature {{ three(calibration.temperature) }} takes the expected calibration error from
{{ three(calibration.ece_before) }} to {{ three(calibration.ece_after) }}.</p>
<div class="scroll">{{ reliability }}</div>

<h2>The least and the most likely test inputs</h2>
{% for kind, rows in extremes.items() %}
<h3>{{ kind | capitalize }} likely</h3>
{% if pictures %}
<div class="pictures">
{% for row in rows %}<figure><img src="{{ pictures[row.row] }}" alt="{{ row.file }}">
<figcaption>{{ row.class }}{% if row.label != row.prediction %},
<span class="wrong">taken for {{ row.predicted }}</span>{% endif %}<br>
log-likelihood {{ one(row.score) }}</figcaption></figure>
{% endfor %}</div>
{% else %}
<div class="scroll"><table>
<tr><th>row</th><th>log-likelihood</th><th>label</th><th>prediction</th></tr>
{% for row in rows %}<tr><td>{{ row.row }}</td><td>{{ one(row.score) }}</td><td>{{ row.label }}</td>
<td>{{ row.prediction }}{{ '' if row.label == row.prediction else ' ✗' }}</td></tr>
{% endfor %}</table></div>
{% endif %}
{% endfor %}

<h2>Which detector?</h2>
{% for row in advice %}
<p>Against <strong>{{ row.set }}</strong>: {{ row.method }} (AUROC {{ three(row.auroc) }}). To catch
half of them it refuses {{ percent(row.catch_50) }} of the trusted inputs, to catch 90 %
{{ percent(row.catch_90) }}. <code>{{ row.deploy }}</code></p>
{% endfor %}
<p class="note">Chosen on the test set among all methods, so a little too good.</p>
</body></html>
"""


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
    page = Environment(autoescape=True).from_string(PAGE)
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
        three=lambda value: f"{value:.3f}" if isinstance(value, float) else value,
        one=lambda value: f"{value:.1f}",
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
        text = (
            f"threshold {threshold:.4g}: coverage {coverage:.1%}, risk {rows['risk'][i]:.1%}, "
            f"recall {'–' if rows['recall'][i] is None else format(rows['recall'][i], '.1%')}, "
            f"precision {'–' if precision is None else f'{precision:.1%}'}"
        )
        line = {"type": "line", "x0": coverage, "x1": coverage, "y0": 0, "y1": 1, "yref": "paper"}
        change = {"shapes": [line], "title.text": text}
        steps.append({"method": "relayout", "args": [change], "label": f"{threshold:.4g}"})
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
