"""Each piece can be used from Python, and refuses what it would compute a wrong number from."""

import ast
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SCRIPT

import vae_mnist

SETTINGS = {"epochs": 1, "batch_size": 20, "learning_rate": 0.001}


@pytest.fixture
def train(model, data):
    """Trains the model for an epoch on 60 images, with some arguments replaced."""

    def train(**changes):
        arguments = {"x_train": data.x_train[:60], "x_validation": data.x_validation[:20]}
        arguments |= SETTINGS | {"rng": np.random.default_rng(0)} | changes
        return vae_mnist.train(model, **arguments)

    return train


FLOATS = {
    "float32": lambda images: images.astype(np.float32) / 255,
    "float64": lambda images: images / 255,
    "bool": lambda images: images > 127,
    "tensor": vae_mnist.scale,
}


@pytest.mark.parametrize("change", FLOATS.values(), ids=FLOATS)
def test_images_that_are_not_whole_numbers_are_refused(change, model, data, train):
    images = change(data.x_test[:60])
    expected = "images must hold whole numbers from 0 to 255, not (float|bool)"
    with pytest.raises(TypeError, match=expected):
        vae_mnist.encode(model, images)
    with pytest.raises(TypeError, match=expected):
        vae_mnist.evaluate(model, images, np.zeros((60, 2), np.float32))
    with pytest.raises(TypeError, match=f"^{expected}"):
        list(train(x_train=images))
    with pytest.raises(TypeError, match=expected):
        list(train(x_validation=images))


def test_images_of_any_integer_type_give_the_same_codes(model, data):
    codes = [
        vae_mnist.encode(model, images)[0]
        for images in (data.x_test[:60], data.x_test[:60].astype(int), data.x_test[:60].tolist())
    ]
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])


@pytest.mark.parametrize("kind", ["uint8", "int64"])
def test_the_model_refuses_images_that_are_not_scaled(kind, model, data):
    for call in (model, lambda x: model.predict(x, verbose=0)):
        with pytest.raises(TypeError, match=rf"pixels must be in \[0, 1\], not {kind}"):
            call(data.x_test[:3].astype(kind))


def test_the_model_without_noise_decodes_the_means(model, data):
    x = vae_mnist.scale(data.x_test[:60]).numpy()
    z_mean, z_log_sigma_sq = model.encoder(x)
    expected = (z_mean, z_log_sigma_sq, model.decoder(z_mean))
    for outputs in (model(x), model.predict(x, verbose=0)):
        for output, array in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, array, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [np.asarray, lambda z: z.tolist(), lambda z: [tuple(row) for row in z], tf.constant, np.single],
    ids=["float64", "lists", "tuples", "tensor", "float32"],
)
def test_codes_of_any_kind_are_decoded(make, model):
    z = np.random.default_rng(0).standard_normal((5, 2)).round(1)
    expected = model.decoder(z.astype(np.float32))
    np.testing.assert_allclose(model.decode_pixels(make(z)), expected, atol=1e-6)


def test_a_single_code_is_decoded_as_one_of_one(model):
    pixels = model.decode_pixels([0.5, -1.0])
    np.testing.assert_array_equal(pixels, model.decode_pixels([[0.5, -1.0]]))


def test_no_images_have_no_codes(model, data):
    for codes in vae_mnist.encode(model, data.x_test[:0]):
        assert codes.shape == (0, 2)


def test_no_images_have_no_loss(model, data):
    with pytest.raises(ValueError, match="there are no images to evaluate"):
        vae_mnist.evaluate(model, data.x_test[:0], np.zeros((0, 2), np.float32))


def test_a_batch_larger_than_the_data_is_refused(train):
    with pytest.raises(ValueError, match="a batch of 61 from 60 training images"):
        next(train(batch_size=61))


def test_a_loss_that_is_not_finite_ends_the_training(train):
    with pytest.raises(FloatingPointError, match=r"in epoch 1; try a learning rate below 1e\+09"):
        list(train(epochs=3, learning_rate=1e9))


