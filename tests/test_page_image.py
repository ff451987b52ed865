"""Image x: drawn or taken from the test set, encoded, with its losses and samples."""

import re

import keras
import numpy as np
import pytest
from helpers import ROOT, trained

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import (
    KNOWN_CODES,
    KNOWN_SIGMA,
    STRIP,
    STROKES,
    known_data,
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
    x = np.concatenate([np.linspace(-9, 9, 181), [-40, -1e-9, 1e-9, 40]])
    computed = open_page("known").js(
        f"{MODEL_JS}; return arguments[0].map(x => ACTIVATIONS[arguments[1]](x))",
        *(x.tolist(), name),
    )
    np.testing.assert_allclose(computed, keras.activations.get(name)(x), atol=1e-6)


# ---- Test images ---------------------------------------------------------------------------------


def test_the_page_opens_with_a_test_image_its_gaussian_and_its_reconstruction(open_page):
    page = open_page()
    model, data = trained("squared-error")
    x = data.x_test[:1]
    assert page.text("imageName") == f"Test image 1: {data.y_test[0]}"
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


def test_the_button_takes_the_first_40_test_images_in_turn_and_none_counts_itself(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)
    for number in [*range(40), 0]:
        assert page.text("imageName") == f"Test image {number + 1}: {data.y_test[number]}"
        if number % 8 == 0:
            expected = vote_of(z_mean[number], z_mean, data.y_test, skipped=number)
            assert page.text("vote") == expected
        page.click("example")


def test_after_a_training_the_button_begins_with_the_images_of_the_strip(open_page):
    page = open_page("known")
    for number in [*STRIP, 7]:
        assert page.text("imageName") == f"Test image {number + 1}: {number // 30}"
        page.click("example")


# ---- Drawings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_lands_in_the_middle_of_its_image_and_where_its_like_live(digit, open_page):
    page = open_page()
    model, data = trained("squared-error")
    page.draw(*STROKES[digit])
    assert page.text("imageName") == "Your drawing"
    z_mean, _ = model.encode(data.x_test)
    nearest = np.linalg.norm(z_mean - page.code(), axis=1).argsort()[:25]
    assert np.bincount(data.y_test[nearest]).argmax() == int(digit)
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


def test_on_paper_the_pad_is_white_and_the_image_of_a_stroke_has_bright_corners(open_page):
    page = open_page("paper")
    page.click("clear")
    assert page.image("pad")[40:].min() == 255
    assert page.image("encoded").min() == 255
    page.draw(*STROKES["1"])
    image = page.image("encoded")
    assert image[[0, 0, -1, -1], [0, -1, 0, -1]].min() == 255
    assert image[14, 14] == 0
    pad = page.image("pad")
    assert pad[len(pad) // 2, len(pad) // 2] == 0
    page.click("clear")
    page.click("example")
    np.testing.assert_array_equal(page.image("encoded").ravel(), 255 - known_data().x_test[0])


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


def test_a_kl_weight_other_than_1_stands_beside_the_kl_divergence_of_each_column(open_page):
    page = open_page("weighted")
    model, data = known_model(kl_weight=4.0), known_data()
    kl_of_all = np.array(vae_mnist.kl_divergence(*model.encode(data.x_test)))
    for number in STRIP:
        _, error, kl, loss = page.table()
        assert kl[0] == "+ 4 × KL"
        for column, expected in ((1, kl_of_all[number]), (2, np.mean(kl_of_all))):
            digits = len(kl[column].partition(".")[2])
            assert float(kl[column]) == pytest.approx(expected, abs=0.501 * 10**-digits)
            as_written = float(error[column]) + 4 * float(kl[column])
            assert f"{as_written:.1f}" == loss[column]
        page.click("example")


def test_a_pinned_code_elsewhere_makes_plain_that_the_losses_are_of_the_image(open_page):
    page = open_page()
    numbers = page.table()[1:]
    assert not page["back"].is_enabled()
    page.pin((0.7, 0.3))
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
    page = open_page("known", prefers_reduced_motion="reduce")
    epsilons = []
    for _ in range(60):
        page.click("sample")
        epsilons.append(sampled_epsilons(page))
    assert {len(drawn) for drawn in epsilons} == {8}
    epsilons = np.concatenate(epsilons)
    np.testing.assert_allclose(epsilons.mean(axis=0), 0, atol=0.16)
    np.testing.assert_allclose(np.cov(epsilons.T), np.eye(2), atol=0.25)


def test_samples_fly_from_the_prior_to_the_gaussian_of_the_image(open_page):
    page = open_page("known")
    page.click("sample")

    def rings():
        """The codes of the large circles of samples on their way."""
        ((_, places),) = page.discs(radius=3.2).items()
        origin, unit = page.place_of((0, 0))
        return (np.array(places) - origin) / unit * [1, -1]

    epsilons = rings()  # on the prior, where z = epsilon
    page.tick(300)
    np.testing.assert_allclose(rings(), epsilons, atol=1e-6)
    page.tick(300)
    z = KNOWN_CODES[0] + KNOWN_SIGMA * epsilons
    np.testing.assert_allclose(rings(), (epsilons + z) / 2, atol=0.02)  # half of the way
    assert "ε from the prior" in {row["text"] for row in page.drawn("text")}
    page.tick(299)
    assert page.discs(radius=3.2)
    page.tick(1)
    assert page.discs(radius=3.2) == {}
    np.testing.assert_allclose(sampled_epsilons(page), epsilons, atol=0.05)


def test_each_sample_is_a_ring_in_the_colour_of_codes_and_is_decoded(open_page):
    page = open_page("known")
    z = KNOWN_CODES[0] + KNOWN_SIGMA * sampled_epsilons(page)
    images = np.reshape(page.images("samples"), (8, 784))
    np.testing.assert_allclose(images, 255 * known_model().decode(z), atol=3)
    rings = [
        row
        for row in page.drawn("stroke")
        if row["path"] and row["path"][-1][0] == "arc" and row["path"][-1][3] == 2.5
    ]
    assert [row["colour"] for row in rings[1::2]] == 8 * [page.colour("accent")]
    names = page.js(
        "return [...document.querySelectorAll('#samples canvas')].map(c => c.ariaLabel)"
    )
    codes = [re.fullmatch(r"Decoded from \((.*), (.*)\)", name).groups() for name in names]
    codes = np.char.replace(codes, "\N{MINUS SIGN}", "-").astype(float)
    np.testing.assert_allclose(codes, z, atol=0.03)
    assert page.text("samples") == ""


def test_samples_move_with_the_gaussian_while_one_draws_and_again_draws_new_ones(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    page.draw([(0.2, 0.2), (0.8, 0.2)])
    first = sampled_epsilons(page)
    page.draw([(0.8, 0.2), (0.4, 0.8)])
    np.testing.assert_allclose(sampled_epsilons(page), first, atol=0.05)
    page.click("sample")
    assert np.abs(sampled_epsilons(page) - first).max() > 0.1
