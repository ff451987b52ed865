"""The page has everything in sight in every window, for every reader and every data set."""

import base64
import re

import numpy as np
import pytest

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import HOSTILE, NARROW, WIDE, needs_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = needs_browser
PARTS = ["training", "space", "loss", "drawn", "walks", "pad", "decoded"]


def assert_laid_out(page, width):
    """Nothing is cut off at the sides or covers another part, and x is as large as x̂."""
    assert page.js("return document.documentElement.scrollWidth") <= width
    boxes = [page.box(part) for part in PARTS if page[part].is_displayed()]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= width
        for x0, y0, x1, y1 in boxes[:i]:
            assert right <= x0 + 1 or x1 <= left + 1 or bottom <= y0 + 1 or y1 <= top + 1
    sizes = [page.box(name)[2:] - page.box(name)[:2] for name in ("pad", "decoded")]
    np.testing.assert_allclose(sizes[0], sizes[1], atol=1)
    assert sizes[0][0] >= 105


@pytest.mark.parametrize("name", ["known", "47 classes", "long names", "collapsed", "two images"])
def test_a_wide_window_shows_all_of_the_page_without_scrolling(name, open_page):
    page = open_page(name)
    for (width, height), side in WIDE.items():
        page.resize(width, height)
        assert_laid_out(page, width)
        assert page.js("return document.documentElement.scrollHeight") == height
        assert page.js("return classes.scrollHeight - classes.clientHeight") == 0
        for part in ("results", "training", "classes"):
            assert page.box(part)[3] <= height
        plane = page.box("plane")[2:] - page.box("plane")[:2]
        assert plane[0] == pytest.approx(plane[1], abs=1)
        if name == "known":
            assert plane[0] >= side
    lefts = [page.box(part)[0] for part in ("input", "space", "output")]
    assert lefts == sorted(lefts)  # as the model computes


def test_on_a_phone_image_reconstruction_and_plane_are_in_sight_together(open_page):
    page = open_page("known", 390, 844, touch=True)
    for scrolled in (0, 60):
        page.js("scrollTo(0, arguments[0])", scrolled)
        page.settle()
        for name in ("pad", "decoded", "plane", "vote", "mu"):
            _, top, _, bottom = page.box(name)
            assert 0 <= top < bottom <= 844, name
    page.js("document.getElementById('walks').scrollIntoView()")
    page.settle()
    for name in ("pad", "decoded"):
        assert page.box(name)[1] >= 0
    for name in ("sample", "play", "unfold"):
        page.js("document.activeElement.blur()")
        page.js("document.getElementById(arguments[0]).focus()", name)
        assert page.box(name)[1] >= page.box("input")[3] - 1  # no focus is behind what stays


@pytest.mark.parametrize("name", ["known", "47 classes", "long names", "collapsed"])
@pytest.mark.parametrize("letters", [16, 32])
def test_no_window_needs_sideways_scrolling(letters, name, open_page):
    page = open_page(name, letters=letters)
    page.click("fresh")
    page.click("keep")
    for width, height in [*NARROW, (768, 1024), *(WIDE if letters == 16 else [])]:
        page.resize(width, height)
        assert_laid_out(page, width)
        for button in ("example", "clear", "keep", "fresh", "back", "sample", "play"):
            left, _, right, _ = page.box(button)
            assert 0 <= left < right <= width, (button, width)


def test_how_it_works_opens_over_the_page_and_starts_with_the_gaussian_and_the_divergence(
    open_page,
):
    page = open_page("squared-error", 1366, 633)
    before = {name: page.box(name) for name in PARTS}
    assert not page["how"].is_displayed()
    page.click("howButton")
    sentences = page.text("how").split(". ")
    assert "turns an image into a small Gaussian" in sentences[0]
    assert sentences[0].endswith("so that nearby codes decode to similar images")
    assert "keeps all these Gaussians near the prior N(0, I)" in sentences[1]
    assert "so that random codes decode to digits" in sentences[1]
    for name in PARTS:
        np.testing.assert_array_equal(page.box(name), before[name])
    for width, height in [*WIDE, *NARROW]:
        page.resize(width, height)
        left, top, right, bottom = page.box("how")
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    page["howButton"].send_keys(Keys.ESCAPE)
    assert not page["how"].is_displayed()


WORDS = {
    "input": r"Image x encoder Test image Clear Test image 1: 0 μ = \(1.\d+, 0.\d+\) "
    r"σ = \(0.20, 0.40\)",
    "training": r"▶ Play training Trained test loss .* Test images over their reconstructions: "
    "click one.",
    "space": "Latent space dots images zoom decoder 0 1 2 3 4 5 6 7 8 9",
    "output": r"Reconstruction x̂ Keep Random z Back to μ z = \(1.\d+, 0.\d+\) 25 of the 25 .* 0",
    "loss": "pixel loss nats image x test mean reconstruction .* .* [+] KL .* .* = loss .* .*",
    "drawn": r"Samples z = μ \+ σ·ε, decoded Again 0 0 0 0 0 0 0 0",
    "walks": "Kept codes keep two to walk between them ▶ Walk",
}
NAMES = {
    "example": "Test image",
    "clear": "Clear",
    "encoded": "The image as it is encoded",
    "codes": "dots",
    "images": "images",
    "zoom": "zoom",
    "decoded": "Decoded from the code",
    "keep": "Keep",
    "fresh": "Random z",
    "back": "Back to μ",
    "unfold": "▶ Play training",
    "epoch": "Epoch",
    "curve": "Validation loss by epoch",
    "error": "Loss of each pixel",
    "sample": "Again",
    "walk": "Place on the walk, in percent",
}


