"""The training: its epochs on the plane, its losses, and the replay of an image."""

import time

import numpy as np
import pytest

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import (
    EARLIER,
    KNOWN_CODES,
    KNOWN_SIGMA,
    STRIP,
    STROKES,
    clouds,
    images_of,
    known_model,
    needs_browser,
    sigma_of_epoch,
    strip_of_epoch,
)
from selenium.webdriver.common.keys import Keys

pytestmark = needs_browser
TRAINED = 3  # of the known page: after the epochs 0, 1 and 2


def set_epoch(page, epoch):
    page.keys("epoch", Keys.HOME, *epoch * [Keys.ARROW_RIGHT])


def test_the_slider_shows_the_dots_of_each_epoch_and_then_of_the_trained_model(open_page):
    page = open_page("known")
    assert int(page["epoch"].get_property("max")) == TRAINED
    for epoch, places in enumerate(EARLIER):
        set_epoch(page, epoch)
        np.testing.assert_allclose(page.dots(), clouds(places), atol=0.02)
    set_epoch(page, TRAINED)
    np.testing.assert_allclose(page.dots(), KNOWN_CODES, atol=0.02)


def test_between_two_epochs_dots_and_gaussian_are_on_a_straight_line(open_page):
    page = open_page("known")
    page.click("unfold")
    frames = [page.js("return [drawn.base, drawn.plane]") for _ in range(12)]
    page.click("unfold")
    first, second = (page.place_of(clouds(places)[0])[0] for places in EARLIER[:2])
    first_sigma, second_sigma = (page.place_of((0, 0))[1] * sigma_of_epoch(e) for e in (0, 1))
    parts = []
    for base, marks in frames:
        dot = np.array([row["path"] for row in base if row["kind"] == "fill"][1][-1][1:3])
        strokes = [row["path"] for row in marks if row["kind"] == "stroke" and row["path"]]
        ellipse = next(path[0] for path in strokes if path[0][0] == "ellipse")
        part = (dot - first) / (second - first)
        if 0 < part[0] < 0.97:
            parts.append(part[0])
            assert part[0] == pytest.approx(part[1], abs=0.03)
            np.testing.assert_allclose(ellipse[1:3], dot, atol=1)
            sigma = first_sigma ** (1 - part[0]) * second_sigma ** part[0]
            np.testing.assert_allclose(ellipse[3:5], sigma, rtol=0.05)
    assert parts  # it is seen on the way
    assert (np.diff(parts) >= 0).all()


def test_epoch_and_losses_are_written_with_sums_that_are_right_and_read_aloud(open_page):
    page = open_page("known")
    texts = []
    for epoch in range(TRAINED + 1):
        set_epoch(page, epoch)
        texts.append(f"{page.text('epochText')}: {page.text('losses')}")
        spoken = page["epoch"].get_attribute("aria-valuetext")
        assert spoken.replace("\N{MINUS SIGN}", "-") == texts[-1]
    table = [row[2] for row in page.table()[1:]]
    assert texts == [
        "Epoch 0: random initial weights",
        "Epoch 1: validation loss 20.9 = reconstruction 17.6 + KL 3.3",
        "Epoch 2: validation loss 19.9 = reconstruction 16.6 + KL 3.3",
        f"Trained: test loss {table[2]} = reconstruction {table[0]} + KL {table[1]}",
    ]


def test_the_kl_weight_of_each_epoch_is_written_with_its_product(open_page):
    page = open_page("weighted")
    texts = []
    for epoch in (1, 2):
        set_epoch(page, epoch)
        texts.append(page.text("losses"))
    assert texts == [
        "validation loss 17.7 = reconstruction 17.6 + KL 0.1 (0.5 × 0.26)",
        "validation loss 18.6 = reconstruction 17.6 + KL 1.0 (4 × 0.26)",
    ]


def test_the_curve_has_the_validation_loss_of_each_epoch_and_a_dot_at_the_shown_one(open_page):
    page = open_page("known")
    for epoch in (1, 2):
        set_epoch(page, epoch)
        (line,) = page.drawn("stroke", "curve")
        (dot,) = page.drawn("fill", "curve")
        points = [step[1:3] for step in line["path"]]
        assert len(points) == 2
        assert points[0][0] < points[1][0]
        assert points[0][1] < points[1][1]  # the loss falls
        np.testing.assert_allclose(dot["path"][0][1:3], points[epoch - 1], atol=0.5)
    set_epoch(page, TRAINED)
    assert page.drawn("fill", "curve") == []
    assert [row["text"] for row in page.drawn("text", "curve")] == ["validation loss"]


