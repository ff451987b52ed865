"""The trained model is kept: it can be loaded, used, and evaluated again."""

import json
import re
import subprocess
import sys
import warnings
import zipfile

import keras
import numpy as np
import pytest
from conftest import BUNDLED, ROOT, contents, exit_status

import vae_mnist


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_file):
    """The directory of the files of a run on the few digits."""
    directory = tmp_path_factory.mktemp("trained")
    arguments = ["--data", str(small_file), "--output-dir", str(directory)]
    settings = ["--epochs", "3", "--reconstruction-loss", "cross-entropy", "--kl-weight", "0.5"]
    assert vae_mnist.main([*arguments, *settings, "--seed", "5"]) == 0
    return directory


@pytest.fixture
def evaluate_again(small_file, tmp_path):
    """Runs the program with --model; returns the exit status and the output directory."""

    def run(model, *arguments):
        output = tmp_path / "again"
        fixed = ["--data", str(small_file), "--output-dir", str(output)]
        return exit_status(*fixed, "--model", model, *arguments), output

    return run


def test_the_model_comes_back_with_the_loss_it_was_trained_with(trained):
    model = keras.saving.load_model(trained / "vae.keras")
    assert isinstance(model, vae_mnist.VAE)
    assert (model.reconstruction_loss, model.kl_weight) == ("cross-entropy", 0.5)


def test_a_model_that_was_never_called_is_saved_with_its_name(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras warns of a model that is not built
        vae_mnist.VAE(name="mine").save(tmp_path / "mine.keras")
    assert keras.saving.load_model(tmp_path / "mine.keras").name == "mine"


def test_another_process_encodes_and_decodes_to_the_last_bit(trained, small_file, digits, tmp_path):
    path = trained / "vae.keras"
    program = f"""
import numpy as np, keras, vae_mnist
model = keras.saving.load_model({str(path)!r})
x = vae_mnist.scale(np.load({str(small_file)!r})["x_test"].reshape(-1, 784))
z_mean, z_log_sigma_sq = model.encoder(x)
arrays = [z_mean, z_log_sigma_sq, model.decoder(z_mean), model.decode_pixels(z_mean)]
np.savez({str(tmp_path / "there.npz")!r}, *arrays)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    model = keras.saving.load_model(path)
    z_mean, z_log_sigma_sq = model.encoder(vae_mnist.scale(digits["x_test"].reshape(-1, 784)))
    here = [z_mean, z_log_sigma_sq, model.decoder(z_mean), model.decode_pixels(z_mean)]
    with np.load(tmp_path / "there.npz") as there:
        for array, name in zip(here, there, strict=True):
            np.testing.assert_array_equal(array, there[name])


def test_the_loaded_model_reproduces_the_test_loss_and_the_pictures(trained, evaluate_again):
    status, output = evaluate_again(trained / "vae.keras", "--seed", "5")
    assert status == 0
    first, again = contents(trained), contents(output)
    assert sorted(again) == [
        "explorer.html",
        "latent_scatter.png",
        "manifold.png",
        "metrics.json",
        "reconstructions.png",
    ]
    for name in again:
        if name != "metrics.json":
            assert again[name] == first[name]
    metrics, expected = (json.loads(files["metrics.json"]) for files in (again, first))
    assert metrics.pop("model") == str(trained / "vae.keras")
    for name in ("epochs", "batch_size", "learning_rate"):
        del expected[name]
    assert metrics == expected


def test_the_same_model_gives_the_same_bytes_whenever_it_is_saved(trained, tmp_path):
    path = trained / "vae.keras"
    model = keras.saving.load_model(path)
    vae_mnist.save_model(model, tmp_path / "again.keras")
    assert (tmp_path / "again.keras").read_bytes() == path.read_bytes()


def rewritten(source, path, **changes):
    """A copy of a zip file with some members replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name.partition(".")[0], old.read(name)))
    return path


def missing(source, path):
    return path


def text(source, path):
    path.write_text("no model")
    return path


def truncated(source, path):
    path.write_bytes(source.read_bytes()[:-100])
    return path


def damaged(source, path):
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    return path


def data_set(source, path):
    return BUNDLED


def another_model(source, path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    return path


def code(source, path):
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x + 1)]).save(path)
    return path


def without_weights(source, path):
    return rewritten(source, path, model=b"")


def reconfigured(source, path, old, new):
    with zipfile.ZipFile(source) as archive:
        config = archive.read("config.json")
    assert old in config
    return rewritten(source, path, config=config.replace(old, new))


def unknown_loss(source, path):
    return reconfigured(source, path, b'"cross-entropy"', b'"hinge"')


def bad_weight(source, path):
    return reconfigured(source, path, b'"kl_weight": 0.5', b'"kl_weight": "much"')


BAD_MODELS = {
    missing: "cannot be loaded (No such file or directory)",
    text: "cannot be loaded (File is not a zip file)",
    truncated: "cannot be loaded (File is not a zip file)",
    damaged: "cannot be loaded (the file is damaged)",
    data_set: "cannot be loaded (",
    another_model: "holds another model",
    code: "cannot be loaded (",
    without_weights: "cannot be loaded (",
    unknown_loss: "reconstruction_loss must be one of squared-error, cross-entropy",
    bad_weight: "cannot be loaded (",
}


