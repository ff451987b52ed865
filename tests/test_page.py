"""The page to explore the plane holds the model to the last bit, and nothing else gets into it."""

import re

import keras
import numpy as np
import pytest
from conftest import ROOT
from page_content import array, content_of

import explorer
import vae_mnist

HOSTILE = "</script><script>alert(1)</script><!-- \" ' & \udcff \u2028"
LOSSES = {"loss": 20.0, "reconstruction": 17.0, "kl": 3.0}


@pytest.fixture(scope="module")
def z_mean():
    return np.random.default_rng(0).standard_normal((1000, 2), dtype=np.float32)


@pytest.fixture
def make_page(model, data, z_mean):
    """Makes a page of an untrained model, with some arguments replaced."""

    def make(**changes):
        arguments = {
            "encoder": model.encoder,
            "decoder": model.decoder,
            "name": "MNIST",
            "images": data.x_test,
            "labels": data.y_test,
            "classes": data.classes,
            "colours": vae_mnist.CLASS_COLOURS,
            "z_mean": z_mean,
            "losses": LOSSES,
            "reconstruction_loss": "squared-error",
            "kl_weight": 1.0,
            "square": 1.6449,
        }
        return explorer.make_page(**arguments | changes)

    return make


def test_weights_codes_labels_and_images_come_back_bit_for_bit(make_page, model, data, z_mean):
    content = content_of(make_page())
    layers = ("h1", "z_mean", "z_log_sigma_sq", "h2", "reconstruction")
    names = [f"{layer}/{part}" for layer in layers for part in ("kernel", "bias")]
    for name, expected in zip(names, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array(content["weights"][name], "<f4"), expected.ravel())
    np.testing.assert_array_equal(array(content["codes"], "<f4").reshape(-1, 2), z_mean)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), data.y_test)
    images = array(content["images"], "u1").reshape(-1, 784)
    np.testing.assert_array_equal(images, data.x_test[: len(images)])
    assert len(images) == 40


def test_the_page_says_which_loss_and_how_the_test_images_do(make_page):
    content = content_of(make_page())
    assert content["reconstructionLoss"] == "squared-error"
    assert content["testLosses"] == LOSSES
    assert content["square"] == 1.6449


def test_codes_of_the_epochs_come_back_to_half_a_step(make_page, z_mean):
    unfolding = [0.1 * z_mean[:50], -2.0 * np.abs(z_mean[:50]), z_mean[:50]]
    losses = {"validation_loss": 20.0, "validation_reconstruction": 17.0, "validation_kl": 3.0}
    history = [{"epoch": epoch} | losses for epoch in (1, 2)]
    content = content_of(make_page(history=history, unfolding=unfolding))["unfolding"]
    assert content["images"] == 50
    assert content["step"] == pytest.approx(2 * np.abs(z_mean[:50]).max() / 32767)
    numbers = array(content["codes"], "<i2").reshape(3, 50, 2)
    np.testing.assert_allclose(
        numbers * content["step"], unfolding, rtol=0, atol=0.501 * content["step"]
    )
    assert content["validationLosses"] == 2 * [{"loss": 20.0, "reconstruction": 17.0, "kl": 3.0}]


def test_codes_that_are_all_zero_come_back_as_zeros(make_page):
    content = content_of(make_page(unfolding=[np.zeros((5, 2))]))["unfolding"]
    assert content["step"] > 0
    assert not array(content["codes"], "<i2").any()


def test_a_page_without_a_training_has_none_of_it(make_page):
    assert content_of(make_page())["unfolding"] is None


def test_epochs_without_their_codes_are_refused(make_page, z_mean):
    with pytest.raises(ValueError, match="before the training and after each epoch"):
        make_page(history=[{"epoch": 1}], unfolding=[z_mean])


@pytest.mark.parametrize("shape", [(1000, 3), (999, 2)])
def test_codes_that_are_not_of_the_test_images_are_refused(shape, make_page):
    with pytest.raises(ValueError, match="reshape"):
        make_page(z_mean=np.zeros(shape, np.float32))


@pytest.mark.parametrize("field", ["name", "class"])
def test_a_hostile_text_stays_text(field, make_page):
    if field == "name":
        assert content_of(make_page(name=HOSTILE))["name"] == HOSTILE
    else:
        classes = np.array([HOSTILE, *map(str, range(1, 10))], dtype=object)
        page = make_page(classes=classes, labels=classes[np.arange(1000) % 10])
        assert content_of(page)["classes"][0] == HOSTILE