# ---- The replay ----------------------------------------------------------------------------------


def test_an_epoch_shows_the_gaussian_and_the_reconstruction_that_an_image_had_then(open_page):
    page = open_page("known")
    page.click("example")
    for place in (1, 4):
        for epoch in (0, 1, 2):
            set_epoch(page, epoch)
            mean = clouds(EARLIER[epoch])[STRIP[place]]
            sigma = sigma_of_epoch(epoch)
            np.testing.assert_allclose(page.numbers("mu"), mean, atol=0.00501)
            np.testing.assert_allclose(page.numbers("sigma"), sigma, atol=0.00501)
            centre, scale = page.place_of(mean)
            np.testing.assert_allclose(page.ellipses()[0], [*centre, *(scale * sigma)], atol=1.5)
            np.testing.assert_allclose(page.pin_place(), centre, atol=1.5)
            level = 255 * strip_of_epoch(epoch)[place, 0]
            np.testing.assert_allclose(page.image("decoded"), level, atol=1)
            assert page.text("code") == f"z = μ at epoch {epoch}"
        set_epoch(page, TRAINED)
        for _ in range(3):
            page.click("example")


def test_what_is_not_kept_of_an_epoch_is_empty_and_says_so(open_page):
    page = open_page("known")
    page.click("images")
    page.click("fresh")
    set_epoch(page, 1)
    assert page["codes"].is_selected()
    assert not page["images"].is_enabled()
    assert page.images("samples") == []
    assert page.text("samples") == ""
    assert page.text("samplesText") == "not recorded for earlier epochs"
    assert [row[1] for row in page.table()[1:]] == 3 * ["–"]
    assert page.table()[0][0] == "not recorded"
    assert not page.image("error").any()
    assert (page.text("vote"), page.text("bar")) == ("", "")
    assert not page["keep"].is_enabled()
    assert not page["sample"].is_enabled()
    set_epoch(page, TRAINED)
    assert page["images"].is_selected()


def test_the_replay_says_which_image_it_shows_and_the_drawing_returns(open_page):
    page = open_page("known")
    set_epoch(page, 1)
    assert page.text("hint") == "The first 60 test images at epoch 1."
    set_epoch(page, TRAINED)
    assert not page["hint"].is_displayed()
    page.draw(*STROKES["7"])
    drawing, code, pad = page.image("encoded"), page.code(), page["pad"].screenshot_as_base64
    set_epoch(page, 1)
    assert page.text("hint") == (
        "The first 60 test images at epoch 1. The replay shows test image 1; your drawing returns "
        "after the last epoch."
    )
    assert page.text("imageName") == "Test image 1: 0"
    np.testing.assert_array_equal(page.image("encoded").ravel(), images_of(KNOWN_CODES)[0])
    assert page["pad"].screenshot_as_base64 != pad
    set_epoch(page, TRAINED)
    assert page.text("imageName") == "Your drawing"
    np.testing.assert_array_equal(page.image("encoded"), drawing)
    np.testing.assert_array_equal(page.code(), code)
    assert page["pad"].screenshot_as_base64 == pad


def test_drawing_pinning_and_pressing_the_plane_return_to_the_trained_model(open_page):
    page = open_page("known")
    for act in (
        lambda: page.draw([(0.3, 0.3), (0.6, 0.6)]),
        lambda: page.click("plane", (0.5, 0.5)),
        lambda: page.click("fresh"),
        lambda: page.click("back"),
        lambda: page.keys("plane", Keys.ARROW_UP),
        lambda: page.click("example"),
        lambda: page.click("clear"),
    ):
        set_epoch(page, 1)
        assert page.text("epochText") == "Epoch 1"
        act()
        assert page.text("epochText") == "Trained"
        np.testing.assert_allclose(page.dots(), KNOWN_CODES, atol=0.02)


def test_a_stroke_at_an_earlier_epoch_starts_a_new_drawing(open_page):
    page = open_page("known")
    page.draw(*STROKES["1"])
    expected = page.image("encoded")
    page.draw(*STROKES["0"])
    set_epoch(page, 1)
    page.draw(*STROKES["1"])
    np.testing.assert_array_equal(page.image("encoded"), expected)


