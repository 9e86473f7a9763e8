"""What serves the chapters: notebooks, sweeps, claims, figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["plotting"],
    submod_attrs={
        "claims": [
            "Claim",
            "Judgement",
            "as_evidence",
            "as_markdown",
            "count_verdicts",
            "judge",
            "load_claims",
            "load_evidence",
            "printed_evidence",
        ],
        "interactive": ["InteractiveFigure", "mixture_explorer", "threshold_explorer"],
        "notebooks": ["execute_chapter", "find_chapter", "parameters_of"],
        "sweep": ["Grid", "Sweep", "load_grid", "load_sweep", "run_sweep"],
    },
)
