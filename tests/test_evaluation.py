"""Evaluation: losses of a data set, codes of images, the vote of the neighbours."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from reference import Reference

import vae_mnist


@pytest.fixture
def reference(model):
    return Reference(model.get_weights())


@pytest.fixture
def epsilon():
    return np.random.default_rng(0).standard_normal((60, 2), dtype=np.float32)


# ---- Losses --------------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_reference(model, reference, data, epsilon):
    losses = vae_mnist.evaluate(model, data.x_test[:60], epsilon)
    assert losses._asdict() == pytest.approx(reference.losses(data.x_test[:60], epsilon), rel=1e-5)
    assert all(type(value) is float for value in losses)


@pytest.mark.parametrize("size", [1, 7, 59, 60, 1000])
def test_the_losses_do_not_depend_on_the_batches(
    size, model, reference, data, epsilon, monkeypatch
):
    monkeypatch.setattr(vae_mnist, "EVALUATION_BATCH", size)
    losses = vae_mnist.evaluate(model, data.x_test[:60], epsilon)
    assert losses._asdict() == pytest.approx(reference.losses(data.x_test[:60], epsilon), rel=1e-5)


def test_no_more_than_a_thousand_images_are_evaluated_at_once():
    sizes = []
    vae_mnist.in_batches(lambda batch: (sizes.append(len(batch)), (batch,))[1], np.zeros(2001))
    assert sizes == [1000, 1000, 1]


def test_a_changed_loss_is_evaluated_as_it_is_now(model, data, epsilon):
    before = vae_mnist.evaluate(model, data.x_test[:60], epsilon)
    model.reconstruction_loss = "cross-entropy"
    model.kl_weight = 3.0
    changed = Reference(model.get_weights(), "cross-entropy", kl_weight=3)
    losses = vae_mnist.evaluate(model, data.x_test[:60], epsilon)
    assert losses._asdict() == pytest.approx(changed.losses(data.x_test[:60], epsilon), rel=1e-5)
    assert losses.reconstruction > 2 * before.reconstruction


def test_a_model_that_was_evaluated_is_not_kept_alive(data, epsilon):
    model = vae_mnist.VAE()
    vae_mnist.evaluate(model, data.x_test[:60], epsilon)
    model = weakref.ref(model)
    gc.collect()
    assert model() is None


def test_no_images_have_no_loss(model, data):
    with pytest.raises(ValueError, match="there are no images to evaluate"):
        vae_mnist.evaluate(model, data.x_test[:0], np.zeros((0, 2), np.float32))


# ---- Codes ---------------------------------------------------------------------------------------

FORMS = {
    "as they are stored": lambda images: images,
    "any type of whole numbers": lambda images: images.astype(">i8"),
    "lists": lambda images: images.tolist(),
    "tensor": tf.constant,
    "28 x 28": lambda images: images.reshape(-1, 28, 28),
    "28 x 28 x 1": lambda images: images.reshape(-1, 28, 28, 1),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_images_of_every_usual_form_have_the_same_codes(form, model, reference, data):
    codes = vae_mnist.encode(model, form(data.x_test[:60]))
    for values, expected in zip(codes, reference.encode(data.x_test[:60]), strict=True):
        assert type(values) is np.ndarray
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (28, 28, 1)])
def test_a_single_image_has_one_code_and_one_loss(shape, model, reference, data, epsilon):
    image = data.x_test[5].reshape(shape)
    z_mean, _ = vae_mnist.encode(model, image)
    np.testing.assert_allclose(z_mean, reference.encode(data.x_test[5:6])[0], atol=1e-5)
    losses = vae_mnist.evaluate(model, image, epsilon[:1])
    expected = reference.losses(data.x_test[5:6], epsilon[:1])
    assert losses._asdict() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(784, 1), (3, 27, 28), (3, 28, 27), (3, 28, 28, 3), (3, 785)])
def test_images_of_another_shape_are_refused(shape, model):
    with pytest.raises(ValueError, match=r"must be \[count, 28, 28\] or \[count, 784\], not"):
        vae_mnist.encode(model, np.zeros(shape, np.uint8))


FLOATS = {
    "float32": lambda images: images.astype(np.float32) / 255,
    "float64": lambda images: images / 255,
    "bool": lambda images: images > 127,
    "tensor": vae_mnist.scale,
}


@pytest.mark.parametrize("change", FLOATS.values(), ids=FLOATS)
def test_images_that_are_not_whole_numbers_are_refused(change, model, data, epsilon):
    images = change(data.x_test[:60])
    expected = "images must hold whole numbers from 0 to 255, not (float|bool)"
    with pytest.raises(TypeError, match=expected):
        vae_mnist.encode(model, images)
    with pytest.raises(TypeError, match=expected):
        vae_mnist.evaluate(model, images, epsilon)


def test_no_images_have_no_codes(model, data):
    z_mean, z_log_sigma_sq = vae_mnist.encode(model, data.x_test[:0])
    assert z_mean.shape == z_log_sigma_sq.shape == (0, 2)


# ---- Neighbours ----------------------------------------------------------------------------------


def test_the_neighbours_vote():
    codes = [[0, 0], [0, 1], [1, 0], [9, 9], [9, 8]]
    labels = [7, 7, 3, 3, 3]
    # Of all five, three are 3: with fewer codes than 25 they all vote.
    assert vae_mnist.neighbour_accuracy(codes, labels, [[0, 0], [9, 9]], [3, 7]) == 0.5


def test_the_nearest_code_votes():
    assert vae_mnist.neighbour_accuracy([[0, 0]], [7], [[1, 1]], [7]) == 1


@pytest.mark.parametrize(("winners", "expected"), [(12, 0.0), (13, 1.0)])
def test_the_25_nearest_codes_vote_and_no_other(winners, expected):
    """Of 1s at growing distances from 0, then 2s: with 13 of 25 the 1s win, with 12 they lose."""
    codes = [[distance, 0] for distance in range(40)]
    labels = [1] * winners + [2] * (25 - winners) + [1] * 15
    accuracy = vae_mnist.neighbour_accuracy(codes, labels, [[-0.1, 0]], [1])
    assert accuracy == expected


def test_the_distance_is_that_of_the_plane():
    """The nearest 25 by the distance along both axes, not by one or by their sum."""
    codes = [[3.0, 3.0]] * 25 + [[4.5, 0.0]] * 25  # 4.24 and 4.5 away, but 6 and 4.5 by their sums
    assert vae_mnist.neighbour_accuracy(codes, [1] * 25 + [2] * 25, [[0, 0]], [1]) == 1


def test_well_separated_classes_are_told_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    codes = rng.standard_normal((2000, 2)) + 20 * np.stack([labels // 2, labels % 2], axis=-1)
    halves = codes[:1000], labels[:1000], codes[1000:], labels[1000:]
    assert vae_mnist.neighbour_accuracy(*halves) == 1
    shuffled = rng.permutation(labels[1000:])
    assert vae_mnist.neighbour_accuracy(*halves[:3], shuffled) == pytest.approx(0.25, abs=0.05)