def test_words_and_names_stand_where_they_belong(open_page):
    page = open_page("known")
    for part, words in WORDS.items():
        assert re.fullmatch(words, page.text(part)), page.text(part)
    assert {name: page[name].accessible_name for name in NAMES} == NAMES
    for name, symbol in (("mu", "μ"), ("sigma", "σ")):
        line = page[name].find_element(By.XPATH, "..").text
        assert line.startswith(f"{symbol} = (")


@pytest.mark.parametrize(
    ("name", "first_line", "words"),
    [
        (
            "squared-error",
            "draw a digit",
            "plus the KL divergence, in nats. The reconstruction loss "
            "sums (x̂ - x)² / 2 over the pixels; a pixel loss of 0.5 is shown white.",
        ),
        ("weighted", "draw an image", "plus 4 × the KL divergence, in nats."),
        (
            "cross-entropy",
            "draw a digit",
            "sums the cross-entropy over the pixels; a pixel loss of 1.4 is shown white.",
        ),
    ],
)
def test_the_first_words_are_of_this_data_and_this_loss(name, first_line, words, open_page):
    page = open_page(name)
    assert page.text("lead") == f"Move over it, {first_line}, play the training."
    page.click("howButton")
    assert words in page.text("how")


def test_posterior_collapse_is_said(open_page):
    page = open_page("collapsed")
    assert page.text("collapsed").startswith("Posterior collapse: the KL divergence is almost 0")
    assert not open_page("known")["collapsed"].is_displayed()


@pytest.mark.parametrize("name", ["one class", "one image", "two images", "other layers"])
def test_odd_data_make_a_page_that_works(name, open_page):
    page = open_page(name)
    page.click("plane", (0.6, 0.3))
    pixels = np.clip(page.js("return [...vae.decode(vae.code)]"), 0, 1)
    np.testing.assert_allclose(page.image("decoded").ravel(), 255 * pixels, atol=0.51)
    titles = {"one class": HOSTILE, "other layers": "32"}
    assert page.driver.title == f"Latent space of {titles.get(name, 'known')}"


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(scheme, open_page):
    page = open_page("known", prefers_color_scheme=scheme)
    names = ["text", "quiet", "accent", "on-accent", "page", "button", "plot", "mark"]
    style = "return getComputedStyle(plane).getPropertyValue(`--${arguments[0]}`)"
    colours = {name: page.js(style, name).strip() for name in names}
    full = {name: c if len(c) == 7 else f"#{6 * c[1]}" for name, c in colours.items()}
    for ink, paper in [
        *(("text", "page"), ("quiet", "page"), ("accent", "page"), ("text", "button")),
        *(("on-accent", "accent"), ("quiet", "plot"), ("mark", "plot")),
    ]:
        low, high = sorted([luminance(full[ink]), luminance(full[paper])])
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)
    assert colours["plot"] == {"light": "#fff", "dark": "#000"}[scheme]


def test_a_frame_without_width_leaves_no_error_and_is_drawn_when_it_opens(open_page, tmp_path):
    source = (tmp_path / "frame.html").resolve()
    path = open_page("known").driver.current_url
    source.write_text(f'<iframe id="f" src="{path}" width=0 height=0></iframe>', "utf-8")
    page = open_page(path=source)
    page.js("f.style.display = 'none'")
    page.settle()
    page.js("f.style.display = ''; f.width = 800; f.height = 600")
    page.settle()
    page.driver.switch_to.frame("f")
    page.settle()
    assert len(page.drawn("text", "base")) > 5


def test_a_page_twice_in_one_document_leaves_no_error(open_page, page_path, tmp_path):
    text = page_path("known").read_text("utf-8")
    text = re.sub("<meta http-equiv.*?>", "", text, flags=re.DOTALL)  # which belongs in a head
    title = "<p id=title>of the notebook</p>"
    path = tmp_path / "notebook.html"
    path.write_text(f"{title}<div>{text}</div><div>{text}</div>", "utf-8")
    assert open_page(path=path).text("title") == "of the notebook"


def test_a_page_saved_with_its_elements_works_when_it_is_opened_again(open_page, tmp_path):
    page = open_page("known")
    page.click("fresh")
    page.click("keep")
    path = tmp_path / "saved.html"
    path.write_text(page.js("return document.documentElement.outerHTML"), "utf-8")
    again = open_page(path=path)
    assert again.button_texts("classes") == [str(label) for label in range(10)]
    assert again.buttons("kept") == []
    again.click("fresh")
    again.click("keep")
    assert len(again.buttons("kept")) == 1


def test_without_javascript_a_page_says_what_is_missing(driver, open_page, page_path):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(page_path("known").as_uri())
    text = driver.find_element(By.TAG_NAME, "body").text
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert text == (
        "This page draws the latent space with JavaScript, which is switched off in this browser."
    )


def test_in_forced_colours_the_two_codes_of_the_walk_are_marked(open_page):
    page = open_page("known", forced_colors="active")
    for _ in range(3):
        page.click("fresh")
        page.click("keep")
    styles = page.js(
        "return [...document.querySelectorAll('#kept button')].map(b =>"
        "getComputedStyle(b).outline.includes('solid 3px'))"
    )
    assert styles == [False, True, True]


def test_on_a_finer_screen_the_plane_is_drawn_anew(open_page):
    page = open_page("known")
    before = page.js("return plane.width")
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 2, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.driver.get_screenshot_as_png()  # only then does a browser without a window look at it
    page.wait_for(f"plane.width > {1.9 * before}")


def test_the_page_is_printed_on_one_sheet(open_page):
    page = open_page("known")
    for landscape in (False, True):
        settings = {"landscape": landscape}
        printed = page.driver.execute_cdp_cmd("Page.printToPDF", settings)["data"]
        assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed))) == 1
