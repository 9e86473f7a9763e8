"""Interactive figures in a browser: what they show after a reader's hand is what NumPy computes."""

import re
from datetime import datetime

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from sklearn.mixture import GaussianMixture

from mistakes_lib.book.interactive import mixture_explorer, threshold_explorer
from mistakes_lib.book.notebooks import load_parameters
from mistakes_lib.runs import load_run

RNG = np.random.default_rng(0)
CORRECT, WRONG = RNG.normal(0.7, 0.2, size=900), RNG.normal(0.5, 0.2, size=130)
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A figure</title>
<meta name="viewport" content="width=device-width"></head><body><main><h1>A figure</h1>
{}</main></body></html>"""


@pytest.fixture
def tab(browser):
    """A tab in which nothing is complained of."""
    tab, complaints = browser.new_page(viewport={"width": 900, "height": 900}), []
    tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.emulate_media(reduced_motion="reduce")
    yield tab
    tab.close()
    theme = "Got invalid theme mode"  # said by the book's theme on every page, and no fault
    assert [said for said in complaints if not said.startswith(theme)] == []


@pytest.fixture
def show(tab, tmp_path):
    """A function that opens a page with one figure, and returns the tab."""

    def show(figure):
        path = tmp_path / "figure.html"
        path.write_text(PAGE.format(figure._repr_html_()), encoding="utf-8")
        tab.goto(path.as_uri())
        return tab

    return show


def number(text):
    return float(text.replace("−", "-").removesuffix("\u202f%"))


def cells(tab, row):
    return tab.locator(f'.explore tr[data-row="{row}"] td').all_text_contents()


# --- the threshold explorer ----------------------------------------------------------------------


def assert_shows_what_numpy_counts(tab, correct, wrong):
    """Counts and rates are those of the threshold that the figure names; return it."""
    threshold = number(tab.locator(".explore output").inner_text())
    alarms, catches = (correct < threshold).sum(), (wrong < threshold).sum()
    assert cells(tab, "correct") == [str(alarms), str(len(correct) - alarms)]
    assert cells(tab, "wrong") == [str(catches), str(len(wrong) - catches)]
    rates = {"tpr": catches / len(wrong), "fpr": alarms / len(correct)}
    point = tab.locator(".explore-point")
    place = [float(point.get_attribute(name)) for name in ("cx", "cy")]
    assert place == pytest.approx([46 + 300 * rates["fpr"], 228 - 218 * rates["tpr"]])
    flagged = catches + alarms
    rates["precision"] = catches / flagged if flagged else np.nan
    for name, rate in rates.items():
        (text,) = cells(tab, name)
        shown = np.nan if text == "–" else number(text)
        assert shown == pytest.approx(100 * rate, abs=0.0501, nan_ok=True)
    return threshold


def test_the_slider_moves_the_counts_the_rates_and_the_point(show):
    tab = show(threshold_explorer(CORRECT, WRONG, start=0.4))
    assert assert_shows_what_numpy_counts(tab, CORRECT, WRONG) == pytest.approx(0.4)
    slider = tab.get_by_role("slider", name="Threshold")
    slider.focus()
    tab.keyboard.press("ArrowRight")
    step = assert_shows_what_numpy_counts(tab, CORRECT, WRONG) - 0.4
    (own,) = threshold_explorer(CORRECT, WRONG).data["measures"]
    assert step == pytest.approx(own["step"])
    for position in ("0", "37", slider.get_attribute("max")):
        slider.fill(position)
        assert_shows_what_numpy_counts(tab, CORRECT, WRONG)


def test_the_threshold_is_dragged_through_both_pictures(show):
    tab = show(threshold_explorer(CORRECT, WRONG))
    for picture in (0, 1):
        box = tab.locator(".explore svg").nth(picture).bounding_box()
        places = [
            (box["x"] + fraction * box["width"], box["y"] + (1 - fraction) * box["height"])
            for fraction in (0.5, 0.3, 0.7)
        ]
        tab.mouse.move(*places[0])
        tab.mouse.down()
        found = []
        for place in places:
            tab.mouse.move(*place)
            found.append(assert_shows_what_numpy_counts(tab, CORRECT, WRONG))
        tab.mouse.up()
        assert found[1] < found[0] < found[2]
        tab.mouse.move(5, 5)
        assert assert_shows_what_numpy_counts(tab, CORRECT, WRONG) == found[2], "it stays"


def test_a_passing_mouse_shows_a_threshold_for_the_while(show):
    tab = show(threshold_explorer(CORRECT, WRONG, start=0.4))
    box = tab.locator(".explore svg").nth(1).bounding_box()
    tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"])
    assert assert_shows_what_numpy_counts(tab, CORRECT, WRONG) > 0.5
    tab.mouse.move(5, 5)
    assert assert_shows_what_numpy_counts(tab, CORRECT, WRONG) == pytest.approx(0.4)


def test_the_images_nearest_to_the_threshold_are_shown(show, tmp_path):
    Image.fromarray(RNG.integers(0, 256, (8, 80, 3), dtype=np.uint8)).save(tmp_path / "row.png")
    scores = RNG.permutation(np.linspace(0.21, 0.93, 10))
    names = {"label": ["cat"] * 10, "predicted": ["cat", "dog"] * 5}
    pictures = {"file": tmp_path / "row.png", "score": scores, **names}
    tab = show(threshold_explorer(CORRECT, WRONG, start=0.4, pictures=pictures))
    for position in ("30", "100", "170"):
        tab.get_by_role("slider", name="Threshold").fill(position)
        threshold = assert_shows_what_numpy_counts(tab, CORRECT, WRONG)
        order = np.argsort(scores)
        split = (scores < threshold).sum()
        for list_, expected in enumerate((order[max(0, split - 4) : split], order[split:][:4])):
            items = tab.locator(".explore-pictures ul").nth(list_).locator("li[data-picture]")
            shown = items.evaluate_all("items => items.map(item => +item.dataset.picture)")
            assert shown == expected.tolist()
            words = ["cat, taken for dog ✗" if k % 2 else "cat ✓" for k in expected]
            assert items.all_inner_texts() == words


OTHER = (CORRECT + 0.2) ** 3, (WRONG + 0.1) ** 3  # another score of the same inputs
RIVAL = dict(zip(("correct", "wrong"), OTHER, strict=True), name="confidence", unit="softmax")


def test_a_click_goes_to_another_score_at_the_same_price(show):
    tab = show(threshold_explorer(CORRECT, WRONG, start=0.4, rival=RIVAL))
    assert_shows_what_numpy_counts(tab, CORRECT, WRONG)
    refused = int(cells(tab, "correct")[0])
    tab.get_by_role("radio", name="confidence").check()
    threshold = assert_shows_what_numpy_counts(tab, *OTHER)
    found = int(cells(tab, "correct")[0])
    assert abs(found - refused) <= 5 and threshold != pytest.approx(0.4)
    assert tab.locator(".explore-other").count() == 1, "the ROC curve of density stays, in grey"
    tab.get_by_role("slider", name="Threshold").press("ArrowRight")
    assert assert_shows_what_numpy_counts(tab, *OTHER) > threshold
    tab.get_by_role("radio", name="density").check()
    assert_shows_what_numpy_counts(tab, CORRECT, WRONG)


def test_there_is_no_choice_of_one_score(show):
    assert show(threshold_explorer(CORRECT, WRONG)).get_by_role("radio").count() == 0


def test_the_images_follow_the_chosen_score(show, tmp_path):
    Image.fromarray(RNG.integers(0, 256, (8, 32, 3), dtype=np.uint8)).save(tmp_path / "row.png")
    pictures = {"file": tmp_path / "row.png", "score": [0.1, 0.2, 0.8, 0.9]}
    pictures |= {"label": ["cat"] * 4, "predicted": ["cat"] * 4}
    rival = RIVAL | {"score": [9.0, 8.0, -1.0, -2.0]}
    tab = show(threshold_explorer(CORRECT, WRONG, start=0.4, pictures=pictures, rival=rival))
    flagged = tab.locator(".explore-pictures ul").first.locator("li[data-picture]")
    numbers = "items => items.map(item => +item.dataset.picture)"
    assert flagged.evaluate_all(numbers) == [0, 1]
    tab.get_by_role("radio", name="confidence").check()
    assert flagged.evaluate_all(numbers) == [3, 2]


def test_the_explorer_of_the_chapter_counts_the_published_run(tab, html):
    tab.goto((html / "book" / "chapters" / "04_mistakes.html").as_uri())
    parameters, _ = load_parameters("published")
    run = load_run("{data_set}/{classifier}/seed{seed}".format_map(parameters))
    test = run.features("test")
    density = run.density(parameters["n_components"])
    scores = density.score_samples(test.features) / test.features.shape[1]
    correct, wrong = scores[test.correct], scores[~test.correct]
    assert_shows_what_numpy_counts(tab, correct, wrong)
    for position in ("20", "90"):
        tab.get_by_role("slider", name="Threshold").fill(position)
        assert_shows_what_numpy_counts(tab, correct, wrong)


# --- the mixture explorer ------------------------------------------------------------------------

CENTRES = np.array([[-1.0, 0.5], [2.0, -1.0], [0.5, 2.0]])
POINTS = np.concatenate([c + 0.7 * RNG.normal(size=(60, 2)) for c in CENTRES]).round(3)
START = POINTS[:4]


def reference(means, *, steps):
    """scikit-learn's mixture after so many steps from these centres; None: when converged."""
    size = len(means)
    mixture = GaussianMixture(
        size,
        covariance_type="diag",
        tol=1e-3 if steps is None else 0,
        max_iter=100 if steps is None else max(1, steps),
        weights_init=np.full(size, 1 / size),
        means_init=means,
        precisions_init=np.tile(1 / POINTS.var(axis=0), (size, 1)),
    ).fit(POINTS)
    if steps == 0:
        mixture.weights_, mixture.means_ = mixture.weights_init, mixture.means_init
        mixture.covariances_ = 1 / mixture.precisions_init
        mixture.precisions_cholesky_ = np.sqrt(mixture.precisions_init)
    return mixture


