"""The model: what it accepts, computes and rejects, and what its file holds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import expit

import vae_mnist


def encoder_of(*hidden, sizes=(2, 2)):
    x = h = keras.Input((784,))
    for layer in hidden:
        h = layer(h)
    return keras.Model(x, [layers.Dense(size)(h) for size in sizes])


def decoder_of(*stack):
    return keras.Sequential([keras.Input((2,)), *stack])


# ---- What it computes ----------------------------------------------------------------------------


def test_without_noise_the_latent_code_is_z_mean(model, data):
    x = vae_mnist.to_pixels(data.x_test[:60]).numpy()
    z_mean, z_log_sigma_sq = model.encoder(x)
    expected = (z_mean, z_log_sigma_sq, model.decoder(z_mean))
    for outputs in (model(x), model.predict(x, verbose=0)):
        for output, array in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, array, atol=1e-6)


@pytest.mark.parametrize("kind", ["float64", "int64"])
def test_noise_of_any_type_moves_the_latent_code_by_sigma(kind, model, data):
    x = vae_mnist.to_pixels(data.x_test[:60])
    epsilon = (2 * np.random.default_rng(0).standard_normal((60, 2))).astype(kind)
    z_mean, z_log_sigma_sq, reconstruction = model(x, epsilon=epsilon)
    expected = model.decoder(z_mean + np.exp(z_log_sigma_sq / 2) * epsilon)
    np.testing.assert_allclose(reconstruction, expected, atol=1e-6)


@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, tf.constant, np.single])
def test_latent_codes_of_any_type_are_decoded(make, model):
    z = np.random.default_rng(0).standard_normal((5, 2)).round(1)
    expected = np.clip(model.decoder(z.astype(np.float32)), 0, 1)
    np.testing.assert_allclose(model.decode_pixels(make(z)), expected, atol=1e-6)


def test_a_single_latent_code_is_decoded_as_one_of_one(model):
    pixels = model.decode_pixels([0.5, -1.0])
    np.testing.assert_array_equal(pixels, model.decode_pixels([[0.5, -1.0]]))


@keras.saving.register_keras_serializable(package="tests")
def smoothed_cross_entropy(x, logits):
    return vae_mnist.cross_entropy(0.9 * x + 0.05, logits)


@keras.saving.register_keras_serializable(package="tests")
def absolute_error(x, reconstruction):
    return tf.reduce_sum(tf.abs(reconstruction - x), axis=-1)


@pytest.mark.parametrize(
    ("loss", "from_logits", "pixels_of"),
    [
        ("squared-error", None, lambda outputs: outputs.clip(0, 1)),
        ("cross-entropy", None, expit),
        (absolute_error, None, lambda outputs: outputs.clip(0, 1)),
        (smoothed_cross_entropy, True, expit),
    ],
)
def test_pixels_are_the_sigmoid_of_logits_and_other_outputs_are_clipped(
    loss, from_logits, pixels_of
):
    model = vae_mnist.VAE(reconstruction_loss=loss, from_logits=from_logits)
    outputs = np.linspace(-1, 2, 784)
    model.trainable_variables[-1].assign(outputs)  # the last biases
    pixels = model.decode_pixels([[0, 0]])
    assert type(pixels) is np.ndarray
    np.testing.assert_allclose(pixels, [pixels_of(outputs)], rtol=1e-6)


def test_a_reconstruction_loss_of_ones_own_is_the_one_that_is_computed(data):
    model = vae_mnist.VAE(reconstruction_loss=absolute_error)
    model.decoder.set_weights([0 * weights for weights in model.decoder.get_weights()])
    reconstruction, _ = vae_mnist.image_losses(model, data.x_test[:5])
    np.testing.assert_allclose(reconstruction, data.x_test[:5].sum(axis=1) / 255, rtol=1e-5)


def test_sizes_set_in_the_module_are_those_of_the_next_model(monkeypatch):
    monkeypatch.setattr(vae_mnist, "HIDDEN_SIZE", 64)
    monkeypatch.setattr(vae_mnist, "LATENT_SIZE", 5)
    model = vae_mnist.VAE()
    assert [weights.shape for weights in model.get_weights()[::2]] == [
        *((784, 64), (64, 5), (64, 5)),
        *((5, 64), (64, 784)),
    ]
    assert model.latent_size == 5


@pytest.mark.parametrize("kind", ["uint8", "int64"])
def test_the_model_rejects_bytes_in_place_of_pixels(kind, model, data):
    for call in (model, lambda x: model.predict(x, verbose=0)):
        with pytest.raises(TypeError, match=rf"must be floats in \[0, 1\], not {kind}: see"):
            call(data.x_test[:3].astype(kind))


# ---- What it rejects -----------------------------------------------------------------------------


def unregistered(x, reconstruction):
    return absolute_error(x, reconstruction)


@keras.saving.register_keras_serializable(package="tests")
def mean_of_the_batch(x, reconstruction):
    return tf.reduce_mean(absolute_error(x, reconstruction))


BAD_MODELS = {
    "an encoder of three outputs": (
        lambda: {"encoder": encoder_of(sizes=(2, 2, 2))},
        "the encoder must return two outputs, z_mean and z_log_sigma_sq",
    ),
    "an encoder of one output": (
        lambda: {"encoder": keras.Sequential([keras.Input((784,)), layers.Dense(4)])},
        "the encoder must return two outputs, z_mean and z_log_sigma_sq",
    ),
    "means and log-variances of different sizes": (
        lambda: {"encoder": encoder_of(sizes=(2, 3))},
        r"must both be \[batch, latent size\], not \(2, 2\) and \(2, 3\)",
    ),
    "an encoder of another rank": (
        lambda: {"encoder": encoder_of(layers.Reshape((28, 28)))},
        r"must both be \[batch, latent size\], not \(2, 28, 2\)",
    ),
    "a decoder of another rank": (
        lambda: {"decoder": decoder_of(layers.Dense(784), layers.Reshape((784, 1)))},
        r"must return \[batch, 784\], not \(2, 784, 1\); keras.layers.Flatten\(\) may end it",
    ),
    "a decoder of another size": (
        lambda: {"decoder": decoder_of(layers.Dense(783))},
        r"must return \[batch, 784\], not \(2, 783\)",
    ),
    "an unknown loss": (
        lambda: {"reconstruction_loss": "hinge"},
        "must be one of squared-error, cross-entropy, or a function, not 'hinge'",
    ),
    "a loss that no file can hold": (
        lambda: {"reconstruction_loss": unregistered},
        "register the reconstruction loss by @keras.saving.register_keras_serializable",
    ),
    "a loss that is one number for the batch": (
        lambda: {"reconstruction_loss": mean_of_the_batch},
        r"must be one number an image, \[batch\], not \(\)",
    ),
    "logits for the squared error": (
        lambda: {"from_logits": True},
        "from_logits=True contradicts squared-error",
    ),
    "pixels for the cross-entropy": (
        lambda: {"reconstruction_loss": "cross-entropy", "from_logits": False},
        "from_logits=False contradicts cross-entropy",
    ),
    "a negative KL weight": (lambda: {"kl_weight": -0.1}, "kl_weight must be a number of at least"),
    "a KL weight that is no number": (lambda: {"kl_weight": np.nan}, "kl_weight must be a number"),
}


@pytest.mark.parametrize(("make", "message"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_parts_that_do_not_fit_together_are_rejected(make, message):
    with pytest.raises(ValueError, match=message):
        vae_mnist.VAE(**make())


SIGMOIDS = {
    "an activation": lambda: [layers.Dense(784, activation="sigmoid")],
    "before Flatten": lambda: [layers.Dense(784, activation="sigmoid"), layers.Flatten()],
    "of TensorFlow": lambda: [layers.Dense(784, activation=tf.nn.sigmoid)],
    "in a nested model": lambda: [decoder_of(layers.Dense(784, activation="sigmoid"))],
    "a softmax": lambda: [layers.Dense(784, activation="softmax")],
}


@pytest.mark.parametrize("stack", SIGMOIDS.values(), ids=SIGMOIDS)
def test_a_sigmoid_before_a_loss_of_logits_is_rejected(stack):
    vae_mnist.VAE(decoder=decoder_of(*stack()))
    for options in (
        {"reconstruction_loss": "cross-entropy"},
        {"reconstruction_loss": smoothed_cross_entropy, "from_logits": True},
    ):
        with pytest.raises(ValueError, match=r"taken as logits, but they lie in \[0, 1\]"):
            vae_mnist.VAE(decoder=decoder_of(*stack()), **options)


def test_a_decoder_that_ends_in_relu_may_give_logits():
    decoder = decoder_of(layers.Dense(784, activation="relu"))
    vae_mnist.VAE(decoder=decoder, reconstruction_loss="cross-entropy")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda model, x: model.fit(x), r"use vae_mnist\.train\(model, x_train, x_validation\)"),
        (lambda model, x: model.evaluate(x), r"use vae_mnist\.evaluate\(model, images\)"),
        (lambda model, x: model.train_on_batch(x, [x, x, x]), r"use vae_mnist\.train, or"),
    ],
)
def test_keras_own_training_names_the_function_to_call(call, name, model):
    x = np.zeros((4, 784), np.float32)
    model.compile("adam", loss=[None, None, "mse"])
    with pytest.raises(TypeError, match=name):
        call(model, x)


# ---- Its file ------------------------------------------------------------------------------------


def reloaded(model, tmp_path):
    model.save(tmp_path / "vae.keras")
    return keras.saving.load_model(tmp_path / "vae.keras")


def assert_same_results(model, loaded, images):
    losses = [vae_mnist.image_losses(each, images, epsilon=0) for each in (model, loaded)]
    np.testing.assert_array_equal(*losses)
    pixels = [each.decode_pixels(np.eye(model.latent_size)) for each in (model, loaded)]
    np.testing.assert_array_equal(*pixels)


def test_a_file_holds_the_name_and_every_setting(tmp_path, data):
    model = vae_mnist.VAE(reconstruction_loss=smoothed_cross_entropy, from_logits=True, name="mine")
    model.kl_weight = np.float32(0.25)  # as a warm-up may compute it
    loaded = reloaded(model, tmp_path)
    assert isinstance(loaded, vae_mnist.VAE)
    assert loaded.reconstruction_loss is smoothed_cross_entropy
    assert (loaded.name, loaded.kl_weight) == ("mine", 0.25)
    assert_same_results(model, loaded, data.x_test[:20])


def test_a_file_holds_layers_of_ones_own(tmp_path, data):
    hidden = layers.Dense(8, activation="tanh"), layers.BatchNormalization(), layers.Dropout(0.5)
    decoder = keras.Sequential([keras.Input((3,)), layers.Dense(784, activation="sigmoid")])
    model = vae_mnist.VAE(encoder_of(*hidden, sizes=(3, 3)), decoder)
    loaded = reloaded(model, tmp_path)
    assert loaded.latent_size == 3
    assert_same_results(model, loaded, data.x_test[:20])


@keras.saving.register_keras_serializable(package="tests")
class Extended(vae_mnist.VAE):
    """A layer and a weight more, which the first call builds, and another loss."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.last = layers.Dense(784)
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def call(self, x, epsilon=0.0, training=False):
        z_mean, z_log_sigma_sq, reconstruction = super().call(x, epsilon, training)
        return z_mean, z_log_sigma_sq, self.gain * self.last(reconstruction)

    def loss_terms(self, x, epsilon, training=False):
        reconstruction, kl = super().loss_terms(x, epsilon, training)
        return reconstruction + 1000, kl


