"""Image x: drawn or taken from the test set, encoded, with its losses and samples."""

import keras
import numpy as np
import pytest
from helpers import ROOT, trained

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import (
    KNOWN_CODES,
    KNOWN_SIGMA,
    STROKES,
    known_model,
    needs_browser,
    other_model,
    vote_of,
)
from scipy.special import expit
from selenium.webdriver.common.keys import Keys

import explorer.layers
import vae_mnist

pytestmark = needs_browser
MODEL_JS = (ROOT / "explorer" / "model.js").read_text("utf-8")

# ---- The model in the page -----------------------------------------------------------------------


def assert_page_computes(page, model, x):
    codes = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
    decoded = page.js("return arguments[0].map(z => [...vae.decode(z)])", codes.tolist())
    expected = model.decoder(codes).numpy()
    if model.reconstruction_loss == "cross-entropy":
        expected = expit(expected)
    np.testing.assert_allclose(decoded, expected, atol=1e-5)
    encoded = page.js("return arguments[0].map(x => vae.encode(x))", x.tolist())
    z_mean, z_log_sigma_sq = model.encoder(x)
    np.testing.assert_allclose([row["mean"] for row in encoded], z_mean, atol=1e-5)
    log_variances = [row["logVariance"] for row in encoded]
    np.testing.assert_allclose(log_variances, z_log_sigma_sq, atol=1e-5)


@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
def test_the_page_decodes_and_encodes_as_tensorflow_does(loss, open_page):
    model, data = trained(loss)
    assert_page_computes(open_page(loss), model, data.x_test[:50] / 255)


def test_a_page_of_other_layers_and_images_computes_what_the_model_does(open_page):
    model, data, _ = other_model()
    assert_page_computes(open_page("other layers"), model, data.x_test[:50] / 255)


@pytest.mark.parametrize("name", explorer.layers.ACTIVATIONS)
def test_every_activation_is_that_of_keras(name, open_page):
    shape = {"leaky_relu": {"negative_slope": 0.3}, "elu": {"alpha": 0.6}}.get(name, {})
    x = np.concatenate([np.linspace(-9, 9, 181), [-40, -1e-9, 1e-9, 40]])
    computed = open_page("known").js(
        f"{MODEL_JS}; return arguments[0].map(x => ACTIVATIONS[arguments[1]](x, arguments[2]))",
        *(x.tolist(), name, *shape.values()),
    )
    np.testing.assert_allclose(computed, keras.activations.get(name)(x, **shape), atol=1e-6)


# ---- Test images ---------------------------------------------------------------------------------


def test_the_page_opens_with_a_test_image_its_gaussian_and_its_reconstruction(open_page):
    page = open_page()
    model, data = trained("squared-error")
    number = explorer.Recorder(data.x_test, data.y_test).strip_images[0]
    x = data.x_test[number : number + 1]
    assert page.text("imageName") == f"Test image {number + 1}: {data.y_test[number]}"
    np.testing.assert_array_equal(page.image("encoded").ravel(), x[0])
    pad = page.image("pad")
    middles = (np.arange(28) + 0.5) * len(pad) / 28
    shown = pad[np.ix_(middles.astype(int), middles.astype(int))]
    np.testing.assert_array_equal(shown[5:].ravel(), x[0, 5 * 28 :])  # under what to do
    (mean,), (log_variance,) = model.encode(x)
    np.testing.assert_allclose(page.numbers("mu"), mean, atol=0.00501)
    np.testing.assert_allclose(page.numbers("sigma"), np.exp(log_variance / 2), atol=0.00501)
    np.testing.assert_allclose(page.numbers("code"), mean, atol=0.00501)
    decoded = model.decode(mean[None])[0]
    np.testing.assert_allclose(page.image("decoded").ravel(), 255 * decoded, atol=0.51)
    assert len(page.images("samples")) == 8


def test_test_images_come_in_the_order_of_the_strip_and_do_not_count_themselves(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)
    first = explorer.Recorder(data.x_test, data.y_test).strip_images
    order = [*first, *np.setdiff1d(np.arange(40), first)]
    for number in [*order, order[0]]:
        assert page.text("imageName") == f"Test image {number + 1}: {data.y_test[number]}"
        if number in order[::8]:
            expected = vote_of(z_mean[number], z_mean, data.y_test, skipped=number)
            assert page.text("vote") == expected
        page.click("example")


