"""What a run leaves: its lines and files, worked out by other means from the model that it wrote.

Two runs are looked at: one as a user without a network makes it, on the bundled digits, and one on
a few digits with no option at its default. The seed makes three generators,
`numpy.random.default_rng(seed).spawn(3)`: the first draws the noise of the validation images, then
each epoch's order and noise; the second the noise of the test images; the third the latent codes of
samples.png.
"""

import csv
import io
import json
import re

import keras
import matplotlib.image
import numpy as np
import pytest
from conftest import FINISHED
from helpers import BUNDLED, LOG_NAMES, LOSS_NAMES, OUTPUT_FILES, contents, exit_status, write_idx
from page_content import array, content_of, grey_levels
from reference import Reference

import vae_mnist

SIZES = {  # width and height in pixels
    "reconstructions.png": (1660, 340),
    "samples.png": (800, 800),
    "latent_scatter.png": (1320, 1160),
    "manifold.png": (1320, 1320),
    "training_curves.png": (1800, 580),
}


@pytest.fixture
def default_run(default_runs):
    return default_runs[0]


# ---- The default run -----------------------------------------------------------------------------


def test_the_run_succeeds(default_run):
    status, *_ = default_run
    assert status == 0


def test_the_only_note_names_the_bundled_digits(default_run):
    _, _, err, _ = default_run
    assert err.startswith("note: MNIST could not be downloaded (")
    assert "using the 5,000 bundled digits. For the full set, give its mnist.npz or the" in err
    assert err.count("\n") == 1


def test_the_output_is_plain_lines(default_run):
    _, out, _, _ = default_run
    assert "\x1b" not in out
    assert "\r" not in out
    assert out.splitlines()[0] == (
        "MNIST, 5,000 bundled digits: 3,667 training, 333 validation and 1,000 test images; "
        "losses in nats per image"
    )
    assert out.isascii()


def test_the_files_written_are_listed_and_last_the_page_to_open(default_run):
    _, out, _, output = default_run
    assert out.splitlines()[-1] == f"open {output / 'explorer.html'} in a browser"
    listed = re.findall(r"^wrote (.*)$", out, flags=re.MULTILINE)
    assert sorted(listed) == [str(output / name) for name in OUTPUT_FILES]
    assert sorted(contents(output)) == list(OUTPUT_FILES)


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_has_its_size_and_is_not_blank(default_run, name):
    *_, output = default_run
    pixels = matplotlib.image.imread(output / name)[..., :3]
    assert pixels.shape[1::-1] == SIZES[name]
    assert pixels.min() < 0.1
    assert pixels.max() > 0.9
    assert pixels.std() > 0.1


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_has_no_empty_margins(default_run, name):
    *_, output = default_run
    inked = (matplotlib.image.imread(output / name)[..., :3] < 1).any(axis=-1)
    for axis in (0, 1):
        lines = np.flatnonzero(inked.any(axis=axis))
        assert 1 <= lines[0] <= 40
        assert 1 <= inked.shape[1 - axis] - 1 - lines[-1] <= 40


def test_the_losses_fall(default_run):
    *_, output = default_run
    history = read_history(contents(output))
    for name in ("loss", "reconstruction", "val_loss", "val_reconstruction"):
        assert history[0][name] > history[1][name] > history[2][name]


def test_the_printed_rows_are_those_of_the_history(default_run):
    _, out, _, output = default_run
    printed = re.findall(r"^ +(\d+)" + 6 * r" +([\d.]+)" + "$", out, re.MULTILINE)
    columns = ["epoch", *LOSS_NAMES, *(f"val_{name}" for name in LOSS_NAMES)]
    rows = [[row[column] for column in columns] for row in read_history(contents(output))]
    assert [row[0] for row in rows] == [1, 2, 3]
    np.testing.assert_allclose(np.array(printed, float), rows, rtol=0, atol=0.00501)


