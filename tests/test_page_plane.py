"""The latent space: axes, dots, images, the pinned code and the preview, the legend."""

import re

import numpy as np
import pytest
from helpers import trained

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import (
    KNOWN_CODES,
    KNOWN_SIGMA,
    OUTLIERS,
    PLACES,
    STROKES,
    known_model,
    needs_browser,
    vote_of,
)
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

pytestmark = needs_browser
EDGE = 1.6448536  # the 95 % quantile of the standard normal


def colours_of_legend(page):
    """The colours of the legend, "#rrggbb"."""
    colours = page.js(
        "return [...document.querySelectorAll('#classes i')].map(dot =>"
        "getComputedStyle(dot).backgroundColor)"
    )
    return ["#{:02x}{:02x}{:02x}".format(*map(int, re.findall(r"\d+", c))) for c in colours]


def plane_size(page):
    return np.array(page.js("return [plane.clientWidth, plane.clientHeight]"))


def place_beside_dots(page, place):
    """The place of the plane nearest to `place` that is on no dot."""
    dots = np.concatenate([*page.dots_by_colour().values()])
    steps = np.stack(np.meshgrid(*2 * [np.arange(-40, 41)]), axis=-1).reshape(-1, 2)
    for step in steps[np.argsort(np.hypot(*steps.T), kind="stable")]:
        pixel = np.rint(place * plane_size(page)) + step
        if np.min(np.hypot(*(dots - pixel).T)) > 6:
            return pixel / plane_size(page)
    raise AssertionError("dots are everywhere")


# ---- Axes and what is drawn on them --------------------------------------------------------------


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoomed"])
def test_a_dot_in_its_colour_lies_where_a_drag_finds_its_code(zoom, open_page):
    page = open_page("known")
    if zoom:
        page.click("zoom")
    colours = colours_of_legend(page)
    places = page.dots_by_colour()
    assert places.keys() == set(colours[:3])
    for label in [0] if zoom else [0, 1, 2]:
        centre = np.mean(places[colours[label]], axis=0)
        assert len(places[colours[label]]) == 30
        np.testing.assert_allclose(page.code_at(centre), PLACES[label], atol=0.02)


def test_dots_have_a_darker_edge_on_white_and_none_on_black(open_page):
    for scheme, edged in (("light", True), ("dark", False)):
        page = open_page("known", prefers_color_scheme=scheme)
        edge, dot = page.drawn("fill", "base")[:2]
        assert edge["path"][-1][3] > dot["path"][-1][3]
        assert (edge["colour"] != "rgba(0, 0, 0, 0)") is edged


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoomed"])
def test_the_axes_have_their_numbers_where_a_drag_finds_them(zoom, open_page):
    page = open_page("known")
    if zoom:
        page.click("zoom")
    below, beside = page.axis_numbers()
    middle = plane_size(page) / 2
    assert {-1, 0, 1} <= below.keys() & beside.keys()
    assert max(below) == (3 if not zoom else 1.5)
    for value, x in below.items():
        assert page.code_at((x, middle[1]))[0] == pytest.approx(value, abs=0.02)
    for value, y in beside.items():
        assert page.code_at((middle[0], y))[1] == pytest.approx(value, abs=0.03)
    names = {row["text"]: row for row in page.drawn("text", "base") if row["text"][0] == "z"}
    assert names["z₁"]["x"] > max(below.values())
    assert names["z₂"]["y"] < min(beside.values())


def test_the_square_is_the_middle_of_the_prior_on_each_axis_and_says_so(open_page):
    page = open_page("known")
    square, frame = page.drawn("rectangle", "base")
    assert not square["isDashed"]
    assert square["colour"] == page.colour("epsilon") != frame["colour"]
    x, y, width, height = square["values"]
    np.testing.assert_allclose(page.code_at((x, y)), [-EDGE, EDGE], atol=0.02)
    np.testing.assert_allclose(page.code_at((x + width, y + height)), [EDGE, -EDGE], atol=0.02)
    (label,) = (row for row in page.drawn("text", "base") if "prior" in row["text"])
    assert label["text"] == "middle 90 % of the prior"
    assert x < label["x"] < x + width / 4
    assert y - 16 < label["y"] < y


