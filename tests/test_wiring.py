"""The parts of a run are connected as they should be: its files, worked out by other means.

From the model that the run wrote, its data and its seed, with the network in NumPy. The seed makes
two generators, `numpy.random.default_rng(seed).spawn(2)`: the first draws the noise of the
validation images, then each epoch's order and noise; the second the noise of the test images.
"""

import csv
import io
import json

import keras
import matplotlib.image
import numpy as np
import pytest
from conftest import contents
from test_page import array, content_of

import vae_mnist

SEED, KL_WEIGHT = 11, 0.5
MODES = {"squared-error": [], "cross-entropy": ["--reconstruction-loss", "cross-entropy"]}


class Run:
    """The files of a run, and what they should say."""

    def __init__(self, output, source, loss):
        """Encodes, draws and decodes once more."""
        self.files = contents(output)
        self.loss = loss
        self.data = vae_mnist.load_data(source)
        self.weights = keras.saving.load_model(output / "vae.keras").get_weights()
        training_rng, test_rng = np.random.default_rng(SEED).spawn(2)
        self.validation_epsilon = training_rng.standard_normal((20, 2), dtype=np.float32)
        self.test_epsilon = test_rng.standard_normal((60, 2), dtype=np.float32)
        self.x = self.data.x_test / np.float32(255)
        self.z_mean, self.z_log_sigma_sq = self.encode(self.x)
        self.z = self.z_mean + np.exp(self.z_log_sigma_sq / 2) * self.test_epsilon

    def encode(self, x):
        w1, b1, mean_w, mean_b, log_w, log_b, *_ = self.weights
        h1 = np.maximum(x @ w1 + b1, 0)
        return h1 @ mean_w + mean_b, h1 @ log_w + log_b

    def decode(self, z):
        """The decoder's outputs, which are logits with cross-entropy."""
        *_, w2, b2, w3, b3 = self.weights
        return np.maximum(z @ w2 + b2, 0) @ w3 + b3

    def pixels(self, z):
        outputs = self.decode(z)
        return outputs if self.loss == "squared-error" else 1 / (1 + np.exp(-outputs))

    def losses(self, images, epsilon):
        """The mean loss and its parts."""
        x = images / np.float64(255)
        z_mean, z_log_sigma_sq = self.encode(x)
        z = z_mean + np.exp(z_log_sigma_sq / 2) * epsilon
        outputs = self.decode(z)
        if self.loss == "squared-error":
            error = ((outputs - x) ** 2).sum(axis=1).mean() / 2
        else:
            error = (np.logaddexp(0, outputs) - x * outputs).sum(axis=1).mean()
        kl = np.exp(z_log_sigma_sq) + z_mean**2 - 1 - z_log_sigma_sq
        kl = kl.sum(axis=1).mean() / 2
        return {"loss": error + KL_WEIGHT * kl, "reconstruction": error, "kl": kl}

    def assert_picture(self, name, figure):
        """The file holds the picture of `figure`, but for the rounding of a few pixels."""
        expected = io.BytesIO()
        figure.savefig(expected, format="png", dpi=200)
        expected.seek(0)
        pictures = [matplotlib.image.imread(f) for f in (io.BytesIO(self.files[name]), expected)]
        assert pictures[0].shape == pictures[1].shape
        assert np.mean(np.abs(pictures[0] - pictures[1])) < 1e-4


@pytest.fixture(scope="module", params=MODES)
def run(request, tmp_path_factory, small_file):
    output = tmp_path_factory.mktemp("wiring")
    arguments = ["--data", str(small_file), "--output-dir", str(output), "--seed", str(SEED)]
    settings = ["--epochs", "40", "--batch-size", "20", "--kl-weight", str(KL_WEIGHT)]
    assert vae_mnist.main([*arguments, *settings, *MODES[request.param]]) == 0
    return Run(output, small_file, request.param)


