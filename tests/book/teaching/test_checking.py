"""Answers to exercises: which are right, which are not yet, and which are no answers."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, roc_auc_score

from mistakes_lib import check
from mistakes_lib.book.teaching import find_exercise, find_exercises
from mistakes_lib.book.teaching.answers import ANSWERS
from mistakes_lib.book.teaching.checking import digest_of
from mistakes_lib.book.teaching.exercises import EXERCISE, chapter_defaults
from mistakes_lib.runs import make_run
from mistakes_lib.runs.experiment import Experiment
from mistakes_lib.support.locations import CHAPTERS
from tests.helpers.commands import mistakes

# Worked out apart from the solutions: by another formula, or on paper.
BY_HAND = {
    "ex-softmax-by-hand": 1 / (1 + np.exp(-1) + np.exp(-2)),
    "ex-ece-by-hand": 0.15,
    "ex-em-step": (0.5 + 2 * 0.1192) / 1.5,
    "ex-bpd": np.log(10) / np.log(2),
    "ex-staircase": 1 + 2 + 2 + 3,
    "ex-auroc-five": roc_auc_score([1, 1, 1, 0, 0], [0.9, 0.7, 0.6, 0.8, 0.6]),
    "ex-conformal-by-hand": 23,
    "ex-fgsm-by-hand": 0.1 * (3 + 1 + 0 + 2),
    "ex-mahalanobis-by-hand": -(1 / 4 + 1 / 1),
    "ex-p-by-hand": 3 / 10,
    "ex-step-by-hand": 3 / 2,
    "ex-temperature-by-hand": softmax([1, 0])[0],
    "ex-how-many": 99,
}
MISSING = [label for label, known in ANSWERS.items() if known.compute is not None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of digits: the second classifier is trained shorter."""
    folder, made = tmp_path_factory.mktemp("runs"), []
    for seed, epochs in ((0, 2), (1, 1)):
        experiment = Experiment(
            data_set="digits",
            classifier="tiny",
            seed=seed,
            architecture={"name": "densenet_bc", "depth": 10, "growth_rate": 4, "dropout": 0.0},
            recipe={"epochs": epochs, "schedule": "one_cycle", "max_shift": 1, "flip": False},
            attacks=["fgsm", "bim"],
            eps_levels=[8],
            attack_images=60,
            ood={"gaussian_noise": 40},
            mixtures=[4],
        )
        made.append(make_run(experiment, root=folder, progress=False))
    return made


# --- Exercises -----------------------------------------------------------------------------------


def test_every_exercise_has_a_number_of_its_own_and_a_label():
    exercises = find_exercises()
    assert len({e.number for e in exercises}) == len({e.label for e in exercises}) == len(exercises)
    for e in exercises:
        assert e.number.partition(".")[0] == str(int(e.chapter[:2]))
        assert e.words and not e.words.startswith(":")


def test_numbers_follow_the_order_of_the_page():
    orders = [int(e.number.partition(".")[2]) for e in find_exercises() if e.number[:2] == "4."]
    assert orders == list(range(1, len(orders) + 1))


def test_every_answer_belongs_to_an_exercise_and_is_stored_or_computed():
    labels = {e.label for e in find_exercises()}
    for label, known in ANSWERS.items():
        assert label in labels, f"{label} is in no chapter: remove its answer"
        assert bool(known.digest) != bool(known.compute), label
        assert known.hint.endswith(("?", ".")) and known.asks


def test_every_solution_says_why_and_gives_its_number():
    """The words of a solution have a "because"; its code assigns what is checked."""
    for path in sorted(CHAPTERS.glob("[0-9][0-9]_*.py")):
        text = path.read_text(encoding="utf-8")
        for block in text.split("{solution-start} ")[1:]:
            label, solution = block.split()[0], block.partition("{solution-end}")[0]
            assert "ecause" in solution, f"{label} does not say why"
            assert ("\nanswer =" in solution or "answer = " in solution) == (label in ANSWERS), (
                label
            )


