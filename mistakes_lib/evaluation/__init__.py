"""Evaluation: hypothesis tests, detection, thresholds, calibration, risk, tables (§3.3, §4)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "beyond": ["LikelihoodRatio", "auroc_by_group", "auroc_within", "likelihood_ratio_test"],
        "calibration": ["ReliabilityBins", "expected_calibration_error", "reliability_bins"],
        "detection": ["DetectionReport", "detection_report"],
        "hypothesis": ["MannWhitneyResult", "auroc_interval", "mann_whitney"],
        "one_detector": ["conformal_p_values", "joint_conformal_p_values", "shares_caught"],
        "paired": [
            "PairedDifference",
            "compare_scores",
            "holm",
            "paired_difference",
            "tally_verdicts",
            "verdict_word",
        ],
        "price": ["price_of_refusal"],
        "risk": ["RiskCoverage", "risk_coverage"],
        "spread": ["Spread", "spread_of_auroc"],
        "subspaces": ["feature_subspaces", "information_by_subspace", "share_of_zeros"],
        "tables": [
            "auroc_table",
            "describe_scorers",
            "detection_table",
            "fit_scorer",
            "fit_scorers",
            "mark_class_agnostic",
            "readable",
            "score_many",
            "score_pairs",
            "usual_scorers",
        ],
        "thresholds": ["Threshold", "conformal_threshold", "select_threshold"],
    },
)
