"""What a cell shows: data as JSON, the script that draws them, and words for those without it."""

import html
import json
from functools import cache
from pathlib import Path

__all__ = ["InteractiveFigure"]

FOLDER = Path(__file__).parent
PAGE = """<figure class="explore" data-explore="{kind}" aria-label="{label}">
<p>This figure moves where its script may run: on the book's web pages, and in a notebook after
its cell was run.</p>
<script type="application/json">{data}</script>
</figure>
<style>
{style}</style>
<script>
(() => {{
"use strict";
{plot}
{script}
for (const figure of document.querySelectorAll('[data-explore="{kind}"]:not([data-drawn])')) {{
  figure.dataset.drawn = "";
  explore(figure, JSON.parse(figure.querySelector("script").textContent));
  figure.querySelector("p").remove();
}}
}})();
</script>
"""


@cache
def _text_of(name):
    return (FOLDER / name).read_text(encoding="utf-8")


class InteractiveFigure:
    """A figure that a notebook, and a page made of it, lets its reader move.

    Args:
        kind: which of the scripts beside this module draws it, "threshold" or "mixture".
        data: what the script reads: dicts, lists, strings, numbers, None.
        label: what the figure shows, for those who hear the page.

    Example:
        >>> figure = InteractiveFigure("threshold", {"low": 1}, label="Counts at a threshold")
        >>> figure
        Interactive figure, which the book's web pages show: Counts at a threshold.
        >>> '<script type="application/json">{"low":1}</script>' in figure._repr_html_()
        True
    """

    def __init__(self, kind, data, *, label):
        self.kind, self.data, self.label = kind, data, label

    def __repr__(self):
        return f"Interactive figure, which the book's web pages show: {self.label}."

    def _repr_html_(self):
        data = json.dumps(self.data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return PAGE.format(
            kind=self.kind,
            label=html.escape(self.label),
            data=data.replace("<", "\\u003c"),  # no text of the data ends the script
            style=_text_of("style.css"),
            plot=_text_of("plot.js"),
            script=_text_of(f"{self.kind}.js"),
        )
