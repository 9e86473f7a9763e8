"""The inputs on which a run's network fails."""

import numpy as np

from mistakes_lib.runs import failures_of


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