def assert_shows(tab, mixture, *, steps, converged=False):
    said = tab.locator(".explore-status").inner_text()
    how = f"EM step {steps}{', converged' if converged else ''}: log-likelihood "
    assert said.startswith(how), said
    likelihood = number(said.removeprefix(how).removesuffix(" nats per point"))
    assert likelihood == pytest.approx(mixture.score(POINTS), abs=0.51e-4)
    for k, mean in enumerate(mixture.means_):
        expected = [mixture.weights_[k], *mean, *np.sqrt(mixture.covariances_[k])]
        assert [number(text) for text in cells(tab, k)] == pytest.approx(expected, abs=0.51e-3)
    owners = tab.locator(".explore svg").first.locator("g[aria-hidden] circle")
    fills = owners.evaluate_all("dots => dots.map(dot => dot.style.fill)")
    shares = mixture.predict_proba(POINTS)
    first, second = np.sort(np.c_[shares, np.zeros(len(POINTS))], axis=1).T[[-1, -2]]
    clear = first - second > 1e-6
    colours = np.array([f"var(--explore-{k + 1})" for k in shares.argmax(axis=1)])
    assert np.array(fills)[clear].tolist() == colours[clear].tolist()


def explorer():
    return mixture_explorer(POINTS, START, n_components=3)


