"""A checkout that nobody may write to is said in one line."""

import os

from typer.testing import CliRunner

from mistakes_lib.cli.app import app


def test_a_book_that_cannot_be_written_is_one_line(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: 1 / 0)
    result = CliRunner().invoke(app, ["book"])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "cannot be written to: publish from a clone of your own" in result.stderr
