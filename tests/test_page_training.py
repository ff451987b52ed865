"""The training: its epochs on the plane, its losses, and the replay of an image."""

import numpy as np
import pytest

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import (
    EARLIER,
    FAR,
    KNOWN_CODES,
    KNOWN_SIGMA,
    STRIP,
    STROKES,
    clouds,
    images_of,
    known_model,
    losses_of_epoch,
    needs_browser,
    sigma_of_epoch,
    strip_losses_of_epoch,
    strip_of_epoch,
    vote_of,
)
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
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
    first, second = (page.place_of(clouds(places)[0])[0] for places in EARLIER[:2])
    first_sigma, second_sigma = (page.place_of((0, 0))[1] * sigma_of_epoch(e) for e in (0, 1))
    page.click("unfold")
    for part in (0.25, 0.5, 0.75):
        page.tick(250)  # a quarter of an epoch
        dot = np.array(page.drawn("fill", "base")[1]["path"][-1][1:3])
        np.testing.assert_allclose(dot, first + part * (second - first), atol=0.5)
        ellipse = page.ellipses()[0]
        np.testing.assert_allclose(ellipse[:2], dot, atol=1)
        sigma = first_sigma ** (1 - part) * second_sigma**part
        np.testing.assert_allclose(ellipse[2:], sigma, rtol=0.01)
        np.testing.assert_allclose(page.pin_place(), dot, atol=1)


def test_epoch_and_losses_are_written_with_sums_that_are_right_and_read_aloud(open_page):
    page = open_page("known")
    texts = []
    for epoch in range(TRAINED + 1):
        set_epoch(page, epoch)
        texts.append(f"{page.text('epochText')}: {page.text('losses')}")
        spoken = page["epoch"].get_attribute("aria-valuetext")
        assert spoken.replace("\N{NO-BREAK SPACE}", " ") == texts[-1]
    assert texts == [
        "Epoch 0: random initial weights",
        "Epoch 1: validation loss 20.9 = reconstruction 17.6 + KL 3.3",
        "Epoch 2: validation loss 19.9 = reconstruction 16.6 + KL 3.3",
        "Trained: after 2 epochs",
    ]