def test_the_axes_hold_all_but_a_few_dots_and_those_outside_are_marked_at_the_frame(open_page):
    page = open_page("outliers")
    codes = np.random.default_rng(0).uniform(-2, 2, (1000, 2))
    codes[500:502] = OUTLIERS
    width = plane_size(page)[0]
    left, right, bottom = 2.2 * 16, width - 2, width - 2.2 * 16
    middle, unit = page.place_of((0, 0))
    assert (right - left - 16) / 2 / unit == pytest.approx(2.8, abs=0.01)  # of the axes
    places = [row["path"][-1][1:3] for row in page.drawn("fill", "base")[1::2]]
    assert len(places) == 1000
    np.testing.assert_allclose(places[0], middle + unit * codes[0] * [1, -1], atol=1)
    far_right, far_below = places[500:502]
    assert right - 6 < far_right[0] < right - 2  # the whole dot is seen
    assert far_right[1] == pytest.approx(middle[1] - unit * 0.5, abs=1)
    assert bottom - 6 < far_below[1] < bottom - 2
    assert far_below[0] == pytest.approx(middle[0] - unit * 0.5, abs=1)


def test_the_axes_make_room_for_a_code_in_steps_and_with_zoom_hold_the_square(open_page):
    page = open_page("outliers")
    limits = {}
    for number in (500, 501):
        dots = page.drawn("fill", "base")[1::2]
        page.click("plane", np.array(dots[number]["path"][-1][1:3]) / plane_size(page))
        assert page.text("imageName").startswith(f"Test image {number + 1}:")
        np.testing.assert_allclose(page.code(), OUTLIERS[number - 500], atol=0.01)
        limits[number] = (plane_size(page)[0] - 2.2 * 16 - 18) / 2 / page.place_of((0, 0))[1]
        assert limits[number] == pytest.approx(4, abs=0.02)
        np.testing.assert_allclose(page.pin_place(), page.place_of(page.code())[0], atol=1)
    page.click("zoom")
    middle, unit = page.place_of((0, 0))
    assert (plane_size(page)[0] - 2.2 * 16 - 18) / 2 / unit == pytest.approx(1.03 * EDGE, abs=0.01)
    x, y = page.pin_place()
    assert x == pytest.approx(middle[0] - 0.5 * unit, abs=1)
    assert 1.04 * EDGE * unit < y - middle[1] < plane_size(page)[0] - 2.2 * 16 - middle[1]


def test_the_plane_is_drawn_once_when_a_page_opens(open_page):
    page = open_page("known")
    page.wait_for("vae.posterior().p.length > 0")
    page.settle()
    assert page.js("return clearings.plane") == 1


def tile_place(page, column, row):
    """Where one of the 20 x 20 decoded images is on the plane: left, top and side."""
    side = (plane_size(page)[0] - 2.2 * 16 - 18) / 20
    return 2.2 * 16 + 8 + column * side, 10 + row * side, side


LEVELS_OF_TILE = """(left, top, side) => {
  const tile = document.createElement('canvas');
  tile.width = tile.height = 28;
  const context = tile.getContext('2d', {willReadFrequently: true});
  context.drawImage(plane, left, top, side, side, 0, 0, 28, 28);
  return [...context.getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0);
}"""


def is_decoded(page, column, row):
    """JavaScript: whether a decoded image is seen."""
    left, top, side = tile_place(page, column, row)
    return (
        "plane.classList.contains('images') && "
        f"({LEVELS_OF_TILE})({left}, {top}, {side}).some(level => level > 50)"
    )


