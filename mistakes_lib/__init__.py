"""Understanding classifier mistakes with generative models: the library behind the book.

Every public name is importable from here and loaded when it is first asked for, so that
``import mistakes_lib`` costs nothing and drawing a figure loads no network. Each folder is a room;
its ``__init__`` is the room's table of contents.
"""

import lazy_loader

from mistakes_lib.scores.registry import METHODS

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attacks": ["adaptive_bim", "bim", "fgsm"],
        "book": [
            "InteractiveFigure",
            "as_evidence",
            "execute_chapter",
            "judge",
            "load_claims",
            "load_evidence",
            "load_grid",
            "load_sweep",
            "mixture_explorer",
            "plotting",
            "printed_evidence",
            "run_sweep",
            "threshold_explorer",
        ],
        "classifiers": [
            "FeatureClassifier",
            "Network",
            "build_classifier",
            "densenet_bc",
            "load_network",
            "load_weights",
            "wide_resnet",
        ],
        "data": ["ImageSet", "load_dataset"],
        "density": ["DiagonalGMM", "FeatureMAF", "FeatureVAE", "PixelCNN"],
        "detector": ["Detector", "fit_detector"],
        "evaluation": [
            "DetectionReport",
            "MannWhitneyResult",
            "ReliabilityBins",
            "RiskCoverage",
            "Threshold",
            "auroc_interval",
            "auroc_table",
            "clear_differences",
            "conformal_threshold",
            "describe_scorers",
            "detection_report",
            "detection_table",
            "expected_calibration_error",
            "fit_scorer",
            "fit_scorers",
            "mann_whitney",
            "mark_class_agnostic",
            "reliability_bins",
            "risk_coverage",
            "score_many",
            "score_pairs",
            "select_threshold",
            "usual_scorers",
        ],
        "features": [
            "FeatureSet",
            "FolderFeatures",
            "extract_features",
            "features_of_folders",
            "load_features",
        ],
        "purification": [
            "DivergenceError",
            "PurificationEffect",
            "purification_effect",
            "purification_grid",
            "purification_objective",
            "purify",
        ],
        "report": ["Report", "make_report", "report_html", "report_on_model"],
        "runs": [
            "Experiment",
            "Run",
            "compare_settings",
            "load_experiment",
            "load_experiments",
            "load_run",
            "make_run",
            "publish_run",
            "published_runs",
            "train_run",
        ],
        "scores": [
            "Combined",
            "PytorchOODScorer",
            "Scorer",
            "as_pytorch_ood",
            *(method.kind for method in METHODS),
        ],
        "training": [
            "Recipe",
            "TemporalEnsembling",
            "choose_labelled",
            "train",
            "train_temporal_ensembling",
        ],
    },
)
