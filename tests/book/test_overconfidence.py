"""Over-confidence against the gap: the table by hand, the sentence by its two signs."""

import pandas as pd
import pytest

from mistakes_lib.book.overconfidence import GAP, overconfidence_sentence, overconfidence_table


def topics(temperature, difference):
    gap = {"difference": difference, "interval": "−0.1 to 0.1", "verdict": "undecided"}
    run = {"accuracy": 0.7, "training_accuracy": 0.9}
    calibration = {"temperature": temperature}
    return {"calibration": calibration, "mistakes": {"calibrated": gap}, "run": run}


def test_runs_stand_in_the_order_of_their_temperature():
    evidence = {"hot": topics(1.5, -0.02), "none": {}, "cool": topics(0.9, -0.2)}
    table = overconfidence_table(evidence)
    assert table.index.tolist() == ["cool", "hot"]
    assert table[GAP].tolist() == [-0.2, -0.02]
    assert table["training accuracy"].tolist() == [0.9, 0.9]
    with pytest.raises(ValueError, match="no run has evidence"):
        overconfidence_table({"none": {}})


def test_the_sentence_follows_the_ranks():
    def sentence(gaps):
        temperatures = [1.0 + i / 10 for i in range(len(gaps))]
        return overconfidence_sentence(pd.DataFrame({"temperature": temperatures, GAP: gaps}))

    assert "rises with the temperature (Spearman's ρ = +1.00" in sentence([0.1, 0.2, 0.3, 0.4, 0.5])
    assert "falls" in sentence([0.5, 0.4, 0.3, 0.2, 0.1])
    flat = sentence([-0.183, -0.274, -0.252, -0.233, -0.206])  # Σd² = 20, so that ρ is 0
    assert "neither rises nor falls with the temperature (Spearman's ρ = 0.00)" in flat
    assert "chance explains" in sentence([0.1, 0.3, 0.2, 0.15, 0.25])
    assert "too few" in sentence([0.1, 0.2])