def test_the_decoded_images_come_in_slices_and_are_complete_at_last(open_page):
    page = open_page()
    page.click("clear")
    first, last = is_decoded(page, 0, 0), is_decoded(page, 19, 19)
    page.js("let calls = 0; performance.now = () => calls++")  # each image takes a millisecond
    page.js(
        "window.seen = []; const look = () => {"
        f"seen.push([{first}, {last}].join()); requestAnimationFrame(look); }}; look()"
    )
    page.click("images")
    page.wait_for("seen.includes('true,true')")
    assert page.js("return seen.filter(value => value === 'true,false').length") > 10
    assert page.js(f"return {' && '.join(is_decoded(page, 4 * i, 19 - i) for i in range(5))}")


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoomed"])
def test_a_decoded_image_is_that_of_the_code_at_its_middle(zoom, open_page):
    page = open_page()
    page.click("clear")
    page.click("images")
    if zoom:
        page.click("zoom")
    assert page["images"].is_selected()
    page.wait_for(is_decoded(page, 19, 19))
    shifts = np.array([[0, 0], [1, 1], [-1, -1], [1, -1], [-1, 1]])
    errors = np.zeros(5)
    for column, row in ((3, 5), (8, 6), (12, 4), (15, 8), (12, 15)):
        left, top, side = tile_place(page, column, row)
        levels = page.js(f"return ({LEVELS_OF_TILE})(...arguments)", left, top, side)
        middle = page.code_at((left + side / 2, top + side / 2))
        half = page.code_at((left + side, top))[0] - middle[0]
        decoded = 255 * trained("squared-error")[0].decode(middle + half * shifts)
        errors += np.abs(decoded - levels).mean(axis=1)
    assert errors.argmin() == 0


def test_every_class_has_its_name_and_none_covers_another(open_page):
    for size in ((1366, 633), (1280, 900), (390, 844)):
        page = open_page("squared-error", *size)
        page.click("clear")
        model, data = trained("squared-error")
        z_mean, _ = model.encode(data.x_test)
        rows = {row["text"]: row for row in page.drawn("text")}
        assert rows.keys() == {"prior", *map(str, range(10))}
        places = np.array([[rows[str(label)]["x"], rows[str(label)]["y"]] for label in range(10)])
        for i in range(10):
            for j in range(i):
                across, down = np.abs(places[i] - places[j])
                assert across > 9 or down > 15, (i, j, size)
        for label in range(10):
            expected, _ = page.place_of(np.median(z_mean[data.y_test == label], axis=0))
            assert np.hypot(*(places[label] - expected)) < 40


# ---- The Gaussian of the image -------------------------------------------------------------------


def bells(page):
    """The points of the four bells, in pixels: of the prior at both axes, then of the image."""
    lines = [row["path"] for row in page.drawn("stroke") if row["width"] < 2]
    return [np.array([step[1:3] for step in line]) for line in lines if len(line) > 5]


@pytest.mark.parametrize(
    ("name", "sigma"), [("known", KNOWN_SIGMA), ("narrow Gaussian", np.array([0.02, 0.5]))]
)
def test_the_gaussian_is_drawn_as_ellipses_and_as_bells_to_one_scale(name, sigma, open_page):
    page = open_page(name)
    centre, scale = page.place_of(KNOWN_CODES[0])
    one, two = page.ellipses()
    np.testing.assert_allclose(one, [*centre, *(scale * sigma)], atol=1.5)
    np.testing.assert_allclose(two, [*centre, *(2 * scale * sigma)], atol=1.5)
    size = plane_size(page)
    bottom, left = size[1] - 2.2 * 16, 2.2 * 16
    prior_1, prior_2, bell_1, bell_2 = bells(page)
    heights = [bottom - prior_1[:, 1], prior_2[:, 0] - left]
    heights += [bottom - bell_1[:, 1], bell_2[:, 0] - left]
    peaks = [np.max(values) for values in heights]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.01)
    np.testing.assert_allclose(np.array(peaks[2:]) * sigma, peaks[0], rtol=0.02)
    assert max(peaks) < 0.26 * size[0]
    assert bell_1[np.argmin(bell_1[:, 1]), 0] == pytest.approx(centre[0], abs=1.5)
    assert bell_2[np.argmax(bell_2[:, 0]), 1] == pytest.approx(centre[1], abs=1.5)
    inflection = np.abs(bell_2[:, 1] - centre[1] - scale * sigma[1]).argmin()
    assert heights[3][inflection] / peaks[3] == pytest.approx(np.exp(-0.5), abs=0.02)
    texts = {row["text"]: np.array([row["x"], row["y"]]) for row in page.drawn("text")}
    away = texts["test image 1"] - centre
    assert np.hypot(*away) < 2 * scale * sigma[1] + 40
    nearest = prior_1[np.abs(prior_1[:, 0] - texts["prior"][0]).argmin()]
    assert 0 < nearest[1] - texts["prior"][1] < 25
    peak = bell_1[np.argmin(bell_1[:, 1])]
    assert np.hypot(*(texts["image x"] - peak)) < 2 * scale * sigma[0] + 40


