"""Run folders: a trained classifier and all that was computed from it, with provenance.

``<data set>/<classifier>/seed<k>/`` holds ``run.json`` (parameters, versions, data fingerprints,
the SHA-256 of every file) and safetensors files. Nothing is pickled.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "experiment": [
            "Experiment",
            "compare_settings",
            "load_experiment",
            "load_experiments",
        ],
        "kinds": ["AdaptiveAttack"],
        "making": ["make_run", "train_run"],
        "publishing": ["publish_run"],
        "failures": ["failures_of", "mistake_scores"],
        "finding": ["load_run", "published_runs", "published_trainings", "published_twins"],
        "reading": ["Run"],
    },
)
