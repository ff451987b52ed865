"""The page holds model and codes to the last bit, and nothing else gets into it."""

import re

import numpy as np
import pytest
from conftest import ROOT
from page_content import array, content_of, grey_levels

import explorer
import vae_mnist

HOSTILE = "</script><script>alert(1)</script><!-- \" ' & \udcff \u2028"
LOSSES = {"loss": 20.0, "reconstruction": 17.0, "kl": 3.0}


@pytest.fixture
def z_mean(model, data):
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    return z_mean


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
            "pixels": model.decode_pixels(z_mean[:40]),
            "image_losses": vae_mnist.image_losses(model, data.x_test[:40], epsilon=0),
            "losses": LOSSES,
            "reconstruction_loss": "squared-error",
            "kl_weight": 1.0,
            "edge": 1.6449,
        }
        return explorer.make_page(**arguments | changes)

    return make


def moments(codes):
    """How a plane unfolded, of the codes of every epoch: ten images, each of one grey level."""
    levels = np.linspace(0, 1, len(codes))
    return [(z, np.full((10, 784), level)) for z, level in zip(codes, levels, strict=True)]


def history_of(epochs):
    losses = {"validation_loss": 20.0, "validation_reconstruction": 17.0, "validation_kl": 3.0}
    return [{"epoch": epoch} | losses for epoch in range(1, epochs + 1)]


def test_weights_codes_labels_and_images_come_back_bit_for_bit(make_page, model, data, z_mean):
    content = content_of(make_page())
    parts = content["model"]
    steps = [step for part in ("shared", "mean", "logVariance", "decoder") for step in parts[part]]
    dense = [step for step in steps if "weights" in step]
    texts = [step[kind] for step in dense for kind in ("weights", "biases")]
    for text, expected in zip(texts, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array(text, "<f4"), expected.ravel())
    assert [step["activation"] for step in steps if step not in dense] == ["relu", "relu"]
    np.testing.assert_array_equal(array(content["codes"], "<f4").reshape(-1, 2), z_mean)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), data.y_test)
    images = array(content["images"], "u1").reshape(-1, 784)
    np.testing.assert_array_equal(images, data.x_test[: len(images)])
    assert len(images) == 40
    assert content["side"] == 28


def test_the_page_says_which_loss_and_how_the_test_images_do(make_page):
    content = content_of(make_page())
    assert content["reconstructionLoss"] == "squared-error"
    assert content["testLosses"] == LOSSES
    assert content["edge"] == 1.6449
    assert content["collapsed"] is False


# ---- The training --------------------------------------------------------------------------------


def unfolding_of(make_page, codes):
    unfolding = moments(codes)
    page = make_page(history=history_of(len(codes) - 1), unfolding=unfolding)
    return content_of(page)["unfolding"]


def test_codes_of_the_epochs_come_back_to_half_a_step(make_page):
    z = np.random.default_rng(0).standard_normal((50, 2), dtype=np.float32)
    codes = [0.1 * z, -2.0 * np.abs(z), z]
    content = unfolding_of(make_page, codes)
    assert content["images"] == 50
    assert content["step"] == pytest.approx(2 * np.abs(z).max() / 32767)
    numbers = array(content["codes"], "<i2").reshape(3, 50, 2)
    np.testing.assert_allclose(
        numbers * content["step"], codes, rtol=0, atol=0.501 * content["step"]
    )
    assert content["validationLosses"] == 2 * [{"loss": 20.0, "reconstruction": 17.0, "kl": 3.0}]


def test_codes_that_are_all_zero_come_back_as_zeros(make_page):
    content = unfolding_of(make_page, [np.zeros((5, 2))])
    assert content["step"] > 0
    assert not array(content["codes"], "<i2").any()


def test_a_long_training_keeps_the_codes_of_fewer_images(make_page, monkeypatch):
    monkeypatch.setattr(explorer, "UNFOLDING_CODES", 29)
    content = unfolding_of(make_page, 3 * [np.ones((50, 2))])
    assert content["images"] == 9
    assert len(array(content["codes"], "<i2")) == 3 * 9 * 2


