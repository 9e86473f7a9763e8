"""Figures show the data they are given: what is drawn is read back from the Axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from mistakes_lib.book import plotting
from mistakes_lib.evaluation.risk import risk_coverage
from mistakes_lib.evaluation.tables import detection_table
from mistakes_lib.features.feature_set import FeatureSet
from mistakes_lib.runs.stages.drawing import image_columns

RNG = np.random.default_rng(0)
PAIRS = {name: (RNG.normal(1, size=80), RNG.normal(size=40)) for name in ("one", "two")}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plotting.new_figure()[1]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def failures(trusted, suspect):
    return [0] * len(trusted) + [1] * len(suspect), -np.r_[trusted, suspect]


def test_new_figure_has_the_panels_asked_for():
    figure, axes = plotting.new_figure(columns=3, rows=2, width=2, height=1)
    assert isinstance(figure, Figure) and axes.shape == (2, 3)
    assert figure.get_size_inches().tolist() == [6, 2]


def test_histograms_integrate_to_what_lies_inside(ax):
    groups = {"correct": RNG.normal(size=1000), "incorrect": RNG.normal(-1, size=50)}
    assert plotting.likelihood_histograms(ax, groups, clip=0) is ax
    assert legend(ax) == ["correct", "incorrect"]
    areas = [p.get_height() * p.get_width() for p in ax.patches if hasattr(p, "get_height")]
    assert sum(areas) == pytest.approx(2, rel=1e-6)
    assert "nats per dimension" in ax.get_xlabel() and "0.0% lie outside" in ax.get_xlabel()


def test_histograms_that_spread_over_powers_of_ten_integrate_on_their_own_scale(ax):
    groups = {"usual": RNG.normal(size=1000), "strange": -(10 ** RNG.uniform(0, 5, size=500))}
    plotting.likelihood_histograms(ax, groups, clip=0, scale="asinh")
    assert ax.get_xscale() == "asinh"
    bars = [p for p in ax.patches if hasattr(p, "get_height")]
    left = np.array([bar.get_x() for bar in bars])
    width = np.arcsinh(left + [bar.get_width() for bar in bars]) - np.arcsinh(left)
    assert sum(width * [bar.get_height() for bar in bars]) == pytest.approx(2, rel=1e-6)
    assert np.ptp(width) < 1e-6 * width.mean()


def test_extreme_values_stay_in_the_histogram_whatever_a_machine_rounds(ax):
    extreme = next(v for v in RNG.uniform(1, 5, size=1000) if np.sinh(np.arcsinh(v)) < v)
    values = [-extreme, 0.0, extreme]
    plotting.likelihood_histograms(ax, {"both": values}, clip=0, scale="asinh")
    heights = [p.get_height() for p in ax.patches if hasattr(p, "get_height")]
    assert np.count_nonzero(heights) == 3


def test_roc_legend_holds_the_auroc(ax):
    plotting.roc_curves(ax, PAIRS)
    for entry, (name, pair) in zip(legend(ax), PAIRS.items(), strict=False):
        assert entry == f"{name} ({roc_auc_score(*failures(*pair)):.3f})"
    x, y = ax.lines[0].get_data()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_density_confidence_and_the_best_other_are_named_and_the_rest_is_grey(ax):
    names = ("GMM-100", "Calibrated", "Energy", "ViM", "Mahalanobis", "Max logit")
    sharper = RNG.normal(2, size=80), PAIRS["one"][1]
    groups = dict.fromkeys(names, PAIRS["one"]) | {"ViM": sharper}
    plotting.roc_curves(ax, groups)
    area = f"{roc_auc_score(*failures(*PAIRS['one'])):.3f}"
    best = f"{roc_auc_score(*failures(*sharper)):.3f}"
    assert legend(ax) == [
        f"density ({area})",
        f"confidence ({area})",
        f"best other: ViM ({best})",
        "3 other methods",
        "chance (0.500)",
    ]
    density, confidence = ax.lines[:2]
    assert (density.get_color(), confidence.get_color()) == (plotting.DENSITY, plotting.CONFIDENCE)
    assert density.get_linewidth() > confidence.get_linewidth() > ax.lines[3].get_linewidth()


def test_raw_confidence_is_no_other_method_beside_confidence(ax):
    names = ("GMM-100", "Calibrated", "Energy", "ViM", "Mahalanobis", "Max softmax")
    sharper = RNG.normal(3, size=80), PAIRS["one"][1]
    plotting.roc_curves(ax, dict.fromkeys(names, PAIRS["one"]) | {"Max softmax": sharper})
    assert "raw" not in " ".join(legend(ax))


def test_few_methods_are_all_named_and_keep_their_colours(ax):
    plotting.roc_curves(ax, {"Energy": PAIRS["one"], "Calibrated": PAIRS["two"]})
    assert [entry.partition(" (")[0] for entry in legend(ax)] == ["Energy", "confidence", "chance"]
    assert ax.lines[1].get_color() == plotting.CONFIDENCE
    assert ax.lines[0].get_color() not in (plotting.CONFIDENCE, plotting.DENSITY)


def test_areas_in_legends_are_those_of_the_table(ax):
    table = detection_table(PAIRS, random_state=3)
    plotting.roc_curves(ax, PAIRS)
    assert [f"{name} ({area:.3f})" for name, area in table.AUROC.items()] == legend(ax)[:2]
    ax.clear()
    plotting.precision_recall_curves(ax, PAIRS)
    assert [f"{name} ({area:.3f})" for name, area in table.AUPR.items()] == legend(ax)[:2]


def test_precision_recall_legend_holds_the_average_precision(ax):
    plotting.precision_recall_curves(ax, PAIRS)
    for entry, (name, pair) in zip(legend(ax), PAIRS.items(), strict=False):
        assert entry == f"{name} ({average_precision_score(*failures(*pair)):.3f})"
    assert legend(ax)[-1] == "chance (0.333)"


def test_risk_coverage_legend_holds_the_area(ax):
    curves = {name: risk_coverage(np.r_[pair], np.arange(120) < 80) for name, pair in PAIRS.items()}
    plotting.risk_coverage_curves(ax, curves)
    assert legend(ax) == [f"{name} ({curve.aurc:.4f})" for name, curve in curves.items()]
    for line, curve in zip(ax.lines, curves.values(), strict=True):
        np.testing.assert_array_equal(line.get_data(), [curve.coverage, curve.risk])
    assert ax.get_ylim() == (0, pytest.approx(1.25 * 40 / 120))


def test_more_methods_than_colours_still_have_a_line_each(ax):
    many = {str(i): PAIRS["one"] for i in range(12)}
    plotting.roc_curves(ax, many)
    assert len(ax.lines) == 13


def test_dots_stand_in_order_with_their_intervals_on_an_axis_that_fits(ax):
    table = pd.DataFrame(
        {"AUROC": [0.6, 0.9, 0.7], "low": [0.5, 0.85, 0.6], "high": [0.7, 0.95, 0.8]},
        index=["GMM-5", "Calibrated", "Energy"],
    )
    plotting.dots_with_intervals(ax, table)
    assert [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"] == [0.6, 0.7, 0.9]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["density (GMM-5)", "Energy", "confidence"]
    segments = [bar.get_segments()[0][:, 0].tolist() for bar in ax.collections]
    assert segments == [pytest.approx(pair) for pair in ([0.5, 0.7], [0.6, 0.8], [0.85, 0.95])]
    assert ax.get_xlim() == pytest.approx((0.5 - 0.05 * 0.45, 0.95 + 0.05 * 0.45))


def test_ellipses_of_a_mixture_span_two_deviations_on_each_side(ax):
    groups = {"cats": RNG.normal(size=(5, 2)), "dogs": RNG.normal(size=(3, 2))}
    means, variances = [[0.0, 1.0], [2.0, 3.0]], [[1.0, 4.0], [0.25, 1.0]]
    assert plotting.mixture_in_plane(ax, groups, means, variances) is ax
    assert legend(ax) == ["cats", "dogs"]
    for drawn, points in zip(ax.collections, groups.values(), strict=True):
        np.testing.assert_array_equal(drawn.get_offsets(), points)
    found = [(list(e.center), e.width, e.height) for e in ax.patches]
    assert found == [([0, 1], 4, 8), ([2, 3], 2, 4)]
    assert [text.get_text() for text in ax.texts] == ["1", "2"]


def test_image_columns_show_the_pixels():
    images = RNG.integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    figure = image_columns({"left": images, "right (twice)": images}, ("cat", "dog"))
    assert len(figure.axes) == 4
    np.testing.assert_array_equal(
        figure.axes[2].images[0].get_array(), images[1].transpose(1, 2, 0)
    )
    assert [figure.axes[i].get_ylabel() for i in (0, 2)] == ["cat", "dog"]


def test_training_curves_follow_the_history(ax):
    history = [{"epoch": e, "accuracy": 0.1 * e, "validation_accuracy": 0.05 * e} for e in (1, 2)]
    plotting.training_curves(ax, history)
    assert ax.lines[1].get_ydata().tolist() == [0.05, 0.1]
    assert legend(ax) == ["train (augmented)", "validation"]


def test_lines_show_the_mean_of_the_runs_and_their_spread(ax):
    rows = [(1, "a", 0.2), (1, "a", 0.4), (10, "a", 0.5), (1, "b", 0.9)]
    table = pd.DataFrame(rows, columns=["K", "what", "AUROC"])
    assert plotting.lines_with_spread(ax, table, x="K", y="AUROC", line="what") is ax
    first, second = ax.lines
    np.testing.assert_allclose(first.get_xydata(), [[1, 0.3], [10, 0.5]])
    np.testing.assert_allclose(second.get_xydata(), [[1, 0.9]])
    band = ax.collections[0].get_paths()[0].vertices
    spread = np.std([0.2, 0.4], ddof=1)
    assert band[:, 1].min() == pytest.approx(0.3 - spread)
    assert band[band[:, 0] == 1][:, 1].max() == pytest.approx(0.3 + spread)
    assert [text.get_text() for text in ax.get_legend().texts] == ["a", "b"]
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "K", "AUROC")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "10"]


def test_as_many_lines_as_there_are_sets_and_no_two_alike(ax):
    table = pd.DataFrame({"K": [1] * 9, "what": list("abcdefghi"), "AUROC": np.arange(9.0)})
    plotting.lines_with_spread(ax, table, x="K", y="AUROC", line="what")
    looks = {(line.get_color(), line.get_linestyle(), str(line._dash_pattern)) for line in ax.lines}
    assert len(looks) == len(ax.lines) == 9


def test_heatmap_is_symmetric_around_zero(ax):
    table = pd.DataFrame([[0.3, -0.1]], index=["GMM"], columns=[0.1, 1.0])
    plotting.purification_heatmap(ax, table)
    assert ax.collections[0].get_clim() == (-0.3, 0.3)
    assert [text.get_text() for text in ax.texts] == ["+0.30", "−0.10"]


def test_a_cell_without_a_change_has_no_sign(ax):
    table = pd.DataFrame([[0.0, -0.004, 0.004, 1.0]], index=["GMM"])
    plotting.purification_heatmap(ax, table)
    assert [text.get_text() for text in ax.texts] == ["0.00", "0.00", "0.00", "+1.00"]


def test_the_levels_of_a_row_are_told_apart(ax):
    index = pd.MultiIndex.from_product([["GMM-100"], ["0.1 × safe", "1 × safe"]])
    plotting.purification_heatmap(ax, pd.DataFrame({1.0: [0.1, 0.2]}, index=index))
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["GMM-100, 0.1 × safe", "GMM-100, 1 × safe"]


def test_a_void_cell_says_so(ax):
    table = pd.DataFrame([[0.3, np.nan]], index=["GMM"], columns=[0.1, 1.0])
    plotting.purification_heatmap(ax, table)
    assert [text.get_text() for text in ax.texts] == ["+0.30", "void"]
    assert ax.texts[1].get_position() == (1.5, 0.5)


def test_a_path_goes_from_a_tight_hold_to_none():
    index = pd.MultiIndex.from_product([["test"], [0.0, 10.0, 0.1]], names=["split", "nu"])
    rows = {"bits gained": [3.0, 0.1, 1.0], "broken": [9, 0, 4], "corrected": [3, 0, 2]}
    _, axes = plotting.new_figure(columns=2)
    plotting.purification_path_lines(axes, pd.DataFrame(rows, index=index))
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["10", "0.1", "0"]
    assert axes[0].lines[0].get_ydata().tolist() == [0.1, 1.0, 3.0]
    assert [line.get_ydata().tolist() for line in axes[1].lines] == [[0, 4, 9], [0, 2, 3]]


def test_shares_are_written_in_their_cells(ax):
    plotting.shares_heatmap(ax, pd.DataFrame({"noise": [0.05, 1.0]}, index=["GMM", "both"]))
    assert [text.get_text() for text in ax.texts] == ["5%", "100%"]


def test_subspaces_stand_at_their_auroc_with_their_dimensions(ax):
    index = pd.MultiIndex.from_tuples([("row", "mistakes"), ("norm alone", "mistakes")])
    index.names = ["subspace", "failure"]
    values = {"dimensions": [9, 1], "AUROC": [0.7, 0.6], "low": [0.6, 0.5], "high": [0.8, 0.7]}
    plotting.subspace_dots(ax, pd.DataFrame(values, index=index), "mistakes")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["norm alone (1)", "row (9)"]
    assert ax.lines[0].get_xdata().tolist() == [0.6, 0.7]


def test_names_of_the_book():
    names = ("GMM-7 †", "Calibrated", "Max softmax", "ViM")
    found = [plotting.method_name(name) for name in names]
    assert found == ["density (GMM-7) †", "confidence", "raw confidence", "ViM"]
    assert (
        plotting.set_name("attack.fgsm_1_255") == plotting.set_name("fgsm-1") == "FGSM, ε = 1/255"
    )
    for text in ("bim-25.5", "attack.bim_25_5_255"):  # the 0.1 of the paper's Fig. 1
        assert plotting.set_name(text) == "BIM, ε = 25.5/255"
    assert plotting.set_name("attack.bim_16_255") == "BIM, ε = 16/255"
    table = pd.DataFrame(
        [[1, 2]],
        index=["Calibrated"],
        columns=pd.MultiIndex.from_product([["net"], ["svhn", "a_b"]]),
    )
    named = plotting.call_by_name(table)
    assert named.index.tolist() == ["confidence"]
    assert named.columns.tolist() == [("net", "SVHN"), ("net", "a_b")]


def test_a_table_has_its_zeros_its_signs_and_a_dash_where_there_is_no_number():
    table = pd.DataFrame({"a": [0.5, np.nan], "b": [-1.0, 2]}, index=["x", "y"])
    written = plotting.with_dashes(table, digits=3)
    assert written.to_numpy().tolist() == [["0.500", "−1.000"], ["–", "2.000"]]
    assert written.index.tolist() == ["x", "y"]


def test_a_column_has_its_own_decimals_and_what_is_not_zero_does_not_read_as_zero():
    table = pd.DataFrame({"count": [8, 0], "p": [1e-9, 0], "gap": [-1e-9, 0.005001]})
    written = plotting.with_dashes(table, digits={"count": 0, "p": 3, "gap": 2})
    assert written.to_numpy().tolist() == [["8", "< 0.001", "0.00"], ["0", "0.000", "0.01"]]
    whole = plotting.with_dashes(
        pd.DataFrame({"drawn": [5, 10_000], "error": [0.002, 0.5]}), digits=3
    )
    assert whole.to_numpy().tolist() == [["5", "0.002"], ["10000", "0.500"]]


# --- captions and galleries ----------------------------------------------------------------------


def test_a_figure_is_shown_with_its_number_and_caption(monkeypatch):
    shown = []
    monkeypatch.setattr("mistakes_lib.book.plotting.captions.display", shown.append)
    figures = plotting.Figures(4)
    for name in ("first", "second", "first"):  # whose cell is run again
        figure, _ = plotting.new_figure()
        figures.show(figure, name, f"1 < 2 in {name}.")
    texts = [text.data for text in shown[1::2]]
    assert texts == [
        f"**Figure 4.{n}.** 1 &lt; 2 in {w}." for n, w in ((1, "first"), (2, "second"))
    ] + ["**Figure 4.1.** 1 &lt; 2 in first."]
    assert all(isinstance(figure, Figure) for figure in shown[::2])
    assert plt.get_fignums() == []
    assert list(figures.captions) == ["4.1", "4.2"]


@pytest.mark.parametrize(("name", "caption"), [("", "It is."), ("name", " ")])
def test_a_figure_without_name_or_caption_is_refused(name, caption):
    with pytest.raises(ValueError, match="needs a"):
        plotting.Figures(1).show(None, name, caption)


def test_images_of_a_sheet_come_back(tmp_path):
    images = RNG.integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    sheet = np.concatenate(list(images.transpose(0, 2, 3, 1)), axis=1)
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    np.testing.assert_array_equal(plotting.sheet_images(tmp_path / "sheet.png"), images)
    Image.fromarray(sheet[:, :-1]).save(tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="no row of square images: it measures 19 × 4"):
        plotting.sheet_images(tmp_path / "sheet.png")


def test_images_are_told_with_what_the_network_says():
    images = np.zeros((2, 3, 4, 4))
    logits = np.log([[0.75, 0.25], [0.1, 0.9]])
    known = FeatureSet(np.zeros((2, 1)), logits, [0, 0])
    texts = [text for _, text in plotting.judged_images(images, known, ("cat", "dog"))]
    assert texts == ["cat\n0.75", "cat\ntaken for dog\n0.90"]
    strange = FeatureSet(np.zeros((2, 1)), logits)
    texts = [text for _, text in plotting.judged_images(images, strange, ("cat", "dog"))]
    assert texts == ["taken for cat\n0.75", "taken for dog\n0.90"]
    with pytest.raises(ValueError, match="1 images do not go with 2 rows"):
        plotting.judged_images(images[:1], strange, ("cat", "dog"))


def test_a_gallery_shows_each_image_under_its_text():
    one, two = RNG.random((2, 3, 4, 4))
    figure = plotting.gallery({"clean": [(one, "cat"), (two, "dog")], "noise": [(two, "bird")]})
    assert len(figure.axes) == 4
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), two.transpose(1, 2, 0))
    assert [ax.get_title() for ax in figure.axes] == ["cat", "dog", "bird", ""]
    assert [ax.texts[0].get_text() for ax in figure.axes[::2]] == ["clean", "noise"]
    with pytest.raises(ValueError, match="needs rows"):
        plotting.gallery({"clean": []})
