"""``python -m mistakes_lib`` is the ``mistakes`` command: what ``accelerate launch -m`` starts."""

from mistakes_lib.cli.app import app

app(prog_name="mistakes")
