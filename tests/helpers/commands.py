"""The command line, run in this process."""

from typer.testing import CliRunner

from mistakes_lib.cli.app import app

__all__ = ["mistakes"]


def mistakes(*arguments, stdin=None):
    """Run ``mistakes ARGUMENTS``; returns Typer's result: exit_code, stdout, stderr, output."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
