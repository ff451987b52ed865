"""The page does what it should when a person uses it: real events in a real browser.

Skipped where there is no Chromium with its driver, or no selenium.
"""

import functools
import shutil
import time

import numpy as np
import pytest
from conftest import trained

import vae_mnist

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

PROGRAMS = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(None in PROGRAMS, reason="there is no chromium with chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
HOSTILE = "</script><script>document.title = 'hacked'</script>"


@functools.cache
def codes_and_losses(loss):
    """The mean codes of the test images, and the losses there."""
    model, data = trained(loss)
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    return z_mean, vae_mnist.evaluate(model, data.x_test, np.zeros((1000, 2), np.float32))


def make_page(loss="squared-error", codes=None, **changes):
    """The page of a trained model, with fields of its data replaced."""
    model, data = trained(loss)
    z_mean, losses = codes_and_losses(loss)
    z_mean = z_mean if codes is None else codes
    return vae_mnist.explorer_page(model, data._replace(**changes), z_mean, losses)


PAGES = {
    "squared error": lambda: make_page(name="MNIST"),
    "cross-entropy": lambda: make_page("cross-entropy"),
    "47 classes": lambda: make_page(classes=np.arange(47), y_test=np.arange(1000) % 47),
    "one class": lambda: make_page(classes=np.array([7]), y_test=np.full(1000, 7)),
    "hostile name": lambda: make_page(name=HOSTILE),
    "collapsed": lambda: make_page(codes=np.zeros((1000, 2), np.float32)),
}


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(PROGRAMS[1])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pages")

    @functools.cache
    def path(name):
        path = directory / f"{name}.html"
        path.write_bytes(PAGES[name]())
        return path

    return path


class Page:
    """An open page, and what a person does with it."""

    def __init__(self, driver):
        """The page that `driver` has open."""
        self.driver = driver

    def __getitem__(self, name):
        """The element of an id."""
        return self.driver.find_element(By.ID, name)

    def js(self, program, *arguments):
        return self.driver.execute_script(program, *arguments)

    def offset(self, element, place):
        """A place from (0, 0), top left, to (1, 1) as an offset from the element's centre."""
        width, height = element.size["width"], element.size["height"]
        return round((place[0] - 0.5) * width), round((place[1] - 0.5) * height)

    def move(self, place, click=False):
        plane = self["plane"]
        self.js("arguments[0].scrollIntoView({block: 'center'})", plane)
        chain = ActionChains(self.driver, duration=0)
        chain.move_to_element_with_offset(plane, *self.offset(plane, place))
        (chain.click() if click else chain).perform()

    def draw(self, *strokes):
        pad = self["pad"]
        self.js("arguments[0].scrollIntoView({block: 'center'})", pad)
        for points in strokes:
            chain = ActionChains(self.driver, duration=5)
            chain.move_to_element_with_offset(pad, *self.offset(pad, points[0])).click_and_hold()
            for point in points[1:]:
                chain.move_to_element_with_offset(pad, *self.offset(pad, point))
            chain.release().perform()

    def touch(self, kind, *points):
        """Sends a touch event; points are in CSS pixels of the viewport."""
        points = [{"x": x, "y": y} for x, y in points]
        event = {"type": kind, "touchPoints": points}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def image(self, name):
        """The grey levels, [28, 28] from 0 to 255, of a canvas of that size."""
        levels = self.js(
            "const c = document.getElementById(arguments[0]);"
            "return [...c.getContext('2d').getImageData(0, 0, 28, 28).data]",
            name,
        )
        return np.reshape(levels, (28, 28, 4))[..., 0]

    def code(self):
        return np.array(self.js("return vae.code"))

    def kept(self):
        return self["kept"].find_elements(By.TAG_NAME, "button")

    def vote(self, text):
        """The class and the count of a text that ends like "7: 21 of 25"."""
        label, count = text.rstrip(".").rpartition(" of ")[0].rsplit(" ", 2)[-2:]
        return label.rstrip(":"), int(count)


@pytest.fixture
def open_page(driver, paths):
    """Opens a page, by its name, in a window of a size; it must leave no message and no request."""

    def open_page(name="squared error", width=1280, height=900, touch=False, **media):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        features = [{"name": key.replace("_", "-"), "value": value} for key, value in media.items()]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.get(paths(name).as_uri())
        return Page(driver)

    driver.get_log("browser"), driver.get_log("performance")
    yield open_page
    assert driver.get_log("browser") == []
    requests = [row["message"] for row in driver.get_log("performance")]
    requests = [row for row in requests if '"Network.requestWillBeSent"' in row]
    assert all('"url":"file:///' in row for row in requests)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_and_decodes_at_the_pointer(name, open_page):
    page = open_page(name)
    page.move((0.6, 0.3))
    pixels = np.clip(page.js("return [...vae.decode(vae.code)]"), 0, 1)
    np.testing.assert_allclose(page.image("decoded").ravel(), 255 * pixels, atol=0.51)
    assert page.image("decoded").max() > 0
    assert " of 25" in page["vote"].text
    assert page.driver.title != "hacked"


@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
def test_the_page_decodes_and_encodes_as_tensorflow_does(loss, open_page):
    page = open_page({"squared-error": "squared error"}.get(loss, loss))
    model, data = trained(loss)
    codes = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
    decoded = page.js("return arguments[0].map(z => [...vae.decode(z)])", codes.tolist())
    np.testing.assert_allclose(decoded, model.decode_pixels(codes), atol=5e-6)
    x = vae_mnist.scale(data.x_test[:50]).numpy()
    encoded = page.js("return arguments[0].map(x => vae.encode(x))", x.tolist())
    z_mean, z_log_sigma_sq = model.encoder(x)
    np.testing.assert_allclose([row["mean"] for row in encoded], z_mean, atol=1e-5)
    log_variances = [row["logVariance"] for row in encoded]
    np.testing.assert_allclose(log_variances, z_log_sigma_sq, atol=1e-5)


@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
def test_the_loss_terms_of_a_test_image_are_those_of_the_script(loss, open_page):
    page = open_page({"squared-error": "squared error"}.get(loss, loss))
    page["example"].click()
    model, data = trained(loss)
    _, at_means = codes_and_losses(loss)
    terms = vae_mnist.evaluate(model, data.x_test[:1], np.zeros((1, 2), np.float32))
    assert page["ownError"].text == f"{terms.reconstruction:.1f}"
    assert page["ownKl"].text == f"{terms.kl:.1f}"
    assert page["testError"].text == f"{at_means.reconstruction:.1f}"
    assert page["testKl"].text == f"{at_means.kl:.1f}"
    np.testing.assert_array_equal(page.image("encoded").ravel(), data.x_test[0])


def test_the_vote_is_that_of_the_25_nearest_codes(open_page):
    page = open_page()
    _, data = trained("squared-error")
    z_mean, _ = codes_and_losses("squared-error")
    for place in ((0.4, 0.4), (0.6, 0.6), (0.7, 0.4)):
        page.move(place)
        nearest = np.argsort(np.linalg.norm(z_mean - page.code(), axis=1))[:25]
        counts = np.bincount(data.y_test[nearest])
        assert page["vote"].text == f"{counts.argmax()}: {counts.max()} of 25"


def test_the_pointer_moves_the_code_by_the_axes(open_page):
    page = open_page()
    page.move((0.5, 0.5))
    middle = page.code()
    page.move((0.8, 0.2))
    assert (page.code() > middle).all()
    z_1, z_2 = page.code()
    text = f"z₁ = {z_1:.2f} z₂ = {z_2:.2f}".replace("-", "\N{MINUS SIGN}")
    assert page["code"].text.split() == text.split()


def test_the_arrow_keys_move_the_code_and_enter_keeps_it(open_page):
    page = open_page()
    page["plane"].send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    z_1, z_2 = page.code()
    assert z_1 == pytest.approx(2 * z_2)
    assert z_2 > 0
    assert page["spoken"].text.startswith("z₁")
    page["plane"].send_keys(Keys.ENTER)
    assert [button.text for button in page.kept()] == ["A"]


def test_a_finger_moves_the_code_and_a_tap_keeps_it(open_page):
    page = open_page(width=390, height=844, touch=True)
    page.js("document.getElementById('plane').scrollIntoView({block: 'center'})")
    box = page.js("return document.getElementById('plane').getBoundingClientRect().toJSON()")
    at = [(box["x"] + part * box["width"], box["y"] + 0.5 * box["width"]) for part in (0.4, 0.6)]
    page.touch("touchStart", at[0])
    page.touch("touchMove", at[1])
    page.touch("touchEnd")
    assert page.code()[0] > 0.3
    assert page.kept() == []
    time.sleep(0.1)
    page.touch("touchStart", at[0])
    page.touch("touchEnd")
    assert page.code()[0] < 0
    assert len(page.kept()) == 1


def test_two_kept_images_are_joined_by_a_walk_that_plays(open_page):
    page = open_page()
    page.move((0.3, 0.5), click=True)
    start = page.code()
    assert not page["play"].is_enabled()
    page.move((0.7, 0.4), click=True)
    end = page.code()
    assert page["play"].text == "Walk from A to B"
    page["play"].click()
    time.sleep(0.5)
    on_the_way = page.code()
    assert (on_the_way - start) @ (on_the_way - end) < 0
    time.sleep(3.5)
    np.testing.assert_allclose(page.code(), end)


def test_the_walk_can_be_dragged(open_page):
    page = open_page()
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    end = page.code()
    page["walk"].send_keys(Keys.END)
    np.testing.assert_allclose(page.code(), end)
    page["walk"].send_keys(Keys.HOME)
    assert page.code()[0] < end[0]


def test_nothing_moves_by_itself_for_those_who_ask_for_that(open_page):
    page = open_page(prefers_reduced_motion="reduce")
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    assert page["play"].text == "Step from A to B"
    page["play"].click()
    first = page.code()
    time.sleep(0.3)
    np.testing.assert_array_equal(page.code(), first)
    page["play"].click()
    assert page.code()[0] > first[0]


def test_a_kept_image_is_chosen_again_and_all_are_removed(open_page):
    page = open_page()
    for place in ((0.3, 0.5), (0.5, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    assert page["play"].text == "Walk from B to C"
    page.kept()[0].click()
    assert page["play"].text == "Walk from C to A"
    page["forget"].click()
    assert page.kept() == []
    assert not page["walk"].is_enabled()


CIRCLE = [(0.5 + 0.3 * np.sin(t), 0.5 - 0.33 * np.cos(t)) for t in np.linspace(0, 2 * np.pi, 24)]
STROKES = {
    "0": [CIRCLE],
    "1": [[(0.55, 0.15), (0.45, 0.85)]],
    "3": [
        [
            *((0.3, 0.22), (0.42, 0.15), (0.58, 0.15), (0.68, 0.25), (0.66, 0.38), (0.55, 0.46)),
            *((0.45, 0.48), (0.6, 0.52), (0.7, 0.62), (0.68, 0.76), (0.56, 0.85), (0.42, 0.85)),
            (0.3, 0.78),
        ]
    ],
    "7": [[(0.2, 0.2), (0.8, 0.2), (0.45, 0.85)]],
}


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_lands_where_its_like_live(digit, open_page):
    page = open_page()
    page.draw(*STROKES[digit])
    assert page.vote(page["ownText"].text)[0] == digit


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawing_becomes_20_pixels_long_with_its_mass_in_the_middle(digit, open_page):
    page = open_page()
    page.draw(*STROKES[digit])
    image = page.image("encoded").astype(float)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    pixels = np.arange(28) + 0.5
    assert 13.4 < image.sum(axis=0) @ pixels / image.sum() < 14.6
    assert 13.4 < image.sum(axis=1) @ pixels / image.sum() < 14.6
    assert image.max() == 255


def test_a_dot_stays_a_dot(open_page):
    page = open_page()
    page.draw([(0.2, 0.2)])
    assert 4 <= np.count_nonzero(page.image("encoded")) <= 25


def test_the_pad_does_not_move_while_one_draws(open_page):
    page = open_page(width=390, height=844)
    where = "return document.getElementById('pad').getBoundingClientRect().top + scrollY"
    before = page.js(where)
    page.draw(*STROKES["7"])
    assert page.js(where) == before
    page["clear"].click()
    assert page.js(where) == before


def test_clear_empties_the_pad_and_says_so(open_page):
    page = open_page()
    assert page["ownText"].text.startswith("Nothing is drawn yet")
    page.draw(*STROKES["1"])
    page["clear"].click()
    assert page["clear"].text == "Clear"
    assert page["ownText"].text.startswith("Nothing is drawn yet")
    assert not page.image("encoded").any()
    assert not page.image("reconstruction").any()


def base_of_the_plane(page):
    """What the plane shows, but for the code and the marks."""
    return page.js("return base.toDataURL()")


def test_the_plane_is_shown_decoded_zoomed_and_by_classes(open_page):
    page = open_page()
    views = [base_of_the_plane(page)]
    page["images"].click()
    views.append(base_of_the_plane(page))
    page["zoom"].click()
    views.append(base_of_the_plane(page))
    page["codes"].click()
    views.append(base_of_the_plane(page))
    page["classes"].find_elements(By.TAG_NAME, "button")[3].click()
    views.append(base_of_the_plane(page))
    assert len(set(views)) == 5
    pressed = [
        b.get_attribute("aria-pressed") for b in page["classes"].find_elements(By.XPATH, "*")
    ]
    assert pressed[:10] == ["true"] * 3 + ["false"] + ["true"] * 6
    page["zoom"].click()
    page["classes"].find_elements(By.TAG_NAME, "button")[-1].click()
    assert base_of_the_plane(page) == views[0]


def test_every_class_has_its_name_on_the_plane_and_no_two_overlap(open_page):
    for width in (1280, 360):
        page = open_page(width=width)
        names = page.js("return names")
        assert sorted(name["text"] for name in names) == [str(digit) for digit in range(10)]
        for index, a in enumerate(names):
            for b in names[:index]:
                apart = abs(a["x"] - b["x"]) - a["halfWidth"] - b["halfWidth"]
                assert apart > -0.5 or abs(a["y"] - b["y"]) > 16


def test_the_light_and_the_dark_page_differ(open_page):
    colours = set()
    for scheme in ("light", "dark"):
        page = open_page(prefers_color_scheme=scheme)
        colours.add(page.js("return getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def luminance(colour):
    values = np.array(colour) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ (
        0.2126,
        0.7152,
        0.0722,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_4_5(scheme, open_page):
    page = open_page(prefers_color_scheme=scheme)
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    pairs = page.js(
        """
        const numbers = text => text.match(/[\\d.]+/g).map(Number);
        const pairs = [];
        for (const element of document.querySelectorAll("body *")) {
          const texts = [...element.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
          if (!texts.length || !element.checkVisibility() || element.disabled) continue;
          if (element.tagName === "SCRIPT" || element.tagName === "STYLE") continue;
          let behind = element;
          while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) {
            behind = behind.parentElement;
          }
          pairs.push([element.textContent, numbers(getComputedStyle(element).color).slice(0, 3),
            numbers(getComputedStyle(behind).backgroundColor).slice(0, 3)]);
        }
        return pairs;
        """
    )
    assert len(pairs) > 20
    for text, colour, background in pairs:
        low, high = sorted([luminance(colour), luminance(background)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, text


def test_every_control_has_a_name(open_page):
    page = open_page()
    page.move((0.5, 0.5), click=True)
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "radio", "checkbox", "slider", "application", "image", "img", "Canvas"}
    controls = [node for node in tree if node.get("role", {}).get("value") in roles]
    assert len(controls) > 20
    assert all(node["name"]["value"] for node in controls if not node["ignored"])


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_width_needs_sideways_scrolling(width, open_page):
    for name in ("squared error", "47 classes"):
        page = open_page(name, width=width)
        page.draw(*STROKES["1"])
        page.move((0.4, 0.4), click=True)
        assert page.js("return document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_decoded_image_stays_in_sight_above_the_plane(open_page):
    page = open_page(width=390, height=844)
    page.js("document.getElementById('classes').scrollIntoView({block: 'end'})")
    box = page.js("return document.getElementById('decoded').getBoundingClientRect().toJSON()")
    assert 0 <= box["top"] < box["bottom"] <= 844
    assert box["bottom"] <= page.js(
        "return document.getElementById('plane').getBoundingClientRect().bottom"
    )
