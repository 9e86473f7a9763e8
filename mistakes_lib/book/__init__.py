"""What serves the chapters: notebooks, sweeps, claims, figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["plotting"],
    submod_attrs={
        "chapter_claims": ["claim_badges"],
        "claims": [
            "Claim",
            "Judgement",
            "as_evidence",
            "count_verdicts",
            "judge",
            "load_claims",
            "load_evidence",
            "printed_evidence",
        ],
        "evidence": ["run_evidence", "stored_evidence", "write_evidence"],
        "interactive": ["InteractiveFigure", "mixture_explorer", "threshold_explorer"],
        "knowing": ["BestAttack", "attacks_unnoticed", "best_attack"],
        "ledger_page": ["as_markdown"],
        "trainings": [
            "readable_trainings",
            "trainings_methods",
            "trainings_sentence",
            "trainings_spread",
            "trainings_table",
        ],
        "corrupted": ["corruption_sentence", "corruption_table"],
        "matrix": [
            "NetworkVerdict",
            "judge_networks",
            "judge_runs",
            "matrix_page",
            "overall_sentences",
            "verdict_strip",
        ],
        "nearness": ["conditions_of", "papers_experiment"],
        "notebooks": ["execute_chapter", "find_chapter", "parameters_of"],
        "overconfidence": ["overconfidence_sentence", "overconfidence_table"],
        "reports": ["failures_table", "promises_table", "published_report"],
        "sweep": ["Grid", "Sweep", "load_grid", "load_sweep", "run_sweep"],
        "teaching": ["Checked", "check"],
    },
)
