"""Try this: the tasks, and the link to a state."""

import numpy as np
import pytest
from helpers import trained

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import PLACES, STROKES, needs_browser
from selenium.webdriver.common.keys import Keys

pytestmark = needs_browser
TITLES = [
    "Beat the encoder",
    "What does β do?",
    "Between",
    "Where is nothing?",
    "Why is this",
    "Watch the training",
]


def start(page, title):
    """Start the task whose title begins so, from the list where it is folded or not."""
    page.wait_for("document.getElementById('taskList').children.length > 0")
    if page["tryButton"].is_displayed():
        page.click("tryButton")
    titles = page.button_texts("taskList")
    page.press_button("taskList", [text.startswith(title) for text in titles].index(True))


@pytest.fixture
def page(open_page):
    """A page of a trained model; motion is reduced."""
    return open_page(width=1366, height=633, prefers_reduced_motion="reduce")


# ---- The tasks -----------------------------------------------------------------------------------


def test_tasks_are_folded_behind_a_button_where_the_window_has_no_room(open_page):
    page = open_page("known", 1366, 633)
    page.wait_for("document.getElementById('taskList').children.length > 0")
    assert not page["tasks"].is_displayed()
    page.click("tryButton")
    assert page.button_texts("taskList")[0] == "Beat the encoder"
    for width, height in ((1280, 900), (1920, 1080)):
        page = open_page("known", width, height)
        page.wait_for("document.getElementById('taskList').children.length > 0")
        assert page["tasks"].is_displayed()
        assert not page["tryButton"].is_displayed()


def test_each_task_says_what_to_do_and_ends(page):
    for title in TITLES[:5]:
        start(page, title)
        assert len(page.text("task")) > 60
        assert page["task"].get_attribute("role") == "status"
        assert not page["lead"].is_displayed()
        page.click("endTask")
        if page.js("return vae.own"):
            page.click("beEncoder")
        assert not page["task"].is_displayed()
        assert page["lead"].is_displayed()


def test_a_task_has_the_focus_where_one_goes_on_and_gives_it_back(page):
    for title, name in zip(TITLES, ["plane", "beta", "play", "plane", "beEncoder"], strict=False):
        start(page, title)
        assert page.driver.switch_to.active_element == page[name], title
        page.click("endTask")
        assert page.driver.switch_to.active_element == page["tryButton"], title


@pytest.mark.parametrize("size", [(844, 390), (720, 394), (390, 844), (1280, 900)])
def test_the_text_of_a_task_and_its_control_are_in_sight(size, open_page):
    page = open_page("known", *size, prefers_reduced_motion="reduce")
    start(page, "What does β do?")
    for name in ("taskBelow", "beta"):
        _, top, _, bottom = page.box(name)
        assert 0 <= top < bottom < size[1] + 1, name


def test_each_task_starts_from_a_clean_state(page):
    start(page, "Between")
    assert len(page.buttons("kept")) == 2
    page.click("images")
    page.click("zoom")
    start(page, "What does β do?")
    page.keys("beta", Keys.END)
    start(page, "Where is nothing?")
    assert page.buttons("kept") == []
    assert page["codes"].is_selected()
    assert not page["zoom"].is_selected()
    assert page.js("return vae.own") is None
    page.click("beEncoder")
    assert page.text("betaText") == "1"


def test_beat_the_encoder_takes_the_image_with_the_largest_gap_and_best_wins(page):
    start(page, "Beat the encoder")
    assert page.text("yourLoss") == page.text("ownLoss")
    assert "can you get a smaller loss?" in page.text("task")
    page.click("best")
    gap = float(page.text("ownLoss")) - float(page.text("yourLoss"))
    assert gap > 0
    assert "amortization gap" in page.text("task")
    others = []
    for _ in range(40):
        page.click("example")
        others.append(float(page.text("ownLoss")) - float(page.text("yourLoss")))
    assert gap >= max(others) - 0.2


def test_what_does_beta_do_asks_first_and_answers_after_both_sides(page):
    start(page, "What does β do?")
    assert page.driver.switch_to.active_element == page["beta"]
    assert page["best"].get_attribute("aria-pressed") == "true"
    question = page.text("task")
    assert question.startswith("Drag β left, then right")
    page.keys("beta", Keys.HOME)
    assert page.text("task") == question
    page.keys("beta", Keys.END)
    assert "σ shrinks" in page.text("task")
    assert "depend less and less on x" in page.text("task")


