"""What a reader changes takes effect."""

import keras
import numpy as np
import pytest
from keras import layers

import vae_mnist


def small_encoder(*after_hidden, **options):
    """Return an encoder of 8 hidden units with `options`, and layers after them."""
    x = keras.Input((784,))
    hidden = layers.Dense(8, activation="relu", name="hidden", **options)(x)
    for layer in after_hidden:
        hidden = layer(hidden)
    return keras.Model(x, [layers.Dense(2)(hidden), layers.Dense(2)(hidden)])


def outputs_of_hidden(model, images):
    hidden = keras.Model(model.encoder.input, model.encoder.get_layer("hidden").output)
    return hidden(vae_mnist.to_pixels(images)).numpy()


@pytest.fixture(autouse=True)
def seeded():
    """The initial weights, and what layers draw, are always the same."""
    keras.utils.set_random_seed(0)


# ---- Layers --------------------------------------------------------------------------------------


class InTraining(layers.Layer):
    """Adds 100 in training and nothing elsewhere."""

    def call(self, inputs, training=False):
        return inputs + 100.0 if training else inputs


def test_layers_of_the_encoder_know_that_they_are_trained(eagerly, fit):
    encoder = small_encoder(InTraining())
    encoder.layers[-1].set_weights([np.zeros((8, 2)), np.zeros(2)])  # sigma stays 1
    encoder.layers[-2].set_weights([np.full((8, 2), 0.5), np.zeros(2)])
    history = fit(vae_mnist.VAE(encoder), batch_size=60).history  # of one step: before it
    assert history["kl"][0] == pytest.approx((8 * 0.5 * 100) ** 2, rel=0.1)
    assert history["val_kl"][0] < 1000


def test_layers_of_the_decoder_know_that_they_are_trained(eagerly, fit):
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(784), InTraining()])
    history = fit(vae_mnist.VAE(decoder=decoder), batch_size=60).history
    assert history["reconstruction"][0] == pytest.approx(784 * 100**2 / 2, rel=0.1)
    assert history["val_reconstruction"][0] < 784


def test_dropout_is_compiled_by_xla(fit, data):
    model = vae_mnist.VAE(encoder=small_encoder(layers.Dropout(0.9)))
    _, kl_without = model.image_losses(data.x_train[:60])
    history = fit(model, batch_size=60, jit_compile=True).history
    assert history["kl"][0] != pytest.approx(np.mean(kl_without), rel=0.1)


def test_moving_averages_are_those_of_the_batches(eagerly, fit, data):
    normalization = layers.BatchNormalization(momentum=0.5)
    model = vae_mnist.VAE(encoder=small_encoder(normalization))
    outputs = outputs_of_hidden(model, data.x_train[:60])
    fit(model, keras.optimizers.SGD(0.0), batch_size=60)
    np.testing.assert_allclose(normalization.moving_mean, outputs.mean(axis=0) / 2, rtol=1e-4)
    expected = (1 + outputs.var(axis=0)) / 2
    np.testing.assert_allclose(normalization.moving_variance, expected, rtol=1e-4)


def test_a_regularizer_is_minimised_and_not_reported(eagerly, fit):
    histories, norms = [], []
    for strength in (0.0, 100.0):
        keras.utils.set_random_seed(0)
        options = {"kernel_regularizer": keras.regularizers.L2(strength)}
        model = vae_mnist.VAE(encoder=small_encoder(**options))
        histories.append(fit(model, epochs=10, batch_size=60).history)
        norms.append(np.linalg.norm(model.encoder.get_layer("hidden").kernel))
    for name in ("loss", "reconstruction", "kl"):
        assert histories[1][name][0] == histories[0][name][0]
    assert norms[1] < 0.9 * norms[0]


def test_layers_are_frozen_and_unfrozen_when_the_model_is_compiled_again(eagerly, model, fit):
    for trainable in (False, True):
        model.encoder.trainable = trainable
        before = model.get_weights()
        fit(model)  # which compiles
        moved = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
        assert moved == 6 * [trainable] + 4 * [True]


class OwnEncoder(keras.Model):
    """Layers that get their weights with the first input, for three latent dimensions."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="tanh")
        self.mean = layers.Dense(3)
        self.log_variance = layers.Dense(3)

    def call(self, x):
        hidden = self.hidden(x)
        return self.mean(hidden), self.log_variance(hidden)


def test_subclassed_and_sequential_parts_of_any_size_are_trained(eagerly, fit):
    decoder = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(784)])
    model = vae_mnist.VAE(OwnEncoder(), decoder)
    before = model.get_weights()
    assert len(before) == 10
    fit(model)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_loss_may_use_the_kl_weight_and_attributes_of_the_model(fit):
    class Weighted(vae_mnist.VAE):
        offset = 1000.0

        def loss_terms(self, x, epsilon, training=False):
            reconstruction, kl = super().loss_terms(x, epsilon, training)
            return self.kl_weight * self.offset + 0 * reconstruction, kl

    model = Weighted(kl_weight=2.0)
    assert fit(model).history["reconstruction"] == [2000]
    model.kl_weight, model.offset = 3.0, 10.0
    assert fit(model).history["val_reconstruction"] == [30]


# ---- Sizes ---------------------------------------------------------------------------------------


@pytest.fixture
def larger_images(data, monkeypatch):
    """The digits with a margin, 32 x 32, and the module set to that size."""
    monkeypatch.setattr(vae_mnist, "IMAGE_SIDE", 32)
    return np.pad(data.x_train[:60].reshape(-1, 28, 28), [(0, 0), (2, 2), (2, 2)])


def test_images_of_another_size_are_trained_on_and_drawn(eagerly, fit, larger_images):
    model = vae_mnist.VAE()
    fit(model, x=larger_images, validation_data=larger_images[:20])
    pixels = model.decode(vae_mnist.manifold_codes())
    assert pixels.shape == (225, 1024)
    axes = vae_mnist.manifold_figure(pixels).axes[0]
    assert axes.images[0].get_array().shape == (15 * 32, 15 * 32)
    panel = vae_mnist.reconstructions_figure(larger_images[:3], pixels[:3]).axes[0]
    np.testing.assert_allclose(panel.images[0].get_array(), larger_images[0] / 255, atol=1e-6)


def test_images_of_another_size_are_rejected_with_the_size_that_is_set(larger_images, data):
    expected = r"shape \(1000, 784\) from 0 to 255; they must be 32 x 32 bytes"
    with pytest.raises(ValueError, match=expected):
        vae_mnist.VAE().encode(data.x_test)