def test_the_printed_results_are_those_of_the_metrics(default_run):
    _, out, _, output = default_run
    metrics = json.loads((output / "metrics.json").read_text("utf-8"))
    test, accuracy = metrics["test"], metrics["knn_accuracy"]
    assert (
        f"test loss {test['loss']:.4f} = {test['reconstruction']:.4f} reconstruction "
        f"+ {test['kl']:.4f} KL\n"
        f"k-NN accuracy {accuracy:.4f} (k = 25, training to test codes)\n"
    ) in out
    assert 0.2 < accuracy < 1


def test_a_second_process_writes_the_same_numbers_and_pictures(default_runs):
    first, second = (contents(run[-1]) for run in default_runs)
    same = {name for name in second if second[name] == first[name]}
    assert same == set(OUTPUT_FILES) - {"explorer.html", "vae.keras"}  # which holds its date


def test_without_the_folder_of_the_page_one_line_says_so(default_runs):
    status, _, err, output = default_runs[1]
    assert status == 0
    assert set(contents(output)) == set(OUTPUT_FILES) - {"explorer.html"}
    (note,) = err.splitlines()[1:]
    assert note.startswith("note: ")
    assert note.endswith("__init__.py is missing: explorer.html is not written.")


# ---- The files, worked out by other means --------------------------------------------------------


def read_history(files):
    rows = csv.DictReader(io.StringIO(files["history.csv"].decode()))
    return [{name: float(value) for name, value in row.items()} for row in rows]


class Run:
    """The files of a run, and what they should say."""

    def __init__(self, output, source, seed=0, loss="squared-error", kl_weight=1.0):
        """Encodes, draws and decodes once more."""
        self.files = contents(output)
        self.seed, self.loss, self.kl_weight = seed, loss, kl_weight
        self.data = vae_mnist.load_data(source)
        self.weights = keras.saving.load_model(output / "vae.keras").get_weights()
        self.reference = Reference(self.weights, loss, kl_weight)
        training_rng, test_rng, samples_rng = np.random.default_rng(seed).spawn(3)
        self.validation_epsilon = training_rng.standard_normal(
            (len(self.data.x_validation), 2), dtype=np.float32
        )
        self.test_epsilon = test_rng.standard_normal((len(self.data.x_test), 2), dtype=np.float32)
        self.samples = samples_rng.standard_normal((64, 2))
        self.z_mean, _ = self.reference.encode(self.data.x_test)
        self.z = self.reference.sample(self.data.x_test, self.test_epsilon)
        self.metrics = json.loads(self.files["metrics.json"])

    def assert_picture(self, name, figure):
        """The file holds the picture of `figure`, but for the rounding of a few pixels."""
        expected = io.BytesIO()
        figure.savefig(expected, format="png", dpi=200)
        expected.seek(0)
        pictures = [matplotlib.image.imread(f) for f in (io.BytesIO(self.files[name]), expected)]
        assert pictures[0].shape == pictures[1].shape
        assert np.mean(np.abs(pictures[0] - pictures[1])) < 1e-4


@pytest.fixture(scope="module", params=["squared-error", "cross-entropy"])
def run(request, default_runs, finished_run, small_file):
    if request.param == "squared-error":
        return Run(default_runs[0][-1], BUNDLED)
    return Run(finished_run, small_file, FINISHED["seed"], request.param, FINISHED["kl-weight"])


def test_the_test_losses_are_those_of_the_sampled_codes(run):
    expected = run.reference.losses(run.data.x_test, run.test_epsilon)
    assert run.metrics["test"] == pytest.approx(expected, rel=1e-4)
    at_means = run.reference.losses(run.data.x_test, 0)
    assert run.metrics["test"] != pytest.approx(at_means, rel=1e-3)


def test_the_knn_accuracy_is_that_of_the_training_codes_for_the_test_codes(run):
    codes, _ = run.reference.encode(run.data.x_train)
    distances = np.linalg.norm(run.z_mean[:, None] - codes, axis=-1)
    votes = run.data.y_train[np.argsort(distances, axis=1)[:, :25]]
    winners = [np.bincount(row).argmax() for row in votes]
    accuracy = np.mean(winners == run.data.y_test)
    assert run.metrics["knn_accuracy"] == pytest.approx(accuracy, abs=0.003)