def test_an_outline_ends_at_the_axes(show):
    outlines = show(explorer()).locator("g:has(> .explore-ring)")
    left, top, width, height = outlines.evaluate("""group => {
        const clip = group.getAttribute("clip-path").match(/^url\\((#.*)\\)$/)[1];
        const frame = document.querySelector(clip).firstChild;
        return ["x", "y", "width", "height"].map((name) => Number(frame.getAttribute(name)));
    }""")
    grid = outlines.evaluate("""group => [...group.parentElement.querySelectorAll(
        ".explore-axes path")].map((path) => path.getAttribute("d"))""")
    across = [re.fullmatch(r"M(.+) (.+)H(.+)", d) for d in grid if "H" in d]
    up = [re.fullmatch(r"M(.+) (.+)V(.+)", d) for d in grid if "V" in d]
    assert {(float(m[1]) + 4, float(m[3])) for m in across} == {(left, left + width)}
    assert {(float(m[2]), float(m[3]) - 4) for m in up} == {(top, top + height)}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_button_takes_scikit_learn_s_steps(show):
    tab = show(explorer())
    for steps in (0, 1, 2, 3):
        assert_shows(tab, reference(START[:3], steps=steps), steps=steps)
        tab.get_by_role("button", name="One EM step").click()
    tab.get_by_role("button", name="Start again").click()
    assert_shows(tab, reference(START[:3], steps=0), steps=0)


def test_it_runs_until_scikit_learn_would_stop(show):
    tab = show(explorer())
    tab.get_by_role("button", name="Run EM").click()
    mixture = reference(START[:3], steps=None)
    assert_shows(tab, mixture, steps=mixture.n_iter_, converged=True)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_best_so_far_stays_where_a_bad_start_ends_on_another_hill(show):
    tab = show(explorer())
    tab.get_by_role("button", name="Run EM").click()
    best = f"best so far {reference(START[:3], steps=None).score(POINTS):.4f}".replace("-", "−")
    assert tab.locator(".explore-note").text_content() == best
    tab.get_by_role("button", name="Bad start").click()
    means = np.array([[number(text) for text in cells(tab, k)[1:3]] for k in range(3)])
    scale = POINTS.std(axis=0)
    far = POINTS[np.argmax((((POINTS - POINTS.mean(axis=0)) / scale) ** 2).sum(axis=1))]
    nearest = POINTS[np.argsort((((POINTS - far) / scale) ** 2).sum(axis=1))[:3]]
    np.testing.assert_allclose(means, nearest, atol=0.51e-3)
    assert tab.locator(".explore-note").text_content() == best
    tab.get_by_role("button", name="Run EM").click()
    found = reference(nearest, steps=None)
    assert_shows(tab, found, steps=found.n_iter_, converged=True)
    highest = max(found.score(POINTS), reference(START[:3], steps=None).score(POINTS))
    shown = number(tab.locator(".explore-note").text_content().removeprefix("best so far "))
    assert shown == pytest.approx(highest, abs=0.51e-4)
    tab.get_by_role("slider", name="Gaussians").fill("2")
    two = f"best so far {reference(START[:2], steps=0).score(POINTS):.4f}".replace("-", "−")
    assert tab.locator(".explore-note").text_content() == two, "of as many Gaussians only"


