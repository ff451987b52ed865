"""The loss functions equal values computed by other means."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import quad
from scipy.special import log_expit
from scipy.stats import norm

import vae_mnist


def as_float64(*arrays):
    return [tf.constant(array, tf.float64) for array in arrays]


def integrated_kl(mean, log_variance):
    """KL(N(mean, exp(log_variance)) || N(0, 1)) as an integral."""
    q = norm(mean, np.exp(log_variance / 2))
    low, high = q.mean() - 12 * q.std(), q.mean() + 12 * q.std()
    return quad(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), low, high)[0]


@pytest.mark.parametrize("mean", [-3.0, -0.5, 0.0, 1.0, 4.0])
@pytest.mark.parametrize("log_variance", [-6.0, -1.0, 0.0, 0.5, 2.0])
def test_kl_divergence_is_its_integral(mean, log_variance):
    z_mean, z_log_sigma_sq = as_float64([[mean, 0.7]], [[log_variance, -0.3]])
    kl = vae_mnist.kl_divergence(z_mean, z_log_sigma_sq)
    expected = integrated_kl(mean, log_variance) + integrated_kl(0.7, -0.3)
    np.testing.assert_allclose(kl, [expected], rtol=1e-7)


def test_squared_error_is_a_gaussian_log_likelihood():
    x, reconstruction = np.random.default_rng(0).random((2, 5, 784))
    log_likelihood = norm.logpdf(x, loc=reconstruction, scale=1).sum(axis=1)
    constant = 784 / 2 * np.log(2 * np.pi)
    error = vae_mnist.squared_error(*as_float64(x, reconstruction))
    np.testing.assert_allclose(error, -log_likelihood - constant)


def test_cross_entropy_is_a_bernoulli_log_likelihood():
    rng = np.random.default_rng(0)
    x, logits = rng.random((5, 784)), 20 * rng.standard_normal((5, 784))
    expected = -(x * log_expit(logits) + (1 - x) * log_expit(-logits)).sum(axis=1)
    np.testing.assert_allclose(vae_mnist.cross_entropy(*as_float64(x, logits)), expected)


@pytest.mark.parametrize(
    ("x", "logit", "expected"),
    [(1, 1000, 0), (0, -1000, 0), (0, 1000, 1000), (1, -1000, 1000), (0.5, 1000, 500)],
)
def test_cross_entropy_of_huge_logits_is_finite_and_exact(x, logit, expected):
    loss = vae_mnist.cross_entropy(tf.constant([[float(x)]]), tf.constant([[float(logit)]]))
    np.testing.assert_array_equal(loss, [expected])


@pytest.mark.parametrize("kind", ["uint8", "int64"])
def test_pixels_are_bytes_divided_by_255(kind):
    pixels = vae_mnist.to_pixels(np.array([[51, 254, 255, 0]], kind)).numpy()
    np.testing.assert_array_equal(pixels, np.array([[0.2, 254 / 255, 1, 0]], np.float32))


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_floats_are_pixels_already(kind):
    pixels = vae_mnist.to_pixels(np.array([[0.25, 1.0]], kind)).numpy()
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, [[0.25, 1.0]])
