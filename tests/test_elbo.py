"""The loss is the negative ELBO: -log p(x) plus the KL divergence from the true posterior.

With two latent dimensions, p(x) can be integrated over a grid. As in the loss, the constant of the
Gaussian p(x | z), 784 / 2 * log(2 pi), is left out.
"""

import numpy as np
import pytest
from helpers import trained
from scipy.special import logsumexp

import vae_mnist

STEP = 0.1
IMAGES = 20
DRAWS = 2000


def log_normal(z, mean=0.0, log_variance=0.0):
    """Return the log-density of latent codes [..., 2] under independent normals."""
    exponent = (z - mean) ** 2 / np.exp(log_variance)
    return -0.5 * np.sum(np.log(2 * np.pi) + log_variance + exponent, axis=-1)


def errors(decoded, x):
    """Return half the squared distance of each row of `decoded` from `x`."""
    return 0.5 * np.sum((decoded - x) ** 2, axis=-1)


@pytest.fixture(scope="module")
def measured():
    """For each image: its mean loss, -log p(x), and the KL divergence from the true posterior."""
    model, data = trained("squared-error")
    axis = np.arange(-5, 5 + STEP / 2, STEP)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    decoded = np.concatenate([model.decode_pixels(part) for part in np.array_split(grid, 20)])
    images = data.x_test[:IMAGES]
    rng = np.random.default_rng(0)
    rows = []
    for image, z_mean, z_log_sigma_sq in zip(
        images, *(np.float64(code) for code in vae_mnist.encode(model, images)), strict=True
    ):
        x = image / 255
        log_joint = log_normal(grid) - errors(decoded, x)
        log_evidence = logsumexp(log_joint) + 2 * np.log(STEP)
        log_q = log_normal(grid, z_mean, z_log_sigma_sq)
        gap = np.sum(np.exp(log_q) * (log_q - log_joint + log_evidence)) * STEP**2
        epsilon = rng.standard_normal((DRAWS, 2), np.float32)
        loss = vae_mnist.evaluate(model, np.tile(image, (DRAWS, 1)), epsilon).loss
        rows.append((loss, -log_evidence, gap))
    return np.transpose(rows)


def test_the_loss_lies_above_minus_log_evidence(measured):
    loss, integral, _ = measured
    assert np.all(loss > integral - 0.05)
    assert np.mean(loss) > np.mean(integral) + 0.1


def test_the_difference_is_the_kl_divergence_from_the_true_posterior(measured):
    loss, integral, gap = measured
    assert np.all(gap > 0)
    np.testing.assert_allclose(loss - integral, gap, atol=0.3)  # of one image, over 2,000 draws
    assert np.mean(loss - integral) == pytest.approx(np.mean(gap), abs=0.05)
