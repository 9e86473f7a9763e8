"""The ledger as a matrix: each claim of the paper judged on each published network."""

from collections import Counter
from dataclasses import dataclass

from mistakes_lib.book.claims import UNDECIDED, UNTESTABLE, VERDICTS, judge
from mistakes_lib.book.ledger_page import BADGES, LETTERS, rule_lines

__all__ = [
    "CONTRIBUTIONS",
    "NetworkVerdict",
    "judge_networks",
    "judge_runs",
    "matrix_page",
    "overall_sentences",
    "verdict_strip",
]

CONTRIBUTIONS = {
    "1": "Classifiers make mistakes on inputs with unlikely features",
    "2": "A mixture of Gaussians is enough, more flexible densities fail",
    "3": "A single tool detects mistakes, adversarial and out-of-distribution inputs",
    "": "What the appendices add",
}
NOT_ABOUT = "–"  # in the place of a verdict where a claim is not about such a classifier


def judge_runs(claims, evidence):
    """Judge every claim on every run.

    Args:
        claims: list of :class:`~mistakes_lib.book.claims.Claim`.
        evidence: dict of run → topic → values, as
            :func:`~mistakes_lib.book.evidence.stored_evidence` returns it.

    Returns:
        dict of (claim's id, run) → :class:`~mistakes_lib.book.claims.Judgement`; no entry where the
        claim is about other kinds of classifiers.

    Raises:
        ValueError: there is no run.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "test.p < 0.05", "p = {test.p}", "")
        >>> cells = judge_runs([claim], {"a": {"test": {"p": 0.01}}, "b": {"test": {"p": 0.3}}})
        >>> [cells["x", run].verdict for run in "ab"]
        ['reproduced', 'not reproduced']
    """
    if not evidence:
        raise ValueError("evidence is empty: write that of at least one run")
    cells = {}
    for run, topics in evidence.items():
        family = topics.get("run", {}).get("family")
        about = [c for c in claims if not c.families or family in c.families.split()]
        for judgement in judge(about, topics):
            cells[judgement.claim.id, run] = judgement
    return cells


@dataclass(frozen=True)
class NetworkVerdict:
    """What the trainings of one network say of a claim.

    Attributes:
        verdict: that of more than half of the trainings that could be tested, else "undecided".
        agreeing: so many trainings have this verdict themselves.
        trainings: of so many that could be tested.

    Example:
        >>> NetworkVerdict("reproduced", agreeing=4, trainings=5).verdict
        'reproduced'
    """

    verdict: str
    agreeing: int
    trainings: int


def judge_networks(cells):
    """One verdict for each network: runs that differ in their seed alone are its trainings.

    Args:
        cells: what :func:`judge_runs` returns.

    Returns:
        dict of (claim's id, network) → :class:`NetworkVerdict`; a network is a run's name without
        its seed, "cifar100/wrn_16_2".

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "a.b > 1", "", "")
        >>> evidence = {f"digits/net/seed{i}": {"a": {"b": i}} for i in range(5)}
        >>> judge_networks(judge_runs([claim], evidence))["x", "digits/net"]
        NetworkVerdict(verdict='reproduced', agreeing=3, trainings=5)
    """
    found = {}
    for (claim, run), judgement in cells.items():
        found.setdefault((claim, _network(run)), []).append(judgement.verdict)
    return {key: _majority(verdicts) for key, verdicts in found.items()}


def _majority(verdicts):
    tested = Counter(verdict for verdict in verdicts if verdict != UNTESTABLE)
    if not tested:
        return NetworkVerdict(UNTESTABLE, 0, 0)
    verdict, agreeing = tested.most_common(1)[0]
    if 2 * agreeing <= tested.total():
        verdict, agreeing = UNDECIDED, tested[UNDECIDED]
    return NetworkVerdict(verdict, agreeing, tested.total())


def overall_sentences(claims, cells):
    """What the ledger says in all: the central claims first, then each contribution.

    A network that was trained several times counts once, see :func:`judge_networks`.

    Args:
        claims: list of claims.
        cells: what :func:`judge_runs` returns.

    Returns:
        list of sentences, computed from the cells.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "a.b > 1", "", "", central="yes", contribution="1")
        >>> overall_sentences([claim], judge_runs([claim], {"run": {"a": {"b": 2}}}))[0]
        'Central claims: of 1 verdicts on 1 networks, 1 reproduced.'
    """
    verdicts = judge_networks(cells)
    networks = len({network for _, network in verdicts})
    groups = {"Central claims": [claim for claim in claims if claim.central]}
    for number, title in CONTRIBUTIONS.items():
        name = f"Contribution {number} ({title})" if number else title
        groups[name] = [claim for claim in claims if claim.contribution == number]
    sentences = []
    for name, members in groups.items():
        ids = {claim.id for claim in members}
        found = [each.verdict for (claim, _), each in verdicts.items() if claim in ids]
        tested = [verdict for verdict in found if verdict != UNTESTABLE]
        counts = [f"{tested.count(v)} {v}" for v in VERDICTS if tested.count(v)]
        if tested:
            on = f"of {len(tested)} verdicts on {networks} networks"
            sentences.append(f"{name}: {on}, {', '.join(counts)}.")
        elif members:
            sentences.append(f"{name}: nothing could be tested.")
    return sentences