def strip_levels(content):
    """The first grey level, from 0 to 1, of each image of the strips."""
    return grey_levels(content["strips"][::784]).reshape(-1, 10)


def test_the_strips_hold_the_pixels_of_each_epoch(make_page):
    content = unfolding_of(make_page, 4 * [np.ones((50, 2))])
    assert content["stripEpochs"] == [0, 1, 2, 3]
    assert len(content["strips"]) == 4 * 10 * 784
    np.testing.assert_allclose(strip_levels(content), np.outer([0, 1 / 3, 2 / 3, 1], np.ones(10)))


def test_of_many_epochs_51_strips_are_kept_from_the_first_to_the_last(make_page):
    content = unfolding_of(make_page, 201 * [np.ones((50, 2))])
    assert content["stripEpochs"] == list(range(0, 201, 4))
    assert strip_levels(content)[[0, -1], 0].tolist() == [0, 1]


def test_a_page_without_a_training_has_none_of_it(make_page):
    assert content_of(make_page())["unfolding"] is None


def test_epochs_without_their_codes_are_refused(make_page, z_mean):
    with pytest.raises(ValueError, match="before the training and after each epoch"):
        make_page(history=history_of(1), unfolding=moments([z_mean]))


# ---- The file ------------------------------------------------------------------------------------


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


def test_a_page_of_mnist_has_at_most_3_4_megabytes(make_page, data, z_mean):
    page = make_page(
        labels=np.tile(data.y_test, 10),
        z_mean=np.tile(z_mean, (10, 1)),
        history=history_of(50),
        unfolding=moments(51 * [np.tile(z_mean, (2, 1))]),
    )
    assert 3.2e6 < len(page) < 3.4e6


def test_a_number_that_json_does_not_know_is_a_bug(make_page):
    with pytest.raises(ValueError, match="JSON"):
        make_page(edge=float("nan"))


def test_labels_are_numbered_by_the_classes(make_page, data):
    labels = np.where(data.y_test == 0, 4, data.y_test)
    content = content_of(make_page(labels=10 + labels, classes=np.arange(10, 20)))
    assert content["classes"] == [str(label) for label in range(10, 20)]
    assert content["colours"] == list(vae_mnist.CLASS_COLOURS)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), labels)


def test_the_template_by_itself_says_how_to_get_the_page(make_page):
    template = (ROOT / "explorer" / "template.html").read_text()
    assert template.count("python vae_mnist.py") == 1
    assert template.count("<style></style>") == 1
    assert b"python vae_mnist.py" not in make_page()


# ---- The script's way to it ----------------------------------------------------------------------


def test_the_page_of_a_model_has_its_mean_codes_and_the_losses_there(model, data):
    content = content_of(vae_mnist.explorer_page(model, data))
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    np.testing.assert_array_equal(array(content["codes"], "<f4").reshape(-1, 2), z_mean)
    assert content["testLosses"] == vae_mnist.evaluate(model, data.x_test, epsilon=0)._asdict()
    assert content["edge"] == pytest.approx(1.6449, abs=1e-4)
    assert content["unfolding"] is None


def test_a_collapsed_model_says_so(model, data, monkeypatch):
    assert content_of(vae_mnist.explorer_page(model, data))["collapsed"] is False
    monkeypatch.setattr(vae_mnist, "COLLAPSED_KL", 100.0)
    assert content_of(vae_mnist.explorer_page(model, data))["collapsed"] is True


def test_only_the_base_name_of_a_path_is_told(model, data):
    page = vae_mnist.explorer_page(model, data._replace(name="/home/someone/secret/digits.npz"))
    assert content_of(page)["name"] == "digits.npz"
    assert b"secret" not in page


def test_the_page_module_knows_nothing_of_the_script():
    assert "import vae_mnist" not in (ROOT / "explorer" / "__init__.py").read_text()
