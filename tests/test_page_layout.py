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
PARTS = ["training", "space", "loss", "sampling", "walks", "pad", "decoded"]
NARROW_PARTS = ["replay", "strip", "space", "loss", "sampling", "walks", "pad", "decoded"]


def odd_words(page):
    """Words that stand on more than one line, and words that stick out of their part."""
    return page.js("""
      const broken = [], out = [], range = document.createRange();
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const {textContent: text, parentElement: parent} = walker.currentNode;
        if (!parent.checkVisibility() || parent.closest(".arrow, #spoken")) continue;
        let part = parent;
        while (!part.matches("section, #replay, header, body")
          && getComputedStyle(part).overflow === "visible") part = part.parentElement;
        if (getComputedStyle(part).display === "contents") part = document.body;
        const {left, right} = part.getBoundingClientRect();
        for (const {0: word, index} of text.matchAll(/[^\\s-]+/g)) {
          range.setStart(walker.currentNode, index);
          range.setEnd(walker.currentNode, index + word.length);
          const boxes = [...range.getClientRects()], tops = boxes.map(({top}) => top);
          if (Math.max(...tops) - Math.min(...tops) > 4) broken.push(word);
          const isClipped = getComputedStyle(part).overflow !== "visible";
          if (!isClipped && boxes.some(box => box.left < left - 4 || box.right > right + 4)) {
            out.push(word);
          }
        }
      }
      return [broken, out];""")


def assert_laid_out(page, width, letters=16):
    """Nothing is cut off at the sides or covers another part, and x is as large as x̂."""
    size = page.js("return [innerWidth, innerHeight]")
    seen, needed = page.js(
        "const {clientWidth, scrollWidth} = document.documentElement;"
        "return [clientWidth, scrollWidth]"
    )
    assert needed <= (seen if letters == 16 else width), size
    is_one_part = page.js("return getComputedStyle(training).display") != "contents"
    parts = PARTS if is_one_part else NARROW_PARTS
    parts = [part for part in parts if page[part].is_displayed()]
    boxes = [page.box(part) for part in parts]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= width
        for x0, y0, x1, y1 in boxes[:i]:
            assert right <= x0 + 1 or x1 <= left + 1 or bottom <= y0 + 1 or y1 <= top + 1
    if letters == 16:
        assert odd_words(page)[1] == [], size
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
    _, top, _, bottom = page.box("replay")
    assert page.box("output")[3] <= top < bottom <= page.box("space")[1]
    assert page["unfold"].is_displayed()
    assert page["epoch"].is_displayed()
    page.click("fresh")
    page.click("keep")
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
    for name in ("sample", "remove"):
        page.js("document.activeElement.blur()")
        page.js("document.getElementById(arguments[0]).focus()", name)
        assert page.box(name)[1] >= page.box("input")[3] - 1  # no focus is behind what stays


@pytest.mark.parametrize("name", ["known", "47 classes", "long names", "collapsed", "weighted"])
@pytest.mark.parametrize("letters", [16, 32])
def test_no_window_needs_sideways_scrolling(letters, name, open_page):
    page = open_page(name, letters=letters)
    page.click("fresh")
    page.click("keep")
    for width, height in [*NARROW, (768, 1024), *([*WIDE, *WINDOWS] if letters == 16 else [])]:
        page.resize(width, height)
        assert_laid_out(page, width, letters)
        controls = page.js(
            "return [...document.querySelectorAll('button, input')].filter(e => e.offsetWidth)"
            ".map(e => [e.id, e.getBoundingClientRect().left, e.getBoundingClientRect().right])"
        )
        assert {"example", "clear", "keep", "fresh", "back", "sample", "remove"} <= {
            name for name, _, _ in controls
        }
        for name, left, right in controls:
            assert -1 <= left < right <= width + 1, (name, width)


WINDOWS = [(720, 394), (844, 390), (360, 740), (353, 700), (690, 360), (850, 560)]


LINES = (
    "const height = parseFloat(getComputedStyle(arguments[0]).lineHeight);"
    "return Math.round(arguments[0].clientHeight / height)"
)


@pytest.mark.parametrize("name", ["known", "weighted"])
@pytest.mark.parametrize("size", [*WINDOWS, *WIDE, NARROW[0]], ids=str)
def test_no_word_is_broken_and_the_code_stands_on_one_line(size, name, open_page):
    page = open_page(name, *size)
    page.click("fresh")
    page.click("keep")
    for epoch in (0, 2, 3):
        page.keys("epoch", Keys.HOME, *epoch * [Keys.ARROW_RIGHT])
        assert_laid_out(page, size[0])
        assert odd_words(page)[0] == []
        assert page.js(LINES, page["code"]) == 1


@pytest.mark.parametrize("size", WINDOWS, ids=str)
def test_mean_and_sigma_stand_on_a_line_each(size, open_page):
    page = open_page("known", *size)
    page.click("example")
    for name in SYMBOLS:
        line = page[name].find_element(By.XPATH, "..")
        assert page.js(LINES, line) == 1, line.text


