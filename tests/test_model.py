"""The model: what it takes and gives, how it is kept, loaded and evaluated again."""

import json
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import BUNDLED, SCRIPT, contents, exit_status, run_python
from page_content import content_of

import vae_mnist

# ---- What it takes and gives ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "int64"])
def test_the_model_refuses_images_that_are_not_scaled(kind, model, data):
    for call in (model, lambda x: model.predict(x, verbose=0)):
        with pytest.raises(TypeError, match=rf"pixels must be in \[0, 1\], not {kind}"):
            call(data.x_test[:3].astype(kind))


def test_the_model_without_noise_decodes_the_means(model, data):
    x = vae_mnist.scale(data.x_test[:60]).numpy()
    z_mean, z_log_sigma_sq = model.encoder(x)
    expected = (z_mean, z_log_sigma_sq, model.decoder(z_mean))
    for outputs in (model(x), model.predict(x, verbose=0)):
        for output, array in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, array, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [np.asarray, lambda z: z.tolist(), lambda z: [tuple(row) for row in z], tf.constant, np.single],
    ids=["float64", "lists", "tuples", "tensor", "float32"],
)
def test_codes_of_any_kind_are_decoded(make, model):
    z = np.random.default_rng(0).standard_normal((5, 2)).round(1)
    expected = model.decoder(z.astype(np.float32))
    np.testing.assert_allclose(model.decode_pixels(make(z)), expected, atol=1e-6)


def test_a_single_code_is_decoded_as_one_of_one(model):
    pixels = model.decode_pixels([0.5, -1.0])
    np.testing.assert_array_equal(pixels, model.decode_pixels([[0.5, -1.0]]))


@pytest.mark.parametrize(("loss", "pixel"), [("squared-error", 3.0), ("cross-entropy", 0.9525741)])
def test_the_sigmoid_is_taken_of_logits_only(loss, pixel):
    model = vae_mnist.VAE(loss)
    output_bias = model.trainable_variables[-1]
    output_bias.assign(np.full(784, 3.0))
    pixels = model.decode_pixels([[0, 0], [0, 0]])
    assert type(pixels) is np.ndarray
    np.testing.assert_allclose(pixels, np.full((2, 784), pixel))


def test_an_unknown_loss_is_no_model():
    with pytest.raises(ValueError, match="must be one of squared-error, cross-entropy"):
        vae_mnist.VAE("hinge")


USE_OF_THE_MODEL = """
import numpy as np, vae_mnist
model = vae_mnist.VAE()
optimizer = vae_mnist.adam(model, 0.001)
outputs = model(vae_mnist.scale(np.full((1, 784), 51)))
print(*{str(array.dtype) for array in [*model.get_weights(), *map(np.asarray, outputs)]},
      optimizer.learning_rate.dtype)
"""


def user_of_other_settings(small_file, directory):
    """A model where the user's keras.json asks for another framework and other numbers."""
    (directory / "keras.json").write_text(json.dumps({"floatx": "float64", "backend": "jax"}))
    return run_python(USE_OF_THE_MODEL, KERAS_HOME=str(directory), KERAS_BACKEND="jax")


ENCODE_AND_DECODE = """
import sys
import numpy as np, vae_mnist
model_path, arrays_path, images_path = sys.argv[1:]
model = vae_mnist.VAE()
model.save(model_path)
x = vae_mnist.scale(np.load(images_path)["x_test"])
z_mean, z_log_sigma_sq = model.encoder(x)
np.savez(arrays_path, z_mean, z_log_sigma_sq, model.decoder(z_mean), model.decode_pixels(z_mean))
"""


def another_process(small_file, directory):
    """What a process encodes and decodes, and the model that it has saved."""
    model, arrays = directory / "vae.keras", directory / "arrays.npz"
    run_python(ENCODE_AND_DECODE, model, arrays, BUNDLED)
    with np.load(arrays) as archive:
        return list(archive.values()), model


RUN_IN_THE_SAME_KERNEL = """
import runpy, sys
import vae_mnist
model, script, *sys.argv = sys.argv[1:]
vae_mnist.VAE().save(model)
sys.ps1 = "In [1]: "
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit:
    print(type(vae_mnist.load_model(model)) is vae_mnist.VAE)
"""


def run_in_the_same_kernel(small_file, directory):
    arguments = [directory / "vae.keras", SCRIPT, "vae_mnist.py", "--help"]
    return run_python(RUN_IN_THE_SAME_KERNEL, *arguments)


BACKGROUND = {
    "user of other settings": user_of_other_settings,
    "another process": another_process,
    "run in the same kernel": run_in_the_same_kernel,
}


def test_the_weights_are_float32_whatever_the_user_has_set(results):
    assert results["user of other settings"].result() == "float32 float32\n"


# ---- How it is kept ------------------------------------------------------------------------------


@pytest.fixture
def evaluate_again(small_file, tmp_path):
    """Runs the program with --model; returns the exit status and the output directory."""

    def run(model, *arguments):
        output = tmp_path / "again"
        fixed = ["--data", str(small_file), "--output-dir", str(output)]
        return exit_status(*fixed, "--model", model, *arguments), output

    return run


