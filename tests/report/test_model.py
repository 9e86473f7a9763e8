"""A report from a network and a folder of images, from the command line to the page."""

import base64
import io
import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mistakes_lib.classifiers.loading import load_network
from mistakes_lib.data.files import split_files
from mistakes_lib.detector import Detector
from mistakes_lib.features import folders
from mistakes_lib.features.feature_set import extract_features
from mistakes_lib.report.page import report_html
from tests.helpers.commands import mistakes

CLASSES = ("blue", "green", "red")  # sorted, as folders are
EDGE = 8
MODULE = """
from torch import nn

def make(num_classes):
    body = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 6), nn.Tanh()]
    return nn.Sequential(*body, nn.Linear(6, num_classes))
"""
OPTIONS = ("--size", EDGE, "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--components", 3)


def draw(rng, label):
    """A noisy square, a little more of its colour than of the others."""
    pixels = rng.normal(120, 60, size=(EDGE, EDGE, 3))
    pixels[..., 2 - label] += 12
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A current folder with images, others from elsewhere, a module and trained weights."""
    folder, rng = tmp_path_factory.mktemp("model"), np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(200):
            draw(rng, label).save(folder / "images" / name / f"{i:03}.png")
    (folder / "dark").mkdir()
    for i in range(40):
        Image.new("RGB", (EDGE, EDGE), (i, i, i)).save(folder / "dark" / f"{i:03}.png")
    (folder / "tiny_networks.py").write_text(MODULE)
    torch.manual_seed(0)
    names = {}
    exec(MODULE, names)
    network = names["make"](3)
    train = split_files(folder / "images")["train"]
    pixels = np.stack([np.asarray(train[i][0]) for i in range(len(train))]).transpose(0, 3, 1, 2)
    pixels, labels = torch.tensor(pixels / 255 - 0.5).float() * 4, torch.tensor(train.labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(pixels), labels).backward()
        optimiser.step()
    torch.save(network.state_dict(), folder / "tiny.pt")
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """The folder of a report, and what the command said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = mistakes(
            "report", "--model", "tiny_networks:make", "--weights", "tiny.pt",
            "--images", "images", "--ood", "dark=dark", "--out", "out", *OPTIONS,
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "out", result


def test_the_numbers_are_those_of_the_network_on_these_files(made, here):
    out, result = made
    facts = json.loads((out / "report.json").read_text())
    assert facts["inputs"]["counts"] == {"train": 480, "validation": 60, "test": 60, "dark": 40}
    network = load_network(
        "tiny_networks:make",
        CLASSES,
        weights="tiny.pt",
        size=EDGE,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    test = split_files("images")["test"]
    pixels = np.stack([np.asarray(test[i][0]) for i in range(len(test))]).transpose(0, 3, 1, 2)
    batch = extract_features(network.classifier, pixels, labels=test.labels, device="cpu")
    assert facts["inputs"]["accuracy"]["test"] == batch.accuracy
    assert 0.4 < batch.accuracy < 1
    scores = Detector.load(out / "detector.safetensors").score_samples(batch)
    least = facts["extremes"]["least"][0]
    assert least["row"] == scores.argmin() and least["score"] == pytest.approx(scores.min())
    assert least["file"] == str(test.paths[scores.argmin()])
    assert least["class"] == CLASSES[least["label"]] == least["file"].split("/")[-2]
    assert least["predicted"] == CLASSES[batch.predictions[scores.argmin()]]
    assert "dark: " in result.stdout and "features:" not in result.stderr, "quiet where none looks"


def test_the_page_shows_the_extreme_images_themselves(made, here):
    out, _ = made
    page = (out / "report.html").read_text(encoding="utf-8")
    facts = json.loads((out / "report.json").read_text())
    sources = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page)
    shown = [row for rows in facts["extremes"].values() for row in rows]
    assert [alt for _, alt in sources] == [row["file"] for row in shown]
    assert len(re.findall(r"\ssrc=", page)) == len(sources), "nothing comes from a network"
    for code, file in sources[:3]:
        picture = Image.open(io.BytesIO(base64.b64decode(code)))
        original = np.asarray(Image.open(file), dtype=float)
        assert np.abs(np.asarray(picture, dtype=float) - original).mean() < 40  # JPEG of noise
    assert "tiny_networks:make with weights tiny.pt" in page
    assert f"shorter side resized to {EDGE} pixels" in page and "80% of images" in page


def test_names_of_files_and_classes_are_escaped(made):
    from mistakes_lib.report.facts import Report

    out, _ = made
    facts = json.loads((out / "report.json").read_text())
    for rows in facts["extremes"].values():
        for row in rows:
            row |= {"file": '"><script>', "class": "<b>", "predicted": "<i>"}
    rows = {row["row"] for rows in facts["extremes"].values() for row in rows}
    page = report_html(Report(facts, None, "GMM-3"), pictures=dict.fromkeys(rows, "data:,"))
    assert "<b>" not in page and '"><script>' not in page and "&lt;b&gt;" in page


def test_large_pictures_are_made_small(tmp_path):
    from mistakes_lib.data.files import list_files
    from mistakes_lib.features.folders import thumbnails

    (tmp_path / "cat").mkdir()
    Image.new("RGB", (1200, 600), (200, 10, 10)).save(tmp_path / "cat" / "large.png")
    (picture,) = thumbnails(list_files(tmp_path), [0]).values()
    small = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
    assert small.size == (112, 56) and len(picture) < 3000


def test_the_order_of_the_outputs_can_be_named(here):
    (here / "classes.txt").write_text("green\n\nred\nblue\n")
    arguments = ["report", "--model", "tiny_networks:make", "--images", "images", *OPTIONS]
    result = mistakes(*arguments, "--classes", "classes.txt", "--out", "named")
    assert result.exit_code == 0, result.output
    least = json.loads((here / "named" / "report.json").read_text())["extremes"]["least"][0]
    assert least["class"] == ("green", "red", "blue")[least["label"]]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--images", "images"], "give --train, --validation and --test, or --model and --images"),
        (["--model", "tiny_networks:make"], "or --model and --images"),
        (["--model", "a:b", "--images", "images", "--train", "x.npz"], "or --model and --images"),
        (["--model", "tiny_networks:make", "--images", "nowhere"], "no folder nowhere"),
        (["--model", "tiny_networks:made", "--images", "images"], "no function 'made'"),
        (["--model", "tiny_networks:make", "--images", "images", "--mean", "1,2"], "three numbers"),
        (["--model", "tiny_networks:make", "--images", "images", "--ood", "dark"], "NAME=DIR"),
        (["--model", "tiny_networks:make", "--images", "images", "--ood", "x=y"], "no images in y"),
        (["--model", "tiny_networks:make", "--images", "images", "--weights", "bomb.pt"], "run co"),
        (["--model", "tiny_networks:make", "--images", "images", "--classes", "two"], "'red' that"),
    ],
)
def test_what_the_user_did_wrong_is_one_line(here, arguments, complaint):
    (here / "two").write_text("blue\ngreen\n")
    torch.save(nn.Linear(2, 2), here / "bomb.pt")
    result = mistakes("report", *arguments, "--size", EDGE, "--out", "wrong")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and complaint in result.stderr
    assert result.stderr.count("\n") == 1 and not (here / "wrong").exists()


