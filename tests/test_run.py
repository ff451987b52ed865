"""What a run leaves: its lines and files, worked out by other means from the model that it wrote.

Two runs are looked at: one as a user makes it, on some thousand digits, and one on a few digits
with no option at its default.
"""

import csv
import io
import json
import re

import keras
import matplotlib.image
import numpy as np
import pytest
from helpers import (
    FINISHED,
    LOG_NAMES,
    LOSS_NAMES,
    OLD,
    OUTPUT_FILES,
    contents,
    evaluation_noise,
    exit_status,
    some_digits,
    write_idx,
)
from matplotlib.figure import Figure
from page_content import array, content_of
from reference import Reference

import vae_mnist

SIZES = {  # width and height in pixels
    "reconstructions.png": (1660, 340),
    "samples.png": (800, 800),
    "latent_scatter.png": (1320, 1160),
    "manifold.png": (1320, 1320),
    "training_curves.png": (1800, 580),
}


def test_a_run_prints_plain_lines_and_no_note(default_runs):
    status, out, err, _ = default_runs[0]
    assert (status, err) == (0, "")
    assert out.isascii()
    assert "\x1b" not in out
    assert out.splitlines()[0] == (
        "digits.npz: 3,667 training, 333 validation and 1,000 test images; losses in nats per image"
    )


def test_the_files_written_are_listed_and_last_the_page_to_open(default_runs):
    _, out, _, output = default_runs[0]
    assert out.splitlines()[-1] == f"open {output / 'explorer.html'} in a browser"
    listed = re.findall(r"^wrote (.*)$", out, flags=re.MULTILINE)
    assert sorted(listed) == [str(output / name) for name in OUTPUT_FILES]
    assert sorted(contents(output)) == list(OUTPUT_FILES)


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_has_its_size_and_neither_is_blank_nor_has_empty_margins(default_runs, name):
    pixels = matplotlib.image.imread(default_runs[0][-1] / name)[..., :3]
    assert pixels.shape[1::-1] == SIZES[name]
    assert pixels.min() < 0.1
    assert pixels.max() > 0.9
    assert pixels.std() > 0.1
    inked = (pixels < 1).any(axis=-1)
    for axis in (0, 1):
        lines = np.flatnonzero(inked.any(axis=axis))
        assert 1 <= lines[0] <= 40
        assert 1 <= inked.shape[1 - axis] - 1 - lines[-1] <= 40


def test_the_printed_numbers_are_those_of_history_and_metrics(default_runs):
    _, out, _, output = default_runs[0]
    printed = re.findall(r"^ +(\d+)" + 6 * r" +([\d.]+)" + "$", out, re.MULTILINE)
    columns = ["epoch", *LOSS_NAMES, *(f"val_{name}" for name in LOSS_NAMES)]
    rows = [[row[column] for column in columns] for row in read_history(contents(output))]
    assert [row[0] for row in rows] == [1, 2, 3]
    np.testing.assert_allclose(np.array(printed, float), rows, rtol=0, atol=0.00501)
    metrics = json.loads((output / "metrics.json").read_text("utf-8"))
    test = metrics["test"]
    assert (
        f"test loss {test['loss']:.4f} = {test['reconstruction']:.4f} reconstruction "
        f"+ {test['kl']:.4f} KL\n"
        f"k-NN accuracy {metrics['knn_accuracy']:.4f} (k = 25, training to test codes)\n"
    ) in out


def test_a_second_process_without_the_pages_folder_writes_the_same_numbers_and_pictures(
    default_runs,
):
    first, second = (contents(run[-1]) for run in default_runs)
    assert set(second) == set(OUTPUT_FILES) - {"explorer.html"}
    same = {name for name in second if second[name] == first[name]}
    assert same == set(second) - {"vae.keras"}  # which holds its date
    status, _, err, _ = default_runs[1]
    note = "note: there is no folder explorer beside vae_mnist.py: explorer.html is not written\n"
    assert (status, err) == (0, note)


# ---- The files, worked out by other means --------------------------------------------------------


def read_history(files):
    rows = csv.DictReader(io.StringIO(files["history.csv"].decode()))
    return [{name: float(value) for name, value in row.items()} for row in rows]


class Run:
    """The files of a run, and what they should say."""

    def __init__(self, output, data, seed=0, loss="squared-error", kl_weight=1.0):
        """Encodes and draws once more."""
        self.files = contents(output)
        self.loss, self.kl_weight = loss, kl_weight
        self.data = data
        weights = keras.saving.load_model(output / "vae.keras").get_weights()
        self.reference = Reference(weights, loss, kl_weight)
        keras.utils.set_random_seed(seed)
        model = vae_mnist.VAE()
        self.initial_weights = model.get_weights()
        self.test_epsilon = evaluation_noise(len(data.x_test), 2, seed).numpy()
        self.samples = model.sample_prior(64, seed)
        self.z_mean, _ = self.reference.encode(self.data.x_test)
        self.z = self.reference.sample(self.data.x_test, self.test_epsilon)
        self.metrics = json.loads(self.files["metrics.json"])
        self.history = read_history(self.files)


