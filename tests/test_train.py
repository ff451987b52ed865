"""Training: each step, draw and row is that of the reference; compiling changes only the speed."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import run_python
from reference import Reference

import vae_mnist


@pytest.fixture
def train(model, data):
    """Trains the model for an epoch on 60 images, with some arguments replaced."""

    def train(**changes):
        arguments = {"x_train": data.x_train[:60], "x_validation": data.x_validation[:20]}
        arguments |= {"epochs": 1, "batch_size": 20, "rng": 0, "xla": False} | changes
        return vae_mnist.train(model, **arguments)

    return train


@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
@pytest.mark.parametrize("seed", [3, 4])
def test_the_history_and_the_weights_are_those_of_the_reference(loss, seed, data):
    images, validation_images = data.x_train[:130], data.x_validation[:30]
    settings = {"epochs": 3, "batch_size": 40, "learning_rate": 0.003}
    vae_mnist.keras.utils.set_random_seed(seed)
    model = vae_mnist.VAE(loss, kl_weight=2)
    reference = Reference(model.get_weights(), loss, kl_weight=2)
    history = vae_mnist.train(
        model, images, validation_images, rng=np.random.default_rng(seed), **settings
    )
    rng = np.random.default_rng(seed)
    expected = reference.train(images, validation_images, rng=rng, **settings)
    for row, expected_row in zip(history, expected, strict=True):
        assert list(row) == list(expected_row)
        assert row == pytest.approx(expected_row, rel=1e-4)
    for weights, expected_weights in zip(model.get_weights(), reference.weights, strict=True):
        np.testing.assert_allclose(weights, expected_weights, rtol=0, atol=1e-4)


def test_the_settings_are_those_of_the_original(monkeypatch, model, data):
    given = {}

    def record(name):
        original = getattr(vae_mnist, name)

        def function(*args, **kwargs):
            given[name] = args
            return original(*args, **kwargs)

        monkeypatch.setattr(vae_mnist, name, function)

    record("adam")
    record("compile_epoch")
    record("draw_epoch")
    first_weights = model.get_weights()
    history = vae_mnist.train(model, data.x_train[:128], data.x_validation[:20])
    assert len(history) == 50
    model.set_weights(first_weights)
    again = vae_mnist.train(model, data.x_train[:128], data.x_validation[:20], rng=0, epochs=1)
    assert again == history[:1]
    assert given["adam"][1] == 0.001
    assert given["compile_epoch"][2] is True  # by XLA
    assert given["draw_epoch"][1:] == (128, 128)


@pytest.mark.parametrize("xla", [True, False], ids=["by XLA", "as a graph"])
def test_the_compiled_epoch_equals_the_eager_one(xla, model, data):
    first_weights = model.get_weights()
    images = tf.constant(data.x_train[: 20 * 128])
    order, epsilon = vae_mnist.draw_epoch(np.random.default_rng(0), len(images), 128)
    results = []
    for compiled in (True, False):
        model.set_weights(first_weights)
        optimizer = vae_mnist.adam(model, 0.001)
        if compiled:
            means = vae_mnist.compile_epoch(model, optimizer, xla)(images, order, epsilon)
        else:
            means = vae_mnist.train_epoch(model, optimizer, images, order, epsilon)
        results.append((means, model.get_weights()))
    (means, weights), (eager_means, eager_weights) = results
    np.testing.assert_allclose(means, eager_means, rtol=1e-5)
    for array, eager, first in zip(weights, eager_weights, first_weights, strict=True):
        assert np.abs(array - first).max() > 1e-3
        np.testing.assert_allclose(array, eager, rtol=0, atol=1e-4)


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


def test_a_seed_makes_the_generator(train, model):
    first_weights = model.get_weights()
    histories = []
    for rng in (5, np.random.default_rng(5), 6):
        model.set_weights(first_weights)
        histories.append(train(rng=rng))
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_each_epoch_is_reported_as_soon_as_it_ends(train, model):
    seen = []

    def on_epoch(row):
        seen.append((row, model.get_weights()[0]))

    before = model.get_weights()[0]
    history = train(epochs=2, on_epoch=on_epoch)
    assert [row for row, _ in seen] == history
    assert [row["epoch"] for row in history] == [1, 2]
    weights = [before, *(weights for _, weights in seen)]
    assert np.abs(weights[1] - weights[0]).max() > 0
    assert np.abs(weights[2] - weights[1]).max() > 0
    np.testing.assert_array_equal(weights[2], model.get_weights()[0])


SHAPES = {
    "as Keras loads them": (-1, 28, 28),
    "as Keras' convolutions take them": (-1, 28, 28, 1),
    "as TensorFlow's tensors": None,
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_images_are_taken_in_every_usual_shape(shape, train, model, data):
    first_weights = model.get_weights()
    expected = train()
    model.set_weights(first_weights)
    images = [data.x_train[:60], data.x_validation[:20]]
    images = [tf.constant(x) if shape is None else x.reshape(shape) for x in images]
    for row, expected_row in zip(
        train(x_train=images[0], x_validation=images[1]), expected, strict=True
    ):
        assert row == pytest.approx(expected_row, rel=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64, bool])
def test_images_that_are_not_whole_numbers_are_refused(kind, train, data):
    images = data.x_train[:60].astype(kind)
    expected = "^images must hold whole numbers from 0 to 255, not (float|bool)"
    with pytest.raises(TypeError, match=expected):
        train(x_train=images)
    with pytest.raises(TypeError, match=expected):
        train(x_validation=images)


@pytest.mark.parametrize("batch_size", [-1, 0, 61])
def test_a_batch_that_cannot_be_made_is_refused(batch_size, train):
    with pytest.raises(ValueError, match=f"a batch of {batch_size} from 60 training images"):
        train(batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 60])
def test_the_smallest_and_the_largest_batch_are_trained_on(batch_size, train):
    assert len(train(batch_size=batch_size)) == 1


def test_a_loss_that_is_not_finite_ends_the_training(train):
    seen = []
    with pytest.raises(FloatingPointError, match=r"in epoch 1; try a learning rate below 1e\+09"):
        train(epochs=3, learning_rate=1e9, on_epoch=seen.append)
    assert seen == []


MANY_TRAININGS = """
import numpy as np, vae_mnist
images = np.tile(np.arange(784) % 256, (60, 1))
settings = {"epochs": 1, "batch_size": 20, "xla": False}
for seed in range(6):
    model = vae_mnist.VAE()
    vae_mnist.train(model, images, images[: 20 + seed], rng=seed, **settings)
for count in range(20, 30):
    vae_mnist.evaluate(model, images[:count], np.zeros((count, 2), np.float32))
terms = vae_mnist.compile_loss_terms(model)
for count in range(20, 30):
    vae_mnist.evaluate(model, images[:count], np.zeros((count, 2), np.float32), terms)
"""


def many_trainings(small_file, directory):
    return run_python(f"import sys\nsys.stderr = sys.stdout\n{MANY_TRAININGS}")


BACKGROUND = {"many trainings": many_trainings}


def test_many_trainings_in_one_process_warn_of_nothing(results):
    """In a child, because TensorFlow counts and silences its warnings for a process."""
    assert "tracing" not in results["many trainings"].result()