def test_the_words_of_an_exercise_are_found():
    text = "Before.\n```{exercise} By hand\n:label: ex-a\n:class: b\n\nAdd 1\nand 2.\n```\nAfter.\n"
    found = EXERCISE.search(text)
    assert (found["title"].strip(), found["words"].strip()) == ("By hand", "Add 1\nand 2.")


def test_defaults_are_those_of_the_parameters_cell():
    assert chapter_defaults("07_one_detector")["false_alarms"] == 0.05
    assert chapter_defaults("01_background")["run"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("4.99", "there is no exercise '4.99': chapter 4 has 4.1, 4.2"),
        ("77.1", "no exercise '77.1'; their numbers are like 4.1"),
        ("ex-staircas", "did you mean 'ex-staircase'"),
    ],
)
def test_an_unknown_exercise_is_an_error_that_helps(name, message):
    with pytest.raises(ValueError, match=message):
        check(name, 1)
    with pytest.raises(ValueError, match=message):
        find_exercise(name)


# --- By hand -------------------------------------------------------------------------------------


def test_all_stored_answers_are_worked_out_here():
    assert {label for label, known in ANSWERS.items() if known.digest} == set(BY_HAND)


@pytest.mark.parametrize("label", BY_HAND)
def test_by_hand_what_is_within_the_tolerance_is_right_and_no_more(label):
    value, known = BY_HAND[label], ANSWERS[label]
    number = find_exercise(label).number
    assert repr(check(label, value)) == f"Exercise {number}: right."
    assert check(number, value).right
    step = known.tolerance or 1
    assert check(label, value + 0.9 * known.tolerance)
    assert check(label, value - 0.9 * known.tolerance)
    for wrong in (value + 1.2 * step, value - 1.2 * step, -value, 10 * value + 1):
        found = check(label, wrong)
        assert not found.right
        assert found.message.startswith(f"Exercise {number}: not yet (")
        assert found.message.endswith(known.hint)
    assert ("whole number" if not known.tolerance else f"{known.tolerance:g}") in found.message


def test_a_whole_number_is_asked_for_where_things_are_counted():
    assert not check("ex-staircase", 8.2)
    assert check("ex-staircase", np.int64(8)) and check("ex-staircase", np.array([8.0]))


def test_the_same_number_has_another_hash_in_another_exercise():
    assert digest_of("ex-a", 8) != digest_of("ex-b", 8) != digest_of("ex-b", 9)


def test_no_answer_yet_is_no_error():
    found = check("ex-staircase", ...)
    assert not found and "the number of squares" in found.message


@pytest.mark.parametrize("answer", ["8", None, True, [8], np.arange(3)])
def test_what_is_no_number_is_an_error(answer):
    with pytest.raises(TypeError, match=r"exercise 3\.\d asks for a number, the number of squares"):
        check("ex-staircase", answer)


@pytest.mark.parametrize("answer", [float("nan"), np.inf])
def test_what_is_not_finite_is_an_error(answer):
    with pytest.raises(ValueError, match="asks for a number"):
        check("ex-staircase", answer)


def test_an_exercise_without_a_number_says_so():
    with pytest.raises(ValueError, match="asks for no single number: compare with its solution"):
        check("ex-layer", 1)


# --- From a run ----------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_run_at_hand(runs):
    answers = []
    for run in runs:
        test = run.features("test")
        counts = confusion_matrix(test.labels, test.predictions)
        answers.append(int((counts - np.diag(np.diag(counts))).max()))
    assert answers[0] != answers[1], "the runs must differ for this test"
    for run, own, other in zip(runs, answers, answers[::-1], strict=True):
        assert check("ex-confusions", own, run=run)
        assert check("ex-confusions", own, run=str(run.path))
        assert not check("ex-confusions", other, run=run)


