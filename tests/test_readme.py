"""The README: its commands, snippets, pictures and requirements are those of the project."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import vae_mnist

README = (ROOT / "README.md").read_text()


def test_the_readme_begins_with_the_two_commands_that_the_gate_runs():
    commands = re.search(r"^```\n(.*?)^```", README, re.M | re.S)[1].splitlines()
    assert len(commands) == 2
    for command, program in zip(commands, ("python vae_mnist.py", "pytest"), strict=True):
        assert command == (
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && "
            f".venv/bin/{program}"
        )
    assert "`python vae_mnist.py` and `pytest` are\nenough" in README
    assert "python3-venv" in README
    assert "uv run vae_mnist.py" in README
    assert "uv run --with-requirements requirements.txt pytest" in README
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_every_picture_and_file_of_the_readme_is_there():
    paths = re.findall(r'(?:src="|\]\()(?!https?:)([^")#]+)', README)
    assert len(paths) > 5
    for path in paths:
        assert (ROOT / path).exists()


def test_the_snippets_import_the_script_first():
    """It sets Keras to run on TensorFlow."""
    imports = re.findall(r"^(?:from|import) .*", "".join(snippets()), re.M)
    assert imports[0] == "import vae_mnist"


def requirement_lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_inline_metadata_equals_the_requirements():
    script = (ROOT / "vae_mnist.py").read_text()
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///\n", script, re.MULTILINE)[1]
    dependencies = json.loads(re.search(r"^# dependencies = (\[.*\])$", block, re.MULTILINE)[1])
    program, _, _ = (ROOT / "requirements.txt").read_text().partition("# for the tests")
    assert dependencies == requirement_lines(program)


def snippets():
    """The Python of the README, without what only a notebook understands."""
    text = re.sub(r"^%.*\n", "", README, flags=re.M)
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def beside_a_run(finished_run, small_file, tmp_path, monkeypatch):
    """A working directory with data, a model and images in the places that the README names."""
    monkeypatch.chdir(tmp_path)
    for name in ("outputs", "data", "my_images/3", "my_images/7"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outputs" / "vae.keras").write_bytes((finished_run / "vae.keras").read_bytes())
    (tmp_path / "data" / "mnist_5k.npz").write_bytes(small_file.read_bytes())
    with np.load(small_file) as archive:
        for index, image in enumerate(archive["x_test"][:24]):
            path = tmp_path / "my_images" / str(3 + 4 * (index % 2)) / f"{index:02}.png"
            keras.utils.save_img(path, image[..., None], scale=False)
    return tmp_path


def test_the_snippets_run_one_after_the_other(eagerly, beside_a_run, monkeypatch, capsys):
    logged = []  # in place of TensorBoard, which is a package of its own
    monkeypatch.setattr(tf.summary, "scalar", lambda *args: logged.append(args))
    names = {}
    histories = []
    for snippet in snippets():
        exec(snippet, names)
        histories.append(names.get("history"))
    files = {path.name for path in beside_a_run.iterdir()}
    assert {"plane.html", "convolutional.keras", "mine.npz", "manifold_03.png", "logs"} <= files
    out = capsys.readouterr().out
    values = re.findall(r": ([\d.]+)$", out, re.M)
    assert len(values) == 2
    assert all(0 <= float(value) <= 1 for value in values)
    assert out.count("epoch    loss") == 2  # the epochs are shown
    warm_up = next(history for history in histories if history and history is not histories[1])
    weights = [(row["loss"] - row["reconstruction"]) / row["kl"] for row in warm_up]
    np.testing.assert_allclose(weights, [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1], atol=0.001)
    assert [value for name, value in logged if name == "epoch"] == [1, 2, 3]
    assert len(logged) == 3 * 7
    assert names["pixels"].shape == (24, 28, 28)
    data = vae_mnist.load_data("mine.npz")
    assert data.classes.tolist() == [3, 7]
    assert len(data.x_test) == 4
    with np.load("data/mnist_5k.npz") as archive:
        originals = {image.tobytes() for image in archive["x_test"][:24]}
    assert {image.tobytes() for image in data.x_test} < originals
