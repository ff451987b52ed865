"""Training: each step, draw and log is that of the reference; `compile` sets optimizer and XLA."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import LOG_NAMES
from reference import Reference

import vae_mnist

# ---- What is computed ----------------------------------------------------------------------------


def assert_history(history, expected):
    assert sorted(history.history) == sorted(LOG_NAMES)
    for name, values in expected.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "xla"), [("squared-error", True), ("squared-error", False), ("cross-entropy", True)]
)
def test_the_history_and_the_weights_are_those_of_the_reference(loss, xla, data):
    images, validation_images = data.x_train[:130], data.x_validation[:30]
    settings = {"epochs": 3, "batch_size": 40}
    keras.utils.set_random_seed(3)
    model = vae_mnist.VAE(reconstruction_loss=loss, kl_weight=2)
    reference = Reference(model.get_weights(), loss, kl_weight=2)
    model.compile(optimizer=vae_mnist.adam(0.003), jit_compile=xla)
    history = vae_mnist.train(model, images, validation_images, rng=3, **settings)
    rng = np.random.default_rng(3)
    expected = reference.train(images, validation_images, learning_rate=0.003, rng=rng, **settings)
    assert_history(history, expected)
    for weights, expected_weights in zip(model.get_weights(), reference.weights, strict=True):
        np.testing.assert_allclose(weights, expected_weights, rtol=0, atol=3e-4)


def test_the_default_settings_are_those_of_the_original(model, data):
    reference = Reference(model.get_weights())
    images, validation_images = data.x_train[:130], data.x_validation[:20]
    history = vae_mnist.train(model, images, validation_images, rng=0)
    settings = {"epochs": 2, "batch_size": 128, "learning_rate": 0.001}
    rng = np.random.default_rng(0)
    expected = reference.train(images, validation_images, rng=rng, **settings)
    assert history.epoch == list(range(50))
    for name in LOG_NAMES:
        np.testing.assert_allclose(history.history[name][:2], expected[name], rtol=1e-4)


def test_without_rng_the_seed_of_keras_fixes_the_draws(eagerly, train, model):
    initial_weights = model.get_weights()
    losses = []
    for seed in (1, 1, None):
        if seed is not None:
            keras.utils.set_random_seed(seed)
        model.set_weights(initial_weights)
        losses.append(train(model, rng=None).history["loss"])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("batch_size", [0, 61])
def test_an_impossible_batch_size_is_rejected(eagerly, batch_size, train, model):
    with pytest.raises(ValueError, match=f"a batch of {batch_size} from 60 training images"):
        train(model, batch_size=batch_size)


def test_a_loss_that_is_not_finite_ends_the_training(eagerly, train, model):
    ended = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    with pytest.raises(FloatingPointError, match="in epoch 1; try a smaller learning rate"):
        train(model, vae_mnist.adam(1e9), epochs=3, callbacks=callback)
    assert ended == []


def test_a_replaced_encoder_that_does_not_fit_is_rejected(eagerly, train, model, monkeypatch):
    """Noise of two dimensions could be broadcast to a code of one."""
    monkeypatch.setattr(vae_mnist, "LATENT_SIZE", 1)
    model.encoder = vae_mnist.build_encoder()
    with pytest.raises(ValueError, match="expected axis -1"):
        train(model)


def test_loss_terms_that_are_not_one_number_an_image_are_rejected(train, model, monkeypatch):
    monkeypatch.setattr(model, "loss_terms", lambda x, epsilon: (tf.zeros(()), tf.zeros(2)))
    with pytest.raises(ValueError, match=r"one number an image, \[batch\], not \(\) and \(2,\)"):
        train(model)


# ---- What `compile` sets -------------------------------------------------------------------------


class NotForXLA(vae_mnist.VAE):
    """A model whose training, unlike its validation, XLA cannot compile."""

    def loss_terms(self, x, epsilon, training=False):
        reconstruction, kl = super().loss_terms(x, epsilon, training)
        if training:
            [kl] = tf.py_function(lambda kl: [kl], [kl], [kl.dtype])
            kl.set_shape(reconstruction.shape)
        return reconstruction, kl


def test_the_epoch_is_compiled_by_xla_where_compile_asks_for_it(train):
    assert len(train(NotForXLA(), jit_compile=False).epoch) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="XLA"):
        train(NotForXLA(), jit_compile=True)


def test_a_model_that_is_not_compiled_gets_xla_and_adam(data):
    model = NotForXLA()
    with pytest.raises(tf.errors.InvalidArgumentError, match="XLA"):
        vae_mnist.train(model, data.x_train[:60], data.x_train[:1], epochs=1, batch_size=20)
    assert model.optimizer.get_config() | {"name": ""} == vae_mnist.adam().get_config() | {
        "name": ""
    }


def test_without_xla_the_same_epoch_is_trained_and_a_note_says_so(
    monkeypatch, train, model, capsys
):
    ordinary_function = tf.function

    def function(python_function, jit_compile=None):
        if not jit_compile:
            return ordinary_function(python_function)

        def fail(*args):
            raise tf.errors.UnimplementedError(None, None, "no XLA in\nthis build")

        return fail

    monkeypatch.setattr(tf, "function", function)
    assert len(train(model, jit_compile=True).epoch) == 1
    note = (
        "note: XLA is unavailable here (no XLA in this build); training without it, more slowly.\n"
    )
    assert capsys.readouterr().err == note


def test_run_eagerly_runs_python_at_each_step(data):
    calls = []

    class Counting(vae_mnist.VAE):
        def loss_terms(self, x, epsilon, training=False):
            calls.append(training)
            return super().loss_terms(x, epsilon, training)

    model = Counting()
    model.compile(optimizer=vae_mnist.adam(), run_eagerly=True)
    vae_mnist.train(model, data.x_train[:3], data.x_train[:1], epochs=2, batch_size=1)
    assert calls.count(True) == 2 * 3


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        ({"metrics": [None, None, "mse"]}, "metrics"),
        ({"weighted_metrics": ["mse"]}, "weighted_metrics"),
        ({"loss": "mse", "loss_weights": [0, 0, 1]}, "loss, loss_weights"),
    ],
)
def test_a_model_compiled_with_what_would_be_ignored_is_rejected(options, ignored, model, data):
    model.compile("adam", **options)
    with pytest.raises(ValueError, match=f"would ignore {ignored}: call compile"):
        vae_mnist.train(model, data.x_train, data.x_validation)


def test_a_model_compiled_without_an_optimizer_is_rejected(model, data):
    model.compile(optimizer=None)
    with pytest.raises(ValueError, match="compiled without an optimizer"):
        vae_mnist.train(model, data.x_train, data.x_validation)


def test_an_optimizer_that_scales_the_loss_makes_the_same_steps(eagerly, train):
    """Also of what a regularizer adds."""
    weights = []
    for scale in (None, 128.0):
        keras.utils.set_random_seed(0)
        model = vae_mnist.VAE()
        model.decoder.get_layer("h2").kernel.regularizer = keras.regularizers.L2(10.0)
        train(model, keras.optimizers.SGD(0.01, loss_scale_factor=scale))
        weights.append(model.get_weights())
    for plain, scaled in zip(*weights, strict=True):
        np.testing.assert_allclose(plain, scaled, atol=1e-6)


def test_an_optimizer_that_averages_the_weights_leaves_the_averages(eagerly, model, train):
    initial, seen = model.get_weights()[0], []
    optimizer = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.999)
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()[0])
    )
    train(model, optimizer, callbacks=keep)
    # Three steps of 0.1; the average begins after the first and hardly moves.
    assert np.abs(seen[0] - initial).max() > 0.2
    assert np.abs(model.get_weights()[0] - initial).max() < 0.11


def test_training_continues_with_the_optimizers_state_here_and_from_a_file(tmp_path, model, data):
    images = data.x_train[:60], data.x_train[:1]
    settings = {"epochs": 1, "batch_size": 20}
    model.compile(optimizer=vae_mnist.adam(), jit_compile=False)
    vae_mnist.train(model, *images, rng=0, **settings)
    model.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    anew = keras.models.clone_model(model)
    anew.set_weights(model.get_weights())
    anew.compile(optimizer=vae_mnist.adam(), jit_compile=False)
    for each in (model, loaded, anew):
        vae_mnist.train(each, *images, rng=1, **settings)
    assert int(model.optimizer.iterations) == int(loaded.optimizer.iterations) == 6
    for weights, of_file in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, of_file)
    assert np.abs(model.get_weights()[0] - anew.get_weights()[0]).max() > 1e-4


def test_six_trainings_in_one_process_print_no_warning(train, caplog):
    for _ in range(6):
        train(vae_mnist.VAE())
        vae_mnist.xla_available()
    assert "retracing" not in caplog.text