def test_the_test_losses_are_those_of_the_sampled_codes(run):
    metrics = json.loads(run.files["metrics.json"])
    expected = run.losses(run.data.x_test, run.test_epsilon)
    assert metrics["test"] == pytest.approx(expected, rel=1e-4)
    assert metrics["test"] != pytest.approx(run.losses(run.data.x_test, 0), rel=1e-3)


def test_the_accuracy_is_the_vote_of_the_training_codes_on_the_test_codes(run):
    codes = run.encode(run.data.x_train / np.float32(255))[0]
    distances = np.linalg.norm(run.z_mean[:, None] - codes, axis=-1)
    votes = run.data.y_train[np.argsort(distances, axis=1)[:, :25]]
    winners = [np.bincount(row).argmax() for row in votes]
    accuracy = np.mean(winners == run.data.y_test)
    assert json.loads(run.files["metrics.json"])["neighbour_accuracy"] == pytest.approx(accuracy)


def test_the_last_row_of_the_history_has_the_losses_of_the_model_that_was_written(run):
    rows = list(csv.DictReader(io.StringIO(run.files["history.csv"].decode())))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 41)]
    expected = run.losses(run.data.x_validation, run.validation_epsilon)
    last = {name: float(rows[-1][f"validation_{name}"]) for name in expected}
    assert last == pytest.approx(expected, rel=1e-4)
    # While they are trained on, the training images come near to what the model makes of them.
    trained = run.losses(run.data.x_train, np.zeros((220, 2)))
    assert float(rows[-1]["reconstruction"]) == pytest.approx(trained["reconstruction"], rel=0.15)
    assert float(rows[-1]["kl"]) == pytest.approx(trained["kl"], rel=0.15)


def test_the_history_is_that_of_a_training_from_the_seed_with_the_options(run):
    keras.utils.set_random_seed(SEED)
    model = vae_mnist.VAE(run.loss, KL_WEIGHT)
    rng, _ = np.random.default_rng(SEED).spawn(2)
    settings = {"epochs": 40, "batch_size": 20, "learning_rate": 0.001, "rng": rng}
    rows = list(vae_mnist.train(model, run.data.x_train, run.data.x_validation, **settings))
    written = list(csv.DictReader(io.StringIO(run.files["history.csv"].decode())))
    assert [list(row) for row in written] == [list(row) for row in rows]
    for row, expected in zip(written, rows, strict=True):
        assert [float(value) for value in row.values()] == pytest.approx(list(expected.values()))


def test_the_reconstructions_are_those_of_the_first_ten_sampled_codes(run):
    figure = vae_mnist.reconstructions_figure(run.x[:10], run.pixels(run.z[:10]))
    run.assert_picture("reconstructions.png", figure)


def test_the_scatter_shows_the_sampled_codes_of_the_test_images(run):
    figure = vae_mnist.latent_scatter_figure(run.z, run.data.y_test, np.arange(10))
    run.assert_picture("latent_scatter.png", figure)


def test_the_manifold_is_decoded_by_the_model_that_was_written(run):
    figure = vae_mnist.manifold_figure(run.pixels(vae_mnist.manifold_codes()))
    run.assert_picture("manifold.png", figure)


def test_the_curves_are_those_of_the_history(run):
    rows = csv.DictReader(io.StringIO(run.files["history.csv"].decode()))
    history = [{name: float(value) for name, value in row.items()} for row in rows]
    run.assert_picture("training_curves.png", vae_mnist.training_curves_figure(history))


def test_the_page_holds_the_mean_codes_and_the_losses_there(run):
    content = content_of(run.files["explorer.html"])
    assert content["name"] == "few digits.npz"
    assert content["reconstructionLoss"] == run.loss
    codes = array(content["codes"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(codes, run.z_mean, atol=1e-5)
    assert content["testLosses"] == pytest.approx(run.losses(run.data.x_test, 0), rel=1e-4)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), run.data.y_test)
    for text, weights in zip(content["weights"], run.weights, strict=True):
        np.testing.assert_array_equal(array(text, "<f4"), weights.ravel())