def test_steps_are_animated_where_motion_is_welcome(tab, show):
    tab.clock.install(time=datetime(2026, 1, 1))
    show(explorer())
    tab.clock.pause_at(datetime(2026, 1, 2))  # from now on, time passes when the test says so
    tab.emulate_media(reduced_motion="no-preference")
    tab.get_by_role("button", name="Run EM").click()
    for steps in (0, 1, 2):
        assert tab.locator(".explore-status").inner_text().startswith(f"EM step {steps}:")
        tab.clock.run_for(400)
    tab.get_by_role("button", name="Pause").click()
    tab.clock.run_for(2000)
    assert tab.locator(".explore-status").inner_text().startswith("EM step 3:")
    assert tab.get_by_role("button", name="Run EM").is_visible()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_dragged_centre_is_where_em_starts(show):
    tab = show(explorer())
    tab.get_by_role("button", name="One EM step").click()
    before = [[number(text) for text in cells(tab, k)[1:3]] for k in range(3)]
    handle = tab.get_by_role("slider", name="Centre 2")
    box = handle.locator("circle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x - 60, y - 40, steps=3)
    tab.mouse.up()
    means = np.array([[number(text) for text in cells(tab, k)[1:3]] for k in range(3)])
    assert means[1, 0] < before[1][0] - 0.3 and means[1, 1] > before[1][1] + 0.3
    np.testing.assert_array_equal(means[[0, 2]], np.array(before)[[0, 2]])
    tab.get_by_role("button", name="Start again").click()
    assert_shows(tab, reference(START[:3], steps=0), steps=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_arrow_keys_move_a_centre_and_the_likelihood_with_it(show):
    tab = show(explorer())
    tab.get_by_role("slider", name="Centre 1").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft", "ArrowDown"):
        tab.keyboard.press(key)
    means = np.array([[number(text) for text in cells(tab, k)[1:3]] for k in range(3)])
    assert means[0, 0] < START[0, 0] and means[0, 1] == pytest.approx(START[0, 1], abs=0.002)
    assert_shows(tab, reference(means, steps=0), steps=0)
    tab.get_by_role("button", name="One EM step").click()
    assert_shows(tab, reference(means, steps=1), steps=1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_number_of_components_is_chosen(show):
    tab = show(explorer())
    for size in ("1", "4"):
        tab.get_by_role("slider", name="Gaussians").fill(size)
        assert_shows(tab, reference(START[: int(size)], steps=0), steps=0)
        assert tab.get_by_role("slider", name="Centre").count() == int(size)


# --- for everybody -------------------------------------------------------------------------------

FIGURES = {
    "threshold": lambda: threshold_explorer(CORRECT, WRONG),
    "rivals": lambda: threshold_explorer(CORRECT, WRONG, rival=RIVAL),
    "mixture": explorer,
}


@pytest.mark.parametrize("kind", FIGURES)
def test_what_moves_it_stays_in_sight_on_a_telephone(kind, show):
    tab = show(FIGURES[kind]())
    tab.set_viewport_size({"width": 390, "height": 700})
    tab.locator(".explore table").last.scroll_into_view_if_needed()
    box = tab.get_by_role("slider", name="Threshold" if kind != "mixture" else "Gaussians")
    place = box.bounding_box()
    assert 0 <= place["y"] < 200
    bar = tab.locator(".explore-bar").bounding_box()
    assert bar["height"] < 250, "most of the screen is left to the figure"


@pytest.mark.parametrize("kind", FIGURES)
def test_it_fits_a_telephone_and_axe_finds_no_serious_fault(kind, show):
    tab = show(FIGURES[kind]())
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    faults = Axe().run(tab).response["violations"]
    assert [f["id"] for f in faults if f["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("kind", FIGURES)
def test_without_scripts_words_stand_there_and_on_paper_nothing(kind, browser, show, tmp_path):
    tab = show(FIGURES[kind]())
    assert tab.get_by_text("moves where its script may run").count() == 0
    tab.emulate_media(media="print")
    assert not tab.locator(".explore").is_visible()
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((tmp_path / "figure.html").as_uri())
    assert plain.get_by_text("moves where its script may run").is_visible()
    context.close()