def verdict_strip(claims, cells, run):
    """The verdicts on one run as a strip of small squares, each a link to its claim.

    Args:
        claims: list of claims.
        cells: what :func:`judge_runs` returns.
        run: name of the run.

    Returns:
        str, MyST Markdown: a line for each contribution, and what the letters mean.

    Raises:
        ValueError: no claim was judged on this run.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "a.b > 1", "", "", contribution="1")
        >>> strip = verdict_strip([claim], judge_runs([claim], {"run": {"a": {"b": 2}}}), "run")
        >>> "{bdg-ref-success}`R <claim-x>`" in strip
        True
    """
    lines, met = [], []
    for number, title in CONTRIBUTIONS.items():
        squares = []
        for claim in claims:
            if claim.contribution == number and (claim.id, run) in cells:
                verdict = cells[claim.id, run].verdict
                role = BADGES[verdict].split("`")[0].replace("bdg-", "bdg-ref-")
                squares.append(f"{role}`{LETTERS[verdict]} <claim-{claim.id}>`")
                met.append(verdict)
        if squares:
            lines += [f"{title}: {' '.join(squares)}", ""]
    if not met:
        raise ValueError(f"no claim was judged on {run}: write its evidence")
    legend = ", ".join(f"{LETTERS[verdict]} {verdict}" for verdict in VERDICTS if verdict in met)
    return "\n".join([*lines, f"*{legend}; each square leads to its claim.*"]) + "\n"


def matrix_page(claims, evidence, conditions):
    """The ledger as Markdown: what it says in all, a table for each contribution, the rules.

    Args:
        claims: list of claims.
        evidence: dict of run → topic → values.
        conditions: dict of run → condition → how near it is to the paper's, as
            :func:`~mistakes_lib.book.nearness.conditions_of` returns it.

    Returns:
        str, MyST Markdown.

    Example:
        >>> from mistakes_lib.book.claims import Claim
        >>> claim = Claim("x", "§1", "It is.", "a.b > 1", "b = {a.b}", "", contribution="1")
        >>> page = matrix_page([claim], {"run": {"a": {"b": 2}}}, {"run": {}})
        >>> "{bdg-success}`reproduced`" in page and "b = 2" in page
        True
    """
    cells, titles = judge_runs(claims, evidence), _titles(evidence)
    runs = list(evidence)
    verdicts, networks = judge_networks(cells), list(dict.fromkeys(map(_network, runs)))
    lines = [*overall_sentences(claims, cells), ""]
    lines = "\n\n".join(lines).splitlines()
    for number, title in CONTRIBUTIONS.items():
        members = [claim for claim in claims if claim.contribution == number]
        if not members:
            continue
        heads = [titles[network] for network in networks]
        lines += [f"## {title}", "", f"| claim | {' | '.join(heads)} |"]
        lines += ["|---" * (len(networks) + 1) + "|"]
        for claim in members:
            star = "**central** " if claim.central else ""
            row = [f"{star}{{ref}}`{claim.says} <claim-{claim.id}>` ({claim.section})"]
            row += [_badge(verdicts.get((claim.id, network))) for network in networks]
            lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |")
        lines.append("")
    lines += ["## The rules, and each run's numbers", ""]
    for claim in claims:
        lines += _section(claim, cells, titles, conditions, runs)
    return "\n".join(lines) + "\n"


def _section(claim, cells, titles, conditions, runs):
    printed = f", {claim.printed}" if claim.printed else ""
    lines = [f"(claim-{claim.id})=", f"### {claim.says}", ""]
    lines += [f"- the paper: {claim.section}{printed}", *rule_lines(claim)]
    chapter, _, label = claim.where.partition("#")
    if chapter:
        target = (
            f"{{ref}}`chapter {int(chapter[:2])} <{label}>`"
            if label
            else f"{{doc}}`chapters/{chapter}`"
        )
        lines.append(f"- told in {target}")
    lines += ["", "| run | verdict | here | conditions |", "|---|---|---|---|"]
    for run in runs:
        if (claim.id, run) not in cells:
            continue
        judgement = cells[claim.id, run]
        wanted = claim.conditions.split() or list(conditions.get(run, {}))
        near = [conditions[run][name] for name in wanted if name in conditions.get(run, {})]
        gaps = [text for text in near if text != "same"]
        near = "; ".join(gaps) or ("same as the paper's" if near else NOT_ABOUT)
        row = (titles[run], BADGES[judgement.verdict], judgement.ours or NOT_ABOUT, near)
        lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |")
    return [*lines, ""]


def _badge(found):
    """A network's verdict, and in how many of several trainings it is the same."""
    if found is None:
        return NOT_ABOUT
    count = f" {found.agreeing} of {found.trainings}" if found.trainings > 1 else ""
    return BADGES[found.verdict] + count


def _network(run):
    """A run's name without its seed."""
    head, _, last = run.rpartition("/")
    return head if head and last.startswith("seed") else run


def _titles(evidence):
    """What the page calls each network and each of its runs, such as "WRN-16-2 on CIFAR-100"."""
    titles, trainings = {}, Counter(map(_network, evidence))
    for run, topics in evidence.items():
        network = _network(run)
        title = topics.get("run", {}).get("title", network)
        titles.setdefault(network, title)
        seed = f", seed {run.rpartition('/seed')[2]}" if trainings[network] > 1 else ""
        titles[run] = title + seed
    return titles
