"""The folder for a lesson: slides, handout, archives, runs; and the command that writes it."""

import re
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mistakes_lib.book.teaching import find_exercise, write_lessons
from mistakes_lib.book.teaching.sheet import sheet_html
from mistakes_lib.book.teaching.slides import Picture, handout_html, read_chapter, slides_html
from mistakes_lib.runs import load_run
from mistakes_lib.support.locations import BOOK, CHAPTERS
from tests.helpers.commands import mistakes

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
SMALL = """
data_set: digits
classifier: tiny
n_components: 2
experiment:
  architecture: {name: densenet_bc, depth: 10, growth_rate: 4, dropout: 0.0}
  recipe: {epochs: 1, schedule: one_cycle, max_shift: 1, flip: false}
  attacks: [fgsm]
  eps_levels: [8]
  attack_images: 10
  ood: {gaussian_noise: 10}
  mixtures: [2]
"""


def picture(png=DOT, **metadata):
    return new_output("display_data", data={"image/png": png}, metadata=metadata)


def markdown(text):
    return new_output("display_data", data={"text/markdown": text})


@pytest.fixture
def chapter(tmp_path):
    """An executed chapter: a verdict, a figure with a caption, and one without."""
    alt = {"mystnb": {"image": {"alt": "a dot"}}, "tags": ["front-page"]}
    cells = [
        new_markdown_cell("# Head\n\n*Is it so?*\n\nWords."),
        new_markdown_cell("```{admonition} Guess first\n\n1. Is *a* < b?\n```"),
        new_code_cell("1", outputs=[markdown("**Verdict.** It is `so`, & not <b>.")]),
        new_code_cell("2", outputs=[picture(), markdown("**Figure 4.1.** *One* dot, $U_C$.")]),
        new_code_cell("3", outputs=[picture()], metadata=alt),
    ]
    path = tmp_path / "04_toy.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_a_chapter_is_read_with_captions_or_else_what_stands_for_the_picture(chapter):
    read = read_chapter(chapter)
    assert (read.name, read.title, read.question) == ("04_toy", "Head", "Is it so?")
    assert read.verdict == "It is `so`, & not <b>."
    assert [(p.number, p.words) for p in read.pictures] == [
        ("4.1", "*One* dot, $U_C$."),
        ("", "a dot"),
    ]
    assert read.pictures[1].tags == ("front-page",) and read.pictures[0].png == DOT


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([new_markdown_cell("No head.")], "has no heading"),
        ([new_markdown_cell("# Head"), new_code_cell("1")], "has no outputs: execute it"),
    ],
)
def test_what_is_no_executed_chapter_is_an_error(tmp_path, cells, message):
    nbformat.write(new_notebook(cells=cells), tmp_path / "x.ipynb")
    with pytest.raises(ValueError, match=message):
        read_chapter(tmp_path / "x.ipynb")


def test_slides_hold_all_pictures_and_need_no_network(chapter):
    page = slides_html([read_chapter(chapter)], title="A < B")
    assert page.count("<section>") == 1 + 1 + 1 + 2 + 1  # title, head, guesses, figures, verdict
    assert page.count(f"data:image/png;base64,{DOT}") == 2
    assert not re.search(r"https?://|src=\"(?!data:)|<link", page)
    assert "<strong>Figure 4.1.</strong>" in page and 'alt="a dot"' in page
    assert "A &lt; B" in page and "&amp; not &lt;b&gt;" in page and "<code>so</code>" in page
    assert "<em>One</em> dot, <em>U<sub>C</sub></em>" in page and "<em>a</em> &lt; b" in page
    assert "<p><strong>Guess first</strong></p>\n<p>1. Is" in page


def test_slides_of_the_book_show_every_figure_of_every_chapter():
    paths = sorted((BOOK / "chapters").glob("[0-9][0-9]_*.ipynb"))
    page = slides_html([read_chapter(path) for path in paths])
    cells = [cell for path in paths for cell in nbformat.read(path, as_version=4).cells]
    pngs = [
        o.data["image/png"]
        for c in cells
        for o in c.get("outputs", [])
        if "data" in o and "image/png" in o.data
    ]
    assert len(pngs) > 10
    for png in pngs:
        assert png.replace("\n", "") in page
    assert 'alt=""' not in page


