"""Kept codes, and the walk between two of them."""

import numpy as np
import pytest

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import EARLIER, clouds, known_model, needs_browser
from selenium.webdriver.common.keys import Keys

pytestmark = needs_browser
FIRST, SECOND = (0.4, 0.4), (0.7, 0.6)


@pytest.fixture
def two_kept(open_page):
    """A page with two kept codes, and the codes."""
    page = open_page("known")
    codes = []
    for place in (FIRST, SECOND):
        page.pin(place)
        page.click("keep")
        codes.append(page.code())
    return page, codes


def letters(page):
    """The letters of the kept codes; those of the walk are large."""
    return "".join(
        button.text if button.get_attribute("aria-pressed") == "true" else button.text.lower()
        for button in page.buttons("kept")
    )


def place_on_walk(page):
    return float(page["walk"].get_property("value"))


def test_button_and_keys_keep_the_pinned_code_with_its_image_and_its_mark(open_page):
    page = open_page("known")
    hints, messages = [page.text("walkHint")], [page.text("keptText")]
    codes = []
    for number, (place, keep) in enumerate(
        [
            (FIRST, lambda: page.click("keep")),
            (SECOND, lambda: page.keys("plane", Keys.ENTER)),
            ((0.3, 0.7), lambda: page.keys("plane", Keys.SPACE)),
        ]
    ):
        page.pin(place)
        assert len(page.buttons("kept")) == number
        keep()
        codes.append(page.code())
        hints.append(page.text("walkHint"))
        messages.append(page.text("keptText"))
        assert page["play"].is_displayed() is page["walk"].is_displayed() is (number > 0)
    assert hints == [
        "Keep two codes to walk between them.",
        "Keep one more to walk.",
        "",
        "",
    ]
    assert messages == ["", "kept as A", "kept as B", "kept as C"]
    assert letters(page) == "aBC"
    decoded = 255 * known_model().decode(np.array(codes, np.float32))
    np.testing.assert_allclose(np.reshape(page.images("kept"), (3, 784)), decoded, atol=1)
    texts = {row["text"]: (row["x"], row["y"]) for row in page.drawn("text")}
    for letter, place in zip("ABC", (FIRST, SECOND, (0.3, 0.7)), strict=True):
        x, y = np.array(place) * page.js("return [plane.clientWidth, plane.clientHeight]")
        assert np.hypot(texts[letter][0] - x, texts[letter][1] - y) < 25
    names = [button.accessible_name for button in page.buttons("kept")]
    z = codes[1]
    assert names[1] == f"B: z = ({z[0]:.2f}, {z[1]:.2f})".replace("-", "\N{MINUS SIGN}")


def test_the_same_code_is_not_kept_twice_and_an_eleventh_needs_a_place(open_page):
    page = open_page("known")
    for _ in range(3):
        page.click("keep")
    assert (letters(page), page.text("keptText")) == ("A", "this is A")
    for _ in range(10):
        page.click("fresh")
        page.click("keep")
    assert letters(page) == "abcdefghIJ"
    assert page.text("keptText") == "all ten places are taken"


def test_a_letter_that_is_free_again_is_used_again_in_its_place(open_page):
    page = open_page("known")
    codes = []
    for _ in range(4):
        page.click("fresh")
        page.click("keep")
        codes.append(page.code())
    page.press_button("kept", 1)
    page.click("remove")
    assert letters(page) == "aCD"
    page.click("fresh")
    page.click("keep")
    codes[1] = page.code()
    assert page.text("keptText") == "kept as B"
    assert letters(page) == "aBcD"
    decoded = 255 * known_model().decode(np.array(codes, np.float32))
    np.testing.assert_allclose(np.reshape(page.images("kept"), (4, 784)), decoded, atol=1)


@pytest.mark.parametrize(
    "act",
    [
        lambda page: page.pin((0.5, 0.3)),
        lambda page: page.press_button("kept", 0),
        lambda page: page.keys("plane", Keys.ARROW_LEFT),
        lambda page: page.click("example"),
        lambda page: page.draw([(0.3, 0.3), (0.6, 0.6)]),
        lambda page: page.keys("epoch", Keys.HOME),
        lambda page: page.click("fresh"),
    ],
    ids=["plane", "kept", "key", "example", "drawing", "epoch", "fresh"],
)
def test_what_was_removed_is_said_until_the_next_action(act, two_kept):
    page, _ = two_kept
    page.click("remove")
    assert page.text("keptText") == "B is removed"
    act(page)
    assert page.text("keptText") == ""


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["wide", "narrow"])
def test_keeping_the_first_code_moves_nothing(size, open_page):
    page = open_page("known", *size)
    names = ["input", "training", "space", "plane", "output", "loss", "sampling", "walks", "kept"]
    page.click("fresh")
    page.js("document.getElementById('keep').scrollIntoView({block: 'nearest'})")
    before = {name: page.box(name) for name in names}
    page.click("keep")
    assert len(page.buttons("kept")) == 1
    assert {name: page.box(name).tolist() for name in names} == {
        name: box.tolist() for name, box in before.items()
    }