def test_the_walk_goes_between_codes_that_decode_to_plain_images_of_their_classes(page):
    start(page, "Between")
    title = page.js(
        "return document.querySelector('#taskList [aria-pressed=true]').textContent"
    ).split()
    labels = [int(title[1]), int(title[3])]
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)

    def likeness(z):  # how many of the 25 test images most like the decoded ones are of the class
        decoded = model.decode(np.float32(z))
        distances = [np.sum((data.x_test / 255 - image) ** 2, axis=1) for image in decoded]
        return np.sum(data.y_test[np.argsort(distances)[:, :25]] == label, axis=1)

    for place, label in enumerate(labels):
        page.press_button("kept", place)
        others = z_mean[data.y_test == label][::3]
        assert likeness([page.code()])[0] >= np.quantile(likeness(others), 0.9)
    assert page["play"].is_enabled()


def test_where_is_nothing_takes_the_emptiest_code_of_the_square(page):
    start(page, "Where is nothing?")
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)
    edge = 1.6448536
    line = np.linspace(-edge, edge, 40)
    codes = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 1, 2)
    emptiest = np.linalg.norm(codes - z_mean, axis=-1).min(axis=1).max()
    distance = np.linalg.norm(z_mean - page.code(), axis=1).min()
    assert np.abs(page.code()).max() <= edge + 1e-6
    assert distance >= emptiest - 0.1
    assert page.text("vote") == (f"No test image is near: the nearest code is {distance:.2f} away.")
    assert page.text("bar") == ""


def test_why_is_this_a_that_leads_to_an_answer(page):
    start(page, "Why is this")
    assert page["posterior"].is_selected()
    title = page.js("return document.querySelector('#taskList [aria-pressed=true]').textContent")
    _, _, _, label, _, other = title.rstrip("?").split()
    assert page.text("imageName").endswith(f": {label}")
    count, *_, most = page.text("vote").split()
    assert int(count) > 12
    assert most == other
    assert f"Its code lies among the images of {other}" in page.text("task")
    page.click("beEncoder")
    page.click("best")
    gap = float(page.text("ownLoss")) - float(page.text("yourLoss"))
    assert page.text("task").startswith(f"Best is {gap:.1f} nats better than the encoder")


def test_watch_the_training_plays_from_the_start(open_page):
    page = open_page("known")
    start(page, "Watch the training")
    assert page.text("unfold") == "❚❚ Pause"
    assert page.text("epochText") == "Epoch 0"
    assert "never sees the labels" in page.text("taskBelow")


def test_a_page_without_training_or_of_one_class_leaves_out_what_it_cannot_show(open_page):
    titles = {}
    for name in ("known", "one class"):
        page = open_page(name)
        page.wait_for("document.getElementById('taskList').children.length > 0")
        titles[name] = page.button_texts("taskList")
    assert titles["known"][-1] == "Watch the training"
    assert titles["one class"] == ["Beat the encoder", "What does β do?", "Where is nothing?"]


# ---- The link to a state -------------------------------------------------------------------------


def open_link(page, fragment):
    """Open the page at an address, as somebody who follows a link."""
    address = page.js("return location.href").split("#")[0]
    page.driver.get("about:blank")
    page.driver.get(f"{address}#{fragment}")
    page.settle()
    page.wait_for("document.getElementById('taskList').children.length > 0")


def test_a_link_shows_image_code_layer_own_gaussian_and_beta(page):
    open_link(page, "image=700&z=0.5,0.25&layer=posterior&own=0.5,0.25,0.2,0.3&beta=3")
    _, data = trained("squared-error")
    assert page.text("imageName") == f"Test image 700: {data.y_test[699]}"
    np.testing.assert_allclose(page.js("return vae.image"), data.x_test[699] / 255)
    np.testing.assert_allclose(page.code(), [0.5, 0.25])
    own = page.js("return vae.own")
    np.testing.assert_allclose(own["mean"] + own["sigma"], [0.5, 0.25, 0.2, 0.3])
    assert page.text("betaText") == "3"
    assert page["posterior"].is_selected()


