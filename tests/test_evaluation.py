"""Evaluation: losses of a data set, latent codes of images, k-NN accuracy."""

import keras
import numpy as np
import pytest
from reference import Reference

import vae_mnist


@pytest.fixture
def reference(model):
    return Reference(model.get_weights())


@pytest.fixture
def images(data):
    return data.x_test[:60]


@pytest.fixture
def epsilon():
    return np.random.default_rng(0).standard_normal((60, 2))


# ---- Losses --------------------------------------------------------------------------------------


def test_each_image_has_its_losses(model, reference, images, epsilon):
    reconstruction, kl = vae_mnist.image_losses(model, images, epsilon)
    expected = [reference.losses(images[[i]], epsilon[[i]]) for i in range(60)]
    np.testing.assert_allclose(reconstruction, [row["reconstruction"] for row in expected], 1e-5)
    np.testing.assert_allclose(kl, [row["kl"] for row in expected], 1e-4)


def test_more_images_than_a_batch_have_the_mean_of_all(model, reference, data):
    images = np.concatenate([data.x_test, data.x_train[:501]])
    epsilon = np.random.default_rng(0).standard_normal((1501, 2))
    losses = vae_mnist.evaluate(model, images, epsilon)
    assert losses._asdict() == pytest.approx(reference.losses(images, epsilon), rel=1e-5)
    assert all(type(value) is float for value in losses)


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (1001, [1000, 1]), (3000, 3 * [1000])])
def test_no_more_than_a_thousand_images_are_evaluated_at_once(count, expected):
    numbers = np.arange(count)
    parts = [numbers[batch] for batch in vae_mnist.batches(count)]
    assert [len(part) for part in parts] == expected
    np.testing.assert_array_equal(np.concatenate(parts), numbers)


def test_without_noise_given_it_is_drawn_from_the_seed_of_keras(model, images):
    losses = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        losses.append(vae_mnist.evaluate(model, images))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[2] != vae_mnist.evaluate(model, images)  # it draws anew


def test_the_noise_that_is_drawn_is_standard_normal(monkeypatch, model, data):
    drawn = []

    def record(x, epsilon, training=False):
        drawn.append(epsilon)
        return np.zeros(len(x)), np.zeros(len(x))

    monkeypatch.setattr(model, "loss_terms", record)
    vae_mnist.evaluate(model, np.tile(data.x_test, (20, 1)))
    noise = np.concatenate(drawn)
    assert (noise.shape, noise.dtype) == ((20_000, 2), np.float32)
    assert np.abs(noise.mean(axis=0)).max() < 5 / np.sqrt(20_000)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=0.05)


def test_an_epsilon_of_zero_gives_the_losses_of_z_mean(model, reference, images):
    losses = vae_mnist.evaluate(model, images, epsilon=0)
    assert losses._asdict() == pytest.approx(reference.losses(images, 0), rel=1e-5)


@pytest.mark.parametrize("shape", [(59, 2), (60, 1), (2,)])
def test_noise_of_another_shape_is_rejected(shape, model, images):
    with pytest.raises(ValueError, match=r"cannot be broadcast; it must be 0 or \(60, 2\)"):
        vae_mnist.evaluate(model, images, np.zeros(shape))


def test_a_changed_loss_is_evaluated_as_it_is_now(model, images, epsilon):
    model.reconstruction_loss = "cross-entropy"
    model.kl_weight = 3.0
    changed = Reference(model.get_weights(), "cross-entropy", kl_weight=3)
    losses = vae_mnist.evaluate(model, images, epsilon)
    assert losses._asdict() == pytest.approx(changed.losses(images, epsilon), rel=1e-5)


# ---- Latent codes --------------------------------------------------------------------------------


def test_the_latent_codes_are_those_of_the_reference(model, reference, data):
    images = np.concatenate([data.x_test, data.x_train[:501]])  # more than a batch
    for values, expected in zip(
        vae_mnist.encode(model, images), reference.encode(images), strict=True
    ):
        assert type(values) is np.ndarray
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(784,), (28, 28)])
def test_a_single_image_has_one_latent_code_and_one_loss(shape, model, reference, images, epsilon):
    image = images[5].reshape(shape)
    z_mean, _ = vae_mnist.encode(model, image)
    np.testing.assert_allclose(z_mean, reference.encode(images[5:6])[0], atol=1e-5)
    losses = vae_mnist.evaluate(model, image, epsilon[:1])
    expected = reference.losses(images[5:6], epsilon[:1])
    assert losses._asdict() == pytest.approx(expected, rel=1e-5)


def test_every_function_of_images_rejects_pixels(model, data):
    pixels = data.x_test[:20] / 255
    for call in (
        lambda: vae_mnist.encode(model, pixels),
        lambda: vae_mnist.evaluate(model, pixels),
        lambda: vae_mnist.train(model, pixels, data.x_validation, batch_size=20),
        lambda: vae_mnist.train(model, data.x_train, pixels, batch_size=20),
    ):
        with pytest.raises(ValueError, match=r"^images are float64"):
            call()


# ---- k-NN accuracy -------------------------------------------------------------------------------


def test_the_most_frequent_label_of_the_neighbours_counts():
    codes = [[0, 0], [0, 1], [1, 0], [9, 9], [9, 8]]
    labels = [7, 7, 3, 3, 3]
    # With fewer codes than 25, all five are neighbours, and three of them are 3.
    assert vae_mnist.knn_accuracy(codes, labels, [[0, 0], [9, 9]], [3, 7]) == 0.5


def test_a_single_code_is_the_neighbour_of_all():
    assert vae_mnist.knn_accuracy([[0, 0]], [7], [[1, 1]], [7]) == 1


@pytest.mark.parametrize(("winners", "expected"), [(12, 0.0), (13, 1.0)])
def test_the_25_nearest_codes_count_and_no_other(winners, expected):
    """Of 1s at growing distances from 0, then 2s: with 13 of 25 the 1s win, with 12 they lose."""
    codes = [[distance, 0] for distance in range(40)]
    labels = [1] * winners + [2] * (25 - winners) + [1] * 15
    assert vae_mnist.knn_accuracy(codes, labels, [[-0.1, 0]], [1]) == expected


def test_the_distance_is_euclidean():
    codes = [[3.0, 3.0]] * 25 + [[4.5, 0.0]] * 25  # 4.24 and 4.5 away, but 6 and 4.5 by their sums
    assert vae_mnist.knn_accuracy(codes, [1] * 25 + [2] * 25, [[0, 0]], [1]) == 1


def test_labels_in_a_column_are_accepted():
    codes, labels = np.eye(2), np.array([[4], [9]])
    assert vae_mnist.knn_accuracy(codes, [4, 4], codes, labels) == 0.5
    assert vae_mnist.knn_accuracy(codes, np.array([[4], [4]]), codes, [4, 9]) == 0.5


BAD_LABELS = {
    "one-hot": np.eye(2, dtype=int),
    "too few": np.array([1]),
    "fractions": np.array([0.5, 1.0]),
    "text": np.array(["1", "2"]),
}


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_that_are_not_one_whole_number_each_are_rejected(labels):
    for codes_labels, test_labels in ((labels, [1, 2]), ([1, 2], labels)):
        with pytest.raises(ValueError, match="must be one whole number for each of 2"):
            vae_mnist.knn_accuracy(np.eye(2), codes_labels, np.eye(2), test_labels)
