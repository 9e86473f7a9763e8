"""How the reports that a chapter shows are made, kept and published."""

import json

import numpy as np
import pytest
from PIL import Image

from book.building.places import BuildError
from book.building.reports import (
    attack_images,
    keep_report,
    lay_out_images,
    make_reports,
    publish_reports,
    report_command,
    run_command,
    with_library_beside,
)
from mistakes_lib.book.reports import published_report
from mistakes_lib.data.named import data_root, load_dataset
from mistakes_lib.features import FeatureSet
from mistakes_lib.report import make_report, report_html
from mistakes_lib.support.locations import REPORTS

CASES = ("seen", "held_out")


@pytest.fixture(scope="module")
def page():
    """A report's page, as the command writes it."""
    rng = np.random.default_rng(0)

    def draw(n):  # two features that are the logits; one label in four is wrong
        logits = rng.normal(size=(n, 2))
        return FeatureSet(logits, logits, logits.argmax(axis=1) ^ (rng.random(n) < 0.25))

    return report_html(make_report(draw(100), draw(100), draw(100), n_components=2))


def test_a_page_without_its_library_is_small_and_loads_it_from_beside(page):
    beside = with_library_beside(page)
    assert len(beside) < 200_000 < 3_000_000 < len(page)
    assert beside.count('src="../../plotly.min.js"') == 1
    assert "<h1>Where does this classifier fail?</h1>" in beside


def test_a_page_that_holds_no_library_is_refused(page):
    with pytest.raises(BuildError, match="holds it 0 times"):
        with_library_beside(with_library_beside(page))


@pytest.mark.parametrize("case", CASES)
def test_the_kept_report_was_made_by_the_command_that_would_make_it(case):
    made = published_report(f"resnet20/{case}")["made"]["command"]
    options = [] if case == "seen" else ["--validation-from-test"]
    assert made.split() == report_command("resnet20-12fca82f.th", case, options)


def test_only_what_is_small_is_kept(tmp_path, page):
    made = tmp_path / "made"
    made.mkdir()
    (made / "report.json").write_text('{"alarms": []}')
    (made / "report.html").write_text(page, encoding="utf-8")
    (made / "detector.safetensors").write_bytes(bytes(100))
    keep_report(made, tmp_path / "kept", ["mistakes", "report", "--out", "a b"], "said")
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert kept == {"report.json", "report.html", "made.json"}
    found = json.loads((tmp_path / "kept" / "made.json").read_text(encoding="utf-8"))
    assert (found["command"], found["console"]) == ("mistakes report --out 'a b'", "said")


def test_a_command_that_fails_says_so(tmp_path):
    with pytest.raises(BuildError, match=r"(?s)mistakes report.*failed:.*give --train"):
        run_command(["mistakes", "report"], tmp_path)


def test_reports_need_weights_that_are_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        make_reports(tmp_path / "nothing.th")


@pytest.mark.parametrize("case", CASES)
def test_the_published_page_draws_its_plots_without_a_network(case, html, browser):
    tab, complaints = browser.new_page(), []
    tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto((html / "book" / "reports" / "resnet20" / case / "report.html").as_uri())
    assert tab.locator(".plotly-graph-div svg.main-svg").count() >= 2
    assert tab.locator(".alarm").count() == len(published_report(f"resnet20/{case}")["alarms"])
    assert tab.locator(".pictures img").count() == 24
    tab.close()
    assert complaints == []


def test_every_kept_report_is_published(tmp_path):
    publish_reports(tmp_path)
    own = tmp_path / "book" / "reports"
    kept = {path.relative_to(REPORTS) for path in REPORTS.rglob("report.html")}
    assert {path.relative_to(own) for path in own.rglob("report.html")} == kept
    for page in own.rglob("report.html"):
        assert (page.parent / "../../plotly.min.js").resolve().is_file()


@pytest.mark.data
@pytest.mark.slow
def test_images_lie_as_the_command_reads_them(tmp_path, monkeypatch):
    """CIFAR-10 as it is, strange images, and attacked ones within eight grey levels."""
    weights = data_root() / "foreign" / "resnet20-12fca82f.th"
    if not weights.is_file():
        pytest.skip("needs resnet20-12fca82f.th in the folder foreign")
    few = {}

    def load(name, split, **options):
        if (name, split) not in few:
            few[name, split] = load_dataset(name, split, **options)[:20]
        return few[name, split]

    monkeypatch.setattr("book.building.reports.load_dataset", load)
    for file in (weights, REPORTS / "resnet20" / "network.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    lay_out_images(tmp_path)
    attack_images(tmp_path, weights.name)
    test = few["cifar10", "test"]
    changes = []
    for i, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
        path = tmp_path / "cifar10" / "test" / test.classes[label] / f"test-{i:05d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)).transpose(2, 0, 1), image)
        attacked = np.asarray(Image.open(tmp_path / "FGSM" / f"{i:05d}.png")).transpose(2, 0, 1)
        changes.append(np.abs(attacked.astype(int) - image).max())
    assert max(changes) == 8 and min(changes) > 0
    assert len(list((tmp_path / "cifar10" / "train").rglob("*.png"))) == 40
    assert all(
        len(list((tmp_path / n).iterdir())) == 20 for n in ("SVHN", "Fashion-MNIST", "noise")
    )