# ---- Drawings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_lands_in_the_middle_of_its_image_and_where_its_like_live(digit, open_page):
    page = open_page()
    page.draw(*STROKES[digit])
    assert page.text("imageName") == "Your drawing"
    assert page.text("vote").endswith(f"nearest test images are {digit}")
    image = page.image("encoded").astype(float)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    pixels = np.arange(28) + 0.5
    assert 13.4 < image.sum(axis=0) @ pixels / image.sum() < 14.6
    assert 13.4 < image.sum(axis=1) @ pixels / image.sum() < 14.6
    assert image.max() == 255


def test_a_dot_stays_a_dot_and_ink_beyond_the_edge_is_cut(open_page):
    page = open_page("known")
    page.draw([(0.2, 0.2)])
    assert 4 <= np.count_nonzero(page.image("encoded")) <= 25
    pad = page.image("pad")
    assert pad[round(0.2 * len(pad)), round(0.2 * len(pad))] == 255
    images = []
    for end in (0.995, 1.2):
        page.click("clear")
        page.draw([(0.5, 0.1), (0.5, 0.9)], [(0.5, 0.5), (end, 0.5)])
        images.append(page.image("encoded"))
    np.testing.assert_allclose(*images, atol=30)


def test_nothing_of_a_drawing_is_left_after_clear(open_page):
    page = open_page()
    page.draw(*STROKES["1"])
    expected = page.image("encoded"), page.code().tolist()
    page.draw(*STROKES["0"])
    assert len(page.drawn("stroke", "pad")) == 2
    page.click("clear")
    assert page.text("imageName") == "Draw, or take a test image."
    for name in ("mu", "sigma", "ownError", "ownKl", "ownLoss"):
        assert page.text(name) == "–"
    for name in ("encoded", "error"):
        assert not page.image(name).any()
    assert page.image("pad")[40:].max() == 0
    assert page.images("samples") == []
    assert len(page.ellipses()) == 0
    assert not page["sample"].is_enabled()
    assert not page["back"].is_enabled()
    page.draw(*STROKES["1"])
    np.testing.assert_array_equal(page.image("encoded"), expected[0])
    assert page.code().tolist() == expected[1]
    page.click("example")
    assert page.drawn("stroke", "pad") == []
    page.draw(*STROKES["1"])  # and nothing of a test image under a drawing
    np.testing.assert_array_equal(page.image("encoded"), expected[0])


def test_a_second_finger_does_not_draw(open_page):
    page = open_page("known", 390, 844, touch=True)
    page.click("clear")
    left, top, right, bottom = page.box("pad")
    first, second = (left + 30, top + 30), (right - 30, bottom - 30)
    page.touch("touchStart", first)
    page.touch("touchStart", first, second)
    page.touch("touchMove", (left + 30, bottom - 30), (right - 30, top + 30))
    page.touch("touchEnd")
    columns = np.flatnonzero(page.image("encoded").any(axis=0))
    assert np.ptp(columns) < 6  # a vertical line


def test_clear_in_the_middle_of_a_stroke_ends_it(open_page):
    page = open_page("known")
    chain, move_to = page.pointer("pad")
    move_to((0.3, 0.3))
    chain.click_and_hold().perform()
    page.keys("clear", Keys.ENTER)
    page.move((0.6, 0.6), "pad")
    assert not page.image("encoded").any()
    chain.release().perform()


def test_the_pen_is_up_when_the_button_was_released_elsewhere(open_page):
    page = open_page("known")
    page.click("clear")
    page.press_and_lose("pad")
    assert np.count_nonzero(page.image("encoded")) <= 25  # a dot


# ---- Losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
def test_the_losses_of_an_image_are_expectations_over_its_gaussian(loss, open_page):
    page = open_page(loss)
    model, data = trained(loss)
    for _ in range(3):
        number = int(page.text("imageName").split()[2][:-1]) - 1
        x = np.repeat(data.x_test[number : number + 1], 2000, axis=0) / np.float32(255)
        epsilon = np.random.default_rng(0).standard_normal((2000, 2), np.float32)
        reconstruction, kl = (np.mean(terms) for terms in model.loss_terms(x, epsilon))
        assert float(page.text("ownError")) == pytest.approx(reconstruction, rel=0.015, abs=0.1)
        assert float(page.text("ownKl")) == pytest.approx(kl, abs=0.0501)
        z = vae_mnist.sample_latent(*model.encoder(x), epsilon)
        raw = model.decoder(z).numpy()
        of_pixels = (raw - x) ** 2 / 2
        if loss == "cross-entropy":
            of_pixels = np.logaddexp(raw, 0) - raw * x
        white = {"squared-error": 0.5, "cross-entropy": 2 * np.log(2)}[loss]
        levels = 255 * np.clip(of_pixels.mean(axis=0) / white, 0, 1)
        np.testing.assert_allclose(page.image("error").ravel(), levels, atol=6)
        page.click("example")


