"""Evaluation: losses of a data set, latent codes of images, k-NN accuracy."""

import keras
import numpy as np
import pytest
from helpers import LOSS_NAMES, evaluation_noise
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


def evaluate(model, images, **options):
    return model.evaluate(images, return_dict=True, verbose=0, **options)


def test_each_image_has_its_losses(model, reference, images, epsilon):
    reconstruction, kl = model.image_losses(images, epsilon)
    expected = [reference.losses(images[[i]], epsilon[[i]]) for i in range(60)]
    np.testing.assert_allclose(reconstruction, [row["reconstruction"] for row in expected], 1e-5)
    np.testing.assert_allclose(kl, [row["kl"] for row in expected], 1e-4)


def test_the_losses_of_a_set_are_the_means_of_all_its_images(model, reference, data):
    images = np.concatenate([data.x_test, data.x_train[:501]])  # a batch, and half of one
    losses = evaluate(model, images, seed=3)
    noise = evaluation_noise(1501, 2, seed=3)
    assert losses == pytest.approx(reference.losses(images, noise), rel=1e-5)
    assert all(type(value) is float for value in losses.values())


def test_without_names_the_losses_are_a_list_as_keras_gives_it(model, images):
    expected = evaluate(model, images, seed=0)
    losses = model.evaluate(images, seed=0, verbose=0)
    assert losses == [expected[name] for name in LOSS_NAMES]


def test_no_more_images_than_a_batch_are_evaluated_at_once(model, data, monkeypatch):
    sizes = []
    loss_terms = model.loss_terms

    def record(x, *options):
        sizes.append(len(x))
        return loss_terms(x, *options)

    monkeypatch.setattr(model, "loss_terms", record)
    monkeypatch.setattr(vae_mnist, "EVALUATION_BATCH_SIZE", 25)
    reconstruction, _ = model.image_losses(data.x_test[:60])
    assert sizes == [25, 25, 10]
    assert len(reconstruction) == 60


@pytest.mark.parametrize("losses", [evaluate, vae_mnist.VAE.image_losses])
def test_without_noise_given_it_is_drawn_from_the_seed_of_keras(losses, model, images):
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        found.append(str(losses(model, images)))
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[2] != str(losses(model, images))  # it draws anew


def test_an_epsilon_of_zero_gives_the_losses_of_z_mean(model, reference, images):
    reconstruction, _ = model.image_losses(images, epsilon=0)
    expected = reference.losses(images, 0)["reconstruction"]
    assert np.mean(reconstruction) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(59, 2), (60, 3), (3,)])
def test_noise_of_another_shape_is_rejected(shape, model, images):
    with pytest.raises(ValueError, match="could not be broadcast"):
        model.image_losses(images, np.zeros(shape))


def test_a_changed_kl_weight_is_evaluated_as_it_is_now(model, images):
    evaluate(model, images)
    model.kl_weight = 3.0
    changed = Reference(model.get_weights(), kl_weight=3)
    expected = changed.losses(images, evaluation_noise(60, 2, seed=0))
    assert evaluate(model, images, seed=0) == pytest.approx(expected, rel=1e-5)


# ---- Latent codes --------------------------------------------------------------------------------


def test_the_latent_codes_are_those_of_the_reference(model, reference, data):
    images = np.concatenate([data.x_test, data.x_train[:501]])  # more than a batch
    for values, expected in zip(model.encode(images), reference.encode(images), strict=True):
        assert type(values) is np.ndarray
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(784,), (28, 28)])
def test_a_single_image_has_one_latent_code_and_one_loss(shape, model, reference, images, epsilon):
    image = images[5].reshape(shape)
    z_mean, _ = model.encode(image)
    np.testing.assert_allclose(z_mean, reference.encode(images[5:6])[0], atol=1e-5)
    reconstruction, _ = model.image_losses(image, epsilon[:1])
    expected = reference.losses(images[5:6], epsilon[:1])["reconstruction"]
    assert reconstruction == pytest.approx([expected], rel=1e-5)


def test_pixels_give_the_results_of_their_bytes(model, images):
    pixels = (images / 255).reshape(60, 28, 28, 1)
    np.testing.assert_allclose(model.encode(images), model.encode(pixels), atol=1e-6)
    results = [evaluate(model, x, seed=0) for x in (images, pixels)]
    assert results[0] == pytest.approx(results[1])


def test_every_function_of_images_rejects_floats_above_1(model, images):
    floats = images.astype(np.float32)
    for call in (
        lambda: model.encode(floats),
        lambda: model.evaluate(floats),
        lambda: model.image_losses(floats),
        lambda: model.fit(floats, batch_size=20),
        lambda: model.fit(images, validation_data=floats, batch_size=20),
    ):
        with pytest.raises(ValueError, match=r"^images are float32 .* from 0 to 255; they must"):
            call()


# ---- Posterior collapse --------------------------------------------------------------------------


@pytest.mark.parametrize(("kl", "expected"), [(0.0499, True), (0.0501, False)])
def test_a_mean_kl_divergence_below_0_05_nats_is_posterior_collapse(kl, expected):
    z_mean = np.full((3, 2), np.sqrt(kl), np.float32)  # KL = |z_mean|^2 / 2 where sigma is 1
    assert vae_mnist.is_collapsed(z_mean, np.zeros((3, 2), np.float32)) is expected


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


def test_of_labels_that_are_equally_frequent_the_smallest_counts():
    assert vae_mnist.knn_accuracy([[0, 0], [1, 0]], [9, 4], [[0, 0]], [4]) == 1


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
        with pytest.raises(ValueError, match="must be 2 whole numbers, and not one-hot"):
            vae_mnist.knn_accuracy(np.eye(2), codes_labels, np.eye(2), test_labels)