@pytest.fixture(scope="module", params=["squared-error", "cross-entropy"])
def run(request, default_runs, finished_run, small_file):
    if request.param == "squared-error":
        return Run(default_runs[0][-1], some_digits())
    data = vae_mnist.load_data(small_file)
    return Run(finished_run, data, FINISHED["seed"], request.param, FINISHED["kl-weight"])


def test_the_test_losses_are_those_of_the_sampled_codes(run):
    expected = run.reference.losses(run.data.x_test, run.test_epsilon)
    assert run.metrics["test"] == pytest.approx(expected, rel=1e-5)
    at_means = run.reference.losses(run.data.x_test, 0)
    assert run.metrics["test"] != pytest.approx(at_means, rel=5e-5)


def test_the_knn_accuracy_is_that_of_the_training_codes_for_the_test_codes(run):
    codes, _ = run.reference.encode(run.data.x_train)
    distances = np.linalg.norm(run.z_mean[:, None] - codes, axis=-1)
    votes = run.data.y_train[np.argsort(distances, axis=1)[:, :25]]
    winners = [np.bincount(row).argmax() for row in votes]
    accuracy = np.mean(winners == run.data.y_test)
    assert run.metrics["knn_accuracy"] == pytest.approx(accuracy, abs=0.003)


def test_the_history_is_that_of_a_training_from_the_seed_with_the_options(run):
    few = run.loss == "cross-entropy"
    seed, batch_size = (11, 20) if few else (0, 128)
    count = len(run.data.x_train)
    noise = evaluation_noise(len(run.data.x_validation), 2, seed)
    expected = Reference(run.initial_weights, run.loss, run.kl_weight).train(
        run.data.x_train,
        [vae_mnist.epoch_draws(seed, count, batch_size, 2, epoch) for epoch in range(3)],
        learning_rate=0.002 if few else 0.001,
        validation=(run.data.x_validation, noise),
    )
    assert [row["epoch"] for row in run.history] == list(range(1, 13 if few else 4))
    for row in run.history:
        assert sorted(row) == sorted(["epoch", *LOG_NAMES])
    for name in LOG_NAMES:
        values = [row[name] for row in run.history[:3]]
        np.testing.assert_allclose(values[0], expected[name][0], rtol=2e-4)
        np.testing.assert_allclose(values, expected[name], rtol=5e-3)  # roundings grow