def test_a_link_shows_an_epoch(open_page):
    page = open_page("known")
    open_link(page, "epoch=1")
    assert page.text("epochText") == "Epoch 1"


def test_a_link_to_best_finds_it(page):
    open_link(page, "image=2&own=best&beta=0.1")
    assert page["best"].get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize(
    "fragment",
    ["image=99999&z=a,b&epoch=-1&layer=odd&own=1,2&beta=x", "z=1", "%%%", "image=&z=,&epoch=1.5"],
)
def test_what_a_link_says_of_nothing_that_there_is_is_left_out(fragment, page):
    image, code = page.text("imageName"), page.code()
    open_link(page, fragment)
    assert page.text("imageName") == image
    np.testing.assert_allclose(page.code(), code)
    assert page["codes"].is_selected()
    assert page.js("return vae.own") is None


def test_the_address_follows_what_is_shown_and_leads_back_to_it(page):
    assert page.js("return location.hash") == ""  # a page just opened has its plain address
    page.click("example")
    page.click("posterior")
    page.click("beEncoder")
    page.keys("sizeUp", Keys.SHIFT, Keys.ARROW_UP)
    page.wait_for("location.hash.includes('own=')")
    seen = page.js("return [location.hash.slice(1), vae.own, vae.code]")
    image = page.text("imageName")
    open_link(page, seen[0])
    assert page.text("imageName") == image
    own = page.js("return vae.own")
    np.testing.assert_allclose(own["mean"] + own["sigma"], seen[1]["mean"] + seen[1]["sigma"], 1e-3)
    assert page["posterior"].is_selected()


def test_a_drawing_is_not_in_the_address(page):
    page.draw(*STROKES["1"])
    page.wait_for("location.hash.includes('z=')")
    assert "image=" not in page.js("return location.hash")


def test_a_changed_address_is_followed_without_opening_the_page_again(open_page):
    page = open_page("known")
    page.js("location.hash = 'image=31&z=1,1'")
    page.wait_for("vae.code[0] === 1")
    assert page.text("imageName") == "Test image 31: 1"


# ---- A click on a dot ----------------------------------------------------------------------------


def click_code(page, code, moves=()):
    """Press at a code and release there, or after some moves in parts of the plane."""
    left, top, right, bottom = page.box("plane")
    x, y = page.js("return vae.at(arguments[0])", [float(z) for z in code])
    place = (x - left) / (right - left), (y - top) / (bottom - top)
    if moves:
        page.drag("plane", [place, *((place[0] + dx, place[1] + dy) for dx, dy in moves)])
    else:
        page.click("plane", place)


def test_a_click_on_a_dot_takes_that_test_image(page):
    page.wait_for("document.getElementById('taskList').children.length > 0")
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)
    alone = np.argmax(
        [np.sort(np.linalg.norm(z_mean - z, axis=1))[1] * (np.abs(z).max() < 2) for z in z_mean]
    )
    click_code(page, z_mean[alone])
    assert page.text("imageName") == f"Test image {alone + 1}: {data.y_test[alone]}"
    np.testing.assert_allclose(page.code(), z_mean[alone], atol=1e-4)
    np.testing.assert_allclose(page.js("return vae.image"), data.x_test[alone] / 255)


def test_a_drag_from_a_dot_and_a_click_beside_it_take_no_image(open_page):
    page = open_page("known")
    before = page.text("imageName")
    page.wait_for("document.getElementById('taskList').children.length > 0")
    click_code(page, PLACES[1] + np.array([0.5, 0.5]))
    click_code(page, PLACES[1], [(0.05, 0), (0, 0.05)])
    assert page.text("imageName") == before
    for layer in ("images", "posterior"):
        page.click(layer)
        click_code(page, page.js("return vae.encode(vae.image).mean"))
        assert page.text("imageName") == before


def test_a_drawing_stays_when_a_dot_is_clicked(page):
    page.wait_for("document.getElementById('taskList').children.length > 0")
    page.draw(*STROKES["0"])
    model, data = trained("squared-error")
    z_mean, _ = model.encode(data.x_test)
    click_code(page, z_mean[0])
    assert page.text("imageName") == "Your drawing"
    np.testing.assert_allclose(page.code(), z_mean[0], atol=0.02)
