"""The page on any classifier does what it says, line by line."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mistakes_lib.features.feature_set import FeatureSet

PAGE = Path(__file__).resolve().parents[1] / "book" / "any_classifier.md"


def write_onnx(path):
    """A classifier of 3 × 8 × 8 images: flattened, 16 hidden units, 3 logits."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"w1": (192, 16), "b1": (16,), "w2": (16, 3), "b2": (3,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["features"]),
        helper.make_node("Gemm", ["features", "w2", "b2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return weights


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the page's code defines, run in a folder with an ONNX file."""
    folder = tmp_path_factory.mktemp("page")
    for module in ("onnxruntime", "fastapi", "httpx"):
        pytest.importorskip(module)
    weights = write_onnx(folder / "classifier.onnx")
    names = {"__name__": "page", "onnx_weights": weights}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
            exec(compile(code, str(PAGE), "exec"), names)
    yield names
    shutil.rmtree(folder)


def test_images_are_flagged_in_a_loop_and_in_a_service(names):
    from fastapi.testclient import TestClient

    watched, pixels = names["watched"], names["images"][-24:]
    np.testing.assert_array_equal(names["suspicious"], watched.flag(pixels))
    buffer = io.BytesIO()
    Image.fromarray(pixels[0].transpose(1, 2, 0)).save(buffer, format="PNG")
    answer = TestClient(names["service"]).post("/judge", content=buffer.getvalue()).json()
    assert answer["suspicious"] == bool(watched.flag(pixels[:1])[0])


def test_an_onnx_file_gives_its_last_layers_input(names):
    w, x = names["onnx_weights"], names["pixels"].reshape(600, -1).astype(np.float64)
    hidden = np.maximum(x @ w["w1"] + w["b1"], 0)
    batch = names["batch"]
    np.testing.assert_allclose(batch.features, hidden, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(batch.logits, hidden @ w["w2"] + w["b2"], rtol=1e-3, atol=1e-2)


def test_scikit_learns_network_and_trees_are_watched(names):
    batch = names["sets"][2]
    np.testing.assert_array_equal(batch.predictions, names["mlp"].predict(names["X_rest"][450:]))
    assert isinstance(batch, FeatureSet) and batch.accuracy > 0.9
    assert names["flagged"].mean() > 0.9, "noise is no digit"
    assert names["mlp_detector"].flag(batch)[batch.correct].mean() < 0.12
    assert names["tree_flags"].mean() > 0.8


def test_texts_are_reported_on(names):
    facts = names["text_report"].facts
    assert facts["inputs"]["accuracy"]["test"] > 0.7
    assert {verdict["set"] for verdict in facts["verdicts"]} == {"mistakes", "poems"}
    poems = next(v for v in facts["verdicts"] if v["set"] == "poems")
    assert poems["best_auroc"] > 0.9