def test_the_mean_is_a_disc_in_its_colour_and_the_pinned_code_covers_it(open_page):
    page = open_page("known")
    centre, _ = page.place_of(KNOWN_CODES[0])
    (mean,) = page.discs(radius=3.5)[page.colour("mu")]
    np.testing.assert_allclose(mean, centre, atol=1)
    colours = [row["colour"] for row in page.drawn("fill") if row["path"][-1][3] in (3.5, 4.5)]
    assert colours[-1] == page.colour("accent")  # drawn last
    page.pin((0.6, 0.3))
    np.testing.assert_allclose(page.discs(radius=3.5)[page.colour("mu")][0], centre, atol=1)
    np.testing.assert_allclose(page.pin_place() / plane_size(page), (0.6, 0.3), atol=0.01)


# ---- The pinned code and the preview -------------------------------------------------------------


def everything_but_the_preview(page):
    """What the page shows and holds, without the preview."""
    texts = page.js(
        "return [...document.querySelectorAll('main p, main td, main h2')].map(e => e.innerText)"
    )
    return texts, page.code().tolist(), page.images("output"), page.drawn("stroke")


def test_hovering_shows_a_preview_with_its_vote_and_changes_nothing_else(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)
    page.pin((0.8, 0.8))
    page.move((0.02, 0.5))
    assert not page["preview"].is_displayed()  # over the numbers of an axis
    texts, code, images, strokes = everything_but_the_preview(page)
    seen = {}
    for place in ((0.4, 0.4), (0.97, 0.05), (0.15, 0.9)):
        page.move(place)
        seen[place] = page.image("preview"), page.text("preview")
        left, top, right, bottom = page.box("preview")
        x, y = page.box("plane")[:2] + np.array(place) * plane_size(page)
        assert right < x or left > x or bottom < y or top > y
        assert left >= page.box("space")[0]
        assert right <= page.box("space")[2]
        assert page.js("return document.querySelector('#preview canvas').clientWidth") == 64
    now = everything_but_the_preview(page)
    assert (now[0], now[1], now[3]) == (texts, code, strokes)
    np.testing.assert_array_equal(now[2], images)
    for place, (image, text) in seen.items():
        page.pin(place)
        decoded = 255 * model.decode(page.code()[None])[0]
        np.testing.assert_allclose(image.ravel(), decoded, atol=3)
        number, *_, label = vote_of(page.code(), z_mean, data.y_test).split()
        assert text == ("none near" if number == "No" else f"{label}: {number} of 25")
    assert {text == "none near" for _, text in seen.values()} == {True, False}
    page.move((0.5, 0.5), "pad")
    assert not page["preview"].is_displayed()


def test_zoom_by_keyboard_moves_the_preview_to_the_code_now_under_the_mouse(open_page):
    page = open_page("known")
    page.move((0.15, 0.7))
    before = page.image("preview")
    page.keys("zoom", Keys.SPACE)
    assert page["zoom"].is_selected()
    after = page.image("preview")
    page.pin((0.15, 0.7))
    np.testing.assert_allclose(
        after.ravel(), 255 * known_model().decode(page.code()[None])[0], atol=3
    )
    assert np.abs(before - after).max() > 10