def test_a_kept_code_can_be_chosen_and_becomes_the_end_of_the_walk(two_kept):
    page, codes = two_kept
    assert page.text("play") == "▶ Walk A → B"
    page.press_button("kept", 0)
    assert page.text("play") == "▶ Walk B → A"
    np.testing.assert_array_equal(page.code(), codes[0])
    assert page.driver.switch_to.active_element == page.buttons("kept")[0]


def test_codes_are_removed_one_by_one_and_the_focus_goes_to_the_plane_after_the_last(two_kept):
    page, _ = two_kept
    page.click("fresh")
    page.click("keep")
    seen = []
    for _ in range(3):
        seen.append((page.text("remove"), letters(page)))
        page.keys("remove", Keys.ENTER)
    assert seen == [("Remove C", "aBC"), ("Remove B", "AB"), ("Remove A", "A")]
    assert page.text("keptText") == "A is removed"
    assert page.text("walkHint") == "Keep two codes to walk between them."
    assert page.driver.switch_to.active_element == page["plane"]
    assert not page["remove"].is_displayed()
    assert not page["play"].is_displayed()
    assert not page["walk"].is_displayed()


def test_removing_a_code_leaves_the_training_playing_until_it_is_paused_at_a_whole_epoch(two_kept):
    page, _ = two_kept
    page.click("unfold")
    page.tick(700)
    page.click("remove")
    assert page.text("unfold") == "❚❚ Pause"
    page.tick(500)
    assert page.text("epochText") == "Epoch 1"
    page.click("unfold")
    np.testing.assert_allclose(page.dots(), clouds(EARLIER[1]), atol=0.02)


def test_a_walk_goes_straight_from_one_code_to_the_other_while_the_mouse_crosses_the_plane(
    two_kept,
):
    page, (first, second) = two_kept
    width = page.box("play")[2] - page.box("play")[0]
    page.click("play")
    assert page.text("play") == "❚❚ Pause"
    assert page.box("play")[2] - page.box("play")[0] == width
    parts = []
    for number in range(6):
        page.tick(500)
        page.move((0.3 + 0.02 * number, 0.5))
        parts.append((page.code() - first) / (second - first))
        assert page.text("outputTitle") == "Decoded from z"
    expected = np.arange(1, 7) * 0.5 * 0.33  # of the walk, of which a second is 33 %
    np.testing.assert_allclose(parts, np.transpose([expected, expected]), atol=1e-6)
    page.tick(100)
    np.testing.assert_allclose(page.code(), second)
    assert place_on_walk(page) == 100
    assert page.text("play") == "▶ Walk A → B"


def test_a_walk_is_paused_and_goes_on_from_there_and_stops_for_a_click(two_kept):
    page, (first, second) = two_kept
    page.click("play")
    page.tick(1000)
    page.click("play")
    page.tick(1000)
    assert place_on_walk(page) == 33
    np.testing.assert_allclose(page.code(), first + (second - first) * 0.33, atol=1e-6)
    page.click("play")
    page.tick(1000)
    assert place_on_walk(page) == 66
    page.pin((0.2, 0.2))
    code = page.code()
    page.tick(1000)
    np.testing.assert_array_equal(page.code(), code)
    assert page.text("play") == "▶ Walk A → B"


def test_the_slider_of_the_walk_is_dragged_and_says_where_it_is(two_kept):
    page, (first, second) = two_kept
    page.keys("walk", Keys.HOME)
    np.testing.assert_allclose(page.code(), first)
    page.keys("walk", *5 * [Keys.ARROW_RIGHT])
    np.testing.assert_allclose(page.code(), first + (second - first) * 0.05, atol=1e-6)
    assert page["walk"].get_attribute("aria-valuetext") == "5 percent from A to B"
    page.keys("walk", Keys.END)
    np.testing.assert_allclose(page.code(), second)


def test_with_reduced_motion_a_walk_takes_a_step_at_a_click(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    for place in (FIRST, SECOND):
        page.pin(place)
        page.click("keep")
    assert page.text("play") == "Step A → B"
    for expected in (10, 20, 30):
        page.click("play")
        page.tick(1000)
        assert place_on_walk(page) == expected
