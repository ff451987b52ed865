"""The page does what it should when a person uses it: real events in a real browser.

Skipped where there is no Chromium with its driver, or no selenium.
"""

import base64
import functools
import io
import re
import shutil
import time

import keras
import matplotlib.image
import numpy as np
import pytest
from helpers import trained
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


def make_page(loss="squared-error", **changes):
    """The page of a trained model, with fields of its data replaced."""
    model, data = trained(loss)
    return vae_mnist.explorer_page(model, data._replace(**changes))


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
KNOWN_SIGMA = np.array([0.2, 0.4])


def clouds(places):
    """The codes of all classes around their places."""
    spread = np.random.default_rng(0).uniform(-0.1, 0.1, (30, 2))
    spread -= spread.mean(axis=0)
    return np.concatenate([place + spread for place in places.values()]).astype(np.float32)


def images_of(codes):
    """Images whose first pixels are their codes: two bytes for each number from -4 to 4."""
    images = np.zeros((len(codes), 784), np.uint8)
    images[:, 0:4:2], rest = np.divmod((codes + 4) / 8 * 255, 1)
    images[:, 1:4:2] = 255 * rest
    images[:, 300:400] = 255
    return images


def known_model(kl_weight=1.0):
    """A model whose encoder reads the code off those pixels, and knows it to KNOWN_SIGMA."""
    x = keras.Input((784,))
    encoder = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
    kernel = np.zeros((784, 2))
    kernel[[0, 2], [0, 1]] = 8
    kernel[[1, 3], [0, 1]] = 8 / 255
    zeros = np.zeros((784, 2))
    encoder.set_weights([kernel, np.full(2, -4), zeros, 2 * np.log(KNOWN_SIGMA)])
    keras.utils.set_random_seed(0)
    h2 = keras.layers.Dense(8, activation="relu")
    decoder = keras.Sequential([keras.Input((2,)), h2, keras.layers.Dense(784)])
    return vae_mnist.VAE(encoder, decoder, kl_weight=kl_weight)


def known_data(codes=None):
    images = images_of(clouds(PLACES) if codes is None else codes)
    labels = KNOWN_LABELS[: len(images)]
    return vae_mnist.Data("known", *2 * (images, labels), images, labels, classes=np.arange(10))


def losses_of_epoch(epoch):
    return {"loss": 21.94 - epoch, "reconstruction": 18.62 - epoch, "kl": 3.32}


def strip_of_epoch(epoch):
    """Pixels of ten images, each of one grey level: of 64, the one of ten times the epoch on."""
    return np.repeat((10 * epoch + np.arange(10))[:, None] / 63, 784, axis=1)


def make_known_page(places=EARLIER, **settings):
    data = known_data()
    recorder = explorer.Recorder(data.x_test[:60], data.y_test[:60])
    recorder.codes = [*(clouds(moment) for moment in places), clouds(PLACES)[:60]]
    recorder.strips = [strip_of_epoch(epoch) for epoch in range(len(recorder.codes))]
    recorder.losses = [losses_of_epoch(epoch) for epoch in range(1, len(recorder.codes))]
    return vae_mnist.explorer_page(known_model(**settings), data, recorder)


def make_collapsed_page():
    model = vae_mnist.VAE()
    weights = model.get_weights()
    model.set_weights([*weights[:2], *(0 * array for array in weights[2:6]), *weights[6:]])
    return vae_mnist.explorer_page(model, trained("squared-error")[1])


