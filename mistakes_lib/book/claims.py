"""The ledger: each claim of the paper, what it printed, what we find, and a computed verdict.

A claim's rules are expressions over the evidence that the chapters compute, such as
``mistakes.ours.low > 0.5 and mistakes.ours.high < mistakes.calibrated.low``.
"""

import ast
import json
import math
import numbers
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from mistakes_lib.book.names import in_words
from mistakes_lib.support.storage import read_yaml

__all__ = [
    "VERDICTS",
    "Claim",
    "Judgement",
    "as_evidence",
    "count_verdicts",
    "judge",
    "load_claims",
    "load_evidence",
    "printed_evidence",
]

REPRODUCED, PARTLY, NOT, UNDECIDED, UNTESTABLE = VERDICTS = (
    "reproduced",
    "partly reproduced",
    "not reproduced",
    "undecided",
    "not testable here",
)
REQUIRED = {"id", "section", "says", "reproduced", "ours", "where"}
OPTIONAL = {
    "printed",
    "partly",
    "undecided",
    "needs",
    "remark",
    "contribution",
    "central",
    "rule",
    "fixed",
    "post_hoc",
    "families",
    "conditions",
}


@dataclass(frozen=True)
class Claim:
    """One testable claim of the paper.

    Args:
        id: short name, unique in the ledger.
        section: where the paper makes it.
        says: the claim in our words.
        reproduced: expression over the evidence that must hold.
        ours: template of our numbers, such as "AUROC {mistakes.ours.auroc}".
        where: chapter and label of the evidence, "04_mistakes#evidence-mistakes".
        printed: the number that the paper printed, if any.
        partly: weaker expression; if only this one holds, the claim is partly reproduced.
        undecided: expression that holds where the evidence is too weak for a verdict; it is asked
            after the two above. Where none of the three holds, the claim is not reproduced.
        needs: what is missing where the evidence is.
        remark: what a reader should know about the verdict.
        contribution: which of the paper's three contributions it belongs to, "1", "2" or "3"; empty
            for what its appendices add.
        central: "yes" for a claim that the paper's abstract makes.
        rule: the rule in words.
        fixed: when the rule was fixed: a date, or a commit.
        post_hoc: why the rule was changed after results that it judges were known; empty if not.
        families: kinds of classifiers that the claim is about, such as "densenet_bc wide_resnet";
            empty: all.
        conditions: what the paper's conditions must be compared in, names of
            ``mistakes_lib.book.nearness.CONDITIONS``.
    """

    id: str
    section: str
    says: str
    reproduced: str
    ours: str
    where: str
    printed: str = ""
    partly: str = ""
    undecided: str = ""
    needs: str = ""
    remark: str = ""
    contribution: str = ""
    central: str = ""
    rule: str = ""
    fixed: str = ""
    post_hoc: str = ""
    families: str = ""
    conditions: str = ""


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict, one of ``VERDICTS``, and our numbers or what is missing."""

    claim: Claim
    verdict: str
    ours: str


def load_claims(path):
    """Read a ledger.

    Args:
        path: YAML file with a list of mappings, the fields of :class:`Claim`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no YAML, no list of claims, a field is missing, unknown or no text, an id
            occurs twice, or a rule is no expression of numbers, names, sums, comparisons, ``and``,
            ``or`` and ``not``.

    Example:
        >>> import tempfile
        >>> ledger = '''
        ... - id: separable
        ...   section: §3.3
        ...   says: Mistakes have less likely features.
        ...   reproduced: test.auroc > 0.5
        ...   ours: AUROC {test.auroc}
        ...   where: 03_hypothesis_tests
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "claims.yml"
        ...     _ = path.write_text(ledger, encoding="utf-8")
        ...     [claim] = load_claims(path)
        >>> judge([claim], {"test": {"auroc": 0.7}})[0].ours
        'AUROC 0.7'
    """
    entries = read_yaml(path, "ledger of claims")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} must hold a list of claims")
    claims = [_claim(entry, f"{path}: claim {i}") for i, entry in enumerate(entries, start=1)]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise ValueError(f"{path} has two claims {name!r}")
    return claims


def _claim(entry, where):
    where = f"{where} ({entry['id']})" if "id" in entry else where
    for name in sorted(REQUIRED - entry.keys()):
        raise ValueError(f"{where} lacks {name!r}")
    for name, value in entry.items():
        if name not in REQUIRED | OPTIONAL:
            raise ValueError(f"{where} has an unknown field {name!r}")
        if not isinstance(value, str):
            raise ValueError(f"{where}: {name} must be a text, got {value!r}")
    claim = Claim(**{name: value.strip() for name, value in entry.items()})
    for rule in filter(None, (claim.reproduced, claim.partly, claim.undecided)):
        _parse(rule, where)
    return claim


def as_evidence(evidence):
    """Evidence as the text that a chapter prints: JSON with four significant digits.

    Args:
        evidence: dict of topic → values; these are dicts of name → number, or of name → such a
            dict. Names are written as rules can use them: "Zheng & Hong" becomes "zheng_hong". A
            text, such as the run's title, is kept as it is.

    Raises:
        TypeError: a value is neither number nor text; it is named.

    Example:
        >>> print(as_evidence({"test": {"p": 0.123456, "GMM": {"AUROC": 1}}}))
        {
         "test": {
          "p": 0.1235,
          "gmm": {
           "auroc": 1
          }
         }
        }
    """
    return json.dumps(_rounded(evidence, "evidence"), indent=1)


def printed_evidence(notebook):
    """What the cells tagged ``evidence`` of an executed notebook print, topic → values.

    Args:
        notebook: executed notebook, as nbformat reads it.

    Raises:
        ValueError: a cell prints anything but JSON.

    Example:
        >>> from nbformat.v4 import new_code_cell, new_notebook, new_output
        >>> printed = new_output("stream", text=as_evidence({"test": {"p": 0.01}}))
        >>> cell = new_code_cell(outputs=[printed], metadata={"tags": ["evidence"]})
        >>> printed_evidence(new_notebook(cells=[cell]))
        {'test': {'p': 0.01}}
    """
    evidence = {}
    for cell in notebook.cells:
        if "evidence" in cell.metadata.get("tags", []):
            evidence |= json.loads("".join(output.get("text", "") for output in cell.outputs))
    return evidence


def _rounded(value, where):
    if isinstance(value, dict):
        return {_name(k): _rounded(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(f"{value:.4g}")
    raise TypeError(f"{where} must be a finite number or a dict, got {value!r}")


def _name(label):
    """A table's label as a name that rules can use: "Zheng & Hong" → "zheng_hong"."""
    return re.sub(r"\W+", "_", str(label).lower()).strip("_")


def load_evidence(folder):
    """All evidence in a folder of JSON files, topic → values.

    Raises:
        FileNotFoundError: no JSON file there.
        ValueError: a file is no JSON mapping, or two files have one topic.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "chapter.json").write_text(as_evidence({"test": {"p": 0.01}}))
        ...     load_evidence(folder)
        {'test': {'p': 0.01}}
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise FileNotFoundError(f"no evidence in {folder}: build the book, which writes it there")
    evidence = {}
    for file in files:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}): build the book again") from None
        if not isinstance(values, dict) or set(values) & set(evidence):
            raise ValueError(f"{file} must map topics that no other file has to their values")
        evidence |= values
    return evidence


def judge(claims, evidence):
    """Decide each claim by its rules.

    Args:
        claims: list of :class:`Claim`.
        evidence: nested dict, topic → name → number.

    Returns:
        list of :class:`Judgement`, in the order of the claims. A claim whose rules name evidence
        that is not there is not testable here.

    Example:
        >>> rules = {"reproduced": "test.p < 0.01", "partly": "test.p < 0.1"}
        >>> claim = Claim("x", "§1", "It is.", ours="p = {test.p}", where="", **rules)
        >>> [judge([claim], {"test": {"p": p}})[0].verdict for p in (0.001, 0.05, 0.5)]
        ['reproduced', 'partly reproduced', 'not reproduced']
        >>> unsure = Claim("x", "§1", "It is.", "t.low > 0", "", "", undecided="t.high > 0")
        >>> judge([unsure], {"t": {"low": -1, "high": 2}})[0].verdict
        'undecided'
        >>> judge([claim], {})[0].verdict
        'not testable here'
    """
    names = {topic: _namespace(values) for topic, values in evidence.items()}
    return [_judge(claim, names) for claim in claims]


def _judge(claim, names):
    try:
        rules = {REPRODUCED: claim.reproduced, PARTLY: claim.partly, UNDECIDED: claim.undecided}
        rules = {verdict: rule or "1 < 0" for verdict, rule in rules.items()}
        held = [verdict for verdict, rule in rules.items() if _evaluate(rule, names)]
        ours = in_words(claim.ours.format_map(names))
    except (NameError, AttributeError, KeyError):
        return Judgement(claim, UNTESTABLE, f"missing: {claim.needs}" if claim.needs else "")
    return Judgement(claim, held[0] if held else NOT, ours)


def _namespace(values):
    if not isinstance(values, dict):
        return values
    return SimpleNamespace(**{name: _namespace(value) for name, value in values.items()})


ALLOWED = (
    ast.Expression,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.UnaryOp,
    ast.Not,
    ast.USub,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Compare,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Eq,
    ast.NotEq,
    ast.Name,
    ast.Attribute,
    ast.Load,
    ast.Constant,
)


def _parse(rule, where):
    """A rule's syntax tree, which can do nothing but compare numbers."""
    try:
        tree = ast.parse(" ".join(rule.split()), mode="eval")
    except SyntaxError:
        raise ValueError(f"{where}: {rule!r} is no expression") from None
    for node in ast.walk(tree):
        private = isinstance(node, ast.Attribute) and node.attr.startswith("_")
        if private or not isinstance(node, ALLOWED):
            raise ValueError(f"{where}: {rule!r} may only compare evidence and numbers")
    if not any(isinstance(node, ast.Compare) for node in ast.walk(tree)):
        raise ValueError(f"{where}: {rule!r} compares nothing")
    return tree


def _evaluate(rule, names):
    return eval(compile(_parse(rule, "rule"), "rule", "eval"), {"__builtins__": {}}, names)


def count_verdicts(judgements):
    """How many claims have each verdict, as one line of Markdown.

    Args:
        judgements: what :func:`judge` returns.
    """
    counts = {v: sum(judgement.verdict == v for judgement in judgements) for v in VERDICTS}
    return ", ".join(f"**{count} {verdict}**" for verdict, count in counts.items())