def test_the_training_plays_from_the_start_to_the_trained_model(open_page):
    page = open_page("known")
    page.click("unfold")
    assert page.text("unfold") == "❚❚ Pause"
    seen = []
    while page.text("unfold") == "❚❚ Pause":
        seen.append(page.text("epochText"))
        time.sleep(0.05)
    assert list(dict.fromkeys(seen))[:3] == ["Epoch 0", "Epoch 1", "Epoch 2"]
    page.settle()
    assert (page.text("unfold"), page.text("epochText")) == ("▶ Play training", "Trained")


def test_a_paused_training_stands_at_a_whole_epoch_and_goes_on_from_there(open_page):
    page = open_page("known")
    page.click("unfold")
    page.wait_for("document.getElementById('epoch').value === '1'")
    page.click("unfold")
    epoch = int(page["epoch"].get_property("value"))
    np.testing.assert_allclose(page.dots(), clouds(EARLIER[epoch]), atol=0.02)
    time.sleep(0.2)
    assert int(page["epoch"].get_property("value")) == epoch
    page.click("unfold")
    page.settle()
    assert int(page["epoch"].get_property("value")) >= epoch


def test_with_reduced_motion_the_training_goes_on_by_clicks(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    assert page.text("unfold") == "Next epoch"
    seen = []
    for _ in range(5):
        page.click("unfold")
        time.sleep(0.1)
        seen.append(page.text("epochText"))
    assert seen == ["Epoch 0", "Epoch 1", "Epoch 2", "Trained", "Epoch 0"]


def test_all_dots_and_the_shown_code_lie_within_the_axes_at_every_epoch(open_page):
    page = open_page("far")
    width = page.js("return plane.clientWidth")
    for epoch in (0, 1, 2):
        set_epoch(page, epoch)
        for places in page.dots_by_colour().values():
            assert np.min(places) >= 0
            assert np.max(places) <= width
            assert np.min(places, axis=0)[0] >= 2.2 * 16
        page.click("zoom")
        assert page.pin_place()[0] >= 2.2 * 16 + 6
        page.click("zoom")


# ---- The strip -----------------------------------------------------------------------------------


def test_the_strip_has_test_images_over_their_reconstructions_at_the_epoch(open_page):
    page = open_page("known")
    images = images_of(KNOWN_CODES)[STRIP].reshape(10, 28, 28)
    for epoch in (0, 1, 2):
        set_epoch(page, epoch)
        strip = page.image("strip")
        np.testing.assert_array_equal(strip[:28], np.hstack(images))
        levels = np.repeat(255 * strip_of_epoch(epoch)[:, 0], 28)
        np.testing.assert_allclose(strip[28:], np.tile(levels, (28, 1)), atol=1)
        assert page["strip"].get_attribute("aria-label").endswith(f"at epoch {epoch}")
    set_epoch(page, TRAINED)
    decoded = 255 * known_model().decode(KNOWN_CODES[STRIP])
    expected = np.hstack(decoded.reshape(10, 28, 28))
    np.testing.assert_allclose(page.image("strip")[28:], expected, atol=2)
    assert page["strip"].get_attribute("aria-label").endswith("by the trained model")


def test_a_click_in_the_strip_takes_that_image_and_stays_at_the_epoch(open_page):
    page = open_page("known")
    page.draw(*STROKES["1"])
    page.click("strip", (0.15, 0.7))
    assert page.text("imageName") == f"Test image {STRIP[1] + 1}: 1"
    np.testing.assert_allclose(page.code(), KNOWN_CODES[STRIP[1]], atol=0.01)
    np.testing.assert_allclose(page.numbers("sigma"), KNOWN_SIGMA)
    set_epoch(page, 1)
    page.click("strip", (0.97, 0.2))
    assert page.text("imageName") == f"Test image {STRIP[9] + 1}: 0"
    assert page.text("epochText") == "Epoch 1"
    np.testing.assert_allclose(page.numbers("mu"), clouds(EARLIER[1])[STRIP[9]], atol=0.00501)


def test_a_page_without_a_training_has_no_control_of_it(open_page):
    page = open_page("squared-error")
    assert not page["training"].is_displayed()
    page.click("plane", (0.5, 0.5))
    assert " nearest test images are " in page.text("vote")