def test_how_it_works_opens_beside_the_plane_and_stays_open_while_the_page_is_used(open_page):
    page = open_page("known", 1366, 633)
    before = {name: page.box(name) for name in PARTS}
    assert not page["how"].is_displayed()
    page.click("howButton")
    for name in PARTS:
        np.testing.assert_array_equal(page.box(name), before[name])
    page.pin((0.3, 0.6))
    page.click("example")
    assert page["how"].is_displayed()
    for width, height in [*WIDE, *NARROW, *WINDOWS]:
        page.resize(width, height)
        left, top, right, bottom = page.box("how")
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        if (width, height) in WIDE:
            assert left >= page.box("plane")[2]
    page.click("closeHow")
    assert not page["how"].is_displayed()


@pytest.mark.parametrize("focus", ["howButton", "plane", "keep"])
def test_how_it_works_is_closed_by_escape_wherever_the_focus_is(focus, open_page):
    page = open_page("known")
    page.click("howButton")
    page.keys(focus, Keys.ESCAPE)
    assert not page["how"].is_displayed()


def test_how_it_works_starts_with_the_gaussian_and_the_divergence(open_page):
    page = open_page("squared-error")
    page.click("howButton")
    sentences = page.text("how").removeprefix("✕ ").split(". ")
    assert "turns an image into a small Gaussian" in sentences[0]
    assert sentences[0].endswith("so that nearby codes decode to similar images")
    assert "keeps all these Gaussians near the prior N(0, I)" in sentences[1]
    assert "so that random codes decode to digits" in sentences[1]


@pytest.mark.parametrize("part", ["pad", "classes", "plane"])
def test_a_press_beside_the_list_of_tasks_closes_it_and_does_nothing_else(part, open_page):
    page = open_page("known", 1366, 633)
    read = "return document.querySelector('main').innerText"
    page.click("tryButton")
    page.click("tryButton")  # so that the mouse is where it will be
    shown = page.js(read), page.code().tolist(), page["plane"].screenshot_as_base64
    page.click("tryButton")
    assert page["tasks"].is_displayed()
    if part == "classes":
        page.press_button("classes", 1)
    else:
        page.drag(part, [(0.2, 0.7), (0.3, 0.8)])
    assert not page["tasks"].is_displayed()
    page.move((0.5, 0.5), "inputTitle")
    assert (page.js(read), page.code().tolist()) == shown[:2]
    assert page["plane"].screenshot_as_base64 == shown[2]
    page.press_button("classes", 1)
    assert len(page.dots_by_colour()) == 1


def test_a_press_that_is_no_click_closes_the_list_and_the_next_click_counts(open_page):
    page = open_page("known", 1366, 633)
    page.click("tryButton")
    left, top, right, bottom = page.box("plane")
    x, y = (left + right) / 2, (top + bottom) / 2
    page.mouse("mousePressed", x, y, button="right", buttons=2, clickCount=1)
    page.mouse("mouseReleased", x, y, button="right", buttons=0, clickCount=1)
    assert not page["tasks"].is_displayed()
    page.press_button("classes", 1)
    assert len(page.dots_by_colour()) == 1


WORDS = {
    "input": r"Image x encoder Test image Clear Test image 1: 0 μ = \(1.\d+, 0.\d+\) "
    r"σ = \(0.20, 0.40\)",
    "training": "▶ Play training Step Trained after 2 epochs Test images over their "
    "reconstructions: click one.",
    "space": "Latent space dots images posterior zoom decoder 0 1 2 3 4 5 6 7 8 9 "
    "Be the encoder Try this .*",
    "output": r"Reconstruction x̂ New image Keep To μ z = \(1.\d+, 0.\d+\) 25 of the 25 .* 0",
    "loss": "pixel loss nats image x test mean reconstruction .* .* [+] KL .* .* = loss .* .*",
    "sampling": r"Samples z = μ \+ σ·ε, decoded Again",
    "walks": "Kept codes Keep two codes to walk between them.",
}
NAMES = {
    "example": "Test image",
    "clear": "Clear",
    "encoded": "The image as it is encoded",
    "codes": "dots",
    "images": "images",
    "posterior": "posterior",
    "zoom": "zoom",
    "decoded": "Decoded from the code",
    "keep": "Keep",
    "fresh": "New image",
    "back": "Back to μ",
    "unfold": "▶ Play training",
    "step": "Step",
    "epoch": "Epoch",
    "curve": "Validation loss by epoch",
    "error": "Loss of each pixel",
    "sample": "Again",
    "inputTitle": "Image x",
    "spaceTitle": "Latent space",
    "outputTitle": "Reconstruction x̂",
    "samplesTitle": "Samples",
    "keptTitle": "Kept codes",
    "howButton": "How it works",
}
SYMBOLS = {"mu": "μ", "sigma": "σ"}


