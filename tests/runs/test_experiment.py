"""A parameters file is understood whole, or refused before anything starts."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from mistakes_lib.runs.experiment import (
    Experiment,
    compare_settings,
    load_experiment,
    load_experiments,
)
from mistakes_lib.training.supervised import Recipe
from mistakes_lib.training.temporal_ensembling import TemporalEnsembling

PARAMETERS = sorted((Path(__file__).parents[2] / "notebooks" / "parameters").glob("*.yml"))
DENSENET = {"name": "densenet_bc", "depth": 10, "growth_rate": 4}
SMALL = {
    "data_set": "digits",
    "classifier": "tiny",
    "seed": 3,
    "n_components": 20,  # the chapters' own
    "experiment": {
        "architecture": DENSENET,
        "recipe": {"epochs": 2, "lr": 0.2},
        "attacks": ["bim"],
        "eps_levels": [8, 0.5],
        "attack_images": 10,
        "ood": {"photo_patches": 20},
        "mixtures": [2],
    },
}


@pytest.fixture
def write(tmp_path):
    """Write a parameters file from a dict or a text."""

    def write(parameters):
        path = tmp_path / "parameters.yml"
        path.write_text(parameters if isinstance(parameters, str) else yaml.safe_dump(parameters))
        return path

    return write


def changed(section, **values):
    """SMALL with other values in the experiment, or in its recipe."""
    experiment = dict(SMALL["experiment"])
    if section == "recipe":
        experiment["recipe"] = experiment["recipe"] | values
    else:
        experiment |= values
    return SMALL | {"experiment": experiment}


def without(name):
    experiment = {k: v for k, v in SMALL["experiment"].items() if k != name}
    return {k: v for k, v in SMALL.items() if k != name} | {"experiment": experiment}


# --- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PARAMETERS, ids=lambda path: path.stem)
def test_the_books_parameters_load(path):
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    experiment = load_experiment(path)
    written = parameters["experiment"]
    written |= parameters.get("presets", {}).get(experiment.classifier, {})
    written |= parameters.get("data_sets", {}).get(experiment.data_set, {})
    loaded = json.loads(json.dumps(experiment.to_dict()))
    for name, value in written.items():
        if name in ("recipe", "adaptive"):
            assert value.items() <= loaded[name].items()
        elif name == "then":
            for recipe, found in zip(value, loaded[name], strict=True):
                assert recipe.items() <= found.items()
        else:
            assert loaded[name] == value
    expected = "{data_set}/{classifier}/seed{seed}".format_map(parameters)
    assert experiment.name == expected
    # What the chapters ask of the run, it has.
    asked = {parameters["n_components"], parameters["n_components_large"]}
    assert asked <= set(experiment.mixtures)
    assert min(abs(level / 255 - parameters["eps"]) for level in experiment.eps_levels) < 1e-9


def test_there_are_three_books():
    assert [path.stem for path in PARAMETERS] == ["paper", "published", "quick"]


def test_every_value_arrives(write):
    assert load_experiment(write(SMALL)) == Experiment(
        data_set="digits",
        classifier="tiny",
        architecture=DENSENET,
        recipe=Recipe(epochs=2, lr=0.2),
        seed=3,
        attacks=("bim",),
        eps_levels=(8, 0.5),
        attack_images=10,
        ood={"photo_patches": 20},
        mixtures=(2,),
    )


def test_what_is_left_out_has_the_documented_default(write):
    least = {"data_set": "digits", "classifier": "tiny", "experiment": {"architecture": DENSENET}}
    expected = Experiment("digits", "tiny", DENSENET)
    assert load_experiment(write(least)) == expected
    assert expected.recipe == Recipe()
    empty = least | {"experiment": {"architecture": DENSENET, "recipe": None}}
    assert load_experiment(write(empty)) == expected


@pytest.mark.parametrize("path", PARAMETERS, ids=lambda path: path.stem)
def test_to_dict_is_json_and_holds_everything(path):
    experiment = load_experiment(path)
    semi = replace(experiment, labels_per_class=10, then=())
    for own in (experiment, semi, replace(experiment, then=[Recipe(epochs=3)])):
        assert Experiment.from_dict(json.loads(json.dumps(own.to_dict()))) == own


def test_to_dict_is_a_copy():
    experiment = Experiment("digits", "tiny", dict(DENSENET))
    experiment.to_dict()["architecture"]["depth"] = 100
    assert experiment.architecture == DENSENET


def test_the_name_is_the_folder():
    experiment = Experiment("digits", "tiny", DENSENET, seed=7)
    assert experiment.name == "digits/tiny/seed7"
    own = replace(experiment, data_set="imagefolder:~/photos/my pets")
    assert own.name == "imagefolder-my pets/tiny/seed7", "three parts, as load_run lists them"


# --- presets and overrides -----------------------------------------------------------------------

WITH_PRESETS = {
    "data_set": "digits",
    "classifier": "first",
    "presets": {
        "first": {"architecture": DENSENET, "recipe": {"epochs": 2}},
        "second": {"architecture": DENSENET, "labels_per_class": 5, "ensembling": {"ramp_up": 3}},
    },
    "experiment": {"attack_images": 10},
}


def test_a_file_holds_several_classifiers(write):
    path = write(WITH_PRESETS)
    shared = {"data_set": "digits", "architecture": DENSENET, "attack_images": 10}
    first = Experiment(classifier="first", recipe=Recipe(epochs=2), **shared)
    assert load_experiment(path) == load_experiment(path, preset="first") == first
    semi = {"labels_per_class": 5, "ensembling": TemporalEnsembling(ramp_up=3)}
    assert load_experiment(path, preset="second") == Experiment(
        classifier="second", **shared, **semi
    )


def test_a_data_set_has_its_own_strangers(write):
    """What is out of distribution for one data set is in distribution for another."""
    own = {"ood": {"photo_patches": 3}}
    path = write(SMALL | {"data_sets": {"cifar10": own, "digits": {"ood": {"svhn": 5}}}})
    assert load_experiment(path).ood == {"svhn": 5}
    assert load_experiment(path, data_set="cifar10").ood == own["ood"]
    assert load_experiment(path, data_set="cifar100").ood == SMALL["experiment"]["ood"]


def test_the_command_line_overrides_the_file(write):
    experiment = load_experiment(write(SMALL), data_set="cifar100", seed=9, precision="bfloat16")
    assert experiment.name == "cifar100/tiny/seed9"
    assert experiment.recipe == Recipe(epochs=2, lr=0.2, precision="bfloat16")


def test_another_number_of_epochs_moves_the_milestones_in_proportion(write):
    recipe = {"epochs": 200, "milestones": [60, 120, 160]}
    experiment = load_experiment(write(changed("recipe", **recipe)), epochs=50)
    assert (experiment.recipe.epochs, experiment.recipe.milestones) == (50, (15, 30, 40))
    with pytest.raises(ValueError, match="epochs = 0 is out of range"):
        load_experiment(write(SMALL), epochs=0)


def test_further_recipes_go_on_from_the_first(write):
    """They have defaults of their own, and a share of the epochs that the command line gives."""
    recipe = {"epochs": 6, "lr": 0.2, "milestones": []}
    then = [{"epochs": 2, "lr": 0.02, "milestones": []}, {"epochs": 2}]
    path = write(changed("", recipe=recipe, then=then))
    experiment = load_experiment(path, precision="bfloat16")
    second = Recipe(epochs=2, lr=0.02, milestones=(), precision="bfloat16")
    assert experiment.then == (second, Recipe(epochs=2, precision="bfloat16"))
    assert experiment.recipes == (experiment.recipe, *experiment.then)
    settings = experiment.settings()
    assert settings["epochs"] == "6, then 2, then 2"
    assert settings["peak learning rate"] == "0.2, then 0.02, then 0.1"
    assert settings["L2 weight"] == 1e-4, "the same for all"
    for epochs, shares in {10: [6, 2, 2], 3: [1, 1, 1], 5: [3, 1, 1], 40: [24, 8, 8]}.items():
        recipes = load_experiment(path, epochs=epochs).recipes
        assert [recipe.epochs for recipe in recipes] == shares
    with pytest.raises(ValueError, match="3 recipes need at least 3 epochs, got 2"):
        load_experiment(path, epochs=2)


def test_appendix_c_as_printed():
    """Every number that Appendix C prints of the three classifiers."""
    load = partial(load_experiment, PARAMETERS[0])
    dense, wide, semi = (
        load(preset=name) for name in ("densenet_bc_100_12", "wrn_28_10", "te_wrn_28_10")
    )
    expected = {"depth": 100, "growth_rate": 12, "compression": 0.5, "dropout": 0.2}
    assert dense.architecture == {"name": "densenet_bc"} | expected
    recipe = dense.recipe
    assert (recipe.batch_size, recipe.epochs, recipe.lr) == (64, 300, 0.1)
    assert (recipe.milestones, recipe.lr_factor) == ((150, 175), 0.1)
    assert (recipe.weight_decay, recipe.momentum) == (1e-4, 0.9)
    for experiment in (wide, semi):
        expected = {"name": "wide_resnet", "depth": 28, "widen_factor": 10, "dropout": 0.3}
        assert experiment.architecture == expected
        recipe = experiment.recipe
        assert (recipe.batch_size, recipe.lr, recipe.weight_decay) == (100, 0.1, 5e-4)
        assert (recipe.max_shift, recipe.flip) == (2, True)
    assert wide.recipe.epochs == 200
    assert (semi.labels_per_class, semi.ensembling.max_weight) == (100, 100)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (changed("", mixture=[2]), "unknown key 'mixture': did you mean 'mixtures'"),
        (changed("", eps_level=[2]), "unknown key 'eps_level': did you mean 'eps_levels'"),
        (changed("", zzz=1), r"unknown key 'zzz'; known: data_set, .*mixtures"),
        (changed("recipe", epoch=2), r"recipe has an unknown key 'epoch': did you mean 'epochs'"),
        (changed("recipe", lrate=2), "recipe has an unknown key 'lrate'"),
        (changed("", ood={"gausian_noise": 9}), "'gausian_noise': did you mean 'gaussian_noise'"),
        (SMALL | {"data_set": "cifar"}, "unknown data set 'cifar': did you mean 'cifar10"),
        (changed("", attacks=["pgd"]), r"unknown attack 'pgd'.*fgsm"),
        (changed("", eps_levels=[0]), r"eps_levels must lie in \(0, 255\]"),
        (changed("", eps_levels=[256]), r"eps_levels must lie in \(0, 255\]"),
        (changed("", attack_images=0), "attack_images must be at least 1, got 0"),
        (changed("", mixtures=[2, 0]), r"mixtures must be at least 1, got \(2, 0\)"),
        (changed("", ood={"photo_patches": 0}), "ood must be at least 1"),
        (changed("", ood=["photo_patches"]), "ood must be a mapping"),
        (changed("", architecture="densenet_bc"), "architecture must be a mapping"),
        (changed("", recipe=3), "recipe must be a mapping, got 3"),
        (changed("recipe", epochs=0), "epochs = 0 is out of range"),
        (changed("recipe", schedule="cosine"), "schedule = 'cosine' is out of range"),
        (changed("recipe", epochs="many"), "wrong type"),
        (changed("", mixtures=3), "wrong type"),
        (without("data_set"), "lacks data_set"),
        (without("architecture"), "lacks architecture"),
        (
            {"experiment": {"seed": 1}},
            "lacks architecture, classifier, data_set",
        ),
        (changed("", labels_per_class=0), "labels_per_class must be at least 1, got 0"),
        (changed("", ensembling={"ramp_up": 3}), "ensembling needs labels_per_class"),
        (changed("", labels_per_class=1, ensembling={"ramp": 3}), "did you mean 'ramp_up'"),
        (changed("", labels_per_class=1, ensembling=[3]), "ensembling must be a mapping"),
        (changed("", then=[3]), "then must be a list of mappings, got 3"),
        (changed("", then={"epochs": 3}), "then must be a list of mappings, got 'epochs'"),
        (
            changed("", then=[{"epoch": 3}]),
            "then has an unknown key 'epoch': did you mean 'epochs'",
        ),
        (
            changed("", labels_per_class=1, then=[{"epochs": 3}]),
            "then goes on from training with all",
        ),
        (changed("", adaptive=[3]), "adaptive must be a mapping"),
        (changed("", adaptive={"weigths": [3]}), "did you mean 'weights'"),
        (changed("", adaptive={"weights": [-1], "n_components": 2}), "weights = .* out of range"),
        (changed("", adaptive={"weights": [1]}), r"one of the mixtures \(2,\), got 1000"),
        (changed("", deep_densities=[3]), "deep_densities must be a mapping"),
        (changed("", deep_densities={"vea": {}}), "unknown density 'vea': did you mean 'vae'"),
        (changed("", deep_densities={"vae": 3}), "deep_densities.vae must be a mapping"),
        (changed("", deep_densities={"maf": {"epoch": 3}}), "did you mean 'epochs'"),
        (changed("", pixel_cnn={"epoch": 3}), "pixel_cnn has an unknown key 'epoch': did you mean"),
        (SMALL | {"data_sets": 3}, "data_sets must be a mapping"),
        (SMALL | {"data_sets": {"digits": {"odd": 3}}}, "unknown key 'odd'"),
        (SMALL | {"presets": 3}, "presets must be a mapping"),
        (SMALL | {"presets": {"tiny": 3}}, "presets.tiny must be a mapping"),
        (SMALL | {"experiment": None}, "no section 'experiment'"),
        ({"data_set": "digits"}, "no section 'experiment'"),
        ("", "no section 'experiment'"),
        ("just a text", "no section 'experiment'"),
        ("experiment: [1, 2", "is no YAML"),
        ("experiment:\n\tseed: 1", "is no YAML"),
    ],
)
def test_a_mistake_is_one_clear_line(write, parameters, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_experiment(write(parameters))
    assert "\n" not in str(caught.value)


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