def test_the_kl_weight_of_each_epoch_is_written_with_its_product(open_page):
    page = open_page("weighted")
    texts = []
    for epoch in (1, 2):
        set_epoch(page, epoch)
        texts.append(page.text("losses"))
    assert texts == [
        "validation loss 17.7 = reconstruction 17.6 + 0.5 × KL 0.26",
        "validation loss 18.6 = reconstruction 17.6 + 4 × KL 0.26",
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
    texts = [row["text"] for row in page.drawn("text", "curve")]
    first, last = (f"{losses_of_epoch(epoch)['loss']:.1f}" for epoch in (1, 2))
    assert texts == [first, last, "validation loss"]


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
            assert np.unique(page.image("decoded")) == strip_of_epoch(epoch)[place, 0]
            assert page.text("code") == f"z = μ at epoch {epoch}"
        set_epoch(page, TRAINED)
        for _ in range(3):
            page.click("example")


@pytest.mark.parametrize("place", [0, 1])
def test_the_right_side_shows_what_the_model_made_of_the_image_at_an_epoch(place, open_page):
    page = open_page("known")
    page.click("fresh")
    take_from_strip(page, place)
    x = images_of(KNOWN_CODES)[STRIP[place]] / 255
    labels = np.repeat([0, 1], 30)
    for epoch in (0, 1, 2):
        set_epoch(page, epoch)
        codes = clouds(EARLIER[epoch])
        mean, sigma = codes[STRIP[place]], sigma_of_epoch(epoch)
        assert page.text("outputTitle") == "Reconstruction x̂"
        assert page.text("vote") == vote_of(mean, codes, labels, skipped=STRIP[place])
        head, (_, reconstruction, *_), (name, kl, *_), (_, loss, *_) = page.table()
        assert {row[2] for row in page.table()[1:]} == {"–"}  # those are of the trained model
        assert (head[:2], name) == (["nats", "image x"], "+ KL")
        expected = np.sum(mean**2 + sigma**2 - 1 - np.log(sigma**2)) / 2
        assert float(kl) == pytest.approx(expected, abs=0.0501)
        recorded = strip_losses_of_epoch(epoch)[place]
        assert float(reconstruction) == pytest.approx(recorded, abs=0.1001)
        assert float(loss) == pytest.approx(recorded + expected, abs=0.0501)
        of_pixels = (strip_of_epoch(epoch)[place] / 255 - x) ** 2 / 2
        np.testing.assert_allclose(page.image("error").ravel(), 255 * of_pixels / 0.5, atol=1)
        assert page.text("samplesTitle") == "Reconstructions"
        moments = ["at epoch 0", "at epochs 0 to 1", "at epochs 0 to 2"]
        assert page.text("samplesText") == moments[epoch]
        images = np.reshape(page.images("samples"), (-1, 784))
        strips = [strip_of_epoch(moment)[place] for moment in range(epoch + 1)]
        np.testing.assert_array_equal(images, strips)


def test_the_table_weighs_the_kl_divergence_as_the_epoch_did(open_page):
    page = open_page("weighted")
    heads = []
    for epoch in (1, 2, TRAINED):
        set_epoch(page, epoch)
        _, error, kl, loss = page.table()
        heads.append(kl[0])
        weight = [0.5, 4, 4][epoch - 1]
        as_written = float(error[1]) + weight * float(kl[1])
        assert as_written == pytest.approx(float(loss[1]), abs=0.0501)
    assert heads == ["+ 0.5 × KL", "+ 4 × KL", "+ 4 × KL"]


def test_at_an_epoch_there_is_no_layer_but_the_dots_and_nothing_to_keep_or_to_sample(open_page):
    page = open_page("known")
    page.click("images")
    set_epoch(page, 1)
    assert page["codes"].is_selected()
    for name in ("images", "posterior", "keep", "sample"):
        assert not page[name].is_enabled(), name
    set_epoch(page, TRAINED)
    assert page["images"].is_selected()
    for name in ("images", "posterior", "keep", "sample"):
        assert page[name].is_enabled(), name


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


def test_the_training_plays_a_second_for_each_epoch_from_the_start_to_the_trained_model(open_page):
    page = open_page("known")
    page.click("unfold")
    assert page.text("unfold") == "❚❚ Pause"
    seen = [page.text("epochText")]
    for _ in range(6):
        page.tick(499)
        seen.append(page.text("epochText"))
    assert seen == ["Epoch 0", "Epoch 0", "Epoch 1", "Epoch 1", "Epoch 2", "Epoch 2", "Epoch 2"]
    assert page.text("losses").startswith("validation loss 19.9 ")  # up to the end
    page.tick(6)
    assert (page.text("epochText"), page.text("losses")) == ("Trained", "after 2 epochs")
    assert page.text("unfold") == "▶ Play training"
    np.testing.assert_allclose(page.dots(), KNOWN_CODES, atol=0.02)


def test_what_is_said_over_the_plane_is_written_once_an_epoch(open_page):
    page = open_page("known")
    page.click("unfold")
    page.js(
        "window.written = []; const record = () => written.push(hint.textContent);"
        "new MutationObserver(record).observe(document.getElementById('hint'),"
        "{attributes: true, characterData: true, childList: true, subtree: true})"
    )
    for _ in range(24):
        page.tick(100)
    assert page.js("return written") == [f"The first 60 test images at epoch {e}." for e in (1, 2)]
    assert page["hint"].get_attribute("role") is None


def test_a_paused_training_stands_at_a_whole_epoch_and_goes_on_from_there(open_page):
    page = open_page("known")
    page.click("unfold")
    page.tick(1300)
    page.click("unfold")
    for _ in range(2):
        assert page.text("epochText") == "Epoch 1"
        np.testing.assert_allclose(page.dots(), clouds(EARLIER[1]), atol=0.02)
        page.tick(1000)
    page.click("unfold")
    page.tick(400)
    assert page.text("epochText") == "Epoch 1"
    page.tick(200)
    assert page.text("epochText") == "Epoch 2"


def test_a_hidden_page_pauses_the_training(open_page):
    page = open_page("known")
    page.click("unfold")
    page.tick(1300)
    tab = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.close()
    page.driver.switch_to.window(tab)
    page.settle()
    assert (page.text("unfold"), page.text("epochText")) == ("▶ Play training", "Epoch 1")
    np.testing.assert_allclose(page.dots(), clouds(EARLIER[1]), atol=0.02)


def epochs_by_clicks(page, button):
    """The epochs that five clicks show, with time for a motion after each."""
    seen = []
    for _ in range(5):
        page.click(button)
        page.tick(1000)
        seen.append(page.text("epochText"))
    return seen


def test_a_step_shows_the_next_epoch_and_after_the_last_begins_again(open_page):
    page = open_page("known")
    assert epochs_by_clicks(page, "step") == ["Epoch 0", "Epoch 1", "Epoch 2", "Trained", "Epoch 0"]
    page.click("unfold")
    page.tick(700)
    page.click("step")
    assert (page.text("epochText"), page.text("unfold")) == ("Epoch 1", "▶ Play training")


def test_with_reduced_motion_the_training_goes_on_by_clicks(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    assert page.text("unfold") == "Next epoch"
    assert not page["step"].is_displayed()
    assert epochs_by_clicks(page, "unfold") == [
        "Epoch 0",
        "Epoch 1",
        "Epoch 2",
        "Trained",
        "Epoch 0",
    ]


def test_reduced_motion_is_followed_when_it_is_switched_on_or_off(open_page):
    page = open_page("known")
    page.emulate(prefers_reduced_motion="reduce")
    page.settle()
    assert page.text("unfold") == "Next epoch"
    page.emulate()
    page.settle()
    assert page.text("unfold") == "▶ Play training"


def test_all_dots_and_the_shown_code_lie_within_the_axes_at_every_epoch(open_page):
    page = open_page("far")
    width = page.js("return plane.clientWidth")
    for epoch in range(len(FAR)):
        set_epoch(page, epoch)
        for places in page.dots_by_colour().values():
            assert np.min(places) >= 0
            assert np.max(places) <= width
            assert np.min(places, axis=0)[0] >= 2.2 * 16
        page.click("zoom")
        assert page.pin_place()[0] >= 2.2 * 16 + 3
        page.click("zoom")


# ---- The strip -----------------------------------------------------------------------------------


def take_from_strip(page, place):
    page["strip"].find_elements(By.TAG_NAME, "label")[place].click()
    page.settle()


def strip_choice(page):
    """The name of the radio button that is checked."""
    return page.js("return document.querySelector('#strip :checked')?.ariaLabel")


def test_the_strip_has_test_images_over_their_reconstructions_at_the_epoch(open_page):
    page = open_page("known")
    images = images_of(KNOWN_CODES)[STRIP].reshape(11, 28, 28)
    for epoch in (0, 1, 2):
        set_epoch(page, epoch)
        strip = np.array(page.images("strip"))
        np.testing.assert_array_equal(strip[:, :28], images)
        np.testing.assert_array_equal(strip[:, 28:].reshape(11, 784), strip_of_epoch(epoch))
        assert page["strip"].accessible_name.endswith(f"at epoch {epoch}")
    set_epoch(page, TRAINED)
    decoded = 255 * known_model().decode(KNOWN_CODES[STRIP]).reshape(11, 28, 28)
    np.testing.assert_allclose(np.array(page.images("strip"))[:, 28:], decoded, atol=2)
    assert page["strip"].accessible_name.endswith("by the trained model")


def test_a_click_in_the_strip_takes_that_image_and_stays_at_the_epoch(open_page):
    page = open_page("known")
    page.draw(*STROKES["1"])
    assert strip_choice(page) is None
    page.click("strip", (0.15, 0.7))
    assert page.text("imageName") == f"Test image {STRIP[1] + 1}: 1"
    assert strip_choice(page) == f"Test image {STRIP[1] + 1}: 1"
    np.testing.assert_allclose(page.code(), KNOWN_CODES[STRIP[1]], atol=0.01)
    np.testing.assert_allclose(page.numbers("sigma"), KNOWN_SIGMA)
    set_epoch(page, 1)
    page.click("strip", (0.97, 0.2))
    assert page.text("imageName") == f"Test image {STRIP[10] + 1}: 0"
    assert page.text("epochText") == "Epoch 1"
    np.testing.assert_allclose(page.numbers("mu"), clouds(EARLIER[1])[STRIP[10]], atol=0.00501)


@pytest.mark.parametrize("size", [(1280, 900), (390, 844), (320, 640)])
def test_the_first_and_the_last_pixel_of_the_strip_are_of_an_image(size, open_page):
    page = open_page("known", *size)
    page.js("document.getElementById('strip').scrollIntoView({block: 'center'})")
    left, top, right, bottom = page.box("strip")
    for x, y, place in ((right - 1, bottom - 1, 10), (left + 0.5, top + 0.5, 0)):
        page.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        page.mouse("mouseReleased", x, y, button="left", buttons=0, clickCount=1)
        assert page.text("imageName") == f"Test image {STRIP[place] + 1}: 0"


def test_the_strip_is_used_by_arrow_keys_too(open_page):
    page = open_page("known")
    take_from_strip(page, 1)
    set_epoch(page, 1)
    page.js("document.querySelector('#strip :checked').focus()")
    for key, place in ((Keys.ARROW_RIGHT, 2), (Keys.ARROW_LEFT, 1), (Keys.ARROW_LEFT, 0)):
        ActionChains(page.driver).send_keys(key).perform()
        page.settle()
        expected = f"Test image {STRIP[place] + 1}: {STRIP[place] // 30}"
        assert (page.text("imageName"), strip_choice(page)) == (expected, expected)
        assert page.text("epochText") == "Epoch 1"
    roles = [label.aria_role for label in page["strip"].find_elements(By.TAG_NAME, "input")]
    assert (page["strip"].aria_role, set(roles), len(roles)) == ("radiogroup", {"radio"}, 11)


def test_a_page_without_a_training_has_no_control_of_it(open_page):
    page = open_page("squared-error")
    assert not page["training"].is_displayed()
    page.click("plane", (0.5, 0.5))
    assert " nearest test images are " in page.text("vote")