def test_parameters_name_the_run_where_none_is_given(runs, monkeypatch):
    monkeypatch.setenv("MISTAKES_RUNS", str(runs[0].path.parents[2]))
    names = {"data_set": "digits", "classifier": "tiny", "n_components": 4}
    scores = runs[1].density(4, seed=1).score_samples(runs[1].features("test").features)
    correct = runs[1].features("test").correct
    price = np.mean(scores[correct] < np.quantile(scores[~correct], 0.9))
    assert check("ex-price", price, seed=1, **names)
    assert check("ex-price", price + 0.005, seed=1, **names)
    assert not check("ex-price", price + 0.02, seed=1, **names)


def test_another_number_of_components_is_another_answer(runs):
    values = []
    for n_components in (4, 1):
        density = runs[0].density(n_components, seed=0)
        clean = runs[0].features("test")[runs[0].attacked]
        attacked = runs[0].attack("bim", 8 / 255)
        pair = [density.score_samples(b.features) for b in (clean, attacked[~attacked.correct])]
        labels = np.repeat([1, 0], [len(pair[0]), len(pair[1])])
        values.append(roc_auc_score(labels, np.concatenate(pair)))
    assert check("ex-successful", values[0], run=runs[0], n_components=4)
    assert check("ex-successful", values[1], run=runs[0], n_components=1)
    assert abs(values[0] - values[1]) > 0.01, "the mixtures must differ for this test"
    assert not check("ex-successful", values[1], run=runs[0], n_components=4)


@pytest.mark.parametrize("label", MISSING)
def test_every_computed_answer_is_a_finite_number_or_is_said_to_be_missing(label, runs):
    chapter = chapter_defaults(find_exercise(label).chapter)
    small = {name: 4 for name in ("n_components", "n_components_large") if name in chapter}
    small |= {"monotone_steps": 3} if "monotone_steps" in chapter else {}
    found = check(label, -1e6, run=runs[0], **small)
    assert not found
    assert ANSWERS[label].hint in found.message or ANSWERS[label].missing in found.message


def test_an_unknown_parameter_is_an_error_that_names_the_nearest(runs):
    with pytest.raises(TypeError, match=r"no parameter 'n_component'.*did you mean 'n_components'"):
        check("ex-price", 0.5, run=runs[0], n_component=4)


def test_an_unknown_run_is_an_error_that_lists_the_known():
    with pytest.raises(FileNotFoundError, match="no run nowhere/at/all"):
        check("ex-confusions", 3, run="nowhere/at/all")


# --- On the command line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ex-staircase", "8"], 0, "right."),
        (["ex-auroc-five", "7/12"], 0, "right."),
        (["ex-mahalanobis-by-hand", "-1.25"], 0, "right."),
        (["ex-staircase", "7"], 1, "not yet (a whole number)"),
    ],
)
def test_the_command_says_right_or_not_yet(arguments, code, message):
    result = mistakes("check", *arguments)
    assert (result.exit_code, result.stderr) == (code, "")
    assert message in result.stdout


def test_the_command_takes_a_run_and_the_chapters_parameters(runs):
    scores = runs[0].density(4, seed=0).score_samples(runs[0].features("test").features)
    correct = runs[0].features("test").correct
    price = np.mean(scores[correct] < np.quantile(scores[~correct], 0.9))
    options = ["--run", runs[0].path, "-p", "n_components=4"]
    assert mistakes("check", "ex-price", f"{price:.3f}", *options).exit_code == 0
    assert mistakes("check", "ex-price", f"{price + 0.1:.3f}", *options).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["3.99", "8"], "there is no exercise '3.99'"),
        (["ex-staircase", "eight"], "asks for a number"),
        (["ex-confusions", "3", "--run", "nowhere/at/all"], "no run nowhere/at/all"),
        (["ex-price", "3", "-p", "n_components"], "must be NAME=VALUE"),
    ],
)
def test_what_the_user_did_wrong_is_one_line(arguments, message):
    result = mistakes("check", *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
