"""The inputs on which a run's network fails."""

import numpy as np

from mistakes_lib.runs import Run, failures_of, mistake_scores


def test_each_kind_holds_the_inputs_that_are_wrong_and_no_others(run):
    found, test = failures_of(run), run.features("test")
    assert not found["mistakes"].correct.any()
    assert len(found["mistakes"]) == np.sum(test.logits.argmax(axis=1) != test.labels)
    for name in run.experiment.attacks:
        for level in run.eps_levels:
            wrong = ~run.attack(name, level / 255).correct
            kept = found.get(f"{name}_{level}", ())
            assert len(kept) == wrong.sum()
    for name in run.ood_sets:
        assert np.array_equal(found[name].features, run.ood(name).features)


def test_an_attack_that_fools_nobody_is_left_out(run, monkeypatch):
    test = run.features("test")
    right = test[test.correct]
    monkeypatch.setattr(type(run), "attack", lambda self, name, eps: right)
    assert set(failures_of(run)) == {"mistakes", *run.ood_sets}


def test_mistakes_are_scored_by_every_method_and_by_the_images(run):
    test, scorers = run.features("test"), run.scorers(2, deep=True)
    pairs = mistake_scores(run, scorers)
    assert list(pairs) == [*scorers, "PixelCNN"]
    expected = {name: scorer.score_samples(test) for name, scorer in scorers.items()}
    expected["PixelCNN"] = run.image_log_likelihood("test")
    for name, (right, wrong) in pairs.items():
        np.testing.assert_allclose(right, expected[name][test.correct])
        np.testing.assert_allclose(wrong, expected[name][~test.correct])


def test_without_a_pixel_cnn_the_methods_remain(run, monkeypatch):
    monkeypatch.setattr(Run, "scored_images", ())
    assert list(mistake_scores(Run(run.path), run.scorers(2))) == list(run.scorers(2))