def test_the_page_has_no_address_and_forbids_the_network(make_page):
    page = make_page().decode()
    assert "content=\"default-src 'none';" in page
    without_base64 = re.sub(r'"[A-Za-z0-9+/=]{100,}"', "", page)
    assert not re.findall(r"https?:|src=|href=|url\(|@import|fetch\(|XMLHttp", without_base64)


def test_equal_content_gives_equal_bytes(make_page):
    assert make_page() == make_page()


def test_a_page_of_mnist_has_at_most_3_2_megabytes(make_page, data):
    codes = np.zeros((10_000, 2), np.float32)
    losses = dict.fromkeys(("validation_loss", "validation_reconstruction", "validation_kl"), 1.0)
    page = make_page(
        labels=np.tile(data.y_test, 10),
        z_mean=codes,
        history=50 * [losses],
        unfolding=51 * [codes[:2000]],
    )
    assert len(page) < 3.2e6


def test_a_number_that_json_does_not_know_is_a_bug(make_page):
    with pytest.raises(ValueError, match="JSON"):
        make_page(losses=LOSSES | {"loss": float("nan")})


def test_labels_are_numbered_by_the_classes(make_page, data):
    labels = np.where(data.y_test == 0, 4, data.y_test)
    content = content_of(make_page(labels=10 + labels, classes=np.arange(10, 20)))
    assert content["classes"] == [str(label) for label in range(10, 20)]
    assert content["colours"] == list(vae_mnist.CLASS_COLOURS)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), labels)


def test_the_template_by_itself_says_how_to_get_the_page():
    template = (ROOT / "explorer" / "template.html").read_bytes()
    assert content_of(template) is None
    assert template.count(b">null<") == 1
    assert b"python vae_mnist.py" in template


# ---- Models that the page can't run --------------------------------------------------------------


def changed(model, **activations):
    """The model with the activations of some layers replaced."""
    for part in (model.encoder, model.decoder):
        for layer in part.layers:
            if layer.name in activations:
                layer.activation = keras.activations.get(activations[layer.name])
    return model


@pytest.mark.parametrize(
    ("layer", "activation", "part"),
    [
        ("h1", "tanh", "encoder"),
        ("z_mean", "tanh", "encoder"),
        ("z_log_sigma_sq", "softplus", "encoder"),
        ("h2", "tanh", "decoder"),
        ("reconstruction", "sigmoid", "decoder"),
    ],
)
def test_a_model_that_computes_something_else_is_refused(layer, activation, part, model, make_page):
    changed(model, **{layer: activation})
    with pytest.raises(explorer.PageError, match=f"the {part} computes something else than the"):
        make_page()


def test_a_model_of_other_layers_is_refused(make_page):
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(784, name="only")])
    with pytest.raises(explorer.PageError, match="knows only the original's layers, and h2 is non"):
        make_page(decoder=decoder)


def test_images_of_another_size_are_refused(make_page, data):
    images = np.zeros((1000, 1024), np.uint8)
    with pytest.raises(explorer.PageError, match="images of 784 pixels, not 1024"):
        make_page(images=images)


# ---- The script's way to it ----------------------------------------------------------------------


def test_the_page_of_a_model_has_its_mean_codes_and_the_losses_there(model, data):
    content = content_of(vae_mnist.explorer_page(model, data))
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    np.testing.assert_array_equal(array(content["codes"], "<f4").reshape(-1, 2), z_mean)
    assert content["testLosses"] == vae_mnist.evaluate(model, data.x_test, epsilon=0)._asdict()
    assert content["square"] == pytest.approx(1.6449, abs=1e-4)
    assert content["unfolding"] is None


def test_only_the_base_name_of_a_path_is_told(model, data):
    page = vae_mnist.explorer_page(model, data._replace(name="/home/someone/secret/digits.npz"))
    assert content_of(page)["name"] == "digits.npz"
    assert b"secret" not in page


def test_the_page_module_knows_nothing_of_the_script():
    assert "vae_mnist" not in (ROOT / "explorer" / "__init__.py").read_text()
