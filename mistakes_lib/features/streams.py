"""Features row by row, as from a pipe: what has come is given on at once."""

import codecs
import csv
import json
import math
from itertools import islice

from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.features.tables import MISSING, numbered_columns, own_names

__all__ = ["PARTS", "read_stream"]

PARTS = ("features", "logits", "labels")
CHUNK = 2**20  # bytes that are read at a time, if so many have come
MARK = "\ufeff"  # which some programs write before a text


def read_stream(lines, kind, *, block=1000):
    """Read features row by row, such as from a pipe.

    Args:
        lines: a text file such as ``sys.stdin``, of which each block holds the rows that have come,
            or any iterable of lines of text.
        kind: "jsonl", where a line is an object with the lists ``features`` and ``logits`` and
            perhaps a number ``labels`` or ``label`` (null: none); or "csv", whose header names the
            columns feature_0, feature_1, …, logit_0, … and perhaps label, separated by commas,
            semicolons or tabs.
        block: most rows that are read before they are given on.

    Yields:
        FeatureSet of up to ``block`` rows.

    Raises:
        ValueError: a line that cannot be read; its number is named.

    Example:
        >>> lines = ["feature_0,logit_0,logit_1", "0.5,2,-1", "0.7,3,0"]
        >>> [len(batch) for batch in read_stream(lines, "csv")]
        [2]
    """
    rows_of = {"jsonl": _JsonRows, "csv": _CsvRows}[kind]()
    start = 0
    for some in _at_hand(lines):
        rows = (row for row in map(rows_of.read, some) if row is not None)
        while block_of := list(islice(rows, block)):
            yield _batch(block_of, start)
            start += len(block_of)
    rows_of.finish()


def _batch(rows, start):
    where = f"rows {start + 1} to {start + len(rows)}"
    columns = {name: [row[name] for row in rows if name in row] for name in PARTS}
    if len(columns["labels"]) not in (0, len(rows)):
        raise ValueError(f"{where}: some have labels, some not")
    try:
        return FeatureSet(*(columns[name] or None for name in PARTS))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _at_hand(lines):
    """Iterables of lines; of a file, those that have come."""
    read = getattr(getattr(lines, "buffer", None), "read1", None)
    if read is None:
        yield lines
        return
    decoder = codecs.getincrementaldecoder(lines.encoding)(lines.errors or "strict")
    rest = ""
    while chunk := read(CHUNK):  # waits for the first byte only
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        yield whole
    if rest := rest + decoder.decode(b"", final=True):
        yield [rest]


class _JsonRows:
    """Lines of JSON become dicts of features, logits and perhaps labels."""

    number = 0

    def read(self, line):
        self.number += 1
        line = line.removeprefix(MARK) if self.number == 1 else line
        if not line.strip():
            return None
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {self.number} is no JSON: {error}") from None
        try:
            given = row if isinstance(row, dict) else {}
            own = own_names(name for name in given if given[name] is not None)
        except ValueError as error:
            raise ValueError(f"line {self.number}: {error}") from None
        if not {"features", "logits"} <= set(own):
            raise ValueError(f"line {self.number} must be an object with features and logits")
        found = {part: row[name] for part, name in own.items()}
        label = found.get("labels")
        if isinstance(label, list) and len(label) == 1:
            label = found["labels"] = label[0]
        if isinstance(label, float) and math.isnan(label):
            del found["labels"]
        return found

    def finish(self):
        pass


class _CsvRows:
    """Lines of CSV become the same; the first names the columns."""

    number, columns = 0, None

    def read(self, line):
        self.number += 1
        line = line.removeprefix(MARK).rstrip("\r\n")
        if not line.strip():
            return None
        if self.columns is None:
            self.separator = next((s for s in ",;\t" if s in line), ",")
            self.header = self._cells(line)
            self.columns = numbered_columns(self.header)
            return None
        cells = self._cells(line)
        if len(cells) != len(self.header):
            raise ValueError(
                f"line {self.number} has {len(cells)} cells, but the header has "
                f"{len(self.header)} columns"
            )
        places = dict(self.columns)
        if "labels" in places and cells[places["labels"][0]].strip().lower() in MISSING:
            del places["labels"]
        try:
            row = {name: [float(cells[i]) for i in own] for name, own in places.items()}
        except ValueError as error:
            raise ValueError(f"line {self.number} holds no number: {error}") from None
        if "labels" in row:
            row["labels"] = row["labels"][0]
        return row

    def _cells(self, line):
        try:
            return next(csv.reader([line], delimiter=self.separator))
        except (csv.Error, StopIteration) as error:
            raise ValueError(f"line {self.number} is no CSV: {error}") from None

    def finish(self):
        if self.columns is None:
            raise ValueError("the header has no column feature_0")
