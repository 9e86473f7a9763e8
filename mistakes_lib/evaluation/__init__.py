"""Evaluation: hypothesis tests, detection, thresholds, calibration, risk, tables (§3.3, §4)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["ReliabilityBins", "expected_calibration_error", "reliability_bins"],
        "detection": ["DetectionReport", "detection_report"],
        "hypothesis": ["MannWhitneyResult", "auroc_interval", "mann_whitney"],
        "risk": ["RiskCoverage", "risk_coverage"],
        "tables": [
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
        ],
        "thresholds": ["Threshold", "conformal_threshold", "select_threshold"],
    },
)