FIGURES = {
    "reconstructions.png": lambda run: vae_mnist.reconstructions_figure(
        run.data.x_test[:10] / 255, run.reference.pixels(run.z[:10])
    ),
    "samples.png": lambda run: vae_mnist.samples_figure(run.reference.pixels(run.samples)),
    "latent_scatter.png": lambda run: vae_mnist.latent_scatter_figure(
        run.z, run.data.y_test, classes=np.arange(10)
    ),
    "manifold.png": lambda run: vae_mnist.manifold_figure(
        run.reference.pixels(vae_mnist.manifold_codes())
    ),
    "training_curves.png": lambda run: vae_mnist.training_curves_figure(
        {name: [row[name] for row in run.history] for name in LOG_NAMES}
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_shows_what_the_model_of_the_file_computes(name, run):
    """But for the rounding of a few pixels."""
    expected = io.BytesIO()
    FIGURES[name](run).savefig(expected, format="png", dpi=200)
    expected.seek(0)
    pictures = [matplotlib.image.imread(f) for f in (io.BytesIO(run.files[name]), expected)]
    assert pictures[0].shape == pictures[1].shape
    assert np.mean(np.abs(pictures[0] - pictures[1])) < 1e-4


def test_the_page_holds_the_latent_codes_the_losses_and_the_training(run):
    content = content_of(run.files["explorer.html"])
    assert content["reconstructionLoss"] == run.loss
    assert content["klWeight"] == run.kl_weight
    codes = array(content["codes"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(codes, run.z_mean, atol=1e-5)
    assert content["testLosses"] == run.metrics["test"]
    assert content["name"] == run.metrics["data"]
    training = content["training"]
    shape = (len(run.history) + 1, len(run.data.x_test), 2)
    codes = array(training["codes"], "<i2").reshape(shape) * training["step"]
    before, _ = Reference(run.initial_weights).encode(run.data.x_test)
    np.testing.assert_allclose(codes[0], before, atol=training["step"])
    np.testing.assert_allclose(codes[-1], run.z_mean, atol=training["step"])
    validation = [
        {name: row[f"val_{name}"] for name in LOSS_NAMES} | {"kl_weight": row["kl_weight"]}
        for row in run.history
    ]
    assert training["validationLosses"] == validation


def test_the_metrics_hold_the_settings(default_runs, finished_run):
    settings, other_settings = (
        json.loads((output / "metrics.json").read_text("utf-8"))
        for output in (default_runs[0][-1], finished_run)
    )
    for each in (settings, other_settings):
        del each["test"], each["knn_accuracy"]
    assert settings == {
        "data": "digits.npz",
        "train_images": 3667,
        "test_images": 1000,
        "epochs": 3,
        "batch_size": 128,
        "learning_rate": 0.001,
        "model": "VAE",
        "reconstruction_loss": "squared-error",
        "kl_weight": 1.0,
        "latent_size": 2,
        "parameters": 404244,
        "seed": 0,
    }
    assert other_settings == settings | {
        "data": "few digits.npz",
        "train_images": 220,
        "test_images": 60,
        **{name.replace("-", "_"): value for name, value in FINISHED.items()},
    }


# ---- Other runs ----------------------------------------------------------------------------------


FIGURE_NAMES = ("reconstructions", "samples", "training_curves", "latent_scatter", "manifold")
NOT_DRAWN = {f"{name}_figure": lambda *args, **options: Figure() for name in FIGURE_NAMES}


def new_files(output):
    return {name for name, content in contents(output).items() if content != OLD[name]}


@pytest.fixture
def run_briefly(eagerly, small_file, output, monkeypatch, capsys):
    """Run the program for an epoch into the old results; return what it prints.

    Changed first: what `changes` name in the script.
    """

    def run(*options, **changes):
        for name, value in changes.items():
            monkeypatch.setattr(vae_mnist, name, value)
        arguments = ["--data", small_file, "--output-dir", output, "--epochs", 1, *options]
        assert exit_status(*arguments) == 0
        return capsys.readouterr()

    return run


def test_in_other_latent_sizes_the_other_files_are_written(run_briefly, output):
    latent_size = 3
    notes = run_briefly(LATENT_SIZE=latent_size).err
    two_dimensional = {"explorer.html", "latent_scatter.png", "manifold.png"}
    assert new_files(output) == set(OUTPUT_FILES) - two_dimensional
    assert notes == (
        "note: not two latent dimensions: no latent_scatter.png, no manifold.png\n"
        f"note: the page shows two latent dimensions, and the model has {latent_size}: "
        "explorer.html is not written\n"
    )
    assert json.loads((output / "metrics.json").read_text("utf-8"))["latent_size"] == latent_size


def test_a_model_that_the_page_cannot_run_has_none(run_briefly, output):
    def build_decoder():
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(784, "mish", name="last")])

    notes = run_briefly(build_decoder=build_decoder, **NOT_DRAWN).err
    assert new_files(output) == set(OUTPUT_FILES) - {"explorer.html"}
    assert notes == (
        "note: the page does not know the layer last (Dense with mish): explorer.html is not "
        "written\n"
    )


class Robust(vae_mnist.VAE):
    """Stands for a model with a loss of its own, which is not the one of `reconstruction_loss`."""


def test_a_run_of_another_model_on_a_folder_of_idx_files_with_a_single_batch(
    run_briefly, output, digits, tmp_path
):
    write_idx(tmp_path / "fashion", digits)
    options = ["--data", f"{tmp_path / 'fashion'}/", "--batch-size", 220, "--kl-weight", 0.25]
    out = run_briefly(*options, VAE=Robust, **NOT_DRAWN).out
    assert re.search(r"^test loss .* reconstruction \+ 0\.25 x [\d.]+ KL$", out, re.MULTILINE)
    metrics = json.loads((output / "metrics.json").read_text("utf-8"))
    expected = {"data": "fashion", "model": "Robust", "batch_size": 220}
    assert {name: metrics[name] for name in expected} == expected
    page = (output / "explorer.html").read_bytes()
    assert content_of(page)["name"] == "fashion"
    assert tmp_path.name.encode() not in page


@pytest.mark.parametrize(
    ("function", "written"),
    [
        ("knn_accuracy", {"vae.keras"}),
        ("manifold_figure", {"vae.keras", "metrics.json", "history.csv"}),
        ("explorer_page", set(OUTPUT_FILES) - {"explorer.html"}),
    ],
)
def test_a_step_that_fails_leaves_what_is_written_before(function, written, run_briefly, output):
    def fail(*args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_briefly(**NOT_DRAWN | {function: fail})
    assert new_files(output) == written


def test_posterior_collapse_is_reported_in_one_line(run_briefly):
    err = run_briefly(**NOT_DRAWN, COLLAPSED_KL=1e9).err
    assert err == ("note: posterior collapse; try another --seed or a smaller --kl-weight\n")


def test_the_latent_codes_of_the_first_test_images_are_recorded(run_briefly, digits):
    recorders = []

    def explorer_page(model, data, recorder, losses):
        recorders.append(recorder)
        return b"page"

    run_briefly(explorer_page=explorer_page, **NOT_DRAWN)
    assert [codes.shape for codes in recorders[0].codes] == 2 * [(60, 2)]
    x = digits["x_test"].reshape(60, 784) / 255
    np.testing.assert_allclose(recorders[0].x, x, atol=1e-6)


def test_the_samples_are_of_the_prior_that_a_subclass_gives(run_briefly, monkeypatch):
    class Shifted(vae_mnist.VAE):
        def sample_prior(self, count, seed=None):
            return np.full((count, 2), 3.0)

    decoded = []
    monkeypatch.setattr(Shifted, "decode", lambda self, z: decoded.append(z))
    run_briefly(VAE=Shifted, explorer=None, **NOT_DRAWN)
    assert any(np.array_equal(z, np.full((64, 2), 3.0)) for z in decoded)
