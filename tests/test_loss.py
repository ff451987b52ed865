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


def test_kl_divergence_is_zero_only_at_the_standard_normal():
    steps = np.linspace(-2, 2, 9)
    grid = np.stack(np.meshgrid(steps, steps, steps, steps), axis=-1).reshape(-1, 4)
    kl = vae_mnist.kl_divergence(*as_float64(grid[:, :2], grid[:, 2:])).numpy()
    at_standard_normal = ~grid.any(axis=1)
    assert at_standard_normal.sum() == 1
    assert kl[at_standard_normal] == 0
    assert kl[~at_standard_normal].min() > 0.02


def test_sampled_latent_codes_have_their_mean_and_variance():
    count = 200_000
    z_mean, z_log_sigma_sq = np.array([1.5, -0.5]), np.array([-2.0, 0.8])
    epsilon = np.random.default_rng(0).standard_normal((count, 2))
    z = vae_mnist.sample_latent(*as_float64(z_mean, z_log_sigma_sq, epsilon)).numpy()
    variance = np.exp(z_log_sigma_sq)
    # Five standard errors: a right function fails for one seed in half a million.
    assert np.all(np.abs(z.mean(axis=0) - z_mean) < 5 * np.sqrt(variance / count))
    assert np.all(np.abs(z.var(axis=0) - variance) < 5 * variance * np.sqrt(2 / count))


def test_squared_error_is_half_the_sum_over_the_pixels_of_each_image():
    x = np.array([[0.0, 1.0, 0.5], [0.2, 0.2, 0.2]])
    reconstruction = np.array([[1.0, 1.0, 0.0], [0.2, 0.2, -0.8]])
    error = vae_mnist.squared_error(*as_float64(x, reconstruction))
    np.testing.assert_allclose(error, [(1 + 0 + 0.25) / 2, 1 / 2])


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


def test_the_objective_weighs_the_kl_divergence():
    losses = vae_mnist.mean_losses(tf.constant([1.0, 3.0]), tf.constant([10.0, 30.0]), 0.5)
    assert [float(loss) for loss in losses] == [12.0, 2.0, 20.0]


def test_pixels_are_bytes_divided_by_255():
    images = np.zeros((1, 784), np.uint8)
    images[0, :3] = (51, 254, 255)
    pixels = vae_mnist.to_pixels(images).numpy()
    np.testing.assert_array_equal(pixels[0, :4], np.array([0.2, 254 / 255, 1, 0], np.float32))


@pytest.mark.parametrize("kind", ["float32", "int64"])
def test_only_bytes_are_converted_to_pixels(kind):
    with pytest.raises(TypeError, match=f"must be uint8, not {kind}: see `check_images`"):
        vae_mnist.to_pixels(np.zeros((3, 784), kind))
