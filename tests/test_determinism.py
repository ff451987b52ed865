"""Randomness comes from the seed alone, and compiling changes nothing but the speed."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from conftest import contents

import vae_mnist


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_file):
    """Returns the files that a short run on a few digits writes, by its arguments."""
    directory = tmp_path_factory.mktemp("runs")

    def run(*arguments):
        output = directory / "-".join(["output", *arguments])
        fixed = ["--data", str(small_file), "--epochs", "2"]
        assert vae_mnist.main([*fixed, "--output-dir", str(output), *arguments]) == 0
        return contents(output)

    return run


@pytest.fixture(scope="module")
def default_run(run):
    return run()


def test_the_same_seed_gives_the_same_files(run, default_run):
    assert run("--seed", "0") == default_run


@pytest.mark.parametrize(
    "arguments",
    [("--seed", "1"), ("--batch-size", "64"), ("--reconstruction-loss", "cross-entropy")],
    ids=["seed", "batch size", "loss"],
)
def test_another_setting_gives_other_files(arguments, run, default_run):
    files = run(*arguments)
    assert files.keys() == default_run.keys()
    assert not [name for name in files if files[name] == default_run[name]]


@pytest.mark.parametrize("make", [tf.function, lambda function: function], ids=["graph", "eager"])
def test_the_compiled_epoch_equals_the_uncompiled(make, model, data):
    first_weights = [array.copy() for array in model.get_weights()]
    images = tf.constant(data.x_train[: 20 * 128])
    order, epsilon = vae_mnist.draw_epoch(np.random.default_rng(0), len(images), 128)
    losses, weights = [], []
    for compile_epoch in (functools.partial(tf.function, jit_compile=True), make):
        model.set_weights(first_weights)
        optimizer = vae_mnist.adam(model, 0.001)
        run_epoch = compile_epoch(functools.partial(vae_mnist.train_epoch, model, optimizer))
        losses.append(run_epoch(images, order, epsilon))
        weights.append([array.copy() for array in model.get_weights()])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for compiled, uncompiled, first in zip(*weights, first_weights, strict=True):
        assert np.abs(compiled - first).max() > 1e-3
        np.testing.assert_allclose(compiled, uncompiled, rtol=0, atol=1e-4)


def test_every_epoch_draws_a_new_order_and_new_noise():
    rng = np.random.default_rng(0)
    order_1, epsilon_1 = vae_mnist.draw_epoch(rng, 3667, 100)
    order_2, epsilon_2 = vae_mnist.draw_epoch(rng, 3667, 100)
    assert order_1.shape == (36, 100)
    assert epsilon_1.shape == (36, 100, 2)
    for order in (order_1, order_2):
        assert len(np.unique(order)) == 3600  # no image twice in an epoch
        assert np.max(order) > 3600  # and none left out of every epoch
    assert np.mean(order_1 != order_2) > 0.9
    assert not np.any(epsilon_1 == epsilon_2)
