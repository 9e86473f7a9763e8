"""Processes of their own, as good as fresh ones, without the imports.

These take ten times as long as what a test lets a process do, so that all processes are children of
one that has imported the library and computed nothing yet: the standard library's fork server.
"""

import multiprocessing
import os
import sys
from pathlib import Path

__all__ = ["Child", "Nursery"]

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = [
    "torch._dynamo",  # which torch imports at a first training, as long as all else together
    "mistakes_lib.runs.making",
    "mistakes_lib.runs.publishing",
    "mistakes_lib.cli.app",
    "tests.helpers.processes",
]


class Nursery:
    """Starts children, whose output goes to files in a folder."""

    def __init__(self, folder):
        self.folder, self.children = folder, 0
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)

    def start(self, code, *arguments, terminal=None, **environment):
        """Run code in a child, with other environment variables; return the :class:`Child`.

        What it says on stderr goes to a file, or to the terminal of that name; both are open when
        this returns.
        """
        self.children += 1
        stdout, stderr = (self.folder / f"{self.children}-{name}" for name in ("out", "err"))
        variables = os.environ | {name: str(value) for name, value in environment.items()}
        files = [str(stdout), terminal or str(stderr)]
        opened, tell = self.context.Pipe(duplex=False)
        task = (code, [str(argument) for argument in arguments], dict(variables), files, tell)
        process = self.context.Process(target=_run, args=task)
        process.start()
        tell.close()
        opened.recv()
        opened.close()
        return Child(process, stdout, stderr)

    def mistakes(self, *arguments, **options):
        """Run the command ``mistakes`` in a child."""
        code = "import sys; from mistakes_lib.cli.app import app; app(sys.argv[1:])"
        return self.start(code, *arguments, **options)


class Child:
    """A child process and what it said."""

    def __init__(self, process, stdout, stderr):
        self.process, self.pid = process, process.pid
        self.files = {"stdout": stdout, "stderr": stderr}

    def poll(self):
        """Its exit code; None while it runs."""
        return self.process.exitcode

    def wait(self):
        self.process.join()
        return self.process.exitcode

    def kill(self):
        self.process.kill()

    @property
    def stdout(self):
        return self.files["stdout"].read_text(encoding="utf-8")

    @property
    def stderr(self):
        return self.files["stderr"].read_text(encoding="utf-8")


def _run(code, arguments, environment, files, tell):
    """In the child: be the program that the code is."""
    for number, file in enumerate(files, start=1):
        opened = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    tell.send("opened")
    tell.close()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    exec(code, {"__name__": "__main__"})
