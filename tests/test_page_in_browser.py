"""The page does what it should when a person uses it: real events in a real browser.

Skipped where there is no Chromium with its driver, or no selenium.
"""

import base64
import functools
import io
import re
import shutil
import time

import matplotlib.image
import numpy as np
import pytest
from conftest import BUNDLED, trained
from scipy.special import expit

import explorer
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


def make_page(loss="squared-error", codes=None, **changes):
    """The page of a trained model, with fields of its data and its codes replaced."""
    model, data = trained(loss)
    data = data._replace(**changes)
    if codes is None:
        return vae_mnist.explorer_page(model, data)
    return page_of_codes(model, data, codes)


def page_of_codes(model, data, codes, history=(), unfolding=()):
    """The page of a model and data, with codes that are not the model's."""
    return explorer.make_page(
        model.encoder,
        model.decoder,
        name=data.name,
        images=data.x_test,
        labels=data.y_test,
        classes=data.classes,
        colours=vae_mnist.class_colours(len(data.classes)),
        z_mean=codes,
        losses={"loss": 20.0, "reconstruction": 17.0, "kl": 3.0},
        reconstruction_loss=model.reconstruction_loss,
        kl_weight=model.kl_weight,
        square=vae_mnist.MANIFOLD_QUANTILES[-1],
        history=history,
        unfolding=unfolding,
    )


# A page of known codes, in two clouds of 30 that no flip and no transposition leaves in place. In
# two epochs of training each moves there on a straight line from a place of its own, by way of
# another. A third class, far off, sets the axes; its images are not among the first, which were
# watched while the model was trained.
PLACES = {0: (1.5, 0.5), 1: (-0.75, 1.75), 2: (-3.0, -2.5)}
EARLIER = [
    {0: (-1.0, 0.25), 1: (0.5, -1.0)},
    {0: (1.0, -1.5), 1: (-2.0, -0.5)},
]
KNOWN_LABELS = np.repeat([0, 1, 2], 30)


def clouds(places):
    """The codes of all classes around their places."""
    spread = np.random.default_rng(0).uniform(-0.1, 0.1, (30, 2))
    spread -= spread.mean(axis=0)
    return np.concatenate([place + spread for place in places.values()]).astype(np.float32)


def losses_of_epoch(epoch):
    losses = {"validation_loss": 21.94 - epoch, "validation_reconstruction": 18.62 - epoch}
    return {"epoch": epoch} | losses | {"validation_kl": 3.32}


def make_known_page(kl_weight=1.0):
    data = vae_mnist.load_data(BUNDLED)
    return page_of_codes(
        vae_mnist.VAE(kl_weight=kl_weight),
        data._replace(name="known", y_test=KNOWN_LABELS, x_test=data.x_test[:90]),
        clouds(PLACES),
        history=[losses_of_epoch(1), losses_of_epoch(2)],
        unfolding=[*(clouds(places) for places in EARLIER), clouds(PLACES)[:60]],
    )


