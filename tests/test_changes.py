"""What a reader changes takes effect, or an error says why not."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import trained
from keras import layers
from reference import Reference

import vae_mnist


def small_encoder(*after_hidden, **options):
    """An encoder of 8 hidden units, `options` for them, and layers after them."""
    x = keras.Input((784,))
    hidden = layers.Dense(8, activation="relu", name="hidden", **options)(x)
    for layer in after_hidden:
        hidden = layer(hidden)
    return keras.Model(x, [layers.Dense(2)(hidden), layers.Dense(2)(hidden)])


@pytest.fixture
def train(data):
    """Trains a model on 60 images, always alike."""

    def train(model, **changes):
        arguments = {"epochs": 1, "batch_size": 20, "rng": 0, "xla": False} | changes
        return vae_mnist.train(model, data.x_train[:60], data.x_validation[:20], **arguments)

    return train


@pytest.fixture(autouse=True)
def seeded():
    """The first weights, dropout and whatever else Keras draws are always the same."""
    keras.utils.set_random_seed(0)


# ---- Layers --------------------------------------------------------------------------------------


class InTraining(layers.Layer):
    """Adds 100 in training and nothing elsewhere."""

    def call(self, inputs, training=False):
        return inputs + 100.0 if training else inputs


def test_layers_that_act_in_training_only_do_so_in_the_encoder(eagerly, train):
    encoder = small_encoder(InTraining())
    encoder.layers[-1].set_weights([np.zeros((8, 2)), np.zeros(2)])  # sigma stays 1
    encoder.layers[-2].set_weights([np.full((8, 2), 0.5), np.zeros(2)])
    (row,) = train(vae_mnist.VAE(encoder), batch_size=60)  # one step: its losses are those before
    assert row["kl"] == pytest.approx((8 * 0.5 * 100) ** 2, rel=0.1)
    assert row["validation_kl"] < 1000


def test_layers_that_act_in_training_only_do_so_in_the_decoder(eagerly, train):
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(784), InTraining()])
    (row,) = train(vae_mnist.VAE(decoder=decoder), batch_size=60)
    assert row["reconstruction"] == pytest.approx(784 * 100**2 / 2, rel=0.1)
    assert row["validation_reconstruction"] < 784


def test_dropout_is_compiled_by_xla(train, data):
    model = vae_mnist.VAE(encoder=small_encoder(layers.Dropout(0.9)))
    without = vae_mnist.evaluate(model, data.x_train[:60])
    (row,) = train(model, batch_size=60, xla=True)
    assert row["kl"] != pytest.approx(without.kl, rel=0.1)


def test_the_moving_averages_of_a_batch_normalization_are_those_of_the_batches(
    eagerly, train, data
):
    normalization = layers.BatchNormalization(momentum=0.5)
    model = vae_mnist.VAE(encoder=small_encoder(normalization))
    hidden = keras.Model(model.encoder.input, model.encoder.get_layer("hidden").output)
    outputs = hidden(vae_mnist.scale(data.x_train[:60])).numpy()
    train(model, epochs=1, batch_size=60, optimizer=keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(normalization.moving_mean, outputs.mean(axis=0) / 2, rtol=1e-4)
    expected = (1 + outputs.var(axis=0)) / 2
    np.testing.assert_allclose(normalization.moving_variance, expected, rtol=1e-4)


def test_what_a_regularizer_adds_is_minimised_and_not_reported(eagerly, train):
    rows, norms = [], []
    for strength in (0.0, 100.0):
        keras.utils.set_random_seed(0)
        options = {"kernel_regularizer": keras.regularizers.L2(strength)}
        model = vae_mnist.VAE(encoder=small_encoder(**options))
        history = train(model, epochs=10, batch_size=60)
        rows.append(history[0])  # of one step: its losses are those before it
        norms.append(np.linalg.norm(model.encoder.get_layer("hidden").kernel))
    for name in ("loss", "reconstruction", "kl"):
        assert rows[1][name] == rows[0][name]
    assert rows[0]["loss"] == pytest.approx(rows[0]["reconstruction"] + rows[0]["kl"])
    assert norms[1] < 0.9 * norms[0]


def test_what_a_layer_adds_for_its_outputs_is_minimised_too(eagerly, train, data):
    sizes = []
    for strength in (0.0, 100.0):
        keras.utils.set_random_seed(0)
        model = vae_mnist.VAE(encoder=small_encoder(layers.ActivityRegularization(l2=strength)))
        train(model, epochs=10, batch_size=60)
        hidden = keras.Model(model.encoder.input, model.encoder.get_layer("hidden").output)
        sizes.append(np.linalg.norm(hidden(vae_mnist.scale(data.x_train[:60]))))
    assert sizes[1] < 0.9 * sizes[0]


def test_a_constraint_of_a_layer_holds_after_training(eagerly, train):
    options = {"kernel_constraint": keras.constraints.MaxNorm(0.1)}
    model = vae_mnist.VAE(encoder=small_encoder(**options))
    train(model)
    norms = np.linalg.norm(model.encoder.get_layer("hidden").kernel, axis=0)
    assert norms.max() <= 0.1001


def test_a_frozen_encoder_stays_and_the_decoder_learns(eagerly, model, train):
    model.encoder.trainable = False
    encoder, decoder = model.encoder.get_weights(), model.decoder.get_weights()
    train(model)
    for weights, before in zip(model.encoder.get_weights(), encoder, strict=True):
        np.testing.assert_array_equal(weights, before)
    assert np.abs(model.decoder.get_weights()[0] - decoder[0]).max() > 0


class OwnEncoder(keras.Model):
    """Layers that get their weights with the first input, for codes of three numbers."""

    def __init__(self):
        """Makes the layers."""
        super().__init__()
        self.hidden = layers.Dense(8, activation="tanh")
        self.mean = layers.Dense(3)
        self.log_variance = layers.Dense(3)

    def call(self, x):
        hidden = self.hidden(x)
        return self.mean(hidden), self.log_variance(hidden)


def test_subclassed_and_sequential_parts_of_any_size_are_trained(eagerly, train, data):
    decoder = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(784)])
    model = vae_mnist.VAE(OwnEncoder(), decoder)
    before = model.get_weights()
    assert len(before) == 10
    train(model)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
    z_mean, z_log_sigma_sq = vae_mnist.encode(model, data.x_test[:5])
    assert z_mean.shape == z_log_sigma_sq.shape == (5, 3)
    assert model.decode_pixels(z_mean).shape == (5, 784)


def test_a_convolution_is_trained(eagerly, train, data):
    x = keras.Input((784,))
    hidden = layers.Reshape((28, 28, 1))(x)
    hidden = layers.Flatten()(layers.Conv2D(2, 5, strides=4, activation="relu")(hidden))
    encoder = keras.Model(x, [layers.Dense(2)(hidden), layers.Dense(2)(hidden)])
    model = vae_mnist.VAE(encoder)
    kernel = encoder.layers[2].kernel.numpy()
    train(model)
    assert np.abs(encoder.layers[2].kernel - kernel).max() > 0


BAD_PARTS = {
    "an encoder of three outputs": (
        lambda: (small_encoder(), None, 3),
        "the encoder must give two outputs, z_mean and z_log_sigma_sq",
    ),
    "an encoder of one output": (
        lambda: (small_encoder(), None, 1),
        "the encoder must give two outputs, z_mean and z_log_sigma_sq",
    ),
    "a decoder of images": (
        lambda: (None, keras.Sequential([layers.Dense(784), layers.Reshape((28, 28, 1))]), 2),
        r"must give \[batch, 784\], not \(1, 28, 28, 1\); keras.layers.Flatten\(\) may end it",
    ),
    "a decoder of another size": (
        lambda: (None, keras.Sequential([layers.Dense(783)]), 2),
        r"must give \[batch, 784\], not \(1, 783\)",
    ),
    "a decoder of other codes": (
        lambda: (None, keras.Sequential([keras.Input((3,)), layers.Dense(784)]), 2),
        "expected axis -1 of input shape to have value 3",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD_PARTS.values(), ids=BAD_PARTS)
def test_parts_that_do_not_fit_are_refused(make, message):
    encoder, decoder, outputs = make()
    if outputs != 2:
        encoder = keras.Model(encoder.input, (encoder.outputs * 2)[:outputs])
    with pytest.raises(ValueError, match=message):
        vae_mnist.VAE(encoder, decoder)


def test_a_sigmoid_before_the_cross_entropys_own_is_refused():
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(784, activation="sigmoid")])
    assert vae_mnist.VAE(decoder=decoder).latent_size == 2
    with pytest.raises(ValueError, match="gives logits: end it without a sigmoid"):
        vae_mnist.VAE(decoder=decoder, reconstruction_loss="cross-entropy")


# ---- Loss ----------------------------------------------------------------------------------------


def test_an_epoch_is_trained_with_the_kl_weight_that_the_model_has_as_it_begins(model, data):
    """A warm-up of the KL: 0, then 0.5, then 1."""
    reference = Reference(model.get_weights())
    histories = []
    for vae, train, rate in (
        (model, functools.partial(vae_mnist.train, model), {"optimizer": vae_mnist.adam(0.001)}),
        (reference, reference.train, {"learning_rate": 0.001}),
    ):
        vae.kl_weight = 0.0

        def warm_up(row, vae=vae):
            vae.kl_weight = row["epoch"] / 2

        settings = {"epochs": 3, "batch_size": 20, "rng": np.random.default_rng(0), **rate}
        images = data.x_train[:60], data.x_validation[:20]
        histories.append(train(*images, on_epoch=warm_up, **settings))
    for row, expected, weight in zip(*histories, (0, 0.5, 1), strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
        assert row["loss"] == pytest.approx(row["reconstruction"] + weight * row["kl"])


def test_a_reconstruction_loss_of_ones_own_is_one_more_entry(eagerly, monkeypatch, train):
    def absolute_error(x, reconstruction):
        return tf.reduce_sum(tf.abs(reconstruction - x), axis=-1)

    monkeypatch.setitem(vae_mnist.RECONSTRUCTION_LOSSES, "absolute-error", absolute_error)
    model = vae_mnist.VAE(reconstruction_loss="absolute-error")
    model.decoder.set_weights([0 * weights for weights in model.decoder.get_weights()])
    (row,) = train(model, batch_size=60, optimizer=keras.optimizers.SGD(0.0))
    with np.load(vae_mnist.BUNDLED_DIGITS) as archive:
        images = archive["x_train"][333 : 333 + 60]
    assert row["reconstruction"] == pytest.approx(images.sum() / 255 / 60, rel=1e-5)


def test_a_loss_that_is_unknown_is_no_fallback_to_another(model, data):
    model.reconstruction_loss = "hinge"
    with pytest.raises(KeyError, match="hinge"):
        vae_mnist.evaluate(model, data.x_test)


# ---- Training ------------------------------------------------------------------------------------


def test_another_optimizer_makes_the_steps(eagerly, train):
    """One step of plain gradient descent, with the gradients of the reference."""
    model = vae_mnist.VAE()
    reference = Reference(model.get_weights())
    with np.load(vae_mnist.BUNDLED_DIGITS) as archive:
        images = archive["x_train"][333 : 333 + 60].reshape(-1, 784)
    train(model, batch_size=60, optimizer=keras.optimizers.SGD(0.01))
    rng = np.random.default_rng(0)
    rng.standard_normal((20, 2), np.float32)
    order = rng.permutation(60)
    epsilon = rng.standard_normal((60, 2), np.float32)
    gradients = reference.gradients(images[order], epsilon)
    for weights, before, gradient in zip(
        model.get_weights(), reference.weights, gradients, strict=True
    ):
        np.testing.assert_allclose(weights, before - 0.01 * gradient, atol=1e-5)


def test_an_optimizer_that_scales_the_loss_makes_the_same_steps(eagerly, train):
    weights = []
    for scale in (None, 128.0):
        keras.utils.set_random_seed(0)
        model = vae_mnist.VAE()
        train(model, optimizer=keras.optimizers.SGD(0.01, loss_scale_factor=scale))
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(*weights, atol=1e-6)


def test_an_optimizer_may_be_named_as_keras_names_it(eagerly, train):
    assert len(train(vae_mnist.VAE(), optimizer="rmsprop")) == 1


def test_a_learning_rate_set_between_epochs_acts(model, train):
    optimizer = vae_mnist.adam()
    seen = [model.get_weights()[0]]

    def stand_still(row):
        seen.append(model.get_weights()[0])
        optimizer.learning_rate = 0.0

    train(model, epochs=2, optimizer=optimizer, on_epoch=stand_still, xla=True)
    assert np.abs(seen[1] - seen[0]).max() > 0
    np.testing.assert_array_equal(seen[2], seen[1])


def test_an_optimizer_that_averages_the_weights_leaves_the_averages(eagerly, model, train):
    first, seen = model.get_weights()[0], []
    optimizer = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.999)
    train(model, optimizer=optimizer, on_epoch=lambda row: seen.append(model.get_weights()[0]))
    # Three steps of 0.1; the average begins after the first and hardly moves.
    assert np.abs(seen[0] - first).max() > 0.2
    assert np.abs(model.get_weights()[0] - first).max() < 0.11


def test_a_training_goes_on_where_it_ended_with_the_same_optimizer_and_generator(eagerly, data):
    """Two times one epoch are two epochs, but for the noise of the validation images."""
    images = data.x_train[:60]
    weights = []
    for parts in ([2], [1, 1]):
        keras.utils.set_random_seed(0)
        model = vae_mnist.VAE()
        optimizer = vae_mnist.adam()
        rng = np.random.default_rng(0)
        epochs = []

        def on_epoch(row, model=model, epochs=epochs):
            epochs.append(model.get_weights()[0])

        for part in parts:
            settings = {"epochs": part, "batch_size": 60, "optimizer": optimizer, "rng": rng}
            vae_mnist.train(model, images, images[:1], on_epoch=on_epoch, xla=False, **settings)
        weights.append(epochs)
    np.testing.assert_array_equal(weights[0][0], weights[1][0])
    # The second step is as large as the first, as Adam's is when it goes on; anew it would be the
    # learning rate for every weight.
    steps = [np.abs(second - first) for first, second in weights]
    assert np.isclose(steps[1], 0.001, rtol=1e-3).mean() < 0.5
    np.testing.assert_allclose(steps[0].mean(), steps[1].mean(), rtol=0.2)


@pytest.mark.parametrize("answer", [True, np.True_])
def test_on_epoch_stops_the_training_by_true(eagerly, answer, model, train):
    history = train(model, epochs=5, on_epoch=lambda row: answer if row["epoch"] == 2 else None)
    assert [row["epoch"] for row in history] == [1, 2]


def test_other_answers_of_on_epoch_stop_nothing(eagerly, model, train):
    """The functions of tf.summary, for one, return a tensor that is true."""
    answers = [None, False, 1, tf.constant(True), [1], "stop"]
    history = train(model, epochs=6, on_epoch=lambda row: answers[row["epoch"] - 1])
    assert len(history) == 6


# ---- Sizes and images ----------------------------------------------------------------------------


@pytest.fixture
def side_of_32(monkeypatch):
    monkeypatch.setattr(vae_mnist, "IMAGE_SIDE", 32)


@pytest.fixture
def larger_images(data):
    """The digits with a margin, 32 x 32."""
    images = data.x_train[:60].reshape(-1, 28, 28)
    return np.pad(images, [(0, 0), (2, 2), (2, 2)])


def test_images_of_another_size_are_trained_on_and_drawn(eagerly, side_of_32, larger_images):
    model = vae_mnist.VAE()
    history = vae_mnist.train(
        model, larger_images, larger_images[:20], epochs=1, batch_size=20, xla=False
    )
    assert history[0]["loss"] > 0
    pixels = model.decode_pixels(vae_mnist.manifold_codes())
    assert pixels.shape == (225, 1024)
    axes = vae_mnist.manifold_figure(pixels).axes[0]
    assert axes.images[0].get_array().shape == (15 * 32, 15 * 32)
    x = vae_mnist.scale(vae_mnist.check_images(larger_images[:3]))
    panel = vae_mnist.reconstructions_figure(x, pixels[:3]).axes[0]
    np.testing.assert_allclose(panel.images[0].get_array(), larger_images[0] / 255, atol=1e-6)


def test_images_of_another_size_are_told_the_size_that_is_set(side_of_32, data):
    expected = r"shape \(1000, 784\) from 0 to 255; .* with 32 x 32 = 1024 an image"
    with pytest.raises(ValueError, match=expected):
        vae_mnist.encode(vae_mnist.VAE(), data.x_test)


def test_sizes_set_in_the_module_are_those_of_the_next_model(monkeypatch):
    monkeypatch.setattr(vae_mnist, "HIDDEN_SIZE", 64)
    monkeypatch.setattr(vae_mnist, "LATENT_SIZE", 5)
    model = vae_mnist.VAE()
    assert [weights.shape for weights in model.get_weights()[::2]] == [
        *((784, 64), (64, 5), (64, 5)),
        *((5, 64), (64, 784)),
    ]
    assert model.latent_size == 5


FORMS = {
    "as they are stored": lambda images: images,
    "of another type": lambda images: images.astype(">i8"),
    "of floats, as scikit-learn gives them": lambda images: images.astype(float),
    "lists": lambda images: images.tolist(),
    "a tensor": tf.constant,
    "28 x 28": lambda images: images.reshape(-1, 28, 28),
    "28 x 28 x 1": lambda images: images.reshape(-1, 28, 28, 1),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
def test_images_of_every_usual_form_are_the_same_bytes(change, data):
    images = vae_mnist.check_images(change(data.x_test[:20]))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, data.x_test[:20])


def test_no_image_needs_a_pixel_above_2():
    assert vae_mnist.check_images(np.full((1, 784), 2)).max() == 2


NO_IMAGES = {
    "pixels in [0, 1]": (lambda images: images / 255, "float64 of shape (20, 784) from 0 to 1;"),
    "pixels in [-1, 1]": (lambda images: images / 127.5 - 1, "from -1 to 1;"),
    "bits": (lambda images: images // 128, "uint8 of shape (20, 784) from 0 to 1;"),
    "black images": (lambda images: 0 * images, "from 0 to 0;"),
    "truth": (lambda images: images > 127, "bool of shape (20, 784);"),
    "around 0": (lambda images: images.astype(int) - 128, "from -128 to 127;"),
    "of 16 bits": (lambda images: images.astype(int) * 257, "from 0 to 65535;"),
    "one above 255": (lambda images: images.astype(int) + (images == 255), "from 0 to 256;"),
    "one below 0": (lambda images: images.astype(int) - (images == 0), "from -1 to 255;"),
    "a fraction": (lambda images: images + 0.5 * (images == 3), "float64 of shape (20, 784) from"),
    "no numbers": (lambda images: images * np.float32("nan"), "from nan to nan;"),
    "text": (lambda images: images.astype(str), "<U3 of shape (20, 784);"),
    "objects": (lambda images: images.astype(object), "object of shape (20, 784);"),
    "none": (lambda images: images[:0], "uint8 of shape (0, 784);"),
    "too small": (lambda images: images[:, :783], "shape (20, 783) from"),
    "colours": (
        lambda images: np.stack(3 * [images.reshape(-1, 28, 28)], axis=-1),
        "shape (20, 28, 28, 3) from",
    ),
    "the count last": (lambda images: images.reshape(-1, 28, 28).T, "shape (28, 28, 20) from"),
}


@pytest.mark.parametrize(("change", "found"), NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_are_no_images_is_refused_with_what_was_found(change, found, data):
    with pytest.raises(ValueError, match=r"^images are ") as error:
        vae_mnist.check_images(change(data.x_test[:20]))
    assert found in str(error.value)
    assert str(error.value).endswith(
        "; they must be whole numbers from 0 to 255, not all 0 or 1, with 28 x 28 = 784 an image"
    )


def test_every_function_of_images_refuses_those_that_are_none(model, data, train):
    pixels = data.x_test[:20] / 255
    for call in (
        lambda: vae_mnist.encode(model, pixels),
        lambda: vae_mnist.evaluate(model, pixels),
        lambda: vae_mnist.train(model, pixels, data.x_validation, batch_size=20),
        lambda: vae_mnist.train(model, data.x_train, pixels, batch_size=20),
    ):
        with pytest.raises(ValueError, match=r"^images are float64"):
            call()


@pytest.mark.parametrize("kind", ["float32", "int64"])
def test_only_bytes_are_scaled(kind, data):
    with pytest.raises(TypeError, match=f"must be uint8, not {kind}; see `check_images`"):
        vae_mnist.scale(data.x_test[:3].astype(kind))


@pytest.mark.parametrize("kind", ["uint8", "int64"])
def test_the_model_refuses_images_that_are_not_scaled(kind, model, data):
    for call in (model, lambda x: model.predict(x, verbose=0)):
        with pytest.raises(TypeError, match=rf"pixels must be in \[0, 1\], not {kind}"):
            call(data.x_test[:3].astype(kind))


# ---- What comes out ------------------------------------------------------------------------------


def test_decoded_pixels_can_be_made_bytes():
    """Outside [0, 1] they would wrap around."""
    model, data = trained("squared-error")
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    outputs = model.decoder(z_mean).numpy()
    assert outputs.min() < 0
    assert outputs.max() > 1
    pixels = model.decode_pixels(z_mean)
    assert type(pixels) is np.ndarray
    assert (pixels.min(), pixels.max()) == (0, 1)
    inside = (outputs >= 0) & (outputs <= 1)
    np.testing.assert_allclose(pixels[inside], outputs[inside], atol=1e-6)


def test_the_floats_of_keras_are_those_of_the_training(monkeypatch, train):
    monkeypatch.setattr(keras.config, "floatx", lambda: "float64")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = vae_mnist.VAE()
        train(model)
    finally:
        keras.config.set_dtype_policy(policy)
    assert {weights.dtype for weights in model.get_weights()} == {np.dtype("float64")}
