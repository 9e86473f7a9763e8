"""What it costs to begin: `import mistakes_lib` and `mistakes --help` beside Python itself.

    python -m benchmarks.starting [--repeats 9]

Seconds of processor time, which other work on the machine lengthens little.
"""

import os
import resource
import subprocess
import sys

from benchmarks.measuring import as_table, machine, new_parser, spread, start
from benchmarks.results import write_section

PROGRAMS = {
    "Python itself": [sys.executable, "-c", "pass"],
    "`import mistakes_lib`": [sys.executable, "-c", "import mistakes_lib"],
    "`mistakes --help`": [sys.executable, "-m", "mistakes_lib", "--help"],
}


def processor_seconds(command):
    """Seconds that a command's process keeps a processor busy."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv=None):
    parser = new_parser(__doc__, repeats=9)
    arguments = start(parser, argv)
    seconds = {name: [] for name in PROGRAMS}
    for _ in range(arguments.repeats):
        for name, command in PROGRAMS.items():
            seconds[name].append(processor_seconds(command))
    python = seconds["Python itself"]
    rows = [
        [name, spread(own), spread([a - b for a, b in zip(own, python, strict=True)])]
        for name, own in seconds.items()
    ]
    text = f"""{machine("typer", "lazy-loader")}. Median of {arguments.repeats} starts, with the
shortest and the longest; both are to stay under one second more than Python itself.

{as_table(["program", "processor seconds", "more than Python itself"], rows)}"""
    write_section("starting", "What it costs to begin", text)


if __name__ == "__main__":
    main()