def test_a_subclass_with_weights_and_a_loss_of_its_own_is_trained_and_saved(
    tmp_path, data, train, eagerly
):
    model = Extended()
    history = train(model, batch_size=60).history
    assert history["reconstruction"][0] > 1000
    assert history["val_reconstruction"][0] > 1000
    assert float(model.gain) != 1
    loaded = reloaded(model, tmp_path)
    assert vae_mnist.evaluate(loaded, data.x_test[:20]).reconstruction > 1000
    assert_same_results(model, loaded, data.x_test[:20])
    for each in (model, loaded):
        vae_mnist.train(each, data.x_train[:60], data.x_train[:1], epochs=1, batch_size=20, rng=1)
    np.testing.assert_array_equal(model.last.kernel, loaded.last.kernel)


def test_a_file_of_an_earlier_version_loads(model, tmp_path):
    config = model.get_config()
    del config["from_logits"]
    loaded = vae_mnist.VAE.from_config(config)
    assert loaded.reconstruction_loss == "squared-error"
    assert loaded.decode_pixels([[0, 0]]).shape == (1, 784)


@pytest.mark.parametrize("load", [False, True], ids=["new", "loaded"])
def test_the_model_is_exported_for_pixels_of_any_count(load, model, tmp_path, data):
    exported = reloaded(model, tmp_path) if load else model
    exported.export(tmp_path / "saved_model", verbose=False)
    x = vae_mnist.to_pixels(data.x_test[:7])
    loaded = tf.saved_model.load(tmp_path / "saved_model")
    for output, expected in zip(loaded.serve(x), model(x), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-5)


# ---- Precision -----------------------------------------------------------------------------------


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16", "float64"])
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def test_other_precisions_train_with_losses_in_float32(policy, train, data):
    model = vae_mnist.VAE()
    expected = "float64" if policy == "float64" else "float32"
    assert {weights.dtype for weights in model.get_weights()} == {np.dtype(expected)}
    history = train(model, epochs=5, jit_compile=policy == "mixed_float16").history
    assert history["loss"][-1] < history["loss"][0]
    terms = vae_mnist.image_losses(model, data.x_test[:20])
    codes = vae_mnist.encode(model, data.x_test[:20])
    pixels = model.decode_pixels(codes[0])
    assert {array.dtype for array in (*terms, *codes, pixels)} == {np.dtype("float32")}