def test_words_and_names_stand_where_they_belong(open_page):
    page = open_page("known")
    for part, words in WORDS.items():
        assert re.fullmatch(words, page.text(part)), page.text(part)
    assert {name: page[name].accessible_name for name in NAMES} == NAMES
    for name, symbol in SYMBOLS.items():
        line = page[name].find_element(By.XPATH, "..").text
        assert line.startswith(f"{symbol} = (")
    page.click("fresh")
    page.click("keep")
    page.click("fresh")
    page.click("keep")
    assert page["walk"].accessible_name == "Place on the walk, in percent"


@pytest.mark.parametrize(
    ("name", "draw", "words"),
    [
        (
            "squared-error",
            "draw a digit",
            "plus the KL divergence, in nats (1 nat is 1.44 bits). The reconstruction loss "
            "sums (x̂ - x)² / 2 over the pixels; a pixel loss of 0.5 is shown white.",
        ),
        ("weighted", "draw an image", "plus 4 × the KL divergence, in nats (1 nat is 1.44 bits)."),
        (
            "cross-entropy",
            "draw a digit",
            "sums the cross-entropy over the pixels; a pixel loss of 1.4 is shown white.",
        ),
    ],
)
def test_the_first_words_are_of_this_data_and_this_loss(name, draw, words, open_page):
    page = open_page(name)
    assert page.text("lead") == f"Move over it, click a dot, {draw}, play the training."
    assert page.text("fresh") == f"New {draw.split()[-1]}"
    page.click("howButton")
    assert words in page.text("how")
    assert "click a dot to take its image" in page.text("how")


def test_the_first_words_are_for_fingers_where_they_are_the_first_means_to_point(open_page):
    page = open_page("known", 390, 844, touch=True)
    assert page.text("lead") == "Tap it, draw an image, play the training."
    assert page.text("stripText").endswith(" tap one.")
    page.click("howButton")
    assert "tap a dot to take its image" in page.text("how")
    assert "click" not in page.text("how")


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


NEEDS_SCRIPTS = (
    "This page draws the latent space with JavaScript, which is switched off or forbidden here."
)
SECOND_PASSES = "document.getAnimations().forEach(animation => animation.finish())"


def test_without_javascript_a_page_says_what_is_missing_after_a_second(driver, page_path):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(page_path("known").as_uri())
    body = driver.find_element(By.TAG_NAME, "body")
    texts = [body.text]
    driver.execute_script(SECOND_PASSES)
    texts.append(body.text)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert texts == ["", NEEDS_SCRIPTS]


def test_where_a_policy_forbids_scripts_a_page_says_so(driver, open_page, page_path, tmp_path):
    text = page_path("known").read_text("utf-8")
    policy = "script-src 'unsafe-inline'"
    assert text.count(policy) == 1
    path = tmp_path / "forbidden.html"
    path.write_text(text.replace(policy, "script-src 'none'"), "utf-8")
    page = open_page(path=path)
    page.js(SECOND_PASSES)
    assert driver.find_element(By.TAG_NAME, "body").text == NEEDS_SCRIPTS
    messages = [row["message"] for row in driver.get_log("browser")]
    assert messages
    assert all("violates the following Content Security Policy" in text for text in messages)


def test_in_forced_colours_the_pad_has_an_outline_and_the_codes_of_the_walk_are_marked(open_page):
    page = open_page("known", forced_colors="active")
    outline = page.js("return getComputedStyle(document.getElementById('pad')).outline")
    assert "solid 1px" in outline
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


@pytest.mark.parametrize("landscape", [False, True], ids=["upright", "landscape"])
def test_the_page_is_printed_on_one_sheet(landscape, open_page):
    page = open_page("known")
    for _ in range(2):
        page.click("fresh")
        page.click("keep")
    settings = {"landscape": landscape}
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", settings)["data"]
    assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed))) == 1


def test_on_paper_the_plane_is_the_largest_part_and_light_in_a_dark_browser(open_page):
    page = open_page("known", 794, 1123, prefers_color_scheme="dark")  # A4
    for event, medium, is_light in (("beforeprint", "print", True), ("afterprint", "", False)):
        page.emulate(medium, prefers_color_scheme="dark")
        page.js("dispatchEvent(new Event(arguments[0]))", event)
        paper = page.js("return getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(255, 255, 255)" if is_light else "rgb(22, 23, 27)")
        assert np.median(page.image("plane")) == (255 if is_light else 0)
        page.settle()
        if is_light:
            width = {name: np.subtract(*page.box(name)[[2, 0]]) for name in PARTS[1:]}
            plane = np.subtract(*page.box("plane")[[2, 0]])
            assert plane > 1.5 * max(width["pad"], width["decoded"])
            assert not page["unfold"].is_displayed()