PAGES = {
    "squared error": lambda: make_page(name="MNIST"),
    "cross-entropy": lambda: make_page("cross-entropy"),
    "47 classes": lambda: make_page(classes=np.arange(47), y_test=np.arange(1000) % 47),
    "one class": lambda: make_page(classes=np.array([7]), y_test=np.full(1000, 7)),
    "hostile name": lambda: make_page(name=HOSTILE),
    "known": make_known_page,
    "weighted": lambda: make_known_page(kl_weight=0.5),
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

    def resize(self, width, height=900, mobile=False):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def __getitem__(self, name):
        """The element of an id."""
        return self.driver.find_element(By.ID, name)

    def js(self, program, *arguments):
        return self.driver.execute_script(program, *arguments)

    def pointer(self, name, duration=0):
        """Scrolls to an element; returns a chain of actions, and what moves its pointer there.

        Places are from (0, 0), top left, to (1, 1).
        """
        element, width, height = self.js(
            "const element = document.getElementById(arguments[0]);"
            "element.scrollIntoView({block: 'center'});"
            "return [element, element.offsetWidth, element.offsetHeight]",
            name,
        )
        chain = ActionChains(self.driver, duration)

        def move_to(place):
            right, down = (place[0] - 0.5) * width, (place[1] - 0.5) * height
            chain.move_to_element_with_offset(element, round(right), round(down))

        return chain, move_to

    def move(self, place, click=False):
        chain, move_to = self.pointer("plane")
        move_to(place)
        (chain.click() if click else chain).perform()

    def draw(self, *strokes):
        for points in strokes:
            chain, move_to = self.pointer("pad", duration=5)
            move_to(points[0])
            chain.click_and_hold()
            for point in points[1:]:
                move_to(point)
            chain.release().perform()

    def touch(self, kind, *points):
        """Sends a touch event; points are in CSS pixels of the viewport."""
        points = [{"x": x, "y": y} for x, y in points]
        event = {"type": kind, "touchPoints": points}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def wait_for(self, condition):
        """Waits until a condition of JavaScript holds."""
        end = time.monotonic() + 20
        while not self.js(f"return {condition}"):
            assert time.monotonic() < end, condition

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


@pytest.fixture
def open_page(driver, paths):
    """Opens a page, by its name, in a window of a size; it must leave no message and no request."""

    def open_page(name="squared error", width=1280, height=900, touch=False, **media):
        page = Page(driver)
        page.resize(width, height, touch)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        features = [{"name": key.replace("_", "-"), "value": value} for key, value in media.items()]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.get(paths(name).as_uri())
        return page

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
    expected = model.decoder(codes).numpy()
    if loss == "cross-entropy":
        expected = expit(expected)
    np.testing.assert_allclose(decoded, expected, atol=5e-6)
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
    at_means = vae_mnist.evaluate(model, data.x_test, epsilon=0)
    terms = vae_mnist.evaluate(model, data.x_test[:1], np.zeros((1, 2), np.float32))
    assert page["ownError"].text == f"{terms.reconstruction:.1f}"
    assert page["ownKl"].text == f"{terms.kl:.1f}"
    assert page["testError"].text == f"{at_means.reconstruction:.1f}"
    assert page["testKl"].text == f"{at_means.kl:.1f}"
    np.testing.assert_array_equal(page.image("encoded").ravel(), data.x_test[0])


def test_the_vote_is_that_of_the_25_nearest_codes(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = vae_mnist.encode(model, data.x_test)
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
    page.wait_for("element('walk').value > 5")
    on_the_way = page.code()
    assert (on_the_way - start) @ (on_the_way - end) < 0
    page["walk"].send_keys(Keys.END, *[Keys.ARROW_LEFT] * 10)
    page["play"].click()
    page.wait_for("Math.abs(code[0] - chosen[1].code[0]) < 1e-9")
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
    time.sleep(0.1)
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


@pytest.fixture(params=STROKES)
def drawn_digit(request, open_page):
    """A digit, what the page says of its drawing, and the image that it is turned into."""
    page = open_page()
    page.draw(*STROKES[request.param])
    return request.param, page["ownText"].text, page.image("encoded").astype(float)


def test_a_drawn_digit_lands_in_the_middle_of_its_image_and_where_its_like_live(drawn_digit):
    digit, text, image = drawn_digit
    assert text.startswith(f"Your drawing. {digit}: ")
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


@pytest.mark.parametrize("name", ["squared error", "47 classes"])
def test_no_width_needs_sideways_scrolling(name, open_page):
    page = open_page(name)
    page.draw(*STROKES["1"])
    page.move((0.4, 0.4), click=True)
    for width in (320, 390, 768, 1280, 1920):
        page.resize(width)
        page.wait_for(f"innerWidth === {width}")
        assert page.js("return document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_decoded_image_stays_in_sight_above_the_plane(open_page):
    page = open_page(width=390, height=844)
    page.js("document.getElementById('classes').scrollIntoView({block: 'end'})")
    box = page.js("return document.getElementById('decoded').getBoundingClientRect().toJSON()")
    assert 0 <= box["top"] < box["bottom"] <= 844
    assert box["bottom"] <= page.js(
        "return document.getElementById('plane').getBoundingClientRect().bottom"
    )


# ---- The plane shows what it says ----------------------------------------------------------------

# Recorded from the start of a page: texts on canvases with their places, and ellipses.
RECORDER = """
window.drawn = {texts: [], ellipses: [], frames: 0};
const prototype = CanvasRenderingContext2D.prototype;
const {fillText, ellipse, strokeRect} = prototype;
prototype.fillText = function (text, x, y) {
  drawn.texts.push({text, x, y, align: this.textAlign});
  fillText.call(this, text, x, y);
};
prototype.ellipse = function (...values) {
  drawn.ellipses.push(values);
  ellipse.apply(this, values);
};
prototype.strokeRect = function (...values) {
  if (!this.getLineDash().length) drawn.frames += 1;
  strokeRect.apply(this, values);
};
"""


@pytest.fixture
def recorded(driver, open_page):
    """Opens a page that records what is drawn on its canvases."""
    command = {"source": RECORDER}
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", command)
    yield open_page
    driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def pixels_of(address):
    """The colours of a picture in a data address, [height, width, 3] from 0 to 255."""
    picture = io.BytesIO(base64.b64decode(address.partition(",")[2]))
    return np.rint(255 * matplotlib.image.imread(picture)[..., :3]).astype(int)


def plane_pixels(page):
    return pixels_of(page.js("return plane.toDataURL()"))


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def centre_of(page, label):
    """Where the dots of a class lie on the plane, by their colour: from (0, 0), top left, to 1."""
    pixels = plane_pixels(page)
    colour = rgb(vae_mnist.CLASS_COLOURS[label])
    rows, columns = np.nonzero((np.abs(pixels - colour) < 3).all(axis=-1))
    assert len(rows) > 30
    height, width, _ = pixels.shape
    return (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height


def code_at(page, place):
    """The code that the pointer takes at a place of the plane."""
    page.move(place)
    return page.code()


def hide_names(page):
    """Class names cover dots; a pointer far away moves the cross out of the way."""
    page.js("names = []; drawMarks()")


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoomed"])
def test_a_dot_in_its_colour_lies_where_the_pointer_finds_its_code(zoom, open_page):
    page = open_page("known")
    if zoom:
        page["zoom"].click()
    page.move((0.9, 0.9))
    hide_names(page)
    labels = [0] if zoom else [0, 1, 2]
    centres = {label: centre_of(page, label) for label in labels}
    for label, centre in centres.items():
        np.testing.assert_allclose(code_at(page, centre), PLACES[label], atol=0.03)


def test_the_axes_have_their_numbers_where_the_pointer_finds_them(recorded):
    page = recorded("known")
    width, height = page.js("return [plane.clientWidth, plane.clientHeight]")
    texts = page.js("return drawn.texts")
    numbers = {
        align: [
            (float(text["text"].replace("\N{MINUS SIGN}", "-")), text["x"], text["y"])
            for text in texts
            if text["align"] == align and re.fullmatch("\N{MINUS SIGN}?[\\d.]+", text["text"])
        ]
        for align in ("center", "right")
    }
    below = {value: x for value, x, y in numbers["center"] if y > 0.9 * height}
    beside = {value: y - 4 for value, x, y in numbers["right"]}
    assert {-2, -1, 0, 1, 2} <= below.keys() & beside.keys()
    for value, x in below.items():
        assert code_at(page, (x / width, 0.5))[0] == pytest.approx(value, abs=0.02)
    for value, y in beside.items():
        assert code_at(page, (0.5, y / height))[1] == pytest.approx(value, abs=0.02)
    names = {text["text"]: (text["x"], text["y"]) for text in texts if text["text"][0] == "z"}
    assert names["z₁"][0] > max(below.values())
    assert names["z₂"][1] < min(beside.values())


def test_the_dashed_square_is_that_of_the_manifold(open_page):
    page = open_page("known", prefers_color_scheme="light")
    page["classes"].find_elements(By.TAG_NAME, "button")[-2].click()  # none
    page.move((0.9, 0.9))
    pixels = plane_pixels(page).sum(axis=-1)
    inside = pixels[10:-60, 50:-10] < 300
    rows, columns = np.nonzero(inside[: int(0.85 * len(inside)), : int(0.85 * len(inside))])
    height, width = pixels.shape
    lowest, highest = (50 + columns.min() + 0.5) / width, (50 + columns.max() + 0.5) / width
    assert code_at(page, (lowest, 0.5))[0] == pytest.approx(-1.645, abs=0.03)
    assert code_at(page, (highest, 0.5))[0] == pytest.approx(1.645, abs=0.03)
    top, bottom = (10 + rows.min() + 0.5) / height, (10 + rows.max() + 0.5) / height
    assert code_at(page, (0.5, top))[1] == pytest.approx(1.645, abs=0.03)
    assert code_at(page, (0.5, bottom))[1] == pytest.approx(-1.645, abs=0.03)


def test_the_cross_is_around_the_pointer(open_page):
    page = open_page("known", prefers_color_scheme="light")
    page["classes"].find_elements(By.TAG_NAME, "button")[-2].click()  # none
    page.move((0.9, 0.9))
    before = plane_pixels(page)
    page.move((0.3, 0.2))
    changed = np.abs(plane_pixels(page) - before).sum(axis=-1) > 300
    height, width = changed.shape
    rows, columns = np.nonzero(changed[: height // 2])
    assert (columns.mean() + 0.5) / width == pytest.approx(0.3, abs=0.004)
    assert (rows.mean() + 0.5) / height == pytest.approx(0.2, abs=0.004)
    assert np.ptp(columns) == pytest.approx(26, abs=3)


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoomed"])
def test_a_decoded_image_is_that_of_the_code_at_its_middle(zoom, open_page):
    page = open_page()
    page["images"].click()
    if zoom:
        page["zoom"].click()
    page.js("own = null; code = [-99, -99]; drawMarks()")  # no mark over the images
    pixels = plane_pixels(page)[..., 0].astype(float)
    inner = pixels.shape[1] - 44
    side = inner / 20
    model, _ = trained("squared-error")
    tiles = pixels_of(page.js("return decodedLayer().toDataURL()"))[..., 0]
    tiles = tiles.reshape(20, 28, 20, 28).swapaxes(1, 2)
    for row, column in ((3, 11), (11, 3), (8, 8), (17, 13)):
        centre = 42 + (column + 0.5) * side, 2 + (row + 0.5) * side
        code = code_at(page, (centre[0] / pixels.shape[1], centre[1] / pixels.shape[0]))
        expected = 255 * model.decode_pixels(code).reshape(28, 28).clip(0, 1)
        # Not closer, because the pointer's code is that of a whole pixel.
        np.testing.assert_allclose(tiles[row, column], expected, atol=8)
        at = (np.arange(28) + 0.5) / 28 - 0.5
        rows = (centre[1] + at * side).astype(int)
        columns = (centre[0] + at * side).astype(int)
        shown = pixels[np.ix_(rows, columns)]
        assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.95


def test_the_ellipse_and_the_text_of_an_image_are_its_code(recorded):
    page = recorded()
    page["example"].click()
    model, data = trained("squared-error")
    (mean,), (log_variance,) = vae_mnist.encode(model, data.x_test[:1])
    sigma = np.exp(log_variance / 2)
    text = page["ownCode"].text.replace("\N{MINUS SIGN}", "-")
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
    np.testing.assert_allclose(numbers, [mean[0], sigma[0], mean[1], sigma[1]], atol=0.00501)
    x, y, radius_x, radius_y, *_ = page.js("return drawn.ellipses.at(-1)")
    width, height = page.js("return [plane.clientWidth, plane.clientHeight]")
    centre = code_at(page, (x / width, y / height))
    np.testing.assert_allclose(centre, mean, atol=0.02)
    right = code_at(page, ((x + radius_x) / width, y / height))
    top = code_at(page, (x / width, (y - radius_y) / height))
    np.testing.assert_allclose([right[0] - mean[0], top[1] - mean[1]], sigma, atol=0.03)


def test_captions_name_what_stands_beside_them(recorded):
    page = recorded("known")
    page.move((0.6, 0.6), click=True)
    page.move((0.3, 0.7), click=True)
    page["example"].click()
    page.js("drawn.texts.length = 0")
    page.move((0.8, 0.8))
    width, height = page.js("return [plane.clientWidth, plane.clientHeight]")
    places = {text["text"]: (text["x"], text["y"]) for text in page.js("return drawn.texts")}
    assert places.keys() >= {"0", "1", "2", "A", "B", "yours"}
    for name, (x, y) in {"A": (0.6, 0.6), "B": (0.3, 0.7)}.items():
        assert np.hypot(places[name][0] - x * width, places[name][1] - y * height) < 40
    for label in (0, 1, 2):
        x, y = places[str(label)]
        code = code_at(page, (x / width, (y - 5) / height))
        np.testing.assert_allclose(code, PLACES[label], atol=0.12)


def test_marks_outside_the_axes_are_not_drawn_beside_them(recorded):
    page = recorded("known")
    page.js("setCode([-1.8, 0]); keep()")  # a little to the left of the dashed square
    for zoomed in (False, True):
        if zoomed:
            page["zoom"].click()
        page.js("drawn.texts.length = 0; drawMarks()")
        texts = {text["text"] for text in page.js("return drawn.texts")}
        assert ("A" in texts) is not zoomed
    margin = np.s_[:, :41]
    without_marks = pixels_of(base_of_the_plane(page))
    np.testing.assert_array_equal(plane_pixels(page)[margin], without_marks[margin])


def test_the_image_at_the_code_has_its_neighbours_in_their_colours(open_page):
    page = open_page("known")
    page.move(centre_of(page, 1))
    assert page["vote"].text == "1: 25 of 25"
    canvas = "const c = document.getElementById('neighbours');"
    pixels = page.js(
        canvas + "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    pixels = np.reshape(pixels, (112, 112, 4))[..., :3]
    for i in range(25):
        at = pixels[int((i // 5 + 0.5) * 22.4), int((i % 5 + 0.5) * 22.4)]
        np.testing.assert_array_equal(at, rgb(vae_mnist.CLASS_COLOURS[1]))


def test_a_test_image_is_named_and_has_no_vote_about_itself(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    for number in range(12):
        page["example"].click()
        distances = np.linalg.norm(z_mean - z_mean[number], axis=1)
        distances[number] = np.inf
        counts = np.bincount(data.y_test[np.argsort(distances)[:25]])
        assert page["ownText"].text == (
            f"Test image {number + 1}, class {data.y_test[number]}. "
            f"{counts.argmax()}: {counts.max()} of the 25 nearest test codes."
        )


# ---- The training --------------------------------------------------------------------------------


def set_epoch(page, *keys):
    page["epoch"].send_keys(*keys)


def test_the_slider_shows_the_dots_of_an_epoch(open_page):
    page = open_page("known")
    assert page["epoch"].get_attribute("value") == page["epoch"].get_attribute("max") == "2"
    seen = {}
    for epoch, key in ((0, Keys.HOME), (1, Keys.ARROW_RIGHT)):
        set_epoch(page, key)
        assert page["epoch"].get_attribute("value") == str(epoch)
        seen[epoch] = {label: centre_of(page, label) for label in (0, 1)}
    set_epoch(page, Keys.END)
    for epoch, centres in seen.items():
        for label, centre in centres.items():
            code = code_at(page, centre)
            np.testing.assert_allclose(code, EARLIER[epoch][label], atol=0.03)


def test_between_two_epochs_the_dots_are_on_a_straight_line(open_page):
    page = open_page("known")
    page.js("setEpoch(0.25)")
    centre = centre_of(page, 0)
    page.js("setEpoch(lastEpoch)")
    expected = 0.75 * np.array(EARLIER[0][0]) + 0.25 * np.array(EARLIER[1][0])
    np.testing.assert_allclose(code_at(page, centre), expected, atol=0.03)


def test_the_epoch_and_its_loss_are_told_in_writing_and_aloud(open_page):
    page = open_page("known")
    texts = {
        Keys.END: "epoch 2: 19.9 = 16.6 + 3.3 KL",
        Keys.ARROW_LEFT: "epoch 1: 20.9 = 17.6 + 3.3 KL",
        Keys.HOME: "epoch 0: not trained yet",
    }
    for key, text in texts.items():
        set_epoch(page, key)
        assert page["losses"].text == text
        assert page["epoch"].get_attribute("aria-valuetext") == text


def test_a_weight_of_the_kl_divergence_is_written_out(open_page):
    page = open_page("weighted")
    assert page["losses"].text == "epoch 2: 19.9 = 16.6 + 0.5 \N{MULTIPLICATION SIGN} 3.3 KL"


def test_the_training_plays_to_its_end_and_can_be_paused(open_page):
    page = open_page("known")
    before = base_of_the_plane(page)
    page["unfold"].click()
    assert page["unfold"].text == "Pause"
    page.wait_for("epoch > 0.1 && epoch < 2")
    first = page.js("return epoch")
    page.wait_for(f"epoch > {first}")
    page["unfold"].click()
    assert page["unfold"].text == "Play"
    paused = page.js("return epoch")
    time.sleep(0.1)
    assert page.js("return epoch") == paused < 2
    page.js("setEpoch(1.8)")
    page["unfold"].click()
    page.wait_for("epoch === 2")
    assert page["unfold"].text == "Play"
    assert base_of_the_plane(page) == before


def test_with_reduced_motion_the_training_goes_on_by_clicks(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    for epoch in (0, 1, 2, 0):
        assert page["unfold"].text == "Next epoch"
        page["unfold"].click()
        assert page.js("return epoch") == epoch


def test_before_the_last_epoch_nothing_of_the_trained_model_is_offered(recorded):
    page = recorded("known")
    page.move((0.3, 0.3), click=True)
    code = page.code()
    set_epoch(page, Keys.HOME)
    page.js("drawn.texts.length = 0; drawBase()")
    assert "A" not in {text["text"] for text in page.js("return drawn.texts")}
    assert page.js("return names") == []
    assert not page["images"].is_enabled()
    assert "The first 60 test images, as they were then" in page["hint"].text
    for name in ("here", "walks", "own"):
        assert page[name].get_property("inert")
    page.move((0.6, 0.6), click=True)
    page["plane"].send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    np.testing.assert_array_equal(page.code(), code)
    assert len(page.kept()) == 1
    set_epoch(page, Keys.END)
    assert page["images"].is_enabled()
    assert "a click, a tap or Enter keeps" in page["hint"].text


def test_before_the_last_epoch_nothing_lies_over_the_dots_on_a_phone(open_page):
    page = open_page("known", width=390, height=844)
    set_epoch(page, Keys.HOME)
    page.js("plane.scrollIntoView({block: 'start'})")
    assert page.js("return here.getBoundingClientRect().bottom") <= page.js(
        "return plane.getBoundingClientRect().top"
    )


def test_classes_and_zoom_work_at_every_epoch(open_page):
    page = open_page("known")
    set_epoch(page, Keys.HOME)
    views = [base_of_the_plane(page)]
    page["zoom"].click()
    views.append(base_of_the_plane(page))
    page["classes"].find_elements(By.TAG_NAME, "button")[0].click()
    views.append(base_of_the_plane(page))
    assert len(set(views)) == 3


def test_images_that_were_shown_come_back_at_the_last_epoch(open_page):
    page = open_page("known")
    page["images"].click()
    view = base_of_the_plane(page)
    set_epoch(page, Keys.HOME)
    assert base_of_the_plane(page) != view
    set_epoch(page, Keys.END)
    assert base_of_the_plane(page) == view


def test_a_page_without_a_training_has_no_control_of_it(open_page):
    page = open_page()
    assert not page["training"].is_displayed()


# ---- Pointers ------------------------------------------------------------------------------------


def test_only_the_main_button_keeps_an_image(open_page):
    page = open_page()
    plane = page["plane"]
    ActionChains(page.driver, duration=0).move_to_element(plane).context_click().perform()
    assert page.kept() == []
    ActionChains(page.driver, duration=0).move_to_element(plane).click().perform()
    assert len(page.kept()) == 1


def test_a_press_elsewhere_that_is_released_on_the_plane_keeps_nothing(open_page):
    page = open_page()
    page.move((0.5, 0.5), click=True)
    chain = ActionChains(page.driver, duration=0)
    chain.move_to_element(page["title"]).click_and_hold()
    chain.move_to_element_with_offset(page["plane"], 0, 0).release().perform()
    assert len(page.kept()) == 1


def test_a_press_that_leaves_the_plane_and_comes_back_keeps_nothing(open_page):
    page = open_page()
    plane = page["plane"]
    chain = ActionChains(page.driver, duration=0).move_to_element(plane).click_and_hold()
    chain.move_to_element(page["title"]).move_to_element(plane).release().perform()
    assert page.kept() == []


def test_a_second_finger_does_not_draw(open_page):
    page = open_page(width=390, height=844, touch=True)
    page.js("document.getElementById('pad').scrollIntoView({block: 'center'})")
    box = page.js("return document.getElementById('pad').getBoundingClientRect().toJSON()")
    at = [(box["x"] + part * box["width"], box["y"] + 0.5 * box["height"]) for part in (0.3, 0.7)]
    page.touch("touchStart", at[0])
    page.touch("touchStart", at[0], at[1])
    page.touch("touchMove", (at[0][0], at[0][1] + 40), (at[1][0], at[1][1] + 40))
    page.touch("touchEnd")
    strokes = page.js("return strokes")
    assert len(strokes) == 1
    assert all(x == pytest.approx(0.3, abs=0.01) for x, _ in strokes[0])
    page.touch("touchStart", at[1])
    page.touch("touchEnd")
    assert len(page.js("return strokes")) == 2


# ---- Sizes, drawings, words ----------------------------------------------------------------------


def test_plane_and_decoded_image_are_in_sight_together(open_page):
    page = open_page(touch=True)
    for width, height in ((844, 390), (800, 360), (932, 430), (390, 844), (1280, 900)):
        page.resize(width, height, mobile=width < 1000)
        page.wait_for(f"innerWidth === {width} && innerHeight === {height}")
        page.js("document.getElementById('plane').scrollIntoView({block: 'nearest'})")
        for name in ("plane", "decoded"):
            box = page.js(f"return {name}.getBoundingClientRect().toJSON()")
            assert -1 <= box["top"] < box["bottom"] <= height + 1
        free = width - page.js("return plane.clientWidth")
        assert free > 0.4 * width or height > width


def test_the_plane_is_drawn_once_while_the_page_loads(recorded):
    page = recorded()
    time.sleep(0.1)
    assert page.js("return drawn.frames") == 1


def test_the_decoded_plane_is_decoded_once_for_its_axes(open_page):
    page = open_page()
    page.js(
        "const original = decode; decodings = 0;"
        "decode = (...values) => { decodings += 1; return original(...values); }"
    )
    page["images"].click()
    assert page.js("return decodings") == 400
    page["classes"].find_elements(By.TAG_NAME, "button")[2].click()
    page.resize(900, 700)
    time.sleep(0.3)
    assert page.js("return decodings") < 405
    page["zoom"].click()
    assert page.js("return decodings") >= 800


def test_letters_go_on_after_z(open_page):
    page = open_page()
    letters = page.js("return [0, 25, 26, 27, 51, 52, 701, 702].map(lettersOf)")
    assert letters == ["A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]


def test_the_place_on_the_walk_is_told_aloud(open_page):
    page = open_page()
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    page["walk"].send_keys(Keys.END)
    assert page["walk"].get_attribute("aria-valuetext") == "100 percent from A to B"


def test_headers_say_what_they_head(open_page):
    page = open_page()
    scopes = page.js("return [...document.querySelectorAll('th')].map(header => header.scope)")
    assert scopes == ["col", "col", "col", "row", "row"]


def test_without_javascript_a_page_says_what_is_missing(driver, paths, open_page):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(paths("known").as_uri())
    text = driver.find_element(By.TAG_NAME, "body").text
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "JavaScript, which is switched off" in text
    assert "template" not in text
