"""Training: each step, draw and row is that of the reference; compiling changes only the speed."""

import keras
import numpy as np
import pytest
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


@pytest.mark.parametrize(
    ("loss", "xla"), [("squared-error", True), ("squared-error", False), ("cross-entropy", True)]
)
def test_the_history_and_the_weights_are_those_of_the_reference(loss, xla, data):
    images, validation_images = data.x_train[:130], data.x_validation[:30]
    settings = {"epochs": 3, "batch_size": 40}
    keras.utils.set_random_seed(3)
    model = vae_mnist.VAE(reconstruction_loss=loss, kl_weight=2)
    reference = Reference(model.get_weights(), loss, kl_weight=2)
    history = vae_mnist.train(
        model,
        images,
        validation_images,
        optimizer=vae_mnist.adam(0.003),
        rng=np.random.default_rng(3),
        xla=xla,
        **settings,
    )
    rng = np.random.default_rng(3)
    expected = reference.train(images, validation_images, learning_rate=0.003, rng=rng, **settings)
    for row, expected_row in zip(history, expected, strict=True):
        assert list(row) == list(expected_row)
        assert row == pytest.approx(expected_row, rel=1e-4)
    for weights, expected_weights in zip(model.get_weights(), reference.weights, strict=True):
        np.testing.assert_allclose(weights, expected_weights, rtol=0, atol=3e-4)


def test_the_settings_are_those_of_the_original(model, data):
    reference = Reference(model.get_weights())
    images, validation_images = data.x_train[:130], data.x_validation[:20]
    history = vae_mnist.train(model, images, validation_images, rng=0)
    settings = {"epochs": 50, "batch_size": 128, "learning_rate": 0.001}
    rng = np.random.default_rng(0)
    expected = reference.train(images, validation_images, rng=rng, **settings)
    assert len(history) == 50
    assert history[1] == pytest.approx(expected[1], rel=1e-4)


def test_it_is_compiled_by_xla_unless_told_otherwise(monkeypatch, train):
    asked = []
    function = vae_mnist.tf.function

    def record(*args, **options):
        asked.append(options.pop("jit_compile", None))
        return function(*args, **options)

    monkeypatch.setattr(vae_mnist.tf, "function", record)
    train(xla=True)
    assert True in asked
    assert False not in asked
    asked.clear()
    train(xla=False)
    assert True not in asked


def test_every_epoch_draws_a_new_order_and_new_noise(eagerly, monkeypatch, train):
    """Read off the losses of single images, which are batches here, of a model that stays."""
    monkeypatch.setattr(
        vae_mnist, "scale", lambda images: 0.0 * vae_mnist.tf.cast(images, "float32")
    )
    optimizer = keras.optimizers.SGD(0.0)
    history = train(epochs=3, optimizer=optimizer)
    losses = [row["loss"] for row in history]
    assert len(set(losses)) == 3  # all images are black: only the noise is new


def test_no_image_is_met_twice_in_an_epoch_and_none_is_left_out_of_all(eagerly, model, data):
    """Each image has its own brightness; a decoder that gives the first pixel's tells it."""
    images = np.zeros((7, 784), np.uint8)
    images[:, 0] = 16 * 2 ** np.arange(7) // 16 + 1
    assert len(np.unique(images[:, 0])) == 7
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    optimizer = keras.optimizers.SGD(0.0)
    history = vae_mnist.train(
        model, images, images[:1], epochs=30, batch_size=3, optimizer=optimizer, rng=0, xla=False
    )
    # Everything is decoded as black: an image's loss is half its squared brightness.
    each = (images[:, 0] / 255.0) ** 2 / 2
    left_out = []
    for row in history:
        candidates = np.abs((each.sum() - each) / 6 - row["reconstruction"])
        assert candidates.min() < 1e-6
        left_out.append(candidates.argmin())
    assert set(left_out) == set(range(7))


def test_a_seed_makes_the_generator(eagerly, train, model):
    first_weights = model.get_weights()
    histories = []
    for rng in (5, np.random.default_rng(5), 6):
        model.set_weights(first_weights)
        histories.append(train(rng=rng))
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_without_a_generator_the_seed_of_keras_governs_and_a_second_training_draws_anew(
    eagerly, train, model
):
    first_weights = model.get_weights()
    histories = []
    for seed in (1, 1, None):
        if seed is not None:
            keras.utils.set_random_seed(seed)
        model.set_weights(first_weights)
        histories.append(train(rng=None))
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_each_epoch_is_reported_as_soon_as_it_ends(eagerly, train, model):
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


def test_an_epoch_is_printed_as_a_line_the_first_with_a_heading(capsys):
    row = {"loss": 155.123, "reconstruction": 150.0, "kl": 5.123, "validation_loss": 156.0}
    vae_mnist.print_row({"epoch": 1} | row)
    vae_mnist.print_row({"epoch": 20} | row)
    assert capsys.readouterr().out == (
        "epoch    loss  reconstruction      KL  validation loss\n"
        "    1  155.12          150.00    5.12           156.00\n"
        "   20  155.12          150.00    5.12           156.00\n"
    )


@pytest.mark.parametrize("batch_size", [-1, 0, 61])
def test_a_batch_that_cannot_be_made_is_refused(eagerly, batch_size, train):
    with pytest.raises(ValueError, match=f"a batch of {batch_size} from 60 training images"):
        train(batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 10])
def test_the_smallest_and_the_largest_batch_are_trained_on(eagerly, batch_size, train, data):
    assert len(train(x_train=data.x_train[:10], batch_size=batch_size)) == 1


@pytest.mark.parametrize(
    "learning_rate", [1e9, keras.optimizers.schedules.ExponentialDecay(1e9, 10, 0.9)]
)
def test_a_loss_that_is_not_finite_ends_the_training(eagerly, learning_rate, train):
    seen = []
    optimizer = vae_mnist.adam(learning_rate)
    with pytest.raises(FloatingPointError, match="in epoch 1; try a smaller learning rate"):
        train(epochs=3, optimizer=optimizer, on_epoch=seen.append)
    assert seen == []


def test_many_trainings_in_one_process_warn_of_nothing(monkeypatch, train, caplog):
    scale = vae_mnist.scale

    def fresh(images):
        """TensorFlow warns of a function that it has traced five times, and twice at most."""
        return scale(images)

    monkeypatch.setattr(vae_mnist, "scale", fresh)
    for _ in range(5):
        train()
    assert "fresh" not in caplog.text
