"""The program of the book's listing prints and draws what the listing does."""

import re

import numpy as np
from helpers import slice_of_mnist


def test_the_original_prints_the_cost_of_every_third_epoch(original_run):
    out, _ = original_run
    assert re.findall(r"^Epoch: (\d{4}) cost= \d+\.\d{9}$", out, re.MULTILINE) == ["0001", "0004"]


def test_the_original_sums_the_squared_error_over_all_test_images(original_run):
    out, _ = original_run
    digits = slice_of_mnist(2000, 500)
    x, x_test = (digits[key].reshape(-1, 784) / 255 for key in ("x_train", "x_test"))
    error_of_mean_image = 0.5 * np.sum(np.square(x_test - x.mean(axis=0)))
    result = float(re.fullmatch(r"Result: (\S+)", out.splitlines()[-1]).group(1))
    # A latent code helps a little after four epochs. A mean over 500 images gives 0.002.
    assert 0.7 < result / error_of_mean_image < 1.1


def test_the_original_draws_the_figures_of_the_book(original_run):
    _, directory = original_run
    names = ["latent_scatter.png", "manifold.png", "reconstructions.png"]
    assert sorted(path.name for path in directory.glob("*.png")) == names