def test_the_history_is_that_of_a_training_from_the_seed_with_the_options(run):
    keras.utils.set_random_seed(run.seed)
    initial_weights = vae_mnist.VAE().get_weights()
    rng, *_ = np.random.default_rng(run.seed).spawn(3)
    few = run.loss == "cross-entropy"
    expected = Reference(initial_weights, run.loss, run.kl_weight).train(
        run.data.x_train,
        run.data.x_validation,
        epochs=3,
        batch_size=20 if few else 128,
        learning_rate=0.002 if few else 0.001,
        rng=rng,
    )
    history = read_history(run.files)
    assert len(history) == (40 if few else 3)
    assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    for row in history:
        assert list(row) == ["epoch", *LOG_NAMES]
    for name in LOG_NAMES:
        values = [row[name] for row in history[:3]]
        np.testing.assert_allclose(values, expected[name], rtol=1e-3)


def test_the_last_row_of_the_history_has_the_losses_of_the_model_that_was_written(run):
    expected = run.reference.losses(run.data.x_validation, run.validation_epsilon)
    last = read_history(run.files)[-1]
    validation = {name: last[f"val_{name}"] for name in LOSS_NAMES}
    assert validation == pytest.approx(expected, rel=1e-4)


def test_the_reconstructions_are_those_of_the_first_ten_sampled_latent_codes(run):
    x = run.data.x_test[:10] / 255
    figure = vae_mnist.reconstructions_figure(x, run.reference.pixels(run.z[:10]))
    run.assert_picture("reconstructions.png", figure)


def test_the_samples_are_decoded_from_a_generator_of_their_own(run):
    figure = vae_mnist.samples_figure(run.reference.pixels(run.samples))
    run.assert_picture("samples.png", figure)


def test_the_scatter_shows_the_sampled_latent_codes_of_the_test_images(run):
    figure = vae_mnist.latent_scatter_figure(run.z, run.data.y_test, classes=np.arange(10))
    run.assert_picture("latent_scatter.png", figure)


def test_the_manifold_is_decoded_by_the_model_that_was_written(run):
    figure = vae_mnist.manifold_figure(run.reference.pixels(vae_mnist.manifold_codes()))
    run.assert_picture("manifold.png", figure)


def test_the_curves_are_drawn_from_the_history_that_was_written(run):
    rows = read_history(run.files)
    columns = {name: [row[name] for row in rows] for name in LOG_NAMES}
    figure = vae_mnist.training_curves_figure(columns)
    run.assert_picture("training_curves.png", figure)


