"""What all tests share: which of them can run here, and kernels that are the same everywhere."""

import json
import os
import signal
import subprocess
import sys

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: idle threads are not to spin
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before anything imports torch

import matplotlib.font_manager  # noqa: F401  makes the font cache now: later it would print so
import pytest

from book.build import ROOT, isolate_kernels

isolate_kernels()


@pytest.fixture(autouse=True)
def environment_as_it_was():
    """Dask sets thread counts in this process's environment, which later kernels would inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def pytest_collection_modifyitems(items):
    """Skip tests on real images where there are none."""
    if os.environ.get("MISTAKES_DATA"):
        return
    skip = pytest.mark.skip(reason="needs real images: set MISTAKES_DATA to the folder with them")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(skip)


# --- processes of their own ----------------------------------------------------------------------

NURSERY = """
import json, os, sys, traceback
import torch._dynamo  # which torch imports at a first training, as long as all else together
from mistakes_lib import runs
from mistakes_lib.cli import app as cli

def start(code, arguments, environment, files):
    files = [os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND) for file in files]
    child = os.fork()
    if child == 0:
        try:
            os.dup2(files[0], 1), os.dup2(files[1], 2)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv[1:] = arguments
            exec(code, {"__name__": "__main__"})
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    for file in files:
        os.close(file)
    return child

def end(child, options):
    ended, status = os.waitpid(child, options)
    return os.waitstatus_to_exitcode(status) if ended else None

print("ready", flush=True)
for line in sys.stdin:
    order, *arguments = json.loads(line)
    print(json.dumps({"start": start, "end": end}[order](*arguments)), flush=True)
"""


class Nursery:
    """A process that has imported the library and computed nothing yet, and forks.

    Its children are as good as fresh processes, without the imports, which take ten times as long
    as what a test lets them do.
    """

    def __init__(self, folder):
        self.folder, self.children = folder, 0
        with open(folder / "imports", "w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", NURSERY],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout.readline() == "ready\n", (folder / "imports").read_text()
        self.said_importing = (folder / "imports").read_text()

    def order(self, *order):
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, code, *arguments, terminal=None, **environment):
        """Run code in a child, with other environment variables; return the :class:`Child`.

        What it says on stderr goes to a file, or to the terminal of that name.
        """
        self.children += 1
        stdout, stderr = (self.folder / f"{self.children}-{name}" for name in ("out", "err"))
        variables = os.environ | {name: str(value) for name, value in environment.items()}
        files = [str(stdout), terminal or str(stderr)]
        pid = self.order("start", code, [str(a) for a in arguments], variables, files)
        return Child(self, pid, stdout, stderr)

    def mistakes(self, *arguments, **options):
        """Run the command ``mistakes`` in a child."""
        code = "import sys; from mistakes_lib.cli.app import app; app(sys.argv[1:])"
        return self.start(code, *arguments, **options)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Child:
    """A child process of a :class:`Nursery`, which alone can wait for it."""

    def __init__(self, nursery, pid, stdout, stderr):
        self.nursery, self.pid, self.code = nursery, pid, None
        self.files = {"stdout": stdout, "stderr": stderr}

    def poll(self, options=os.WNOHANG):
        """Its exit code; None while it runs."""
        if self.code is None:
            self.code = self.nursery.order("end", self.pid, options)
        return self.code

    def wait(self):
        return self.poll(options=0)

    def kill(self):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    @property
    def stdout(self):
        return self.files["stdout"].read_text(encoding="utf-8")

    @property
    def stderr(self):
        return self.files["stderr"].read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()
