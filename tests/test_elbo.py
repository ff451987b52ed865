"""The loss is the negative ELBO: -log p(x) plus the KL divergence from the true posterior.

With two latent dimensions, p(x) can be integrated over a grid. As in the loss, the constant of the
Gaussian p(x | z), 784 / 2 * log(2 pi), is left out.
"""

import numpy as np
import pytest
from helpers import trained
from scipy.special import logsumexp

STEP = 0.1
IMAGES = 10
DRAWS = 2000


def log_normal(z, mean=0.0, log_variance=0.0):
    """Return the log-density of latent codes [..., 2] under independent normals."""
    exponent = (z - mean) ** 2 / np.exp(log_variance)
    return -0.5 * np.sum(np.log(2 * np.pi) + log_variance + exponent, axis=-1)


def test_the_loss_exceeds_minus_log_evidence_by_the_kl_divergence_from_the_true_posterior():
    model, data = trained("squared-error")
    axis = np.arange(-5, 5 + STEP / 2, STEP)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    decoded = np.concatenate([model.decode(part) for part in np.array_split(grid, 20)])
    images = data.x_test[:IMAGES]
    rng = np.random.default_rng(0)
    excesses, gaps = [], []
    for image, z_mean, z_log_sigma_sq in zip(
        images, *(np.float64(code) for code in model.encode(images)), strict=True
    ):
        x = image / 255
        log_joint = log_normal(grid) - 0.5 * np.sum((decoded - x) ** 2, axis=-1)
        log_evidence = logsumexp(log_joint) + 2 * np.log(STEP)
        log_q = log_normal(grid, z_mean, z_log_sigma_sq)
        gaps.append(np.sum(np.exp(log_q) * (log_q - log_joint + log_evidence)) * STEP**2)
        epsilon = rng.standard_normal((DRAWS, 2), np.float32)
        losses = np.add(*model.image_losses(np.tile(image, (DRAWS, 1)), epsilon))
        excesses.append(np.mean(losses) + log_evidence)
    assert min(gaps) > 0
    np.testing.assert_allclose(excesses, gaps, atol=0.3)  # of one image, over 2,000 draws
    assert np.mean(excesses) == pytest.approx(np.mean(gaps), abs=0.05)
