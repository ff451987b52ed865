"""The model: what it takes and gives, and that its file holds all of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import vae_mnist

# ---- What it takes and gives ---------------------------------------------------------------------


def test_the_model_without_noise_decodes_the_means(model, data):
    x = vae_mnist.scale(data.x_test[:60]).numpy()
    z_mean, z_log_sigma_sq = model.encoder(x)
    expected = (z_mean, z_log_sigma_sq, model.decoder(z_mean))
    for outputs in (model(x), model.predict(x, verbose=0)):
        for output, array in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, array, atol=1e-6)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_noise_of_any_type_moves_the_code_by_sigma(kind, model, data):
    x = vae_mnist.scale(data.x_test[:60])
    epsilon = np.random.default_rng(0).standard_normal((60, 2)).astype(kind)
    z_mean, z_log_sigma_sq, reconstruction = model(x, epsilon=epsilon)
    expected = model.decoder(z_mean + np.exp(z_log_sigma_sq / 2) * epsilon)
    np.testing.assert_allclose(reconstruction, expected, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [np.asarray, lambda z: z.tolist(), lambda z: [tuple(row) for row in z], tf.constant, np.single],
    ids=["float64", "lists", "tuples", "tensor", "float32"],
)
def test_codes_of_any_kind_are_decoded(make, model):
    z = np.random.default_rng(0).standard_normal((5, 2)).round(1)
    expected = np.clip(model.decoder(z.astype(np.float32)), 0, 1)
    np.testing.assert_allclose(model.decode_pixels(make(z)), expected, atol=1e-6)


def test_a_single_code_is_decoded_as_one_of_one(model):
    pixels = model.decode_pixels([0.5, -1.0])
    np.testing.assert_array_equal(pixels, model.decode_pixels([[0.5, -1.0]]))


@pytest.mark.parametrize(("loss", "pixel"), [("squared-error", 0.75), ("cross-entropy", 0.6791787)])
def test_the_sigmoid_is_taken_of_logits_only(loss, pixel):
    model = vae_mnist.VAE(reconstruction_loss=loss)
    output_bias = model.trainable_variables[-1]
    output_bias.assign(np.full(784, 0.75))
    pixels = model.decode_pixels([[0, 0], [0, 0]])
    assert type(pixels) is np.ndarray
    np.testing.assert_allclose(pixels, np.full((2, 784), pixel), rtol=1e-6)


def test_an_unknown_loss_is_no_model():
    with pytest.raises(ValueError, match="must be one of squared-error, cross-entropy"):
        vae_mnist.VAE(reconstruction_loss="hinge")


# ---- Its file ------------------------------------------------------------------------------------


def test_the_model_comes_back_with_the_loss_it_was_trained_with(finished_run):
    model = keras.saving.load_model(finished_run / "vae.keras")
    assert isinstance(model, vae_mnist.VAE)
    assert (model.reconstruction_loss, model.kl_weight) == ("cross-entropy", 0.5)


def test_a_weight_that_was_changed_is_kept_as_it_is(tmp_path, model):
    model.kl_weight = np.float32(0.25)  # as a warm-up may compute it
    model.save(tmp_path / "vae.keras")
    assert keras.saving.load_model(tmp_path / "vae.keras").kl_weight == 0.25


def test_a_model_keeps_its_name(tmp_path):
    vae_mnist.VAE(name="mine").save(tmp_path / "mine.keras")
    assert keras.saving.load_model(tmp_path / "mine.keras").name == "mine"


def test_layers_of_ones_own_come_back_as_they_were(tmp_path, data):
    x = keras.Input((784,))
    hidden = layers.Dense(8, activation="tanh")(x)
    hidden = layers.Dropout(0.5)(layers.BatchNormalization()(hidden))
    encoder = keras.Model(x, [layers.Dense(3)(hidden), layers.Dense(3)(hidden)])
    decoder = keras.Sequential([keras.Input((3,)), layers.Dense(784, activation="sigmoid")])
    model = vae_mnist.VAE(encoder, decoder)
    model.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    assert loaded.latent_size == 3
    assert [type(layer) for layer in loaded.encoder.layers] == [
        type(layer) for layer in encoder.layers
    ]
    assert loaded.encoder.layers[1].activation is keras.activations.tanh
    z_mean, z_log_sigma_sq = vae_mnist.encode(model, data.x_test)
    for ours, theirs in zip(
        vae_mnist.encode(loaded, data.x_test), (z_mean, z_log_sigma_sq), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(loaded.decode_pixels(z_mean), model.decode_pixels(z_mean))