def test_a_click_and_a_drag_pin_the_code_that_the_right_side_shows(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)
    for act in (
        lambda: page.click("plane", place_beside_dots(page, (0.4, 0.4))),
        lambda: page.click("plane", place_beside_dots(page, (0.7, 0.6))),
        lambda: page.drag("plane", [(0.7, 0.6), (0.5, 0.5), (0.6, 0.3)]),
    ):
        before = page.code()
        act()
        z = page.code()
        assert (z != before).all()
        np.testing.assert_allclose(page.numbers("code"), z, atol=0.00501)
        decoded = 255 * model.decode(z[None])[0]
        np.testing.assert_allclose(page.image("decoded").ravel(), decoded, atol=1)
        assert page.text("vote") == vote_of(z, z_mean, data.y_test)
        parts = page.js(
            "return [...document.querySelectorAll('#bar span')].map(part => "
            "[part.title, part.style.flexGrow, part.style.backgroundColor])"
        )
        nearest = data.y_test[np.argsort(np.linalg.norm(z_mean - z, axis=1))[:25]]
        counts = np.bincount(nearest, minlength=10)
        colours = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in colours_of_legend(page)]
        assert sorted(parts) == sorted(
            [f"{label}: {counts[label]}", str(counts[label]), f"rgb{colours[label]}"]
            for label in set(nearest)
        )
        assert int(parts[0][1]) == counts.max()
    np.testing.assert_allclose(page.pin_place() / plane_size(page), (0.6, 0.3), atol=0.01)


def test_only_the_main_button_within_the_axes_pins(open_page):
    page = open_page("known")
    before = page.code()
    for place in ((0.02, 0.5), (0.5, 0.98), (0.02, 0.98)):
        page.click("plane", place)
    chain, move_to = page.pointer("plane")
    move_to((0.4, 0.4))
    chain.context_click().perform()
    page.settle()
    np.testing.assert_array_equal(page.code(), before)
    page.press_and_lose("plane")
    np.testing.assert_allclose(page.pin_place(), plane_size(page) / 2, atol=1)


def test_a_drag_ends_when_the_left_button_is_released_while_the_right_one_is_held(open_page):
    page = open_page("known")
    left, top, right, bottom = page.box("plane")
    x, y = (left + right) / 2, (top + bottom) / 2
    page.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    page.mouse("mouseMoved", x + 40, y, button="left", buttons=1)
    page.mouse("mousePressed", x + 40, y, button="right", buttons=3, clickCount=1)
    page.mouse("mouseReleased", x + 40, y, button="left", buttons=2, clickCount=1)
    page.mouse("mouseMoved", x + 40, y + 80, button="right", buttons=2)
    page.mouse("mouseReleased", x + 40, y + 80, button="right", buttons=0, clickCount=1)
    np.testing.assert_allclose(page.pin_place(), [x + 40 - left, y - top], atol=1.5)


def test_a_tap_and_a_moving_finger_pin_and_show_no_preview(open_page):
    page = open_page("known", 390, 844, touch=True)
    left, top, right, bottom = page.box("plane")
    codes = [page.code()]
    for kind, *points in (
        ("touchStart", ((left + right) / 2, (top + bottom) / 2)),
        ("touchMove", (right - 40, top + 40)),
        ("touchEnd",),
    ):
        page.touch(kind, *points)
        assert not page["preview"].is_displayed()
        codes.append(page.code())
    assert (codes[1] != codes[0]).all()
    assert (codes[2] > codes[1]).all()
    np.testing.assert_array_equal(codes[3], codes[2])


