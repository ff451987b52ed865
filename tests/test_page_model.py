"""The page runs the model that it is given, or a PageError names the layer it does not know."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import losses_of, some_digits
from keras import layers
from page_content import array, content_of

import explorer
import vae_mnist
from explorer.layers import ACTIVATIONS


def vae_with(*hidden, decoder=()):
    """A VAE with other layers between pixels and code and, where given, between code and pixels."""
    keras.utils.set_random_seed(0)
    x = h = keras.Input((784,))
    for layer in hidden:
        h = layer(h)
    encoder = keras.Model(x, [layers.Dense(2)(h), layers.Dense(2)(h)])
    decoder = decoder and keras.Sequential([keras.Input((2,)), *decoder, layers.Dense(784)])
    model = vae_mnist.VAE(encoder, decoder or None)
    shaken = np.random.default_rng(0)
    model.set_weights([w + shaken.normal(0, 0.05, w.shape) ** 2 for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def data():
    data = some_digits()
    return data._replace(x_test=data.x_test[:100], y_test=data.y_test[:100])


def page_of(model, data):
    losses = losses_of(model, data.x_test)
    return content_of(vae_mnist.explorer_page(model, data, losses=losses))


def page_error(model, data):
    with pytest.raises(explorer.PageError) as error:
        page_of(model, data)
    return str(error.value)


def run(steps, values):
    """What the steps of a page's content make of rows of numbers, in float64 and by other means."""
    for step in steps:
        if "activation" in step:
            values = getattr(keras.activations, step["activation"])(values).numpy()
            continue
        held = {name: array(text, "<f4") for name, text in step.items()}
        if "weights" in held:
            weights = held["weights"].reshape(-1, len(held["biases"]))
            values = np.einsum("ni,io->no", values, weights) + held["biases"]
        else:
            values = np.multiply(values, held["factors"]) + held["offsets"]
    return values


def assert_page_computes(model, data):
    """The lists of steps in the page, run one after the other, compute what the model does."""
    parts = page_of(model, data)["model"]
    x = data.x_test[:50] / 255
    hidden = run(parts["shared"], x)
    codes = model.encode(data.x_test[:50])
    np.testing.assert_allclose(run(parts["mean"], hidden), codes[0], atol=1e-4)
    np.testing.assert_allclose(run(parts["logVariance"], hidden), codes[1], atol=1e-4)
    z = np.random.default_rng(0).standard_normal((50, 2))
    np.testing.assert_allclose(run(parts["decoder"], z), model.decoder(z), atol=1e-4)


