"""Randomness comes from the seed alone, and compiling changes nothing but the speed."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import contents

import vae_mnist


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    """Returns the files that a short run on a few digits writes, by its arguments."""
    directory = tmp_path_factory.mktemp("runs")
    np.savez(directory / "digits.npz", **digits)

    def run(*arguments):
        output = directory / "-".join(["output", *arguments])
        fixed = ["--data", str(directory / "digits.npz"), "--epochs", "2"]
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


def epoch_inputs(data, steps=20, batch_size=128):
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data.x_train))[: steps * batch_size].reshape(steps, batch_size)
    epsilon = vae_mnist.draw_epsilon(rng, steps, batch_size)
    return tf.constant(data.x_train), tf.constant(order, tf.int32), tf.constant(epsilon)


@pytest.mark.parametrize("make", [tf.function, lambda function: function], ids=["graph", "eager"])
def test_the_compiled_epoch_equals_the_uncompiled(make, model, data):
    first_weights = [array.copy() for array in model.get_weights()]
    inputs = epoch_inputs(data)
    losses, weights = [], []
    for run_epoch in (vae_mnist.compile_epoch(), make(vae_mnist.train_epoch)):
        model.set_weights(first_weights)
        losses.append(run_epoch(model, vae_mnist.adam(model, 0.001), *inputs))
        weights.append([array.copy() for array in model.get_weights()])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for compiled, uncompiled, first in zip(*weights, first_weights, strict=True):
        assert np.abs(compiled - first).max() > 1e-3
        np.testing.assert_allclose(compiled, uncompiled, rtol=0, atol=1e-4)


def test_every_epoch_draws_a_new_order_and_new_noise(model, data, monkeypatch):
    seen = []

    def spy(model, optimizer, images, order, epsilon):
        seen.append((order.numpy(), epsilon.numpy()))
        return vae_mnist.Losses(1.0, 1.0, 0.0)

    monkeypatch.setattr(vae_mnist, "compile_epoch", lambda: spy)
    vae_mnist.train(
        model,
        data.x_train,
        data.x_validation,
        epochs=2,
        batch_size=100,
        learning_rate=0.001,
        rng=np.random.default_rng(0),
        report=lambda row: None,
    )
    (order_1, epsilon_1), (order_2, epsilon_2) = seen
    assert order_1.shape == (36, 100)
    assert epsilon_1.shape == (36, 100, 2)
    for order in (order_1, order_2):
        assert len(np.unique(order)) == 3600  # no image twice in an epoch
    assert (order_1 != order_2).mean() > 0.9
    assert not (epsilon_1 == epsilon_2).any()