def test_the_model_comes_back_with_the_loss_it_was_trained_with(finished_run):
    model = keras.saving.load_model(finished_run / "vae.keras")
    assert isinstance(model, vae_mnist.VAE)
    assert (model.reconstruction_loss, model.kl_weight) == ("cross-entropy", 0.5)


def test_a_model_that_was_never_called_is_saved_with_its_name(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras warns of a model that is not built
        vae_mnist.VAE(name="mine").save(tmp_path / "mine.keras")
    assert keras.saving.load_model(tmp_path / "mine.keras").name == "mine"


def test_another_process_encodes_and_decodes_to_the_last_bit(results):
    there, path = results["another process"].result()
    model = keras.saving.load_model(path)
    with np.load(BUNDLED) as archive:
        x = vae_mnist.scale(archive["x_test"])
    z_mean, z_log_sigma_sq = model.encoder(x)
    here = [z_mean, z_log_sigma_sq, model.decoder(z_mean), model.decode_pixels(z_mean)]
    for array, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(array, other)


def test_the_loaded_model_reproduces_the_test_loss_and_the_pictures(finished_run, evaluate_again):
    status, output = evaluate_again(finished_run / "vae.keras", "--seed", "11")
    assert status == 0
    first, again = contents(finished_run), contents(output)
    assert sorted(again) == [
        "explorer.html",
        "latent_scatter.png",
        "manifold.png",
        "metrics.json",
        "reconstructions.png",
    ]
    for name in ("latent_scatter.png", "manifold.png", "reconstructions.png"):
        assert again[name] == first[name]
    page, expected_page = (content_of(files["explorer.html"]) for files in (again, first))
    assert page.pop("unfolding") is None
    assert expected_page.pop("unfolding") is not None
    assert page == expected_page
    metrics, expected = (json.loads(files["metrics.json"]) for files in (again, first))
    assert metrics.pop("model") == str(finished_run / "vae.keras")
    for name in ("epochs", "batch_size", "learning_rate"):
        del expected[name]
    assert metrics == expected


def test_the_same_model_gives_the_same_bytes_whenever_it_is_saved(finished_run, tmp_path):
    path = finished_run / "vae.keras"
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
    make, culprit, finished_run, evaluate_again, tmp_path, capsys
):
    path = make(finished_run / "vae.keras", tmp_path / "modèle.keras")
    status, output = evaluate_again(path)
    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith(f"vae_mnist.py: error: {path}: ")
    assert culprit in err
    assert err.count("\n") == 1
    assert not output.exists() or contents(output) == {}


def test_a_byte_changed_anywhere_is_refused_or_changes_no_weight(finished_run, tmp_path):
    content = (finished_run / "vae.keras").read_bytes()
    weights = keras.saving.load_model(finished_run / "vae.keras").get_weights()
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


def test_a_model_whose_loss_is_not_finite_is_refused(
    finished_run, evaluate_again, tmp_path, capsys
):
    model = keras.saving.load_model(finished_run / "vae.keras")
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
    option, value, finished_run, evaluate_again, capsys
):
    status, output = evaluate_again(finished_run / "vae.keras", option, value)
    err = capsys.readouterr().err
    assert status == 2
    assert f"{option}: has no meaning with --model" in err
    assert err.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(("name", "size"), [("HIDDEN_SIZE", 255), ("LATENT_SIZE", 3)])
def test_a_model_of_another_size_is_told_so(
    name, size, finished_run, evaluate_again, monkeypatch, capsys
):
    monkeypatch.setattr(vae_mnist, name, size)
    with warnings.catch_warnings(record=True) as seen:
        status, _ = evaluate_again(finished_run / "vae.keras")
    assert status == 2
    err = capsys.readouterr().err
    assert f"it has other sizes than HIDDEN_SIZE {vae_mnist.HIDDEN_SIZE} and LATENT_SIZE " in err
    assert err.count("\n") == 1
    assert not [warning for warning in seen if warning.category is UserWarning]


def test_a_run_in_the_same_kernel_leaves_the_module_its_models(results):
    """%run registers the class of the module __main__ with Keras in place of vae_mnist's."""
    assert results["run in the same kernel"].result().endswith("True\n")


def test_a_model_is_not_evaluated_into_the_files_of_a_training(small_file, tmp_path, capsys):
    arguments = ["--data", str(small_file), "--output-dir", str(tmp_path / "run")]
    assert vae_mnist.main([*arguments, "--epochs", "1"]) == 0
    before = contents(tmp_path / "run")
    assert vae_mnist.main([*arguments, "--model", str(tmp_path / "run" / "vae.keras")]) == 2
    assert contents(tmp_path / "run") == before
    err = capsys.readouterr().err
    assert "run: holds a training's history.csv, training_curves.png, vae.keras; set" in err
    assert err.count("\n") == 1