@pytest.mark.parametrize(
    ("make", "culprit"), BAD_MODELS.items(), ids=[make.__name__ for make in BAD_MODELS]
)
def test_a_bad_model_is_refused_in_one_line(
    make, culprit, trained, evaluate_again, tmp_path, capsys
):
    path = make(trained / "vae.keras", tmp_path / "modèle.keras")
    status, output = evaluate_again(path)
    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith(f"vae_mnist.py: error: {path}: ")
    assert culprit in err
    assert err.count("\n") == 1
    assert not output.exists() or contents(output) == {}


def test_a_byte_changed_anywhere_is_refused_or_changes_no_weight(trained, tmp_path):
    content = (trained / "vae.keras").read_bytes()
    weights = keras.saving.load_model(trained / "vae.keras").get_weights()
    path = tmp_path / "changed.keras"
    refused = 0
    for place in np.random.default_rng(0).integers(0, len(content), 40):
        changed = bytearray(content)
        changed[place] ^= 255
        path.write_bytes(changed)
        try:
            loaded = vae_mnist.load_model(path).get_weights()
        except vae_mnist.InputError:
            refused += 1
        else:
            for array, expected in zip(loaded, weights, strict=True):
                np.testing.assert_array_equal(array, expected)
    assert refused > 30


def test_a_model_whose_loss_is_not_finite_is_refused(trained, evaluate_again, tmp_path, capsys):
    model = keras.saving.load_model(trained / "vae.keras")
    model.trainable_variables[0].assign(np.full((784, 256), np.nan))
    model.save(tmp_path / "nan.keras")
    status, output = evaluate_again(tmp_path / "nan.keras")
    assert status == 2
    assert capsys.readouterr().err == (
        "vae_mnist.py: error: the test loss is nan; train another model\n"
    )
    assert contents(output) == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--epochs", "50"),
        ("--batch-size", "128"),
        ("--learning-rate", "0.001"),
        ("--reconstruction-loss", "squared-error"),
        ("--kl-weight", "1"),
    ],
)
def test_a_model_with_an_option_of_the_training_is_refused(
    option, value, trained, evaluate_again, capsys
):
    status, output = evaluate_again(trained / "vae.keras", option, value)
    err = capsys.readouterr().err
    assert status == 2
    assert f"{option}: has no meaning with --model" in err
    assert err.count("\n") == 1
    assert not output.exists()


def test_an_unknown_loss_is_no_model():
    with pytest.raises(ValueError, match="must be one of squared-error, cross-entropy"):
        vae_mnist.VAE("hinge")


def test_neighbours_vote():
    codes = np.array([[0, 0], [0, 1], [1, 0], [9, 9], [9, 8]])
    labels = np.array([7, 7, 3, 3, 3])
    # Of all five, three are 3: with fewer codes than 25 they all vote.
    assert vae_mnist.neighbour_accuracy(codes, labels, [[0, 0], [9, 9]], [3, 7]) == 0.5


def test_only_the_nearest_vote(monkeypatch):
    monkeypatch.setattr(vae_mnist, "NEIGHBOURS", 3)
    codes = np.array([[0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9]])
    labels = np.array([7, 7, 3, 3, 3, 7])
    test_codes, test_labels = [[0, 0], [9, 9], [0.5, 0.5]], [7, 3, 7]
    assert vae_mnist.neighbour_accuracy(codes, labels, test_codes, test_labels) == 1


def test_well_separated_classes_are_told_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    codes = rng.standard_normal((2000, 2)) + 20 * np.stack([labels // 2, labels % 2], axis=-1)
    halves = codes[:1000], labels[:1000], codes[1000:], labels[1000:]
    assert vae_mnist.neighbour_accuracy(*halves) == 1
    shuffled = rng.permutation(labels[1000:])
    assert vae_mnist.neighbour_accuracy(*halves[:3], shuffled) == pytest.approx(0.25, abs=0.05)


def requirement_lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_inline_metadata_equals_the_requirements():
    script = (ROOT / "vae_mnist.py").read_text()
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///\n", script, re.MULTILINE)[1]
    dependencies = json.loads(re.search(r"^# dependencies = (\[.*\])$", block, re.MULTILINE)[1])
    program, _, _ = (ROOT / "requirements.txt").read_text().partition("# for the tests")
    assert dependencies == requirement_lines(program)


def readme_snippets():
    """The Python of the README, without what only a notebook understands."""
    readme = re.sub(r"^%.*\n", "", (ROOT / "README.md").read_text(), flags=re.M)
    return re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)


def test_the_readme_has_two_snippets():
    assert len(readme_snippets()) == 2


@pytest.fixture
def beside_a_run(trained, tmp_path, monkeypatch):
    """A working directory with the data and a model in their places."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "vae.keras").write_bytes((trained / "vae.keras").read_bytes())
    (tmp_path / "data").symlink_to(ROOT / "data")
    return tmp_path


def test_the_snippet_that_uses_the_model_runs(beside_a_run, capsys):
    exec(readme_snippets()[0], {})
    values = re.findall(r": ([\d.]+)$", capsys.readouterr().out, re.M)
    assert len(values) == 2
    assert all(0 <= float(value) <= 1 for value in values)


def test_the_snippet_for_a_notebook_runs(beside_a_run):
    names = {}
    exec(readme_snippets()[1], names)
    assert len(names["history"]) == 10
    assert (beside_a_run / "outputs" / "explorer.html").stat().st_size > 2_000_000