def test_arrow_keys_move_the_code_along_one_axis_and_say_where_it_is(open_page):
    page = open_page("known")
    for key, axis, sign in (
        (Keys.ARROW_RIGHT, 0, 1),
        (Keys.ARROW_LEFT, 0, -1),
        (Keys.ARROW_UP, 1, 1),
        (Keys.ARROW_DOWN, 1, -1),
    ):
        before = page.code()
        page.keys("plane", key)
        step = page.code() - before
        assert step[1 - axis] == 0
        assert np.sign(step[axis]) == sign
        page.keys("plane", Keys.SHIFT, key)
        large_step = page.code() - before - step
        assert large_step[axis] == pytest.approx(4 * step[axis])
        expected = f"z = ({page.code()[0]:.2f}, {page.code()[1]:.2f}); {page.text('vote')}"
        assert page.text("spoken") == expected
    for modifier in (Keys.CONTROL, Keys.ALT, Keys.META):
        before = page.code()
        page.keys("plane", modifier, Keys.ARROW_UP)
        np.testing.assert_array_equal(page.code(), before)
    for _ in range(25):
        page["plane"].send_keys(Keys.SHIFT, Keys.ARROW_UP)
    page.settle()
    assert 0 <= page.pin_place()[1] < 12


def test_a_random_code_is_of_the_prior_and_always_in_sight(open_page):
    page = open_page()
    page.click("zoom")
    codes = []
    for _ in range(80):
        page.click("fresh")
        codes.append(page.code())
        margin, size = 2.2 * 16, plane_size(page)[0]
        x, y = page.pin_place()
        assert margin + 3 < x < size - 5  # where it is outside, at the frame
        assert 5 < y < size - margin - 3
    assert np.abs(codes).max() > 1.1 * EDGE  # some are outside
    np.testing.assert_allclose(np.mean(codes, axis=0), 0, atol=0.45)
    np.testing.assert_allclose(np.cov(np.transpose(codes)), np.eye(2), atol=0.7)


def test_an_arrow_from_a_code_outside_the_square_moves_on_in_its_direction(open_page):
    page = open_page("known")
    page.click("plane", (0.5, 0.04))
    page.click("zoom")
    before = page.code()
    assert before[1] > EDGE
    page.keys("plane", Keys.ARROW_DOWN)
    step = page.code() - before
    assert step[0] == 0
    assert -0.5 < step[1] < 0


def test_there_is_no_vote_without_another_test_image(open_page):
    page = open_page("one image")
    assert page.text("vote") == "There is no other test image."
    page.code_at(page.place_of(KNOWN_CODES[0] + 0.08)[0])
    assert page.text("vote") == "1 of the 1 nearest test images is 0"


def test_there_is_no_vote_where_no_test_image_is_near(open_page):
    page = open_page("known")
    labels = np.repeat([0, 1, 2], 30)
    rightmost = KNOWN_CODES[:30][KNOWN_CODES[:30, 0].argmax()]
    for away, votes in ((0.12, True), (0.18, False), (0.6, False)):
        z = page.code_at(page.place_of(rightmost + np.array([away, 0]))[0])
        assert page.text("vote") == vote_of(z, KNOWN_CODES, labels)
        assert page.text("vote").startswith("25 of the 25" if votes else "No test image is near")
        assert (page.js("return bar.childElementCount") > 0) is votes
        page.move(page.pin_place() / plane_size(page))
        assert page.text("preview") == ("0: 25 of 25" if votes else "none near")


# ---- A click on a dot ----------------------------------------------------------------------------


def place_of_dot(page, number):
    """The place of a test image's dot on the plane."""
    return np.array(page.drawn("fill", "base")[1::2][number]["path"][-1][1:3]) / plane_size(page)


def test_a_click_on_a_dot_takes_its_test_image(open_page):
    page = open_page("known")
    distances = np.linalg.norm(KNOWN_CODES[:, None] - KNOWN_CODES, axis=2)
    alone = np.sort(distances, axis=1)[:, 1]
    for number in (60 + alone[60:].argmax(), alone[:30].argmax()):  # not, and among the button's
        page.click("plane", place_of_dot(page, number))
        assert page.text("imageName") == f"Test image {number + 1}: {number // 30}"
        np.testing.assert_allclose(page.code(), KNOWN_CODES[number], atol=1e-3)
        assert page.text("outputTitle") == "Reconstruction x̂"


def test_a_dot_is_clicked_within_its_radius_and_a_pixel(open_page):
    page = open_page("outliers")
    dot = page.drawn("fill", "base")[1::2][500]["path"][-1]
    place, radius = np.array(dot[1:3]), dot[3]
    for away, is_taken in ((radius + 2.6, False), (radius, True)):
        page.click("plane", (place + np.array([0, away])) / plane_size(page))
        assert (page.text("imageName") == "Test image 501: 0") is is_taken


