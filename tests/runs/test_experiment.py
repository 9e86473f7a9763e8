"""A parameters file is understood whole."""

import json
from dataclasses import replace
from functools import partial

import pytest
import yaml

from mistakes_lib.runs.experiment import (
    Experiment,
    load_experiment,
)
from mistakes_lib.training.ensembles import TemporalEnsembling
from mistakes_lib.training.recipe import Recipe
from tests.helpers.parameters import DENSENET, PARAMETERS, SMALL, WITH_PRESETS, changed


@pytest.mark.parametrize("path", PARAMETERS, ids=lambda path: path.stem)
def test_the_books_parameters_load(path):
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    experiment = load_experiment(path)
    written = parameters["experiment"]
    preset = dict(parameters.get("presets", {}).get(experiment.classifier, {}))
    of_one = preset.pop("data_sets", {}).get(experiment.data_set, {})
    written |= preset | of_one
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
    semi = replace(experiment, labels_per_class=10)
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


def test_a_preset_may_say_what_holds_on_one_data_set(write):
    recipe, network = SMALL["experiment"]["recipe"], SMALL["experiment"]["architecture"]
    presets = {
        "first": {
            "architecture": network,
            "data_sets": {"cifar10": {"recipe": recipe | {"lr": 0.5}}},
        }
    }
    path = write(SMALL | {"classifier": "first", "presets": presets})
    assert load_experiment(path, data_set="cifar10").recipe.lr == 0.5
    assert load_experiment(path, data_set="cifar100") == load_experiment(
        write(SMALL | {"classifier": "first"}), data_set="cifar100"
    )
    presets["first"]["data_sets"] = ["cifar10"]
    with pytest.raises(ValueError, match="data_sets must be a mapping"):
        load_experiment(write(SMALL | {"classifier": "first", "presets": presets}))


def test_the_command_line_overrides_the_file(write):
    experiment = load_experiment(write(SMALL), data_set="cifar100", seed=9, precision="bfloat16")
    assert experiment.name == "cifar100/tiny/seed9"
    assert experiment.recipe == Recipe(epochs=2, lr=0.2, precision="bfloat16")


def test_another_number_of_epochs_moves_the_milestones_in_proportion(write):
    recipe = {"epochs": 200, "milestones": [60, 120, 160]}
    experiment = load_experiment(write(changed("recipe", **recipe)), epochs=50)
    assert (experiment.recipe.epochs, experiment.recipe.milestones) == (50, (15, 30, 40))
    with pytest.raises(ValueError, match=r"recipe\.epochs must be at least 1, got 0"):
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
