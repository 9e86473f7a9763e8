"""A wrong parameters file is refused by the path of its setting, before anything starts."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from mistakes_lib.runs.experiment import (
    Experiment,
    compare_settings,
    load_experiment,
    load_experiments,
)
from mistakes_lib.runs.finding import published_runs
from mistakes_lib.runs.kinds import AdaptiveAttack
from mistakes_lib.training.ensembles import TemporalEnsembling
from mistakes_lib.training.recipe import Recipe
from tests.helpers.parameters import DENSENET, SMALL, WITH_PRESETS, changed, without


def network(**values):
    """SMALL with other arguments of its network."""
    return changed("", architecture=DENSENET | values)


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        (changed("", mixture=[2]), " has an unknown key 'mixture': did you mean 'mixtures'?"),
        (changed("", eps_level=[2]), " has an unknown key 'eps_level': did you mean 'eps_levels'?"),
        (
            changed("", zzz=1),
            " has an unknown key 'zzz'; known: data_set, classifier, architecture, recipe, then, "
            "labels_per_class, ensembling, seed, attacks, eps_levels, kurakin_levels, "
            "attack_images, corrupted_images, ood, mixtures, deep_densities, pixel_cnn, adaptive",
        ),
        (changed("recipe", epoch=2), "recipe has an unknown key 'epoch': did you mean 'epochs'?"),
        (changed("recipe", epochs=0), "recipe.epochs must be at least 1, got 0"),
        (changed("recipe", epochs=2.5), "recipe.epochs must be a whole number, got 2.5"),
        (changed("recipe", epochs="many"), "recipe.epochs must be a whole number, got 'many'"),
        (changed("recipe", flip="no"), "recipe.flip must be true or false, got 'no'"),
        (changed("recipe", compile=1), "recipe.compile must be true or false, got 1"),
        (changed("recipe", lr="fast"), "recipe.lr must be a number, got 'fast'"),
        (changed("recipe", lr=float("inf")), "recipe.lr must be a finite number, got inf"),
        (changed("recipe", milestones=3), "recipe.milestones must be a list, got 3"),
        (
            changed("recipe", milestones=[1.5]),
            "recipe.milestones[0] must be a whole number, got 1.5",
        ),
        (
            changed("recipe", schedule="one cycle"),
            "recipe.schedule must be 'step' or 'one_cycle', got 'one cycle': "
            "did you mean 'one_cycle'?",
        ),
        (
            changed("recipe", resolutions=[[2, 16]]),
            "recipe.resolutions must leave one of 2 epochs for the images' own size, got 2",
        ),
        (changed("recipe", resolutions=[[1]]), "recipe.resolutions[0] lacks value number 2"),
        (changed("", recipe=3), "recipe must be a mapping, got 3"),
        (
            changed("", ood={"gausian_noise": 9}),
            "ood.gausian_noise must be a data set, got 'gausian_noise': "
            "did you mean 'gaussian_noise'?",
        ),
        (changed("", ood={"photo_patches": 0}), "ood.photo_patches must be at least 1, got 0"),
        (changed("", ood=["photo_patches"]), "ood must be a mapping, got ['photo_patches']"),
        (
            changed("", attacks=["fgms"]),
            "attacks[0] must be 'fgsm' or 'bim', got 'fgms': did you mean 'fgsm'?",
        ),
        (
            changed("", attacks=["bim", "bim"]),
            "attacks must hold each value once, got ('bim', 'bim')",
        ),
        (changed("", eps_levels=[0]), "eps_levels[0] must be above 0, got 0"),
        (changed("", eps_levels=[8, 256]), "eps_levels[1] must be at most 255, got 256"),
        (changed("", eps_levels=[8, 8.0]), "eps_levels must hold each value once, got (8, 8.0)"),
        (changed("", attack_images=0), "attack_images must be at least 1, got 0"),
        (changed("", mixtures=[2, 0]), "mixtures[1] must be at least 1, got 0"),
        (changed("", mixtures=[1.5]), "mixtures[0] must be a whole number, got 1.5"),
        (changed("", mixtures=3), "mixtures must be a list, got 3"),
        (SMALL | {"seed": "x"}, "seed must be a whole number, got 'x'"),
        (SMALL | {"seed": -1}, "seed must be at least 0, got -1"),
        (
            SMALL | {"data_set": "cifar"},
            "data_set must be a data set, got 'cifar': did you mean 'cifar10'?",
        ),
        (SMALL | {"data_set": 10}, "data_set must be a text, got 10"),
        (SMALL | {"classifier": "my/net"}, "classifier must be the name of a folder, got 'my/net'"),
        (without("data_set"), " lacks data_set"),
        (without("architecture"), " lacks architecture"),
        (
            changed("", architecture="densenet_bc"),
            "architecture must be a mapping, got 'densenet_bc'",
        ),
        (changed("", architecture={"depth": 10}), "architecture lacks name"),
        (
            network(name="densnet_bc"),
            "architecture.name must be a known network, got 'densnet_bc': "
            "did you mean 'densenet_bc'?",
        ),
        (
            network(name=3),
            "architecture.name must be a known network, got 3; known: densenet_bc, wide_resnet",
        ),
        (
            network(depth=41),
            "architecture.depth must be 6 n + 4 with n ≥ 1 (10, 16, …, 28, 40, 100), got 41",
        ),
        (network(depht=10), "architecture has an unknown key 'depht': did you mean 'depth'?"),
        (
            network(widen_factor=2),
            "architecture has an unknown key 'widen_factor'; known: num_classes, depth, "
            "growth_rate, compression, dropout, last_activation, mean, std",
        ),
        (network(growth_rate=12.0), "architecture.growth_rate must be a whole number, got 12.0"),
        (network(dropout=1), "architecture.dropout must be below 1, got 1"),
        (
            network(last_activation="tahn"),
            "architecture.last_activation must be 'tanh' or 'relu', got 'tahn': "
            "did you mean 'tanh'?",
        ),
        (
            network(growth_rate=1, compression=0.1),
            "architecture.compression must leave a channel, got 0.1: none of 3 channels is left",
        ),
        (network(num_classes=10), "architecture.num_classes comes from the data: leave it out"),
        (changed("", labels_per_class=0), "labels_per_class must be at least 1, got 0"),
        (changed("", labels_per_class=-5), "labels_per_class must be at least 1, got -5"),
        (
            changed("", ensembling={"ramp_up": 3}),
            "ensembling needs labels_per_class: how many labels of each class",
        ),
        (
            changed("", ensembling=False),
            "ensembling needs labels_per_class: how many labels of each class",
        ),
        (
            changed("", labels_per_class=1, ensembling={"ramp": 3}),
            "ensembling has an unknown key 'ramp': did you mean 'ramp_up'?",
        ),
        (
            changed("", labels_per_class=1, ensembling={"momentum": 1}),
            "ensembling.momentum must be below 1, got 1",
        ),
        (
            changed("", labels_per_class=1, ensembling=True),
            "ensembling must be a mapping, got True",
        ),
        (changed("", then=[3]), "then[0] must be a mapping, got 3"),
        (changed("", then={"epochs": 3}), "then must be a list, got {'epochs': 3}"),
        (
            changed("", then=[{}, {"epoch": 3}]),
            "then[1] has an unknown key 'epoch': did you mean 'epochs'?",
        ),
        (changed("", adaptive=[3]), "adaptive must be a mapping, got [3]"),
        (
            changed("", adaptive={"weigths": [3]}),
            "adaptive has an unknown key 'weigths': did you mean 'weights'?",
        ),
        (
            changed("", adaptive={"weights": [-1], "n_components": 2}),
            "adaptive.weights[0] must be at least 0, got -1",
        ),
        (
            changed("", adaptive={"weights": [1]}),
            "adaptive.n_components must be one of the mixtures (2,), got 1000",
        ),
        (changed("", deep_densities=[3]), "deep_densities must be a mapping, got [3]"),
        (
            changed("", deep_densities={"vea": {}}),
            "deep_densities has an unknown key 'vea': did you mean 'vae'?",
        ),
        (changed("", deep_densities={"vae": 3}), "deep_densities.vae must be a mapping, got 3"),
        (
            changed("", deep_densities={"vae": {"hidden": -3}}),
            "deep_densities.vae.hidden must be at least 1, got -3",
        ),
        (
            changed("", deep_densities={"maf": {"epoch": 3}}),
            "deep_densities.maf has an unknown key 'epoch': did you mean 'epochs'?",
        ),
        (
            changed("", deep_densities={"maf": {"noise": -0.1}}),
            "deep_densities.maf.noise must be at least 0, got -0.1",
        ),
        (
            changed("", pixel_cnn={"epoch": 3}),
            "pixel_cnn has an unknown key 'epoch': did you mean 'epochs'?",
        ),
        (changed("", pixel_cnn={"n_scales": 9}), "pixel_cnn.n_scales must be at most 6, got 9"),
        (changed("", pixel_cnn={"dropout": 1.0}), "pixel_cnn.dropout must be below 1, got 1.0"),
        (
            SMALL | {"data_sets": {"digits": {"odd": 3}}},
            " has an unknown key 'odd': did you mean 'ood'?",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_its_path(write, parameters, line):
    """In one line, and before anything is loaded or trained."""
    path = write(parameters)
    with pytest.raises(ValueError) as caught:
        load_experiment(path)
    dot = "" if line.startswith(" ") else "."
    assert str(caught.value) == f"{path}: experiment{dot}{line}"


def test_each_of_several_problems_has_a_line(write):
    parameters = changed("recipe", epochs=2.5, flip="no") | {"seed": "x"}
    with pytest.raises(ValueError, match="must be") as caught:
        load_experiment(path := write(parameters))
    assert str(caught.value).splitlines() == [
        f"{path}: experiment.recipe.epochs must be a whole number, got 2.5",
        f"{path}: experiment.recipe.flip must be true or false, got 'no'",
        f"{path}: experiment.seed must be a whole number, got 'x'",
    ]
    with pytest.raises(ValueError, match="lacks") as caught:
        load_experiment(write({"experiment": {"seed": 1}}))
    assert len(str(caught.value).splitlines()) == 3


def test_the_network_is_built_without_memory_for_its_weights(monkeypatch):
    """WRN-100-1000 would take terabytes; on the device "meta" it takes none."""
    wide = {"name": "wide_resnet", "depth": 100, "widen_factor": 1000}
    assert Experiment("digits", "wide", wide).architecture == wide


def test_checking_does_not_load_torchs_compiler():
    """Which takes longer than all other imports, and which only a training may need."""
    check = "import sys; from mistakes_lib.runs.experiment import load_experiment as load"
    check += "; load('quick'); load('paper'); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_without_ensembling_few_labels_are_all_that_is_trained_on(write):
    twin = load_experiment(write(changed("", labels_per_class=5, ensembling=False)))
    assert (twin.labels_per_class, twin.ensembling) == (5, False)
    assert Experiment.from_dict(json.loads(json.dumps(twin.to_dict()))) == twin
    assert replace(twin, then=[Recipe(epochs=1)]).then, "it is supervised training"
    assert twin.settings() == load_experiment(write(SMALL)).settings() | {"labels per class": 5}
    semi = load_experiment(write(changed("", labels_per_class=5)))
    assert semi.ensembling == TemporalEnsembling()


@pytest.mark.parametrize("run", published_runs(), ids=lambda run: run.name)
def test_the_published_runs_experiments_are_accepted(run):
    written = run.info["experiment"]
    again = json.loads(json.dumps(run.experiment.to_dict()))
    recipes = [[each.pop("recipe"), *each.pop("then", [])] for each in (written, again)]
    knowing = [each.pop("adaptive", None) or {} for each in (written, again)]
    semi = [each.pop("ensembling", None) or {} for each in (written, again)]
    assert written == {name: again[name] for name in written}
    more = set(again) - set(written)  # which a run of before does not know, nor asks for
    assert not any(again[name] for name in more)
    for ours, theirs in zip(*recipes, strict=True):  # a run of before says less
        assert ours.items() <= theirs.items()
        assert Recipe(**ours) == Recipe(**theirs)
    assert knowing[0].items() <= knowing[1].items()
    assert semi[0].items() <= semi[1].items()
    assert bool(semi[0]) == bool(semi[1])
    assert not knowing[0] or AdaptiveAttack(**knowing[0]) == run.experiment.adaptive


def test_all_experiments_are_the_files_own_and_its_other_presets(write):
    path = write(WITH_PRESETS)
    first, second = load_experiments(path)
    assert (first, second) == (load_experiment(path), load_experiment(path, preset="second"))
    assert load_experiments(write(SMALL)) == [load_experiment(write(SMALL))]
    names = ["densenet_bc_16_8", "wrn_10_1", "te_wrn_10_1"]
    assert [each.classifier for each in load_experiments("quick")] == names


def test_all_experiments_are_those_on_every_data_set_of_the_file(write):
    path = write(WITH_PRESETS | {"data_sets": {"cifar10": {}, "cifar100": {"attack_images": 7}}})
    experiments = {each.name: each for each in load_experiments(path)}
    data_sets = dict.fromkeys([WITH_PRESETS["data_set"], "cifar10", "cifar100"])
    classifiers = [each.classifier for each in load_experiments(write(WITH_PRESETS))]
    assert list(experiments) == [f"{d}/{c}/seed0" for d in data_sets for c in classifiers]
    attacked = {e.attack_images for e in experiments.values() if e.data_set == "cifar100"}
    assert attacked == {7}


def test_settings_stand_side_by_side_and_a_dash_for_what_one_lacks(write):
    plain, few = load_experiments(write(WITH_PRESETS))
    table = compare_settings({"all labels": plain, "few": few})
    for name, experiment in (("all labels", plain), ("few", few)):
        own = table[name][table[name] != "–"]
        assert own.to_dict() == experiment.settings()
    assert table.loc["ramp-up, ramp-down (epochs)", "all labels"] == "–"
    with pytest.raises(ValueError, match="no experiment to compare"):
        compare_settings({})
    with pytest.raises(ValueError, match="of must be one of classifier, densities, got 'vae'"):
        compare_settings({"all labels": plain}, of="vae")


def test_densities_stand_beside_the_printed_ones(write):
    """Appendix C: epochs, rate, decay, batch, layers, hidden units, latent dimensions."""
    printed = load_experiment("paper")
    few = replace(printed, deep_densities={"maf": {"epochs": 15, "validation_fraction": 0.1}})
    table = compare_settings({"paper": printed, "few": few}, of="densities")
    names = "latent dimensions, hidden units, epochs (at most), learning rate"
    names = [*names.split(", "), "factor on it after an epoch"]
    assert table.loc[[f"VAE: {name}" for name in names]].to_numpy().tolist() == [
        [value, "–"] for value in (128, 512, 1000, 0.001, 0.9995)
    ]
    names = "MADE layers, hidden units, epochs (at most), learning rate, batch size"
    names = [*names.split(", "), "epochs without gain until then"]
    assert table.loc[[f"MAF: {name}" for name in names]].to_numpy().tolist() == [
        [5, 5], [128, 128], [1000, 15], [0.01, 0.001], [32, 32], ["–", 20]
    ]  # fmt: skip
    assert str(table.loc["MAF: epochs (at most)", "few"]) == "15"  # a whole number is shown as one


def test_an_unknown_preset_names_the_nearest(write):
    with pytest.raises(ValueError, match="no preset 'secnd': did you mean 'second'"):
        load_experiment(write(WITH_PRESETS), preset="secnd")
    with pytest.raises(ValueError, match="no preset 'first'"):
        load_experiment(write(SMALL), preset="first")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no parameters file .*missing\.yml"):
        load_experiment(tmp_path / "missing.yml")
    with pytest.raises(FileNotFoundError, match="no parameters file"):
        load_experiment(tmp_path)


def test_nothing_of_the_file_is_executed(write):
    with pytest.raises(ValueError, match="is no YAML"):
        load_experiment(write("experiment: !!python/object/apply:os.getcwd []"))