def test_a_dot_is_not_taken_by_a_drag_nor_under_another_layer_nor_hidden(open_page):
    page = open_page("known")
    place = place_of_dot(page, 75)
    code = page.code_at(place * plane_size(page))
    np.testing.assert_allclose(code, KNOWN_CODES[75], atol=0.02)
    for name in ("images", "posterior"):
        page.click("back")
        page.click(name)
        page.click("plane", place)
        np.testing.assert_allclose(page.code(), code, atol=0.01)
    page.click("codes")
    page.click("back")
    page.press_button("classes", 0)
    page.click("plane", place)
    np.testing.assert_allclose(page.code(), code, atol=0.01)
    assert page.text("imageName") == "Test image 1: 0"


def test_a_click_on_a_dot_leaves_a_drawing_and_pins_the_code(open_page):
    page = open_page("known")
    page.draw(*STROKES["1"])
    image = page.image("encoded")
    page.click("plane", place_of_dot(page, 75))
    assert page.text("imageName") == "Your drawing"
    np.testing.assert_array_equal(page.image("encoded"), image)
    np.testing.assert_allclose(page.code(), KNOWN_CODES[75], atol=0.02)


# ---- The legend ----------------------------------------------------------------------------------


def shown_classes(page):
    """The classes that have dots on the plane, and those that the legend says are shown."""
    colours = colours_of_legend(page)
    pressed = [button.get_attribute("aria-pressed") for button in page.buttons("classes")]
    says = {label for label, is_pressed in enumerate(pressed[:10]) if is_pressed == "true"}
    return {colours.index(colour) for colour in page.dots_by_colour()}, says


def test_a_click_in_the_legend_shows_only_that_class_and_a_second_one_all(open_page):
    page = open_page()
    everything = set(range(10))
    assert page.button_texts("classes") == [str(label) for label in range(10)]
    page.press_button("classes", 3)
    assert shown_classes(page) == ({3}, {3})
    assert page.button_texts("classes")[-1] == "all"
    page.press_button("classes", 3)
    assert shown_classes(page) == (everything, everything)
    assert page.button_texts("classes")[-1] == "9"
    page.press_button("classes", 4)
    page.press_button("classes", 9)
    assert shown_classes(page) == ({9}, {9})
    for key in (Keys.CONTROL, Keys.SHIFT):
        chain = ActionChains(page.driver).key_down(key)
        chain.click(page.buttons("classes")[4]).key_up(key).perform()
        page.settle()
        expected = {4, 9} if key == Keys.CONTROL else {9}
        assert shown_classes(page) == (expected, expected)
    assert "4" not in {row["text"] for row in page.drawn("text")}
    page.press_button("classes", -1)
    assert shown_classes(page) == (everything, everything)


def test_by_touch_a_tap_shows_a_class_and_more_taps_add_or_remove_others(open_page):
    page = open_page("known", 390, 844, touch=True)
    seen = []
    for label in (1, 2, 1, 0):
        button = page.buttons("classes")[label]
        box = button.rect
        scrolled = page.js("arguments[0].scrollIntoView({block: 'center'}); return scrollY", button)
        point = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - scrolled
        page.touch("touchStart", point)
        page.touch("touchEnd")
        seen.append(shown_classes(page))
    assert seen == [({1}, {1}), ({1, 2}, {1, 2}), ({2}, {2}), ({0, 2}, {0, 2})]


def test_the_legend_chooses_among_dots_only(open_page):
    page = open_page("known")
    page.press_button("classes", 1)
    page.click("images")
    assert not any(button.is_enabled() for button in page.buttons("classes"))
    assert page.button_texts("classes")[-1] == "9"  # and there is no "all"
    page.click("codes")
    assert all(button.is_enabled() for button in page.buttons("classes"))
    assert shown_classes(page) == ({1}, {1})