def test_training_yields_a_row_as_soon_as_an_epoch_ends(train, model):
    rows = train(epochs=2)
    before = model.get_weights()[0].copy()
    first = next(rows)
    after_one = model.get_weights()[0].copy()
    assert np.abs(after_one - before).max() > 0
    assert first["epoch"] == 1
    assert [row["epoch"] for row in rows] == [2]
    assert np.abs(model.get_weights()[0] - after_one).max() > 0


def test_many_trainings_in_one_process_warn_of_nothing():
    """In a child, because TensorFlow counts and silences its warnings for a process."""
    program = """
import numpy as np, vae_mnist
images = np.tile(np.arange(784) % 256, (60, 1))
settings = {"epochs": 1, "batch_size": 20, "learning_rate": 0.001, "xla": False}
for seed in range(6):
    model = vae_mnist.VAE()
    rng = np.random.default_rng(seed)
    list(vae_mnist.train(model, images, images[: 20 + seed], rng=rng, **settings))
for count in range(20, 30):
    vae_mnist.evaluate(model, images[:count], np.zeros((count, 2), np.float32))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert "WARNING:tensorflow" not in run.stderr
    assert "retracing" not in run.stderr


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_the_weights_are_float32_whatever_the_user_has_set(floatx, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": floatx, "backend": "jax"}))
    program = """
import numpy as np, vae_mnist
vae_mnist.keras.utils.set_random_seed(0)
model = vae_mnist.VAE()
optimizer = vae_mnist.adam(model, 0.001)
outputs = model(vae_mnist.scale(np.full((1, 784), 51)))
print(*{str(array.dtype) for array in [*model.get_weights(), *map(np.asarray, outputs)]},
      optimizer.learning_rate.dtype)
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.stdout == "float32 float32\n"


# ---- The two parts -------------------------------------------------------------------------------


def parts():
    """The lines of the head, of Part I and of Part II."""
    lines = SCRIPT.read_text().splitlines()
    one = next(i for i, line in enumerate(lines) if line.startswith("# ==== Part I: the chapter"))
    two = next(i for i, line in enumerate(lines) if line.startswith("# ==== Part II: around it"))
    return lines[:one], lines[one:two], lines[two:]


def test_the_parts_have_their_length():
    head, chapter, around = parts()
    assert len(head) <= 90
    assert len(chapter) <= 350
    assert len(head + chapter + around) <= 870
    assert any(line.startswith("class VAE") for line in chapter[:10])


def test_the_chapter_uses_nothing_of_what_surrounds_it():
    _, chapter, around = (ast.parse("\n".join(part)) for part in parts())
    defined = set()
    for node in around.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets}
    used = {node.id for node in ast.walk(chapter) if isinstance(node, ast.Name)}
    assert {"InputError", "load_data", "xla_available", "MNIST_URL", "run"} <= defined
    assert not used & defined


def test_the_chapter_runs_without_what_surrounds_it(tmp_path):
    head, chapter, _ = parts()
    program = (
        "\n".join(head + chapter)
        + """
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (40, 784))
model = VAE()
settings = {"epochs": 2, "batch_size": 20, "learning_rate": 0.001, "rng": rng}
history = list(train(model, images, images[:20], **settings))
z, _ = encode(model, images)
reconstructions_figure(scale(images[:3]), model.decode_pixels(z[:3]))
latent_scatter_figure(z.numpy(), np.arange(40) % 3)
manifold_figure(model.decode_pixels(manifold_codes()))
training_curves_figure(history)
print(neighbour_accuracy(z, np.arange(40) % 3, z, np.arange(40) % 3))
"""
    )
    (tmp_path / "chapter.py").write_text(program)  # for AutoGraph, which reads the source
    command = [sys.executable, tmp_path / "chapter.py"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 0 <= float(run.stdout) <= 1