def test_the_table_says_what_its_numbers_are_and_each_column_adds_up(open_page):
    page = open_page()
    model, data = trained("squared-error")
    epsilon = np.random.default_rng(0).standard_normal((len(data.x_test), 2), np.float32)
    reconstruction, kl = (np.mean(terms) for terms in model.image_losses(data.x_test, epsilon))
    means = [reconstruction, kl, reconstruction + kl]
    for _ in range(40):
        head, *rows = page.table()
        assert head == ["nats", "image x", "test mean"]
        assert [row[0] for row in rows] == ["reconstruction", "+ KL", "= loss"]
        for column in (1, 2):
            reconstruction, kl, loss = (float(row[column]) for row in rows)
            assert reconstruction + kl == pytest.approx(loss, abs=1e-9)
        np.testing.assert_allclose([float(row[2]) for row in rows], means, atol=0.1001)
        page.click("example")


def test_a_kl_weight_other_than_1_is_a_factor_in_the_table(open_page):
    page = open_page("weighted")
    for _ in range(10):
        _, error, kl, loss = page.table()
        for column in (1, 2):
            factor, term = kl[column].split(" = ")
            weight, divergence = factor.split(" × ")
            assert weight == "4"
            assert f"{4 * float(divergence):.1f}" == term
            assert float(error[column]) + float(term) == pytest.approx(float(loss[column]))
        page.click("example")


def test_a_pinned_code_elsewhere_makes_plain_that_the_losses_are_of_the_image(open_page):
    page = open_page()
    numbers = page.table()[1:]
    assert not page["back"].is_enabled()
    page.click("plane", (0.7, 0.3))
    assert page.text("outputTitle") == "Decoded from z"
    assert page.table()[0][0] == "of x, not of z"
    assert page.text("samplesText") == "of image x, not of z"
    assert page.table()[1:] == numbers
    quiet, usual = (
        page.js("return getComputedStyle(arguments[0]).color", page[name])
        for name in ("ownLoss", "imageName")
    )
    assert quiet != usual
    page.click("back")
    assert page.text("outputTitle") == "Reconstruction x̂"
    assert page.table()[0][0] == "nats"
    assert "decoded" in page.text("samplesText")
    np.testing.assert_allclose(page.numbers("code"), page.numbers("mu"))


# ---- Samples -------------------------------------------------------------------------------------


def sampled_epsilons(page):
    """The noise of the eight samples, by where their small circles are on the known page."""
    places = [
        row["path"][-1][1:3]
        for row in page.drawn("fill")
        if row["path"][-1][0] == "arc" and row["path"][-1][3] == pytest.approx(1.7)
    ]
    centre = page.pin_place()  # which is at the mean
    return (np.array(places) - centre) / page.ellipses()[0, 2:] * [1, -1]


def test_eight_samples_are_drawn_from_the_gaussian_of_the_image(open_page):
    page = open_page("known")
    epsilons = []
    for _ in range(60):
        page.click("sample")
        epsilons.append(sampled_epsilons(page))
    assert {len(drawn) for drawn in epsilons} == {8}
    epsilons = np.concatenate(epsilons)
    np.testing.assert_allclose(epsilons.mean(axis=0), 0, atol=0.16)
    np.testing.assert_allclose(np.cov(epsilons.T), np.eye(2), atol=0.25)


def test_each_sample_is_decoded_and_has_the_class_around_its_code(open_page):
    page = open_page("known")
    decoder = known_model()
    z = KNOWN_CODES[0] + KNOWN_SIGMA * sampled_epsilons(page)
    images = np.reshape(page.images("samples"), (8, 784))
    np.testing.assert_allclose(images, 255 * decoder.decode(z), atol=3)
    captions = page.text("samples").split()
    labels = np.repeat([0, 1, 2], 30)
    assert captions == [vote_of(code, KNOWN_CODES, labels).split()[-1] for code in z]
    names = page.js(
        "return [...document.querySelectorAll('#samples canvas')].map(c => c.ariaLabel)"
    )
    for name, caption in zip(names, captions, strict=True):
        assert name.startswith("Decoded from (")
        assert name.endswith(f"where class {caption} is near")


def test_samples_move_with_the_gaussian_while_one_draws_and_again_draws_new_ones(open_page):
    page = open_page("known")
    page.draw([(0.2, 0.2), (0.8, 0.2)])
    first = sampled_epsilons(page)
    page.draw([(0.8, 0.2), (0.4, 0.8)])
    np.testing.assert_allclose(sampled_epsilons(page), first, atol=0.05)
    page.click("sample")
    assert np.abs(sampled_epsilons(page) - first).max() > 0.1