def test_the_page_holds_the_latent_codes_and_the_test_losses(run):
    content = content_of(run.files["explorer.html"])
    assert content["reconstructionLoss"] == run.loss
    assert content["klWeight"] == run.kl_weight
    codes = array(content["codes"], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(codes, run.z_mean, atol=1e-5)
    assert content["testLosses"] == run.metrics["test"]
    assert content["name"] == run.metrics["data"]


def test_the_page_holds_the_training(run):
    unfolding = content_of(run.files["explorer.html"])["unfolding"]
    history = read_history(run.files)
    shape = (len(history) + 1, len(run.data.x_test), 2)
    codes = array(unfolding["codes"], "<i2").reshape(shape) * unfolding["step"]
    keras.utils.set_random_seed(run.seed)
    untrained = Reference(vae_mnist.VAE().get_weights(), run.loss)
    before, _ = untrained.encode(run.data.x_test)
    np.testing.assert_allclose(codes[0], before, atol=unfolding["step"])
    np.testing.assert_allclose(codes[-1], run.z_mean, atol=unfolding["step"])
    assert np.abs(codes[1] - codes[0]).max() > 0.1
    validation = [{name: row[f"val_{name}"] for name in LOSS_NAMES} for row in history]
    assert unfolding["validationLosses"] == validation
    strips = grey_levels(unfolding["strips"]).reshape(-1, 10, 784)
    assert unfolding["stripEpochs"] == list(range(len(history) + 1))
    images = unfolding["stripImages"]
    assert len(set(run.data.y_test[images])) == len(set(run.data.y_test[:40]))
    for strip, reference, z in ((0, untrained, before), (-1, run.reference, run.z_mean)):
        pixels = reference.pixels(z[images])
        np.testing.assert_allclose(strips[strip], pixels, atol=0.501 / 63 + 1e-4)


def test_the_metrics_hold_the_settings(default_run, finished_run):
    settings = json.loads((default_run[-1] / "metrics.json").read_text("utf-8"))
    del settings["test"], settings["knn_accuracy"]
    defaults = {
        "data": "MNIST, 5,000 bundled digits",
        "train_images": 3667,
        "test_images": 1000,
        "epochs": 3,
        "batch_size": 128,
        "learning_rate": 0.001,
        "reconstruction_loss": "squared-error",
        "kl_weight": 1.0,
        "latent_size": 2,
        "parameters": 404244,
        "seed": 0,
    }
    assert settings == defaults
    settings = json.loads((finished_run / "metrics.json").read_text("utf-8"))
    del settings["test"], settings["knn_accuracy"]
    assert settings == defaults | {
        "data": "few digits.npz",
        "train_images": 220,
        "test_images": 60,
        "epochs": 40,
        "batch_size": 20,
        "learning_rate": 0.002,
        "reconstruction_loss": "cross-entropy",
        "kl_weight": 0.5,
        "seed": 11,
    }


# ---- Other runs ----------------------------------------------------------------------------------


TWO_DIMENSIONAL = {"explorer.html", "latent_scatter.png", "manifold.png"}


@pytest.fixture
def run_briefly(eagerly, small_file, output, monkeypatch, capsys):
    """Run the program for an epoch into the old results; return the new files and the notes.

    Changed first: what `changes` name in the script.
    """

    def run(*options, **changes):
        for name, value in changes.items():
            monkeypatch.setattr(vae_mnist, name, value)
        arguments = ["--data", small_file, "--output-dir", output, "--epochs", 1, *options]
        assert exit_status(*arguments) == 0
        files = contents(output)
        new = {name for name, content in files.items() if content != f"old {name}".encode()}
        return new, capsys.readouterr().err

    return run


@pytest.mark.parametrize("latent_size", [1, 3])
def test_in_other_latent_sizes_the_other_files_are_written_and_the_old_ones_named(
    latent_size, run_briefly, output
):
    new, notes = run_briefly(LATENT_SIZE=latent_size)
    assert new == set(OUTPUT_FILES) - TWO_DIMENSIONAL
    assert notes == (
        f"note: a latent space of {latent_size} dimensions cannot be drawn: latent_scatter.png and "
        "manifold.png are not written.\n"
        f"note: the page shows two latent dimensions, and the model has {latent_size}: "
        "explorer.html is not written.\n"
        f"note: latent_scatter.png, manifold.png, explorer.html in {output}: of an earlier run, "
        "not of this model.\n"
    )
    metrics = json.loads((output / "metrics.json").read_text("utf-8"))
    assert metrics["latent_size"] == latent_size


def test_a_batch_may_be_as_large_as_the_training_set(run_briefly, output):
    run_briefly("--batch-size", 220)
    assert json.loads((output / "metrics.json").read_text("utf-8"))["batch_size"] == 220


def test_the_data_are_named_by_the_last_name_of_their_path(run_briefly, output, digits, tmp_path):
    write_idx(tmp_path / "fashion", digits)
    run_briefly("--data", f"{tmp_path / 'fashion'}/")
    assert json.loads((output / "metrics.json").read_text("utf-8"))["data"] == "fashion"
    assert content_of((output / "explorer.html").read_bytes())["name"] == "fashion"


def test_a_weight_other_than_1_is_printed_with_the_kl_divergence(
    eagerly, small_file, output, capsys
):
    options = ["--kl-weight", 0.25, "--epochs", 1, "--output-dir", output]
    assert exit_status("--data", small_file, *options) == 0
    assert re.search(
        r"^test loss .* reconstruction \+ 0\.25 x [\d.]+ KL$", capsys.readouterr().out, re.M
    )


def test_a_model_that_the_page_cannot_run_has_none_and_the_old_one_is_named(run_briefly, output):
    def build_encoder():
        x = keras.Input((784,))
        h1 = keras.layers.Dense(8, activation="mish", name="h1")(x)
        z_mean = keras.layers.Dense(2, name="z_mean")(h1)
        z_log_sigma_sq = keras.layers.Dense(2, name="z_log_sigma_sq")(h1)
        return keras.Model(x, [z_mean, z_log_sigma_sq])

    new, notes = run_briefly(build_encoder=build_encoder)
    assert new == set(OUTPUT_FILES) - {"explorer.html"}
    assert notes == (
        "note: the page does not know the layer h1 (Dense with mish): explorer.html is not "
        "written.\n"
        f"note: explorer.html in {output}: of an earlier run, not of this model.\n"
    )


@pytest.mark.parametrize("function", ["draw_figures", "explorer_page"])
def test_a_figure_or_page_that_fails_leaves_the_model_and_the_numbers(
    function, run_briefly, output
):
    def fail(*args):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_briefly(**{function: fail})
    assert keras.saving.load_model(output / "vae.keras").get_weights()
    assert json.loads((output / "metrics.json").read_text("utf-8"))["epochs"] == 1
    assert len(read_history(contents(output))) == 1


def test_numbers_that_cannot_be_made_leave_the_model(run_briefly, output):
    with pytest.raises(ZeroDivisionError):
        run_briefly(last_name=lambda path: 1 / 0)
    assert keras.saving.load_model(output / "vae.keras").get_weights()


def test_columns_that_callbacks_add_come_last_and_may_be_empty(tmp_path):
    first = dict.fromkeys(["kl", "loss", "reconstruction", "epoch", "fid"], 1.0)
    second = dict.fromkeys([*LOG_NAMES, "epoch", "learning_rate"], 2.0)
    vae_mnist.write_history([first, second], tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text("utf-8").splitlines()
    assert lines == [
        "epoch,loss,reconstruction,kl,kl_weight,val_loss,val_reconstruction,val_kl,fid,learning_rate",
        "1.0,1.0,1.0,1.0,,,,,1.0,",
        "2.0,2.0,2.0,2.0,2.0,2.0,2.0,2.0,,2.0",
    ]


def test_figures_are_drawn_and_saved_whatever_the_users_matplotlibrc_says(run_briefly):
    sizes = []

    class Picture:
        def savefig(self, path, dpi):
            sizes.append(matplotlib.rcParams["font.size"])
            path.touch()

    def draw_figures(*args):
        sizes.append(matplotlib.rcParams["font.size"])
        return {"manifold.png": Picture()}

    with matplotlib.rc_context({"font.size": 5, "text.usetex": True}):
        run_briefly(draw_figures=draw_figures)
        assert matplotlib.rcParams["font.size"] == 5
    assert sizes == [10, 10]  # matplotlib's own


def test_the_latent_codes_of_the_first_test_images_are_recorded(run_briefly, digits):
    recorders = []

    def explorer_page(model, data, recorder, losses):
        recorders.append(recorder)
        return b"page"

    run_briefly(explorer_page=explorer_page, draw_figures=lambda *args: {}, RECORDED_IMAGES=20)
    (recorder,) = recorders
    assert [codes.shape for codes in recorder.codes] == 2 * [(20, 2)]
    np.testing.assert_allclose(recorder.x, digits["x_test"][:20].reshape(20, 784) / 255, atol=1e-6)
