"""The port equals the original's graph: the same numbers from the same weights, digits and noise.

The port's objective with kl_weight = 1/128 is the listing's cost divided by the batch size.
"""

import numpy as np
import pytest
import tensorflow as tf
from original import SHAPES, build_original, v1
from scipy.stats import norm

import vae_mnist

BATCH = 128
STEPS = 50
SEED = 5  # of the steps' draws
FLOAT32_ACCURACY = {"rtol": 1e-5, "atol": 1e-5}  # values of about 1, sums of up to 784 terms


class Pair:
    """The port and the original with the same weights, and what both are fed."""

    def __init__(self, data):
        """Start a session of the original and give it the port's initial weights."""
        vae_mnist.keras.utils.set_random_seed(0)
        self.model = vae_mnist.VAE(kl_weight=1 / BATCH)
        self.original = build_original()
        self.session = v1.Session(graph=self.original.graph)
        self.images = np.tile(data.x_train, (2, 1))[: STEPS * BATCH]
        rng = np.random.default_rng(SEED)
        self.order = rng.permutation(STEPS * BATCH).reshape(STEPS, BATCH)
        self.epsilon = rng.standard_normal((STEPS, BATCH, 2), np.float32)
        with self.original.graph.as_default():
            self.session.run(v1.global_variables_initializer())
        initial_values = self.original.initial_values.values()
        self.session.run(
            self.original.assign, dict(zip(initial_values, self.model.get_weights(), strict=True))
        )

    def x(self, step=0):
        """The pixels of a step, in [0, 1]."""
        return vae_mnist.to_pixels(self.images[self.order[step]])

    def run(self, fetches, step=0):
        """What the original's session computes for a step."""
        feed = {self.original.x: self.x(step).numpy(), self.original.epsilon: self.epsilon[step]}
        return self.session.run(fetches, feed)


@pytest.fixture
def pair(data):
    pair = Pair(data)
    yield pair
    pair.session.close()


def test_the_weights_have_the_names_shapes_and_order_of_the_original(model):
    weights = model.trainable_variables
    assert [tuple(array.shape) for array in weights] == list(SHAPES.values())
    names = [array.path.split("/")[0] for array in weights[::2]]
    assert names == ["h1", "z_mean", "z_log_sigma_sq", "h2", "reconstruction"]


def test_the_initial_weights_are_glorot_uniform_and_the_biases_zero(model):
    for weights in model.get_weights()[::2]:
        limit = np.sqrt(6 / sum(weights.shape))
        assert 0.9 * limit < np.abs(weights).max() <= limit
        assert weights.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
    assert not any(biases.any() for biases in model.get_weights()[1::2])


def test_every_value_of_a_step_equals_the_original(pair):
    model, original, x, epsilon = pair.model, pair.original, pair.x(), pair.epsilon[0]
    z_mean, z_log_sigma_sq, reconstruction = model(x, epsilon=epsilon)
    values = {"z_mean": z_mean, "z_log_sigma_sq": z_log_sigma_sq, "reconstruction": reconstruction}
    values["z"] = vae_mnist.sample_latent(z_mean, z_log_sigma_sq, epsilon)
    with tf.GradientTape() as tape:
        squared_error, values["kl"] = model.loss_terms(x, epsilon)
        loss = model.mean_loss(x, epsilon)
    for name, value in values.items():
        expected = pair.run(getattr(original, name))
        np.testing.assert_allclose(value, expected, err_msg=name, **FLOAT32_ACCURACY)
    sums = tf.reduce_sum(squared_error), BATCH * loss
    expected = pair.run([original.squared_error, original.cost])
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    gradients = tape.gradient(loss, model.trainable_variables)
    for name, gradient, expected in zip(
        SHAPES, gradients, pair.run(original.gradients), strict=True
    ):
        accuracy = {"rtol": 1e-4, "atol": 1e-5 * np.abs(expected).max()}
        np.testing.assert_allclose(BATCH * gradient, expected, err_msg=name, **accuracy)


def test_the_optimiser_has_the_original_constants():
    optimizer = vae_mnist.adam()
    constants = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
    assert constants == (0.9, 0.999, 1e-8)
    assert float(optimizer.learning_rate) == pytest.approx(0.001)


def weights_after_training(pair, optimizer):
    """Return the weights of the original and of the port after the same steps."""
    for step in range(STEPS):
        pair.run(pair.original.train, step)
    model = pair.model
    model.compile(optimizer=optimizer, jit_compile=True)
    model.hidden.pixels.assign(vae_mnist.to_pixels(pair.images))
    model.optimizer.build(model.trainable_variables)
    model.make_train_function()
    draws = tf.constant(pair.order), tf.constant(pair.epsilon)
    model.train_function(iter(tf.data.Dataset.from_tensors(draws)))
    return pair.session.run(list(pair.original.variables.values())), model.get_weights()


def test_fifty_steps_of_adam_end_at_the_original_weights(pair):
    optimizer = vae_mnist.adam()
    # Adam divides by sqrt(v) + epsilon, and the listing's gradients are 128 times ours: a scaled
    # epsilon makes the two the same in exact arithmetic.
    optimizer.epsilon /= BATCH
    # In float32 a step of 1e-3 may turn on the rounding of a gradient that is nearly zero, and the
    # steps after it amplify that, in the port and in the original, as double precision shows: with
    # other seeds up to 2e-3 in a few weights. With this one 2e-5, where weights moved by 1e-2.
    for original, weights in zip(*weights_after_training(pair, optimizer), strict=True):
        np.testing.assert_allclose(weights, original, rtol=0, atol=3e-4)
        assert np.sqrt(np.mean((weights - original) ** 2)) < 1e-5


def test_with_the_unscaled_epsilon_the_weights_differ_little(pair):
    initial_weights = pair.model.get_weights()
    trained = weights_after_training(pair, vae_mnist.adam())
    for original, weights, initial in zip(*trained, initial_weights, strict=True):
        # 2.4 % were measured, for the weights of pixels that are hardly ever inked.
        difference = np.sqrt(np.mean((weights - original) ** 2))
        assert difference < 0.05 * np.sqrt(np.mean((original - initial) ** 2))


def test_the_manifold_equals_the_original_turned_over(pair):
    """The listing fills its canvas from the top with ascending z_2; the port has z_2 upward."""
    grid_x = grid_y = norm.ppf(np.linspace(0.05, 0.95, 15))
    canvas = np.empty((15 * 28, 15 * 28))
    for i, y in enumerate(grid_x):
        for j, x in enumerate(grid_y):
            digit = pair.session.run(pair.original.reconstruction, {pair.original.z: [[x, y]]})
            canvas[28 * i : 28 * (i + 1), 28 * j : 28 * (j + 1)] = digit.reshape(28, 28)
    rows_of_digits = canvas.reshape(15, 28, 15 * 28)
    turned_over = rows_of_digits[::-1].reshape(15 * 28, 15 * 28)
    pixels = pair.model.decode(vae_mnist.manifold_codes())
    (axes,) = vae_mnist.manifold_figure(pixels).axes
    (picture,) = axes.images
    np.testing.assert_allclose(picture.get_array(), turned_over.clip(0, 1), **FLOAT32_ACCURACY)
    assert picture.origin == "upper"
