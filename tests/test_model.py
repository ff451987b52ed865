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
    np.testing.assert_allclose(model.decode(make(z)), expected, atol=1e-6)


def test_a_single_latent_code_is_decoded_as_one_of_one(model):
    pixels = model.decode([0.5, -1.0])
    np.testing.assert_array_equal(pixels, model.decode([[0.5, -1.0]]))


@pytest.mark.parametrize(
    ("loss", "pixels_of"),
    [("squared-error", lambda outputs: outputs.clip(0, 1)), ("cross-entropy", expit)],
)
def test_pixels_are_the_sigmoid_of_logits_and_other_outputs_are_clipped(loss, pixels_of):
    model = vae_mnist.VAE(reconstruction_loss=loss)
    outputs = np.linspace(-1, 2, 784)
    model.trainable_variables[-1].assign(outputs)  # the last biases
    pixels = model.decode([[0, 0]])
    assert type(pixels) is np.ndarray
    np.testing.assert_allclose(pixels, [pixels_of(outputs)], rtol=1e-6)


def test_sizes_set_in_the_module_are_those_of_the_next_model(monkeypatch):
    monkeypatch.setattr(vae_mnist, "HIDDEN_SIZE", 64)
    monkeypatch.setattr(vae_mnist, "LATENT_SIZE", 5)
    model = vae_mnist.VAE()
    assert [weights.shape for weights in model.get_weights()[::2]] == [
        *((784, 64), (64, 5), (64, 5)),
        *((5, 64), (64, 784)),
    ]
    assert model.latent_size == 5


def test_a_call_of_the_model_takes_bytes_and_pixels(model, data):
    x = data.x_test[:3]
    with pytest.raises(ValueError, match=r"^images are float64 .* from 0 to 255; they must"):
        model.predict(x.astype(float))
    for call in (model, lambda x: model.predict(x, verbose=0)):
        for of_bytes, of_pixels in zip(call(x), call(np.float32(x / 255)), strict=True):
            np.testing.assert_allclose(of_bytes, of_pixels, atol=1e-6)


def test_the_kl_weight_is_no_parameter_and_keeps_its_digits(model):
    model.kl_weight = 0.1
    assert model.kl_weight == 0.1
    assert model.count_params() == 404_244


# ---- What it rejects -----------------------------------------------------------------------------


BAD_MODELS = {
    "an encoder of three outputs": (
        lambda: {"encoder": encoder_of(sizes=(2, 2, 2))},
        r"the encoder must return \['\(2, 2\)', '\(2, 2\)'\], not \['\(2, 2\)', .*, '\(2, 2\)'\]",
    ),
    "an encoder of one output": (
        lambda: {"encoder": keras.Sequential([keras.Input((784,)), layers.Dense(4)])},
        r"the encoder must return \['\(2, 4\)', '\(2, 4\)'\], not \['\(2, 4\)'\]",
    ),
    "means and log-variances of different sizes": (
        lambda: {"encoder": encoder_of(sizes=(2, 3))},
        r"the encoder must return \['\(2, 2\)', '\(2, 2\)'\], not \['\(2, 2\)', '\(2, 3\)'\]",
    ),
    "an encoder of another rank": (
        lambda: {"encoder": encoder_of(layers.Reshape((28, 28)))},
        r"the encoder must return .*, not \['\(2, 28, 2\)', '\(2, 28, 2\)'\]",
    ),
    "a decoder of another rank": (
        lambda: {"decoder": decoder_of(layers.Dense(784), layers.Reshape((784, 1)))},
        r"the decoder must return \['\(2, 784\)'\], not \['\(2, 784, 1\)'\]",
    ),
    "a decoder of another size": (
        lambda: {"decoder": decoder_of(layers.Dense(783))},
        r"the decoder must return \['\(2, 784\)'\], not \['\(2, 783\)'\]",
    ),
    "an unknown loss": (
        lambda: {"reconstruction_loss": "hinge"},
        "for a loss 'hinge', override VAE.loss_terms",
    ),
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
    vae_mnist.VAE(decoder=decoder_of(*stack())).prepare()
    model = vae_mnist.VAE(decoder=decoder_of(*stack()), reconstruction_loss="cross-entropy")
    with pytest.raises(ValueError, match="takes logits: end the decoder without a sigmoid"):
        model.prepare()


@pytest.mark.parametrize("options", [{"activation": "relu"}, {"kernel_initializer": "zeros"}])
def test_a_decoder_that_may_leave_0_1_may_give_logits(options):
    decoder = decoder_of(layers.Dense(784, **options))
    vae_mnist.VAE(decoder=decoder, reconstruction_loss="cross-entropy").prepare()


# ---- Its file ------------------------------------------------------------------------------------


def reloaded(model, tmp_path):
    model.save(tmp_path / "vae.keras")
    return keras.saving.load_model(tmp_path / "vae.keras")


def assert_same_results(model, loaded, images):
    losses = [each.image_losses(images, epsilon=0) for each in (model, loaded)]
    np.testing.assert_array_equal(*losses)
    pixels = [each.decode(np.eye(model.latent_size)) for each in (model, loaded)]
    np.testing.assert_array_equal(*pixels)


@pytest.mark.parametrize("kl_weight", [0.25, keras.Variable(0.25), np.float32(0.25)])
def test_a_file_holds_the_name_and_every_setting(kl_weight, tmp_path, data):
    model = vae_mnist.VAE(reconstruction_loss="cross-entropy", kl_weight=kl_weight, name="mine")
    loaded = reloaded(model, tmp_path)
    assert isinstance(loaded, vae_mnist.VAE)
    assert (loaded.name, loaded.reconstruction_loss) == ("mine", "cross-entropy")
    assert loaded.kl_weight == 0.25
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
    tmp_path, data, fit, eagerly
):
    model = Extended()
    history = fit(model, batch_size=60).history
    assert history["reconstruction"][0] > 1000
    assert history["val_reconstruction"][0] > 1000
    assert float(model.gain) != 1
    loaded = reloaded(model, tmp_path)
    assert np.min(loaded.image_losses(data.x_test[:20])[0]) > 1000
    assert_same_results(model, loaded, data.x_test[:20])
    for each in (model, loaded):
        each.fit(data.x_train[:60], epochs=1, batch_size=20, seed=1, verbose=0)
    np.testing.assert_array_equal(model.last.kernel, loaded.last.kernel)


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


def test_other_precisions_train_with_losses_in_float32(policy, fit, data, request):
    model = vae_mnist.VAE()
    expected = "float64" if policy == "float64" else "float32"
    assert {weights.dtype for weights in model.get_weights()} == {np.dtype(expected)}
    if policy != "mixed_float16":  # which scales the loss, under XLA too
        request.getfixturevalue("eagerly")
    history = fit(model, epochs=5, jit_compile=policy == "mixed_float16").history
    assert history["loss"][-1] < history["loss"][0]
    terms = model.image_losses(data.x_test[:20])
    codes = model.encode(data.x_test[:20])
    pixels = model.decode(codes[0])
    assert {array.dtype for array in (*terms, *codes, pixels)} == {np.dtype("float32")}