LAYERS = {
    **{name: lambda name=name: layers.Dense(20, activation=name) for name in ACTIVATIONS},
    "a function of TensorFlow": lambda: layers.Dense(20, activation=tf.nn.tanh),
    "an activation": lambda: layers.Activation("tanh"),
    "ReLU": lambda: layers.ReLU(),
    "no bias": lambda: layers.Dense(9, use_bias=False),
    "batch normalization": lambda: layers.BatchNormalization(),
    "its bare form": lambda: layers.BatchNormalization(center=False, scale=False),
    "dropout": lambda: layers.Dropout(0.5),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_the_page_runs_the_layers_that_people_build_with(make, data):
    model = vae_with(layers.Dense(30), make(), decoder=[layers.Dense(30), make()])
    assert_page_computes(model, data)


def test_layers_before_only_one_of_the_two_outputs_are_kept_apart(data):
    x = keras.Input((784,))
    h = layers.Dense(30, activation="relu")(x)
    z_mean = layers.Dense(2)(layers.Dense(8, activation="tanh")(h))
    z_log_sigma_sq = layers.Dense(2, activation="softplus")(layers.Dense(9)(h))
    model = vae_mnist.VAE(keras.Model(x, [z_mean, z_log_sigma_sq]))
    assert_page_computes(model, data)
    parts = page_of(model, data)["model"]
    assert {part: len(steps) for part, steps in parts.items()} == {
        "shared": 2,
        "mean": 3,
        "logVariance": 3,
        "decoder": 3,
    }


def test_an_encoder_without_a_shared_layer_is_run_too(data):
    x = keras.Input((784,))
    model = vae_mnist.VAE(keras.Model(x, [layers.Dense(2)(x), layers.Dense(2)(x)]))
    assert_page_computes(model, data)


def test_images_of_another_side_are_run(monkeypatch):
    monkeypatch.setattr(vae_mnist, "IMAGE_SIDE", 32)
    images = np.random.default_rng(0).integers(0, 256, (60, 1024), dtype=np.uint8)
    labels = np.arange(60) % 10
    data = vae_mnist.Data("32", images, labels, images, labels, images, labels, np.arange(10))
    model = vae_mnist.VAE()
    assert_page_computes(model, data)
    assert page_of(model, data)["side"] == 32


# ---- What it does not know -----------------------------------------------------------------------


class Doubled(layers.Dense):
    def call(self, inputs, **options):
        return 2 * super().call(inputs, **options)


UNKNOWN = {
    "LayerNormalization": lambda: layers.LayerNormalization(name="odd"),
    "Doubled": lambda: Doubled(9, name="odd"),
    "Dense with mish": lambda: layers.Dense(9, activation="mish", name="odd"),
    "Dense with ReLU": lambda: layers.Dense(9, activation=layers.ReLU(6.0), name="odd"),
    "LeakyReLU": lambda: layers.LeakyReLU(0.1, name="odd"),
    "Sequential": lambda: keras.Sequential([layers.Dense(9)], name="odd"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_layer_that_the_page_does_not_know_is_named(kind, data):
    model = vae_with(layers.Dense(30), UNKNOWN[kind]())
    assert page_error(model, data) == f"the page does not know the layer odd ({kind})"


def sine(x):
    """Has only the name of an activation."""
    return tf.sin(x)


sine.__name__ = "tanh"
OTHERWISE = {
    "another function of that name": lambda: layers.Dense(9, activation=sine),
    "a threshold": lambda: layers.ReLU(threshold=0.5),
    "another precision": lambda: layers.Dense(9, dtype="mixed_float16"),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_a_layer_that_computes_something_else_than_its_kind_is_noticed(kind, data):
    model = vae_with(layers.Dense(30), OTHERWISE[kind]())
    assert re.match(
        "the page (computes the .* otherwise than|does not know)", page_error(model, data)
    )


def test_a_layer_that_is_used_twice_is_not_read(data):
    twice = layers.Dense(30, activation="relu")
    x = keras.Input((784,))
    h = twice(twice(layers.Dense(30)(x)))
    model = vae_mnist.VAE(keras.Model(x, [layers.Dense(2)(h), layers.Dense(2)(h)], name="odd"))
    assert page_error(model, data).startswith("the page does not know how odd computes ")


def test_a_layer_of_two_inputs_is_named(data):
    x = keras.Input((784,))
    h1 = layers.Dense(30)(x)
    h = layers.Add(name="around")([h1, layers.Dense(30)(h1)])
    model = vae_mnist.VAE(keras.Model(x, [layers.Dense(2)(h), layers.Dense(2)(h)]))
    assert page_error(model, data) == "the page does not know the layer around (Add)"


def test_a_model_without_a_graph_of_layers_is_none_that_the_page_reads(data):
    class Decoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = layers.Dense(784)

        def call(self, z):
            return self.last(z)

    assert page_error(vae_mnist.VAE(decoder=Decoder()), data) == (
        "the page reads functional and sequential models, and the decoder is none"
    )


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_part_that_does_more_than_its_layers_is_rejected(part, model, data):
    class More(keras.Model):
        def call(self, inputs, **options):
            outputs = super().call(inputs, **options)
            return [0.9 * output for output in outputs] if part == "encoder" else 0.9 * outputs

    original = getattr(model, part)
    outputs = original.outputs if part == "encoder" else original.outputs[0]
    changed = More(original.inputs[0], outputs)
    model = vae_mnist.VAE(**{part: changed})
    what = {"encoder": "mean of an image", "decoder": "output of the decoder"}[part]
    assert page_error(model, data) == f"the page computes the {what} otherwise than this model"


# ---- What the script does beside the layers ------------------------------------------------------


def centred(images):
    """Convert bytes to numbers from -1 to 1."""
    images = tf.convert_to_tensor(images)
    return images if images.dtype.is_floating else tf.cast(images, "float32") / 127.5 - 1


decode = vae_mnist.VAE.decode
kl_divergence = vae_mnist.kl_divergence
CHANGES = {
    "to_pixels": (
        centred,
        "the page encodes pixels that are bytes / 255, and this model encodes others",
    ),
    "VAE.decode": (
        lambda *codes: decode(*codes) ** 0.5,
        "the page computes the pixels of a latent code otherwise than this model",
    ),
    "RECONSTRUCTION_LOSSES": (
        {"squared-error": lambda x, y: tf.reduce_sum((x - y) ** 2, axis=-1)},
        "the page computes the squared-error of an image otherwise than this model",
    ),
    "kl_divergence": (
        lambda *codes: 0.5 * kl_divergence(*codes),
        "the page computes the KL divergence of an image otherwise than this model",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_function_of_the_script_is_noticed(name, model, data, monkeypatch):
    replacement, message = CHANGES[name]
    monkeypatch.setattr(f"vae_mnist.{name}", replacement)
    assert page_error(model, data) == message


def test_a_changed_sum_of_the_two_terms_is_noticed(data):
    class WithCapacity(vae_mnist.VAE):
        def mean_loss(self, *options):
            reconstruction, kl = self.loss_terms(*options)
            losses = reconstruction + tf.abs(kl - 20), reconstruction, kl
            for metric, values in zip(self.metrics, losses, strict=True):
                metric.update_state(values)
            return tf.reduce_mean(losses[0])

    with pytest.raises(explorer.PageError, match=r"^the page knows no loss but reconstruction \+ "):
        vae_mnist.explorer_page(WithCapacity(), data)


def test_a_loss_of_a_subclass_is_noticed(data):
    class Absolute(vae_mnist.VAE):
        def loss_terms(self, x, epsilon, training=False):
            _, kl = super().loss_terms(x, epsilon, training)
            *_, reconstruction = self(x, epsilon=epsilon)
            return tf.reduce_sum(tf.abs(reconstruction - x), axis=-1), kl

    message = "the page computes the squared-error of an image otherwise than this model"
    assert page_error(Absolute(), data) == message
