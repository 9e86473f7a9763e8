"""Understanding classifier mistakes with generative models: the library behind the book.

Every public name is importable from here and loaded when it is first asked for, so that
``import mistakes_lib`` costs nothing and drawing a figure loads no network.
"""

from importlib import import_module

_HOMES = {
    "attacks": ("adaptive_bim", "bim", "fgsm"),
    "classifiers": ("FeatureClassifier", "build_classifier", "densenet_bc", "wide_resnet"),
    "claims": ("as_evidence", "judge", "load_claims", "load_evidence", "printed_evidence"),
    "comparison": (
        "auroc_table",
        "clear_differences",
        "describe_scorers",
        "detection_table",
        "fit_scorer",
        "fit_scorers",
        "mark_class_agnostic",
        "score_many",
        "score_pairs",
        "usual_scorers",
    ),
    "data": ("ImageSet", "load_dataset"),
    "density": ("DiagonalGMM", "FeatureMAF", "FeatureVAE", "PixelCNN"),
    "detector": ("Detector", "fit_detector"),
    "evaluation": (
        "DetectionReport",
        "ReliabilityBins",
        "RiskCoverage",
        "Threshold",
        "conformal_threshold",
        "detection_report",
        "expected_calibration_error",
        "reliability_bins",
        "risk_coverage",
        "select_threshold",
    ),
    "experiment": (
        "Experiment",
        "compare_settings",
        "load_experiment",
        "load_experiments",
    ),
    "feature_files": ("load_features",),
    "features": ("FeatureSet", "extract_features"),
    "folder_features": ("FolderFeatures", "features_of_folders"),
    "hypothesis": ("MannWhitneyResult", "auroc_interval", "mann_whitney"),
    "interactive": ("InteractiveFigure", "mixture_explorer", "threshold_explorer"),
    "model_report": ("report_on_model",),
    "networks": ("Network", "load_network", "load_weights"),
    "purification": (
        "DivergenceError",
        "PurificationEffect",
        "purification_effect",
        "purification_grid",
        "purification_objective",
        "purify",
    ),
    "pytorch_ood": ("PytorchOODScorer", "as_pytorch_ood"),
    "report": ("Report", "make_report"),
    "report_page": ("report_html",),
    "runs": ("Run", "load_run", "make_run", "publish_run", "published_runs", "train_run"),
    "scores": (
        "Combined",
        "Energy",
        "LogLikelihood",
        "Mahalanobis",
        "MaxLogit",
        "MaxSoftmax",
        "NearestNeighbors",
        "RelativeMahalanobis",
        "Scorer",
        "TemperatureScaling",
        "ViM",
        "ZhengHong",
    ),
    "chapters": ("execute_chapter",),
    "sweep": ("load_grid", "load_sweep", "run_sweep"),
    "temporal_ensembling": (
        "TemporalEnsembling",
        "choose_labelled",
        "train_temporal_ensembling",
    ),
    "training": ("Recipe", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