def test_the_handout_has_exercises_by_hand_and_a_picture():
    page = handout_html(Picture("", "Dots", "a dot", DOT), [find_exercise("ex-staircase")])
    assert "Four correct predictions" in page and "<em>U<sub>C</sub></em>" in page
    assert DOT in page and "https://" not in page and "{term}" not in page


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a lesson with a small run, which the command writes twice."""
    folder = tmp_path_factory.mktemp("lesson")
    (folder / "small.yml").write_text(SMALL)
    options = ["--parameters", folder / "small.yml", "--runs", folder / "runs"]
    command = ["teach", "--output", folder / "teach", *options]
    first, again = mistakes(*command, "--quiet"), mistakes(*command)
    assert (first.exit_code, first.stdout) == (0, ""), first.output
    return folder / "teach", again


def test_the_command_says_what_it_wrote(written):
    folder, result = written
    assert result.exit_code == 0, result.output
    for name in ("students", "solutions", "runs", "slides.html", "students.zip", "teacher.zip"):
        assert f"{folder / name}: " in result.stdout
        assert (folder / name).exists()


def test_the_students_archive_has_the_run_and_no_solution(written):
    folder, _ = written
    names = zipfile.ZipFile(folder / "students.zip").namelist()
    assert len([name for name in names if name.startswith("students/")]) == len(
        list(CHAPTERS.glob("[0-9][0-9]_*.ipynb"))
    )
    assert "runs/digits/tiny/seed0/run.json" in names and "README.md" in names
    assert not any("solutions" in name or ".lock" in name for name in names)
    teachers = zipfile.ZipFile(folder / "teacher.zip").namelist()
    assert {*names, "slides.html", "solutions/04_mistakes.ipynb"} <= set(teachers)


def test_a_notebook_finds_the_run_that_came_with_it(written, monkeypatch):
    folder, _ = written
    notebook = nbformat.read(folder / "students" / "01_background.ipynb", as_version=4)
    find, _, load = [c.source for c in notebook.cells if c.cell_type == "code"][:3]
    monkeypatch.delenv("MISTAKES_RUNS", raising=False)
    monkeypatch.chdir(folder / "students")
    names = {"run": None, "data_set": "digits", "classifier": "tiny", "seed": 0}
    exec(find, names)
    exec(load, names)
    assert names["source"].path.resolve() == (folder / "runs/digits/tiny/seed0").resolve()


def test_the_sheet_shows_shuffled_images_and_folds_the_answers(written):
    """Half of the images are mistakes; each that is listed is one, with its class."""
    folder, _ = written
    page = (folder / "sheet.html").read_text()
    shown, folded = page.split("<details>")
    run = load_run(folder / "runs/digits/tiny/seed0")
    kept = run.features("test")[run.pictured]
    wrong = min(12, (~kept.correct).sum(), kept.correct.sum())
    assert shown.count("data:image/png") == 2 * wrong
    listed = re.findall(r"<li>(\d+): (\w+), taken for (\w+)</li>", folded)
    assert len(listed) == wrong and f"<p>{wrong} are wrong:" in folded
    assert all(label != predicted for _, label, predicted in listed)
    assert not any(f">{name}<" in shown for name in run.classes if not name.isdigit())
    pictures = re.findall(r"base64,([^\"]+)", shown)
    assert len(set(pictures)) > wrong, "images differ"
    assert sheet_html(run, seed=1) != sheet_html(run, seed=0) == page
    with pytest.raises(ValueError, match="n_images must be at least 2, got 1"):
        sheet_html(run, n_images=1)


def test_another_run_in_the_folder_is_not_replaced(written, tmp_path):
    folder, _ = written
    small = folder.parent / "small.yml"
    write_lessons(tmp_path / "teach", parameters=small, runs=folder.parent / "runs")
    record = tmp_path / "teach/runs/digits/tiny/seed0/run.json"
    record.write_text(record.read_text().replace('"files": {', '"files": {"x": "0", '))
    with pytest.raises(ValueError, match="is another run: remove it first"):
        write_lessons(tmp_path / "teach", parameters=small, runs=folder.parent / "runs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parameters", "slow"], "no parameters 'slow'"),
        (["--output", CHAPTERS], "is the book's own folder: choose another"),
    ],
)
def test_what_the_user_did_wrong_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = mistakes("teach", *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing is written"