def make_page_of_other_layers():
    """Other activations, one more layer, dropout, a normalization, images of 32 x 32 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_mnist, "IMAGE_SIDE", 32)
        return vae_mnist.explorer_page(*other_model())


@functools.cache
def other_model():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (60, 1024), dtype=np.uint8)
    labels = np.arange(60) % 10
    data = vae_mnist.Data("32", images, labels, images, labels, images, labels, np.arange(10))
    x = keras.Input((1024,))
    h = keras.layers.Dense(40, activation="tanh")(x)
    normalization = keras.layers.BatchNormalization()
    h = keras.layers.Dropout(0.3)(normalization(h))
    gamma_beta_mean_variance = np.outer([1.5, -0.4, 0.2, 0.7], np.ones(40))
    normalization.set_weights(gamma_beta_mean_variance)
    h = keras.layers.Dense(30)(h)
    h = keras.layers.LeakyReLU(negative_slope=0.1)(h)
    encoder = keras.Model(x, [keras.layers.Dense(2)(h), keras.layers.Dense(2)(h)])
    encoder.trainable = False
    layers = [keras.layers.Dense(20, activation=name) for name in ("gelu", "elu", "silu")]
    last = keras.layers.Dense(1024, activation="sigmoid")
    return vae_mnist.VAE(encoder, keras.Sequential([keras.Input((2,)), *layers, last])), data


FAR = [{0: (-9.0, 0.25), 1: (0.5, -1.0)}, {0: (-5.0, 0.25), 1: (-2.0, -0.5)}]
PAGES = {
    "squared error": lambda: make_page(name="MNIST"),
    "cross-entropy": lambda: make_page("cross-entropy"),
    "47 classes": lambda: make_page(
        name=200 * "W", classes=np.arange(47), y_test=np.arange(1000) % 47
    ),
    "one class": lambda: make_page(name=HOSTILE, classes=np.array([7]), y_test=np.full(1000, 7)),
    "known": make_known_page,
    "weighted": lambda: make_known_page(kl_weight=0.5),
    "far": lambda: make_known_page(FAR),
    "one code": lambda: vae_mnist.explorer_page(known_model(), known_data(clouds(PLACES)[:1])),
    "collapsed": make_collapsed_page,
    "other layers": make_page_of_other_layers,
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

    def emulate(self, medium="", **features):
        """Sets what the page may ask of its medium, such as prefers_color_scheme."""
        features = [{"name": key.replace("_", "-"), "value": features[key]} for key in features]
        settings = {"media": medium, "features": features}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", settings)

    def show(self):
        """Makes the browser show the page, which nobody looks at, as it is now."""
        clip = {"x": 0, "y": 0, "width": 1, "height": 1, "scale": 1}
        self.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip})

    def __getitem__(self, name):
        """The element of an id."""
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        """What can be read in an element."""
        text = self.js("return document.getElementById(arguments[0]).innerText", name)
        return " ".join(text.split())

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

    def press(self, name):
        """Clicks an element in its middle."""
        chain, move_to = self.pointer(name)
        move_to((0.5, 0.5))
        chain.click().perform()

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

    def wait_for(self, condition, *arguments):
        """Waits until a condition of JavaScript holds."""
        end = time.monotonic() + 20
        while not self.js(f"return {condition}", *arguments):
            assert time.monotonic() < end, condition

    def image(self, name, element="document.getElementById(arguments[0])"):
        """The grey levels, [height, width] from 0 to 255, of a canvas."""
        height, width, levels = self.js(
            f"const c = {element}; const context = c.getContext('2d');"
            "const {data} = context.getImageData(0, 0, c.width, c.height);"
            "return [c.height, c.width, Array.from(data).filter((_, i) => i % 4 === 0)]",
            name,
        )
        return np.reshape(levels, (height, width))

    def images(self, name):
        """The grey levels of all canvases in an element."""
        canvases = "document.getElementById(arguments[0]).querySelectorAll('canvas')"
        count = self.js(f"return {canvases}.length", name)
        return [self.image(name, f"{canvases}[{i}]") for i in range(count)]

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
        page.emulate(**media)
        driver.get(paths(name).as_uri())
        return page

    driver.get_log("browser"), driver.get_log("performance")
    yield open_page
    assert driver.get_log("browser") == []
    requests = [row["message"] for row in driver.get_log("performance")]
    requests = [row for row in requests if '"Network.requestWillBeSent"' in row]
    assert all('"url":"file:///' in row for row in requests)


@pytest.mark.parametrize("name", ["47 classes", "one class", "one code", "collapsed"])
def test_every_page_opens_and_decodes_at_the_pointer(name, open_page):
    page = open_page(name)
    page.move((0.6, 0.3))
    pixels = np.clip(page.js("return [...vae.decode(vae.code)]"), 0, 1)
    np.testing.assert_allclose(page.image("decoded").ravel(), 255 * pixels, atol=0.51)
    assert page.image("decoded").max() > 0
    assert " of " in page.text("vote")
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
    x = vae_mnist.to_pixels(data.x_test[:50]).numpy()
    encoded = page.js("return arguments[0].map(x => vae.encode(x))", x.tolist())
    z_mean, z_log_sigma_sq = model.encoder(x)
    np.testing.assert_allclose([row["mean"] for row in encoded], z_mean, atol=1e-5)
    log_variances = [row["logVariance"] for row in encoded]
    np.testing.assert_allclose(log_variances, z_log_sigma_sq, atol=1e-5)


def test_the_vote_is_that_of_the_25_nearest_codes(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    for place in ((0.4, 0.4), (0.6, 0.6), (0.7, 0.4)):
        page.move(place)
        nearest = np.argsort(np.linalg.norm(z_mean - page.code(), axis=1))[:25]
        counts = np.bincount(data.y_test[nearest])
        assert page.text("vote") == f"{counts.argmax()}: {counts.max()} of 25"


def test_the_pointer_moves_the_code_by_the_axes(open_page):
    page = open_page("known")
    page.move((0.5, 0.5))
    middle = page.code()
    page.move((0.8, 0.2))
    assert (page.code() > middle).all()
    z_1, z_2 = page.code()
    text = f"z₁ = {z_1:.2f} z₂ = {z_2:.2f}".replace("-", "\N{MINUS SIGN}")
    assert page.text("code").split() == text.split()


def test_the_arrow_keys_move_the_code_and_enter_keeps_it(open_page):
    page = open_page("known")
    page["plane"].send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    z_1, z_2 = page.code()
    assert z_1 == pytest.approx(2 * z_2)
    assert z_2 > 0
    assert page.text("spoken").startswith("z₁")
    page["plane"].send_keys(Keys.ENTER)
    assert [button.text for button in page.kept()] == ["A"]


def test_a_finger_moves_the_code_and_a_tap_keeps_it(open_page):
    page = open_page("known", width=390, height=844, touch=True)
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
    page = open_page("known")
    page.move((0.3, 0.5), click=True)
    start = page.code()
    assert not page["play"].is_enabled()
    page.move((0.7, 0.4), click=True)
    end = page.code()
    assert page.text("play") == "Walk from A to B"
    page.press("play")
    page.wait_for("element('walk').value > 5 && element('walk').value < 90")
    on_the_way = page.code()
    assert (on_the_way - start) @ (on_the_way - end) < 0
    page["walk"].send_keys(Keys.END, *[Keys.ARROW_LEFT] * 10)
    page.press("play")
    page.wait_for("playing === null")
    np.testing.assert_allclose(page.code(), end)


def test_the_walk_can_be_dragged(open_page):
    page = open_page("known")
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    end = page.code()
    page["walk"].send_keys(Keys.END)
    np.testing.assert_allclose(page.code(), end)
    page["walk"].send_keys(Keys.HOME)
    assert page.code()[0] < end[0]


def test_nothing_moves_by_itself_for_those_who_ask_for_that(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    assert page.text("play") == "Step from A to B"
    page.press("play")
    first = page.code()
    time.sleep(0.1)
    np.testing.assert_array_equal(page.code(), first)
    page.press("play")
    assert page.code()[0] > first[0]


def test_a_kept_image_is_chosen_again_and_all_are_removed(open_page):
    page = open_page("known")
    for place in ((0.3, 0.5), (0.5, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    assert page.text("play") == "Walk from B to C"
    page.kept()[0].click()
    assert page.text("play") == "Walk from C to A"
    page.press("forget")
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
    return request.param, page.text("vote"), page.image("encoded").astype(float)


def test_a_drawn_digit_lands_in_the_middle_of_its_image_and_where_its_like_live(drawn_digit):
    digit, vote, image = drawn_digit
    assert vote.startswith(f"{digit}: ")
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    pixels = np.arange(28) + 0.5
    assert 13.4 < image.sum(axis=0) @ pixels / image.sum() < 14.6
    assert 13.4 < image.sum(axis=1) @ pixels / image.sum() < 14.6
    assert image.max() == 255


def test_a_dot_stays_a_dot(open_page):
    page = open_page("known")
    page.draw([(0.2, 0.2)])
    assert 4 <= np.count_nonzero(page.image("encoded")) <= 25


def test_the_pad_does_not_move_while_one_draws(open_page):
    page = open_page("known", width=390, height=844)
    where = "return document.getElementById('pad').getBoundingClientRect().top + scrollY"
    before = page.js(where)
    page.draw(*STROKES["7"])
    assert page.js(where) == before
    page.press("clear")
    assert page.js(where) == before


def test_clear_empties_the_pad_and_says_so(open_page):
    page = open_page("known")
    assert page.text("ownText").startswith("Nothing is drawn yet")
    page.draw(*STROKES["1"])
    page.press("clear")
    assert page.text("clear") == "Clear"
    assert page.text("ownText").startswith("Nothing is drawn yet")
    assert not page.image("encoded").any()
    assert not page.image("error").any()


def base_of_the_plane(page):
    """What the plane shows, but for the code and the marks."""
    return page.js("return base.toDataURL()")


def test_the_plane_is_shown_decoded_zoomed_and_by_classes(open_page):
    page = open_page()
    views = [base_of_the_plane(page)]
    page.press("images")
    views.append(base_of_the_plane(page))
    page.press("zoom")
    views.append(base_of_the_plane(page))
    page.press("codes")
    views.append(base_of_the_plane(page))
    page["classes"].find_elements(By.TAG_NAME, "button")[3].click()
    views.append(base_of_the_plane(page))
    assert len(set(views)) == 5
    pressed = [
        b.get_attribute("aria-pressed") for b in page["classes"].find_elements(By.XPATH, "*")
    ]
    assert pressed[:10] == ["true"] * 3 + ["false"] + ["true"] * 6
    page.press("zoom")
    page["classes"].find_elements(By.TAG_NAME, "button")[-1].click()
    assert base_of_the_plane(page) == views[0]


def test_names_of_classes_stand_where_no_other_is_near(open_page):
    page = open_page()
    for width, least in ((1280, 7), (360, 5)):
        page.resize(width)
        page.show()
        page.wait_for(f"innerWidth === {width} && plane.clientWidth === view.width")
        names = page.js("return names")
        assert least <= len({name["text"] for name in names} & set("0123456789")) == len(names)
        for index, a in enumerate(names):
            for b in names[:index]:
                apart = abs(a["x"] - b["x"]) - a["halfWidth"] - b["halfWidth"]
                assert apart > 0 or abs(a["y"] - b["y"]) > 15


def test_the_light_and_the_dark_page_differ(open_page):
    page = open_page("known", prefers_color_scheme="light")
    colour = "return [getComputedStyle(document.body).backgroundColor, base.toDataURL()]"
    light = page.js(colour)
    page.emulate(prefers_color_scheme="dark")
    page.wait_for("view.plot === '#000'")
    assert all(one != other for one, other in zip(light, page.js(colour), strict=True))


def luminance(colour):
    values = np.array(colour) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ (
        0.2126,
        0.7152,
        0.0722,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_4_5(scheme, open_page):
    page = open_page("known", prefers_color_scheme=scheme)
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
    page = open_page("known")
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
    page = open_page("known", width=390, height=844)
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


def legend_colours(page):
    """The colours of the legend, [classes, 3] from 0 to 255."""
    dots = page.js(
        "return [...document.querySelectorAll('#classes i')].map(dot =>"
        "getComputedStyle(dot).backgroundColor)"
    )
    return np.array([[int(number) for number in re.findall(r"\d+", dot)] for dot in dots])


def centre_of(page, label):
    """Where the dots of a class lie on the plane, by their colour: from (0, 0), top left, to 1."""
    pixels = plane_pixels(page)
    colour = legend_colours(page)[label]
    rows, columns = np.nonzero((np.abs(pixels - colour) < 3).all(axis=-1))
    assert len(rows) > 30
    height, width, _ = pixels.shape
    return (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height


def code_at(page, place):
    """The code that the pointer takes at a place of the plane."""
    page.move(place)
    return page.code()


def hide(page, *what):
    """Draws the plane without names or bells, which cover dots."""
    functions = {"names": "placeNames = () => [];", "bells": "drawBells = () => {};"}
    page.js("".join(functions[name] for name in what) + "drawBase()")


def show_no_dots(page):
    page["classes"].find_elements(By.TAG_NAME, "button")[-2].click()


@pytest.mark.parametrize("zoom", [False, True], ids=["whole", "zoomed"])
def test_a_dot_in_its_colour_lies_where_the_pointer_finds_its_code(zoom, open_page):
    page = open_page("known")
    if zoom:
        page.press("zoom")
    page.move((0.9, 0.9))
    hide(page, "names", "bells")
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
    show_no_dots(page)
    hide(page, "bells")
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
    show_no_dots(page)
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
    page.press("images")
    if zoom:
        page.press("zoom")
    page.js("code = [-99, -99]")
    hide(page, "bells")  # no mark over the images
    pixels = plane_pixels(page)[..., 0].astype(float)
    margin, side = page.js("return [view.margin, view.inner / 20]")
    model, _ = trained("squared-error")
    tiles = pixels_of(page.js("return decodedLayer().toDataURL()"))[..., 0]
    tiles = tiles.reshape(20, 28, 20, 28).swapaxes(1, 2)
    for row, column in ((3, 11), (11, 3), (8, 8), (17, 13)):
        centre = margin + (column + 0.5) * side, 2 + (row + 0.5) * side
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
    page.press("example")
    model, data = trained("squared-error")
    (mean,), (log_variance,) = vae_mnist.encode(model, data.x_test[:1])
    sigma = np.exp(log_variance / 2)
    text = page.text("ownCode").replace("\N{MINUS SIGN}", "-")
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
    page.press("example")
    page.js("drawn.texts.length = 0; drawBase()")
    width, height = page.js("return [plane.clientWidth, plane.clientHeight]")
    places = {text["text"]: (text["x"], text["y"]) for text in page.js("return drawn.texts")}
    assert places.keys() >= {"A", "B", "test image 1"}
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
            page.press("zoom")
        page.js("drawn.texts.length = 0; drawMarks()")
        texts = {text["text"] for text in page.js("return drawn.texts")}
        assert ("A" in texts) is not zoomed
    margin = np.s_[:, :41]
    without_marks = pixels_of(base_of_the_plane(page))
    np.testing.assert_array_equal(plane_pixels(page)[margin], without_marks[margin])


def test_a_test_image_is_named_and_has_no_vote_about_itself(open_page):
    page = open_page()
    model, data = trained("squared-error")
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    for number in range(5):
        page.press("example")
        distances = np.linalg.norm(z_mean - z_mean[number], axis=1)
        distances[number] = np.inf
        counts = np.bincount(data.y_test[np.argsort(distances)[:25]])
        assert page.text("vote") == f"{counts.argmax()}: {counts.max()} of 25"
        assert page.text("spoken").endswith(page.text("vote"))
        text = f"This is test image {number + 1}, class {data.y_test[number]}."
        assert page.text("ownText") == text


# ---- Other models --------------------------------------------------------------------------------


def test_a_page_of_other_layers_and_images_computes_what_the_model_does(open_page):
    page = open_page("other layers")
    model, data = other_model()
    x = (data.x_test[:20] / 255).astype(np.float32)
    encoded = page.js("return arguments[0].map(x => vae.encode(x))", x.tolist())
    z_mean, z_log_sigma_sq = model.encoder(x)
    np.testing.assert_allclose([row["mean"] for row in encoded], z_mean, atol=1e-4)
    log_variances = [row["logVariance"] for row in encoded]
    np.testing.assert_allclose(log_variances, z_log_sigma_sq, atol=1e-4)
    codes = np.random.default_rng(0).standard_normal((20, 2))
    decoded = page.js("return arguments[0].map(z => [...vae.decode(z)])", codes.tolist())
    np.testing.assert_allclose(decoded, model.decoder(codes), atol=1e-4)
    page.press("example")
    np.testing.assert_array_equal(page.image("encoded").ravel(), data.x_test[0])
    page.draw(*STROKES["1"])
    assert page.image("encoded").shape == (32, 32)
    assert page.image("encoded").max() == 255


def test_every_activation_is_that_of_keras(open_page):
    page = open_page("known")
    x = np.concatenate([np.linspace(-9, 9, 181), [-40, -1e-9, 1e-9, 40]])
    for name, parameter in {**dict.fromkeys(explorer.ACTIVATIONS), "leaky_relu": 0.3}.items():
        if name == "elu":
            parameter = 1.0
        computed = page.js(
            "return arguments[0].map(x => ACTIVATIONS[arguments[1]](x, arguments[2]))",
            *(x.tolist(), name, parameter),
        )
        options = {"negative_slope": parameter} if name == "leaky_relu" else {}
        expected = keras.activations.get(name)(x, **options)
        np.testing.assert_allclose(computed, expected, atol=1e-6, err_msg=name)


# ---- What is variational -------------------------------------------------------------------------


def test_the_first_words_say_what_it_is(open_page):
    page = open_page("known")
    words = page.driver.find_element(By.TAG_NAME, "header").text
    assert "This is a variational autoencoder." in words
    assert "plus the KL divergence (how far the cloud is from the standard normal N(0, 1))" in words
    assert "the mean codes of 90 test images" in words
    assert "the middle 90 % of N(0, 1)" in words
    assert "with Shift in larger steps" in words


def test_the_first_words_have_the_weight_of_the_kl_divergence(open_page):
    page = open_page("weighted")
    words = page.driver.find_element(By.TAG_NAME, "header").text
    assert "plus 0.5 \N{MULTIPLICATION SIGN} the KL divergence" in words


def samples_of(page):
    return np.array(page.js("return own.samples"))


def test_eight_samples_of_an_image_are_decoded_in_a_row(open_page):
    page = open_page()
    assert not page["sample"].is_enabled()
    page.press("example")
    model, _ = trained("squared-error")
    for _ in range(2):
        codes = samples_of(page)
        images = page.images("samples")
        assert len(images) == len(codes) == 8
        expected = 255 * model.decode_pixels(codes).reshape(8, 28, 28)
        np.testing.assert_allclose(images, expected, atol=0.51)
        page.press("sample")
        assert not np.isin(samples_of(page), codes).any()


def test_samples_are_drawn_from_the_cloud_of_the_image(open_page):
    page = open_page("known")
    page.press("example")
    samples = page.js("return Array.from({length: 4000}, () => sampleLatent(own))")
    mean = np.array(page.js("return vae.encode(exampleImage(0)).mean"))
    np.testing.assert_allclose(mean, clouds(PLACES)[0], atol=1e-3)
    epsilon = (np.array(samples) - mean) / KNOWN_SIGMA
    np.testing.assert_allclose(epsilon.mean(axis=0), 0, atol=0.08)
    np.testing.assert_allclose(np.cov(epsilon.T), np.eye(2), atol=0.1)
    assert np.mean(np.abs(epsilon) < 1) == pytest.approx(0.683, abs=0.03)  # they are normal


def test_each_sample_has_the_class_of_its_neighbours(open_page):
    page = open_page()
    for _ in range(4):
        page.press("example")
    model, data = trained("squared-error")
    z_mean, _ = vae_mnist.encode(model, data.x_test)
    nearest = [np.argsort(np.linalg.norm(z_mean - z, axis=1))[:25] for z in samples_of(page)]
    expected = [str(np.bincount(data.y_test[some]).argmax()) for some in nearest]
    captions = page["samples"].find_elements(By.TAG_NAME, "figcaption")
    assert [caption.text for caption in captions] == expected


def test_samples_are_dots_on_the_plane(open_page):
    page = open_page("known", prefers_color_scheme="light")
    show_no_dots(page)
    hide(page, "names", "bells")
    page.press("example")
    page.js("own.caption = ''; setCode([-99, -99])")
    with_samples = plane_pixels(page).sum(axis=-1)
    places = page.js("return own.samples.map(([z1, z2]) => [toX(z1), toY(z2)])")
    page.js("own.samples = []; drawMarks()")
    changed = np.abs(with_samples - plane_pixels(page).sum(axis=-1)) > 300
    inked = np.zeros_like(changed)
    for x, y in places:
        area = np.s_[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6]
        assert np.count_nonzero(changed[area]) > 8
        inked[area] = True
    assert not changed[~inked].any()


def test_a_drawing_is_sampled_when_a_stroke_ends_and_no_longer_after_clear(open_page):
    page = open_page("known")
    page.draw(*STROKES["1"])
    assert len(page.images("samples")) == 8
    page.press("clear")
    assert page.images("samples") == []
    assert not page["sample"].is_enabled()


def test_the_large_image_is_that_of_ones_own_image_which_can_be_kept(open_page):
    page = open_page()
    page.press("example")
    model, data = trained("squared-error")
    z_mean, _ = vae_mnist.encode(model, data.x_test[:1])
    np.testing.assert_allclose(page.code(), z_mean[0], atol=1e-5)
    expected = 255 * model.decode_pixels(z_mean).reshape(28, 28)
    np.testing.assert_allclose(page.image("decoded"), expected, atol=0.51)
    page.press("keep")
    assert [button.text for button in page.kept()] == ["A"]
    np.testing.assert_allclose(page.js("return kept[0].code"), z_mean[0], atol=1e-5)


def test_there_is_one_vote_and_it_is_that_of_what_is_being_drawn(open_page):
    page = open_page(width=390, height=844)
    page.move((0.3, 0.6), click=True)
    page.draw(*STROKES["3"])
    assert page.text("vote").startswith("3: ")
    text = page.driver.find_element(By.TAG_NAME, "body").text
    assert len(re.findall(r"\d+ of (the )?25", text)) == 1


def test_a_new_digit_is_decoded_from_a_code_of_the_prior(open_page):
    page = open_page()
    codes = []
    for _ in range(3):
        page.press("fresh")
        codes.append(page.code())
    assert len(np.unique(codes, axis=0)) == 3
    model, _ = trained("squared-error")
    expected = 255 * model.decode_pixels(codes[-1]).reshape(28, 28)
    np.testing.assert_allclose(page.image("decoded"), expected, atol=0.51)
    page.js("setCode = z => codes.push(z); codes = []")
    page.js("for (let i = 0; i < 4000; i++) newDigit()")
    codes = np.array(page.js("return codes"))
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=0.08)
    np.testing.assert_allclose(np.cov(codes.T), np.eye(2), atol=0.1)


def bells_of(page):
    """Heights of the bells over the axes as they are on the canvas, by their codes.

    For each axis a function of its number: the distance, in parts of the axis, of the highest ink
    from it.
    """
    pixels = plane_pixels(page).sum(axis=-1) < 350
    margin, inner = page.js("return [view.margin, view.inner]")

    def height(axis, z):
        x, y = page.js("return [toX(arguments[0]), toY(arguments[0])]", z)
        if axis == 0:
            column = pixels[int(2 + inner / 2) : int(2 + inner) - 1, round(x)]
            return (len(column) - np.argmax(column)) / inner if column.any() else 0
        row = pixels[round(y), int(margin) + 2 : int(margin + inner / 2)]
        return np.flatnonzero(row).max(initial=0) / inner

    return height


def test_the_bell_of_the_prior_is_always_there(open_page):
    page = open_page("known", prefers_color_scheme="light")
    show_no_dots(page)
    page.js("drawSquare = () => {}; drawBase(); setCode([-99, -99])")
    height = bells_of(page)
    for axis in (0, 1):
        for z in (0, 1, -1.5):
            expected = 0.03 * np.exp(-(z**2) / 2)
            assert height(axis, z) == pytest.approx(expected, abs=0.005)


def test_the_bell_of_an_image_stands_at_its_mean_as_wide_and_high_as_its_sigma_says(open_page):
    page = open_page("known", prefers_color_scheme="light")
    show_no_dots(page)
    page.js("drawSquare = () => {}; drawBase()")
    page.press("example")
    page.js("own.samples = []; own.caption = ''; setCode([-99, -99])")
    mean, height = clouds(PLACES)[0], bells_of(page)
    for axis in (0, 1):
        sigma = KNOWN_SIGMA[axis]
        for distance in (0, 1, -1, 2):
            z = mean[axis] + distance * sigma
            own = 0.03 / sigma * np.exp(-(distance**2) / 2)
            prior = 0.03 * np.exp(-(z**2) / 2)
            assert height(axis, float(z)) == pytest.approx(max(own, prior), abs=0.012)


def test_a_bell_that_would_leave_the_plot_is_held(open_page):
    page = open_page("known")
    heights = page.js("return bellOf(0.1234, 1e-3).map(([, height]) => height)")
    assert max(heights) == pytest.approx(0.25 * page.js("return view.inner"))


@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
def test_the_small_image_has_the_loss_of_each_pixel(loss, open_page):
    page = open_page({"squared-error": "squared error"}.get(loss, loss))
    page.press("example")
    model, data = trained(loss)
    x = data.x_test[0] / 255
    z_mean, _ = vae_mnist.encode(model, data.x_test[:1])
    raw = model.decoder(z_mean).numpy()[0].astype(float)
    if loss == "squared-error":
        losses, white = (raw - x) ** 2 / 2, 0.5
    else:
        losses, white = -x * np.log(expit(raw)) - (1 - x) * np.log(expit(-raw)), 2 * np.log(2)
    expected = 255 * np.clip(losses / white, 0, 1)
    np.testing.assert_allclose(page.image("error").ravel(), expected, atol=0.6)
    assert page.text("ownError") == f"{losses.sum():.1f}"
    assert f"white: {white:.1f} or more" in page.text("own")


def test_the_table_adds_up_to_the_loss(open_page):
    page = open_page("weighted")
    page.press("example")
    assert page.text("lossName") == "loss = reconstruction + 0.5 \N{MULTIPLICATION SIGN} KL"
    data = known_data()
    np.testing.assert_array_equal(page.image("encoded").ravel(), data.x_test[0])
    sampled = np.random.default_rng(0).standard_normal((len(data.x_test), 2), np.float32)
    for column, images, epsilon in (("own", data.x_test[:1], 0), ("test", data.x_test, sampled)):
        losses = vae_mnist.evaluate(known_model(kl_weight=0.5), images, epsilon)
        assert losses.loss == pytest.approx(losses.reconstruction + 0.5 * losses.kl)
        texts = [page[f"{column}{name}"].text for name in ("Error", "Kl", "Loss")]
        numbers = losses.reconstruction, losses.kl, losses.loss
        assert [float(text) for text in texts] == pytest.approx(numbers, abs=0.0501)


def test_the_page_says_which_losses_are_which(open_page):
    page = open_page("known")
    assert "Losses: nats, of the validation images, one code drawn for each." in page.text(
        "training"
    )
    text = page.text("own")
    assert "nats (1.44 bits)" in text
    assert "The losses of this image are those of its mean code;" in text
    assert "have a code sampled for each: so their reconstruction loss is larger." in text


def test_a_collapsed_model_is_said_to_be(open_page):
    assert not open_page("known")["collapsed"].is_displayed()
    assert "all images have the same reconstruction" in open_page("collapsed")["collapsed"].text


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
    page.js("showEpoch(0.25)")
    centre = centre_of(page, 0)
    page.js("showEpoch(lastEpoch)")
    expected = 0.75 * np.array(EARLIER[0][0]) + 0.25 * np.array(EARLIER[1][0])
    np.testing.assert_allclose(code_at(page, centre), expected, atol=0.03)


def test_the_epoch_and_its_loss_are_told_in_writing_and_aloud(open_page):
    page = open_page("known")
    texts = {
        Keys.END: "epoch 2: loss 19.9 = reconstruction 16.6 + KL 3.3",
        Keys.ARROW_LEFT: "epoch 1: loss 20.9 = reconstruction 17.6 + KL 3.3",
        Keys.HOME: "epoch 0: not trained yet",
    }
    for key, text in texts.items():
        set_epoch(page, key)
        assert page.text("losses") == text
        assert page["epoch"].get_attribute("aria-valuetext") == text


def test_a_weight_of_the_kl_divergence_is_written_out(open_page):
    page = open_page("weighted")
    times = "0.5 \N{MULTIPLICATION SIGN} KL"
    assert page.text("losses") == f"epoch 2: loss 19.9 = reconstruction 16.6 + {times} 3.3"


def test_the_training_plays_to_its_end_and_can_be_paused(open_page):
    page = open_page("known")
    before = base_of_the_plane(page)
    page.press("unfold")
    assert page.text("unfold") == "Pause"
    page.wait_for("epoch > 0.1 && epoch < 2")
    first = page.js("return epoch")
    page.wait_for(f"epoch > {first}")
    page.press("unfold")
    assert page.text("unfold") == "Play"
    paused = page.js("return epoch")
    time.sleep(0.1)
    assert page.js("return epoch") == paused < 2
    page.js("showEpoch(1.8)")
    page.press("unfold")
    page.wait_for("epoch === 2")
    assert page.text("unfold") == "Play"
    assert base_of_the_plane(page) == before


def test_with_reduced_motion_the_training_goes_on_by_clicks(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    for epoch in (0, 1, 2, 0):
        assert page.text("unfold") == "Next epoch"
        page.press("unfold")
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
    assert "the first 60 test images, as they were then" in page.text("hint")
    for name in ("here", "walks", "own"):
        assert page[name].get_property("inert")
    page.move((0.6, 0.6), click=True)
    page["plane"].send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    np.testing.assert_array_equal(page.code(), code)
    assert len(page.kept()) == 1
    set_epoch(page, Keys.END)
    assert page["images"].is_enabled()
    assert page.text("hint") == ""


def test_before_the_last_epoch_nothing_lies_over_the_dots_on_a_phone(open_page):
    page = open_page("known", width=390, height=844)
    set_epoch(page, Keys.HOME)
    page.js("plane.scrollIntoView({block: 'start'})")
    assert page.js("return here.getBoundingClientRect().bottom") <= page.js(
        "return plane.getBoundingClientRect().top"
    )


def test_the_strip_has_test_images_and_their_reconstructions_at_the_epoch(open_page):
    page = open_page("known")
    images = [0, 30, 1, 2, 3, 4, 5, 6, 7, 8]  # one of each class among the first forty, and others
    originals = known_data().x_test[images].reshape(10, 28, 28)
    for epoch, key in ((0, Keys.HOME), (1, Keys.ARROW_RIGHT), (2, Keys.END)):
        set_epoch(page, key)
        upper, lower = np.split(page.image("strip"), 2)
        np.testing.assert_array_equal(np.hstack(originals), upper)
        painted = strip_of_epoch(epoch).reshape(10, 28, 28)
        np.testing.assert_allclose(np.hstack(painted) * 255, lower, atol=0.51)
        assert f"at epoch {epoch}" in page["strip"].get_attribute("aria-label")
        assert f"what the decoder of epoch {epoch} makes" in page.text("training")


def test_the_strip_is_of_the_last_epoch_that_the_page_has(open_page):
    page = open_page("known")
    strips = "{...content.unfolding, stripEpochs: [0, 4, 9]}"
    for epoch, shown in ((3, 0), (4, 4), (8.4, 4), (9, 9)):
        page.js(f"epoch = {epoch}; drawStrip({strips})")
        assert page.text("stripEpoch") == str(shown)


def test_all_dots_of_every_epoch_lie_within_the_axes(open_page):
    page = open_page("far")
    final = page.js("return view.limit")
    assert final == pytest.approx(1.05 * np.abs(clouds(PLACES)).max(), rel=1e-3)
    for epoch in (0, 0.5, 1, 1.5):
        page.js(f"showEpoch({epoch})")
        outside = "codesOfDots().filter(value => Math.abs(value) > view.limit).length"
        assert page.js(f"return {outside}") == 0
        assert page.js("return view.limit") > final
    page.js("showEpoch(2)")
    assert page.js("return view.limit") == final


def test_the_slider_is_as_long_whatever_the_text_of_the_epoch(open_page):
    page = open_page("known")
    lengths = set()
    for key in (Keys.END, Keys.HOME):
        set_epoch(page, key)
        lengths.add(page["epoch"].size["width"])
    assert len(lengths) == 1


def test_classes_and_zoom_work_at_every_epoch(open_page):
    page = open_page("known")
    set_epoch(page, Keys.HOME)
    views = [base_of_the_plane(page)]
    page.press("zoom")
    views.append(base_of_the_plane(page))
    page["classes"].find_elements(By.TAG_NAME, "button")[0].click()
    views.append(base_of_the_plane(page))
    assert len(set(views)) == 3


def test_images_that_were_shown_come_back_at_the_last_epoch(open_page):
    page = open_page("known")
    page.press("images")
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
    page = open_page("known")
    plane = page["plane"]
    ActionChains(page.driver, duration=0).move_to_element(plane).context_click().perform()
    assert page.kept() == []
    ActionChains(page.driver, duration=0).move_to_element(plane).click().perform()
    assert len(page.kept()) == 1


def test_a_press_elsewhere_that_is_released_on_the_plane_keeps_nothing(open_page):
    page = open_page("known")
    page.move((0.5, 0.5), click=True)
    chain = ActionChains(page.driver, duration=0)
    chain.move_to_element(page["title"]).click_and_hold()
    chain.move_to_element_with_offset(page["plane"], 0, 0).release().perform()
    assert len(page.kept()) == 1


def test_a_press_that_leaves_the_plane_and_comes_back_keeps_nothing(open_page):
    page = open_page("known")
    plane = page["plane"]
    chain = ActionChains(page.driver, duration=0).move_to_element(plane).click_and_hold()
    chain.move_to_element(page["title"]).move_to_element(plane).release().perform()
    assert page.kept() == []


def test_a_second_finger_does_not_draw(open_page):
    page = open_page("known", width=390, height=844, touch=True)
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
    page = open_page("known", touch=True)
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
    page.press("images")
    assert page.js("return decodings") == 400
    page["classes"].find_elements(By.TAG_NAME, "button")[2].click()
    page.resize(900, 700)
    time.sleep(0.1)
    assert page.js("return decodings") < 405
    page.press("zoom")
    assert page.js("return decodings") >= 800


def test_the_place_on_the_walk_is_told_aloud(open_page):
    page = open_page("known")
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    page["walk"].send_keys(Keys.END)
    assert page["walk"].get_attribute("aria-valuetext") == "100 percent from A to B"


def test_headers_say_what_they_head(open_page):
    page = open_page("known")
    scopes = page.js("return [...document.querySelectorAll('th')].map(header => header.scope)")
    assert scopes == ["col", "col", "col", "row", "row", "row"]


def test_without_javascript_a_page_says_what_is_missing(driver, paths, open_page):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(paths("known").as_uri())
    text = driver.find_element(By.TAG_NAME, "body").text
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "JavaScript, which is switched off" in text
    assert "template" not in text


# ---- What went wrong once ------------------------------------------------------------------------


def box_of(page, name):
    return page.js("return document.getElementById(arguments[0]).getBoundingClientRect()", name)


def test_at_a_high_zoom_the_plane_can_be_used(open_page):
    page = open_page("known")
    for width, height in ((320, 256), (427, 300)):
        page.resize(width, height)
        page.wait_for(f"innerWidth === {width} && innerHeight === {height}")
        page.press("plane")
        box = box_of(page, "plane")
        assert 200 <= box["width"] == box["height"] <= width
        assert -1 < box["top"] < box["bottom"] < height + 1
        page.js("document.getElementById('pad').scrollIntoView({block: 'nearest'})")
        assert box_of(page, "here")["bottom"] <= max(0, box_of(page, "pad")["top"])


def test_the_page_that_one_comes_back_to_agrees_with_its_controls(open_page, paths):
    page = open_page("known")
    page.press("images")
    page.press("zoom")
    set_epoch(page, Keys.ARROW_LEFT)
    page.driver.get(paths("one code").as_uri())
    page.driver.back()
    page.wait_for("element('title').textContent.includes('known')")
    state = page.js("return [epoch, element('zoom').checked, showsImages(), view.limit]")
    shown = [int(page["epoch"].get_attribute("value")), page["zoom"].is_selected()]
    assert shown == state[:2]
    assert page["images"].is_selected() == (state[2] or state[0] < 2)
    assert (state[3] < 2) is state[1]


def test_the_focus_on_a_chosen_image_is_seen(open_page):
    page = open_page("known")
    page.move((0.3, 0.5), click=True)
    page.move((0.6, 0.5), click=True)
    page["fresh"].send_keys(Keys.TAB, Keys.TAB)
    assert page.driver.switch_to.active_element.text == "B"
    outline = "return getComputedStyle(document.activeElement)"
    assert page.js(f"{outline}.outlineWidth") == "3px"
    assert page.js(f"{outline}.outlineColor") == "rgb(47, 127, 240)"


def test_on_a_phone_no_focus_is_behind_the_panel_that_stays(open_page):
    page = open_page("known", width=390, height=844)
    page.move((0.3, 0.5), click=True)
    page.press("example")
    page.js(
        "stops = []; onkeyup = ({key}) => { if (key === 'Tab') stops.push("
        "[here.contains(document.activeElement), here.getBoundingClientRect().bottom,"
        "document.activeElement.getBoundingClientRect().top]) }"
    )
    page["sample"].send_keys(Keys.SHIFT, *20 * [Keys.TAB])
    stops = page.js("return stops")
    assert len(stops) == 20
    assert any(inside for inside, *_ in stops)
    assert all(inside or top >= bottom - 1 for inside, bottom, top in stops)


def test_keys_with_a_modifier_of_the_browser_are_left_alone(open_page):
    page = open_page("known")
    page.js("prevented = []; onkeydown = event => prevented.push(event.defaultPrevented)")
    before = page.code()
    for modifier in (Keys.ALT, Keys.CONTROL, Keys.META):
        page["plane"].send_keys(modifier, Keys.ARROW_LEFT)
    np.testing.assert_array_equal(page.code(), before)
    assert not any(page.js("return prevented"))
    page["plane"].send_keys(Keys.ARROW_LEFT)
    assert page.js("return prevented.at(-1)")


def test_shift_makes_larger_steps(open_page):
    page = open_page("known")
    page["plane"].send_keys(Keys.ARROW_RIGHT)
    step = page.code()[0]
    page["plane"].send_keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert page.code()[0] == pytest.approx(5 * step)


def test_a_key_that_is_held_down_keeps_one_image(open_page):
    page = open_page("known")
    page["plane"].send_keys("")
    event = {"type": "keyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    for repeated in (False, True, True, True):
        event["autoRepeat"] = repeated
        page.driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)
    assert len(page.kept()) == 1


def test_in_forced_colours_the_dots_of_the_legend_keep_theirs(open_page):
    page = open_page("known", forced_colors="active", prefers_color_scheme="light")
    dots = page.js(
        "return [...document.querySelectorAll('#classes i')].map(dot =>"
        "getComputedStyle(dot).backgroundColor)"
    )
    assert len(set(dots)) == 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_dot_is_seen_on_its_plot(scheme, open_page):
    page = open_page("known", prefers_color_scheme=scheme)
    plot = luminance([255, 255, 255] if scheme == "light" else [0, 0, 0])
    for colour, tone in zip(vae_mnist.CLASS_COLOURS, legend_colours(page), strict=True):
        low, high = sorted([luminance(tone), plot])
        assert (high + 0.05) / (low + 0.05) > 2.98
        original = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        np.testing.assert_allclose(tone / tone.max(), original / original.max(), atol=0.02)


def test_in_the_dark_the_pad_has_an_edge(open_page):
    page = open_page("known", prefers_color_scheme="dark")
    style = "getComputedStyle(document.getElementById('pad'))"
    assert page.js(f"return {style}.borderTopWidth") == "1px"
    edge = re.findall(r"\d+", page.js(f"return {style}.borderTopColor"))
    assert (luminance([int(number) for number in edge]) + 0.05) / 0.05 > 3


def test_one_kept_image_can_be_removed(open_page):
    page = open_page("known")
    for place in ((0.3, 0.5), (0.5, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    page.kept()[0].click()
    assert page.text("remove") == "Remove A"
    page.press("remove")
    assert [button.text for button in page.kept()] == ["B", "C"]
    assert page.text("keptText") == "A is removed."
    page.move((0.4, 0.4), click=True)
    assert [button.text for button in page.kept()] == ["B", "C", "A"]


def test_the_eleventh_kept_image_says_that_it_takes_the_place_of_the_oldest(open_page):
    page = open_page("known")
    page["plane"].send_keys(*10 * [Keys.ARROW_RIGHT, Keys.ENTER])
    assert page.text("keptText") == "Kept as J."
    page.press("keep")
    assert page.text("keptText") == "Kept as A, in place of the oldest: ten images are kept."
    assert [button.text for button in page.kept()] == [*"BCDEFGHIJA"]


def test_a_walk_can_be_paused_and_goes_on_from_there(open_page):
    page = open_page("known")
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    page.js(
        "animate = (original => (...values) => original(...values.with(3, 5)))(animate)"
    )  # slowly
    page.press("play")
    assert page.text("play") == "Pause"
    page.wait_for("element('walk').value > 1")
    page.press("play")
    assert page.text("play") == "Walk from A to B"
    paused = page.code()
    time.sleep(0.1)
    np.testing.assert_array_equal(page.code(), paused)
    page.press("play")
    page.wait_for("playing === 'walk' && code[0] > arguments[0]", paused[0])
    page.press("play")
    assert float(page["walk"].get_attribute("value")) < 50


def test_the_slider_of_the_walk_stands_where_the_cross_is(open_page):
    page = open_page("known")
    for place in ((0.3, 0.5), (0.7, 0.4)):
        page.move(place, click=True)
    assert page["walk"].get_attribute("value") == "100"
    page.kept()[0].click()
    assert page.text("play") == "Walk from B to A"
    np.testing.assert_array_equal(page.code(), page.js("return kept[0].code"))
    assert page["walk"].get_attribute("value") == "100"


def test_ink_beyond_the_edge_of_the_pad_is_cut(open_page):
    page = open_page("known")
    page.draw([(0.3, 0.3), (0.3, 0.7), (0.95, 0.7)])
    inside = page.image("encoded")
    page.press("clear")
    page.draw([(0.3, 0.3), (0.3, 0.7), (1.6, 0.7)])
    beyond = page.image("encoded")
    rows, columns = np.nonzero(beyond > 200)
    assert np.ptp(columns) == pytest.approx(17, abs=1)
    assert np.ptp(rows) == pytest.approx(17 * 0.4 / 0.7, abs=1.5)
    assert np.corrcoef(inside.ravel(), beyond.ravel())[0, 1] > 0.6


def test_ink_over_ink_adds_nothing_to_the_work(open_page):
    page = open_page("known")
    page.draw(*STROKES["7"])
    before = page.js("return ink.size")
    page.draw(*STROKES["7"], *STROKES["7"])
    assert page.js("return ink.size") == pytest.approx(before, rel=0.02)


def test_a_number_that_rounds_to_zero_has_no_sign(open_page):
    page = open_page("known")
    assert page.js("return [-0.004, -0.006, 0.004].map(z => signed(z, 2))") == [
        "0.00",
        "\N{MINUS SIGN}0.01",
        "0.00",
    ]


def test_the_mark_of_an_image_says_which_it_is(recorded):
    page = recorded()
    page.press("example")
    assert "test image 1" in {text["text"] for text in page.js("return drawn.texts")}
    page.draw(*STROKES["1"])
    assert "yours" in {text["text"] for text in page.js("return drawn.texts")}


def test_without_another_code_there_is_no_vote(open_page):
    page = open_page("one code")
    page.press("example")
    assert page.text("vote") == "no other test code"
    assert not page["voters"].is_displayed()


def test_on_a_finer_screen_the_plane_is_drawn_anew(open_page):
    page = open_page("known")
    width = page.js("return plane.width")
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 2, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.show()
    page.wait_for(f"plane.width === {2 * width}")


def test_everything_grows_with_the_readers_letters(recorded):
    page = recorded("known")
    sizes = "return ['title', 'vote', 'clear', 'pad'].map(id => element(id).offsetHeight)"
    before, margin = page.js(sizes), page.js("return view.margin")
    page.js("document.documentElement.style.fontSize = '32px'; redraw()")
    assert (np.array(page.js(sizes)) > 1.6 * np.array(before)).all()
    assert page.js("return view.margin") == 2 * margin


def test_a_page_is_printed_on_one_sheet_with_its_dots_and_its_legend(open_page):
    page = open_page("known")
    page.press("example")
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed))) == 1
    page.emulate("print")
    page.show()
    page.wait_for("plane.clientWidth === view.width")
    page.js("setCode([-99, -99])")
    hide(page, "names", "bells")
    centre_of(page, 1)
    assert page["classes"].is_displayed()
    assert not page["help"].is_displayed()


def test_a_training_that_is_paused_stands_at_a_whole_epoch(open_page):
    page = open_page("known")
    page.press("unfold")
    page.wait_for("epoch > 0")
    page.js("showEpoch(1.7)")
    page.press("unfold")
    epoch = page.js("return epoch")
    assert epoch in (0, 1, 2)
    assert page["epoch"].get_attribute("value") == str(epoch)
    assert page["here"].get_property("inert") is (epoch < 2)


def test_an_arrow_moves_one_number_even_from_a_code_out_of_sight(open_page):
    page = open_page("known")
    page.press("zoom")
    page.js("setCode([3, 2.5])")
    page["plane"].send_keys(Keys.ARROW_LEFT)
    assert page.code()[0] < 3
    assert page.code()[1] == 2.5


def test_kept_images_can_be_removed_one_after_the_other(open_page):
    page = open_page("known")
    page["plane"].send_keys(*3 * [Keys.ARROW_RIGHT, Keys.ENTER])
    for count in (2, 1, 0):
        page.press("remove")
        assert len(page.kept()) == count
    assert not page["remove"].is_enabled()


def test_on_a_coarser_screen_no_mark_is_left_behind(open_page):
    page = open_page("known")
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 0.5, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.show()
    page.wait_for("devicePixelRatio === 0.5 && plane.width * 2 === plane.clientWidth")
    page.js("setCode([-99, -99])")
    before = plane_pixels(page)
    page.js("setCode([view.limit * 0.9, -view.limit * 0.9]); setCode([-99, -99])")
    np.testing.assert_array_equal(plane_pixels(page), before)