# --- what users run into -------------------------------------------------------------------------


def test_the_report_opens_with_what_it_understood_and_ends_in_advice(made):
    out, result = made
    facts = json.loads((out / "report.json").read_text())
    understood = {line["what"]: line["found"] for line in facts["understood"]}
    assert understood["last layer"] == "4, 6 features"
    assert understood["classes, in the order of the outputs"] == "blue, green, red"
    assert understood["images"] == "8 × 8; size as it is"
    assert understood["normalisation"] == "less 0.5, 0.5, 0.5, divided by 0.25, 0.25, 0.25"
    accuracy = facts["inputs"]["accuracy"]["test"]
    assert understood["test"] == f"60 images, 10% of images; accuracy {accuracy:.1%}"
    page = (out / "report.html").read_text(encoding="utf-8")
    for what, found in understood.items():
        assert f"{what}: {found}\n" in result.stdout
        assert f"<th>{what}</th><td>{found}</td>" in page
    for row in facts["advice"]:
        assert row["deploy"] in result.stdout
    assert result.stdout.index("network: ") < result.stdout.index("mistakes: ")


def test_the_watched_network_is_one_file_beside_the_report(made, here):
    out, _ = made
    from mistakes_lib.detector import Watched

    names = {}
    exec(MODULE, names)
    net = names["make"](3)
    net.load_state_dict(torch.load(here / "tiny.pt", weights_only=True))
    watched = Watched.load(out / "watched.safetensors", net, device="cpu")
    pictures = [Image.open(here / "dark" / f"{i:03}.png") for i in range(5)]
    assert watched.flag(pictures).shape == (5,) and watched.classes == CLASSES


