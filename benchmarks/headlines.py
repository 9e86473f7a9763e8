"""What the mixture's benchmark says at the top of the page."""

from benchmarks.results import headline, named

__all__ = ["mixture_headlines"]

# By "few" and "many" components: what is wanted of an iteration, of scoring and of a whole fit.
MANY = 500
WANTED = {
    "few": {"iteration": 4.0, "scoring": 3.0, "fit": 5.0},
    "many": {"iteration": 8.0, "scoring": 6.0, "fit": None},
}
SAYS = {"iteration": "EM iteration", "scoring": "scoring", "fit": "whole fit"}
FEW = "K is small: the passes over the rows that are no products weigh more, for both"
RULED_OUT = "a product's time is saved only where features rule out most components"


def mixture_headlines(found, bounds, busy):
    """The rows at the top of the page.

    Args:
        found: dict of (K, d, kind of features) → dict of what was done → (the peer's seconds,
            ours); what was done is "iteration", "scoring", "fit", "busy" or the name of a peer.
        bounds: rows of the table of products, with rows, d and K first and the share last.
        busy: rows of the table of busy cores, with K first and both slowdowns last.

    Returns:
        list of :func:`~benchmarks.results.headline`.
    """
    lines = []
    shares = {(k, d): share for _, d, k, *_, share in bounds}
    slowdowns = {k: slow for k, *_, their, own in busy for slow in [(their, own)]}
    sizes = sorted({(k, d) for k, d, _ in found}, reverse=True)
    for k, d in sizes:
        own = {kind: parts for (*size, kind), parts in found.items() if size == [k, d]}
        lines += _against_sklearn(k, d, own, shares.get((k, d)))
        first = next(iter(own.values()))
        if "busy" in first:
            their, ours = slowdowns[k]
            limit = f"busy, its iteration takes {their:.2g} times as long, ours {ours:.2g} times"
            what = f"EM iteration, K = {k}, d = {d}, on busy cores"
            lines.append(headline(what, named("scikit-learn"), *first["busy"], limit=limit))
        lines += [
            headline(f"EM iteration, K = {k}, d = {d}", named(peer), *first[peer])
            for peer in ("torchgmm", "pomegranate")
            if peer in first
        ]
    return lines


def _against_sklearn(k, d, own, share):
    """Rows of iteration, scoring and whole fit; ``own``: kind of features → what was done."""
    lines = []
    wanted = WANTED["many" if k >= MANY else "few"]
    for name, says in SAYS.items():
        both = [
            {kind: parts[name][i] for kind, parts in own.items() if name in parts} for i in (0, 1)
        ]
        if not both[0]:
            continue
        limit = (
            f"both matrix products alone take {share} of our time" if name == "iteration" else ""
        )
        kinds = f", {len(both[0])} kinds of features" if len(both[0]) > 1 else ""
        lines.append(
            headline(
                f"{says}, K = {k}, d = {d}{kinds}",
                named("scikit-learn"),
                *both,
                wanted=wanted[name],
                limit=limit,
                reason=RULED_OUT if k >= MANY else FEW,
            )
        )
    return lines
