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
        """Start a session of the original; `reset` gives both the initial weights again."""
        vae_mnist.keras.utils.set_random_seed(0)
        self.model = vae_mnist.VAE(kl_weight=1 / BATCH)
        self.first_weights = [array.copy() for array in self.model.get_weights()]
        self.original = build_original()
        self.session = v1.Session(graph=self.original.graph)
        self.images = np.tile(data.x_train, (2, 1))[: STEPS * BATCH]
        # What `train` draws for one epoch of 50 batches with one validation image.
        rng = np.random.default_rng(SEED)
        rng.standard_normal((1, 2), np.float32)
        self.order = rng.permutation(STEPS * BATCH).reshape(STEPS, BATCH)
        self.epsilon = rng.standard_normal((STEPS, BATCH, 2), np.float32)
        self.reset()

    def reset(self):
        """Set the initial weights of both, and the original's state of Adam."""
        self.model.set_weights(self.first_weights)
        with self.original.graph.as_default():
            self.session.run(v1.global_variables_initializer())
        initial_values = self.original.initial_values.values()
        self.session.run(
            self.original.assign, dict(zip(initial_values, self.first_weights, strict=True))
        )

    def x(self, step=0):
        """The pixels of a step, in [0, 1]."""
        return vae_mnist.to_pixels(self.images[self.order[step]])

    def run(self, fetches, step=0):
        """What the original's session computes for a step."""
        feed = {self.original.x: self.x(step).numpy(), self.original.epsilon: self.epsilon[step]}
        return self.session.run(fetches, feed)

    def train_original(self):
        """Return the original's weights after all steps."""
        for step in range(STEPS):
            self.run(self.original.train, step)
        return self.session.run(list(self.original.variables.values()))

    def train_port(self, optimizer):
        """Return the port's weights after the same steps, one epoch of `train`."""
        self.model.compile(optimizer=optimizer, jit_compile=True)
        settings = {"epochs": 1, "batch_size": BATCH, "rng": np.random.default_rng(SEED)}
        vae_mnist.train(self.model, self.images, self.images[:1], **settings)
        return self.model.get_weights()


@pytest.fixture(scope="module")
def pair_of_graphs(data):
    pair = Pair(data)
    yield pair
    pair.session.close()


@pytest.fixture
def pair(pair_of_graphs):
    pair_of_graphs.reset()
    return pair_of_graphs


def test_the_weights_have_the_original_shapes_and_order(pair):
    assert [weights.shape for weights in pair.first_weights] == list(SHAPES.values())
    assert sum(weights.size for weights in pair.first_weights) == 404_244


def test_the_layers_are_named_as_in_the_original(pair):
    names = [variable.path.split("/")[0] for variable in pair.model.trainable_variables[::2]]
    assert names == ["h1", "z_mean", "z_log_sigma_sq", "h2", "reconstruction"]


def test_the_initial_weights_are_glorot_uniform_and_the_biases_zero(pair):
    for weights in pair.first_weights[::2]:
        limit = np.sqrt(6 / sum(weights.shape))
        assert 0.9 * limit < np.abs(weights).max() <= limit
        assert weights.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
    assert not any(biases.any() for biases in pair.first_weights[1::2])


def test_the_encoder_equals_the_original(pair):
    for value, expected in zip(
        pair.model.encoder(pair.x()),
        pair.run([pair.original.z_mean, pair.original.z_log_sigma_sq]),
        strict=True,
    ):
        np.testing.assert_allclose(value, expected, **FLOAT32_ACCURACY)


def test_the_sampled_codes_equal_the_original(pair):
    z = vae_mnist.sample_latent(*pair.model.encoder(pair.x()), pair.epsilon[0])
    np.testing.assert_allclose(z, pair.run(pair.original.z), **FLOAT32_ACCURACY)


def test_the_reconstruction_equals_the_original(pair):
    reconstruction = pair.model(pair.x(), epsilon=pair.epsilon[0])[2]
    expected = pair.run(pair.original.reconstruction)
    np.testing.assert_allclose(reconstruction, expected, **FLOAT32_ACCURACY)


def test_the_squared_error_equals_the_original(pair):
    squared_error, _ = pair.model.loss_terms(pair.x(), pair.epsilon[0])
    expected = pair.run(pair.original.squared_error)
    np.testing.assert_allclose(tf.reduce_sum(squared_error), expected, rtol=1e-5)


def test_the_kl_divergence_equals_the_original(pair):
    _, kl = pair.model.loss_terms(pair.x(), pair.epsilon[0])
    np.testing.assert_allclose(kl, pair.run(pair.original.kl), **FLOAT32_ACCURACY)


def test_the_objective_is_the_cost_of_the_listing_over_the_batch_size(pair):
    terms = pair.model.loss_terms(pair.x(), pair.epsilon[0])
    loss = vae_mnist.mean_losses(*terms, pair.model.kl_weight).loss
    np.testing.assert_allclose(BATCH * loss, pair.run(pair.original.cost), rtol=1e-5)


@pytest.mark.parametrize("index", range(len(SHAPES)), ids=SHAPES)
def test_a_gradient_is_that_of_the_listing_over_the_batch_size(pair, index):
    with tf.GradientTape() as tape:
        terms = pair.model.loss_terms(pair.x(), pair.epsilon[0])
        loss = vae_mnist.mean_losses(*terms, pair.model.kl_weight).loss
    gradient = BATCH * tape.gradient(loss, pair.model.trainable_variables[index])
    expected = pair.run(pair.original.gradients[index])
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_optimiser_has_the_original_constants(pair):
    optimizer = vae_mnist.adam()
    constants = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
    assert constants == (0.9, 0.999, 1e-8)
    assert float(optimizer.learning_rate) == pytest.approx(0.001)


def test_fifty_steps_of_adam_end_at_the_original_weights(pair):
    optimizer = vae_mnist.adam()
    # Adam divides by sqrt(v) + epsilon, and the listing's gradients are 128 times ours: a scaled
    # epsilon makes the two the same in exact arithmetic.
    optimizer.epsilon /= BATCH
    expected = pair.train_original()
    # In float32 a step of 1e-3 may turn on the rounding of a gradient that is nearly zero, and the
    # steps after it amplify that, in the port and in the original, as double precision shows: with
    # other seeds up to 2e-3 in a few weights. With this one 2e-5, where weights moved by 1e-2.
    for weights, original in zip(pair.train_port(optimizer), expected, strict=True):
        np.testing.assert_allclose(weights, original, rtol=0, atol=3e-4)
        assert np.sqrt(np.mean((weights - original) ** 2)) < 1e-5


def test_the_unscaled_epsilon_of_adam_hardly_matters(pair):
    expected = pair.train_original()
    optimizer = vae_mnist.adam()
    for weights, original, first in zip(
        pair.train_port(optimizer), expected, pair.first_weights, strict=True
    ):
        # 2.4 % were measured, for the weights of pixels that are hardly ever inked.
        difference = np.sqrt(np.mean((weights - original) ** 2))
        assert difference < 0.05 * np.sqrt(np.mean((original - first) ** 2))


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
    pixels = pair.model.decode_pixels(vae_mnist.manifold_codes())
    (axes,) = vae_mnist.manifold_figure(pixels).axes
    (picture,) = axes.images
    np.testing.assert_allclose(picture.get_array(), turned_over.clip(0, 1), **FLOAT32_ACCURACY)
    assert picture.origin == "upper"