def understood_of(result):
    return dict(line.split(": ", 1) for line in result.stdout.splitlines() if ": " in line)


def report_on(here, *options, images="images", out="again"):
    arguments = ["report", "--model", "tiny_networks:make", "--weights", "tiny.pt"]
    result = mistakes(*arguments, "--images", images, "--components", 3, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return json.loads((here / out / "report.json").read_text()), result


NORMALISED = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")


def test_images_that_are_all_alike_keep_their_size(here, made):
    facts, result = report_on(here, *NORMALISED)
    assert understood_of(result)["images"] == "8 × 8; size as it is"
    as_given = json.loads((made[0] / "report.json").read_text())
    assert facts["inputs"]["accuracy"] == as_given["inputs"]["accuracy"]


def test_other_images_than_the_network_was_trained_on_are_noticed(here):
    (here / "turned.txt").write_text("green\nred\nblue\n")
    for options, cure in (
        (("--classes", "turned.txt", *NORMALISED), "for --classes: blue, green, red"),
        (("--mean", "-9,-9,-9", "--std", "0.25,0.25,0.25"), "--mean "),
    ):
        facts, result = report_on(here, *options)
        cures = [alarm["cure"] for alarm in facts["alarms"]]
        assert any(cure in each for each in cures), (options, facts["alarms"])
        assert "ALARM: " in result.stdout


def test_features_are_kept_and_read_again(here, monkeypatch):
    facts, _ = report_on(here, *NORMALISED, "--features", "kept", "--workers", 2)
    names = {"train.safetensors", "validation.safetensors", "test.safetensors"}
    assert {path.name for path in (here / "kept").iterdir()} == names
    monkeypatch.setattr(
        "mistakes_lib.features.folders.extract_features", lambda *_, **__: pytest.fail("again")
    )
    again, _ = report_on(here, *NORMALISED, "--features", "kept")
    assert again["verdicts"] == facts["verdicts"]


def test_a_killed_report_goes_on_and_never_holds_more_than_a_block(here, monkeypatch):
    expected, _ = report_on(here, *NORMALISED)
    extract, blocks, dies_at = folders.extract_features, [], 5

    def spy(*arguments, **options):
        if len(blocks) == dies_at:
            raise KeyboardInterrupt
        blocks.append(extract(*arguments, **options))
        return blocks[-1]

    monkeypatch.setattr(folders, "extract_features", spy)
    monkeypatch.setattr(folders, "stored_features", partial(folders.stored_features, block=64))
    with pytest.raises(AssertionError):
        report_on(here, *NORMALISED, "--features", "blocks")
    assert len(list((here / "blocks" / "train").iterdir())) == 5
    dies_at = None
    found, _ = report_on(here, *NORMALISED, "--features", "blocks")
    assert max(map(len, blocks)) == 64 and sum(map(len, blocks)) == 600, "none twice"
    assert found == expected


def test_a_damaged_image_is_named_by_a_worker_in_one_line(here):
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (here / "damaged" / name).mkdir(parents=True, exist_ok=True)
        for i in range(30):
            draw(rng, label).save(here / "damaged" / name / f"{i}.png")
    whole = (here / "damaged" / "red" / "3.png").read_bytes()
    (here / "damaged" / "red" / "3.png").write_bytes(whole[: len(whole) // 2])
    for workers in (0, 1):
        result = mistakes("report", "--model", "tiny_networks:make", "--images", "damaged",
                          "--size", EDGE, "--workers", workers)  # fmt: skip
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert "3.png is damaged or no image" in result.stderr


def test_what_is_passed_over_is_said_and_validation_may_come_from_test(here):
    rng = np.random.default_rng(1)
    for part in ("Train", "TEST"):
        for label, name in enumerate(CLASSES):
            (here / "split" / part / name / "deep").mkdir(parents=True, exist_ok=True)
            for i in range(30):
                draw(rng, label).save(here / "split" / part / name / "deep" / f"{i}.png")
    (here / "split" / "Train" / "red" / "notes.txt").write_text("x")
    facts, result = report_on(here, *NORMALISED, "--validation-from-test", images="split")
    assert facts["inputs"]["counts"] == {"train": 90, "validation": 45, "test": 45}
    assert understood_of(result)["train, passed over"] == "1 no images (.txt)"


def test_some_of_the_networks_classes_are_enough(here):
    rng = np.random.default_rng(2)
    for label, name in enumerate(CLASSES[:2]):
        (here / "two_classes" / name).mkdir(parents=True, exist_ok=True)
        for i in range(60):
            draw(rng, label).save(here / "two_classes" / name / f"{i}.png")
    (here / "three.txt").write_text("\ufeffblue\ngreen\nred\n", encoding="utf-8")
    facts, _ = report_on(here, *NORMALISED, "--classes", "three.txt", images="two_classes")
    assert facts["inputs"]["classes"] == 3
    assert "Zheng & Hong" in facts["left_out"]


def test_options_of_models_are_not_ignored_with_features(here):
    result = mistakes("report", "--train", "a", "--validation", "b", "--test", "c",
                      "--weights", "w.pt", "--size", 32)  # fmt: skip
    assert result.exit_code == 1 and "--weights, --size: for --model only" in result.stderr


# --- their relatives ------------------------------------------------------------------------------


def test_images_from_elsewhere_become_as_large_as_the_networks(here):
    """A network without a fixed size would take larger ones, and tell them by their size alone."""
    for edge, name in ((8, "alike"), (32, "larger")):
        (here / name).mkdir(exist_ok=True)
        for i in range(20):
            image = Image.new("RGB", (8, 8), (9 * i, 90, 90))
            image.resize((edge, edge)).save(here / name / f"{i:02}.png")
    options = ("--ood", "alike=alike", "--ood", "larger=larger")
    facts, result = report_on(here, *NORMALISED, *options)
    assert "alike: 20 images\n" in result.stdout
    assert "larger: 20 images, 32 × 32; shorter side resized to 8 pixels" in result.stdout
    alike, larger = facts["methods"]["alike"], facts["methods"]["larger"]
    assert [row["AUROC"] for row in alike] == [row["AUROC"] for row in larger]


def test_images_beside_the_splits_do_not_change_the_size(here):
    rng = np.random.default_rng(1)
    for part in ("train", "test"):
        for label, name in enumerate(CLASSES):
            (here / "beside" / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(30):
                draw(rng, label).save(here / "beside" / part / name / f"{i}.png")
    (here / "beside" / "originals").mkdir(exist_ok=True)
    Image.new("RGB", (400, 300)).save(here / "beside" / "originals" / "1.png")
    _, result = report_on(here, *NORMALISED, images="beside")
    said = understood_of(result)
    assert said["images"] == "8 × 8; size as it is"
    assert said["train, passed over"] == "1 folders beside the splits (originals)"


def test_a_mean_of_0_to_255_is_put_right(here):
    """As other toolkits give it; 130 and 62 are nobody's usual ones."""
    options = ("--mean", "130,130,130", "--std", "62,62,62")
    facts, _ = report_on(here, *options)
    cures = [alarm["cure"] for alarm in facts["alarms"]]
    numbers = [",".join([f"{value / 255:g}"] * 3) for value in (130, 62)]
    assert any(f"--mean {numbers[0]} --std {numbers[1]}" in cure for cure in cures), cures


def test_a_device_is_not_ignored_with_features():
    result = mistakes("report", "--train", "a", "--validation", "b", "--test", "c",
                      "--device", "cpu")  # fmt: skip
    assert result.exit_code == 1 and "--device: for --model only" in result.stderr


def test_two_rules_for_one_threshold_are_refused():
    result = mistakes("fit", "a.npz", "b.npz", "--criterion", "f1", "--false-alarms", 0.01)
    assert result.exit_code == 1
    assert "--criterion and --false-alarms are two rules for one threshold" in result.stderr
