"""Be the encoder: one's own Gaussian, its loss, the best one, and the true posterior."""

import numpy as np
import pytest
from helpers import trained

pytest.importorskip("selenium", reason="selenium is not installed")
from browser import STROKES, known_data, known_model, needs_browser
from scipy.optimize import minimize
from scipy.special import logsumexp
from selenium.webdriver.common.keys import Keys

pytestmark = needs_browser

# ---- The mathematics, by NumPy and the model itself ----------------------------------------------


def models():
    """By the name of a page: its model, and pixels of its first test image."""
    return {
        "squared-error": trained("squared-error"),
        "cross-entropy": trained("cross-entropy"),
        "weighted": (known_model(kl_weight=4.0), known_data()),
    }


def losses_of_codes(model, x, z):
    """The reconstruction loss of pixels `x` at each code, in nats."""
    raw = model.decoder(np.float32(z)).numpy()
    if model.reconstruction_loss == "cross-entropy":
        return (np.logaddexp(raw, 0) - raw * x).sum(axis=1)
    return ((raw - x) ** 2 / 2).sum(axis=1)


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
EPSILON = np.stack(np.meshgrid(NODES, NODES), axis=-1).reshape(-1, 2)
EPSILON_WEIGHTS = np.outer(WEIGHTS, WEIGHTS).ravel() / WEIGHTS.sum() ** 2


def terms(model, x, mean, sigma):
    """The expected reconstruction loss and the KL divergence of a Gaussian, by 144 nodes."""
    losses = losses_of_codes(model, x, mean + sigma * EPSILON)
    variance = np.square(sigma)
    return losses @ EPSILON_WEIGHTS, np.sum(np.square(mean) + variance - 1 - np.log(variance)) / 2


def least_loss(model, x, weight, starts):
    """The least reconstruction + weight x KL of all Gaussians, by SciPy."""

    def loss(numbers):
        sigma = np.exp(np.clip(numbers[2:], np.log(0.01), np.log(2)))
        reconstruction, kl = terms(model, x, numbers[:2], sigma)
        return reconstruction + weight * kl

    searches = (minimize(loss, start, method="Nelder-Mead") for start in starts)
    return min(search.fun for search in searches)


def own_of(page):
    own = page.js("return vae.own")
    return np.array(own["mean"]), np.array(own["sigma"])


def be_encoder(open_page, name="squared-error", **media):
    """A page in which one is the encoder; motion is reduced, so that nothing is on its way."""
    page = open_page(name, prefers_reduced_motion="reduce", **media)
    page.click("beEncoder")
    return page


def set_beta(page, beta):
    """Move the slider of beta by keys; its places are 0.02 apart, 50 on either side of 1."""
    page.keys("beta", Keys.HOME)
    places = np.round(np.log10(beta) / (2 if beta < 1 else 1) / 0.02) + 50
    page.keys("beta", *int(places) * [Keys.ARROW_RIGHT])
    assert page.text("betaText") == f"{beta:g}"


def own_column(page):
    return [float(page.text(name)) for name in ("yourError", "yourKl", "yourLoss")]


# ---- The losses, the best Gaussian and the posterior ---------------------------------------------


@pytest.mark.parametrize("name", ["squared-error", "cross-entropy", "weighted"])
def test_the_loss_of_an_own_gaussian_is_its_expectation(name, open_page):
    model, _ = models()[name]
    page = be_encoder(open_page, name)
    x = np.array(page.js("return vae.image"))
    page.drag("plane", [(0.6, 0.5), (0.5, 0.45)])
    page.keys("sizeAcross", Keys.SHIFT, Keys.ARROW_RIGHT)
    for beta in (0.1, 1, 3.98):
        set_beta(page, beta)
        reconstruction, kl = terms(model, x, *own_of(page))
        weight = beta * model.kl_weight
        error, divergence, loss = own_column(page)
        assert divergence == pytest.approx(kl, abs=0.051)
        assert error == pytest.approx(reconstruction, rel=0.02, abs=0.1)
        assert loss == pytest.approx(reconstruction + weight * kl, rel=0.02, abs=0.1)
        heading = page.text("klHead")
        factor = float(f"{weight:.4g}")
        assert heading == ("+ KL" if factor == 1 else f"+ {factor:g} × KL")
        assert error + factor * divergence == pytest.approx(loss, abs=0.0501)


@pytest.mark.parametrize("name", ["squared-error", "cross-entropy", "weighted"])
def test_best_has_the_least_loss_of_all_gaussians(name, open_page):
    model, _ = models()[name]
    page = be_encoder(open_page, name)
    x = np.array(page.js("return vae.image"))
    page.click("best")
    for beta in (0.01, 1, 10):
        set_beta(page, beta)
        mean, sigma = own_of(page)
        weight = beta * model.kl_weight
        reconstruction, kl = terms(model, x, mean, sigma)
        starts = [np.append(mean, np.log(sigma)), np.zeros(4)]
        least = least_loss(model, x, weight, starts)
        assert reconstruction + weight * kl <= 1.015 * least + 0.02


@pytest.mark.parametrize("name", ["squared-error", "cross-entropy", "weighted"])
@pytest.mark.parametrize("beta", [None, 3.98])
def test_the_posterior_is_that_of_this_decoder_and_prior(beta, name, open_page):
    model, _ = models()[name]
    page = open_page(name)
    x = np.array(page.js("return vae.image"))
    weight = model.kl_weight
    if beta:  # what Best aims at then
        page.click("beEncoder")
        set_beta(page, beta)
        weight *= beta
    shown = page.js("return vae.posterior()")
    z = np.column_stack([shown["z1"], shown["z2"]])
    assert len(z) == 48**2
    assert (np.diff(z[:48, 0]) > 0).all()
    assert (np.diff(z[::48, 1]) > 0).all()  # row by row from the lowest
    log = -losses_of_codes(model, x, z) / weight - np.square(z).sum(axis=1) / 2
    expected = np.exp(log - logsumexp(log))
    assert np.abs(shown["p"] - expected).sum() / 2 < 0.01


def test_with_an_empty_pad_the_posterior_is_the_prior(open_page):
    page = open_page()
    page.click("clear")
    shown = page.js("return vae.posterior()")
    expected = np.exp(-(np.square(shown["z1"]) + np.square(shown["z2"])) / 2)
    np.testing.assert_allclose(shown["p"], expected / expected.sum(), rtol=1e-6)


# ---- The heat map --------------------------------------------------------------------------------


def heat_lines(page):
    """The lines of the heat map, [[x, y], ...] in pixels: where they begin and end."""
    page.wait_for("drawn.plane.some(row => row.kind === 'text' && row.text === 'p(z | x)')")
    hue = page.js("return getComputedStyle(plane).getPropertyValue('--heat').trim()")
    rows = [row for row in page.drawn("stroke") if row["colour"] == hue]
    return np.array([step[1:3] for row in rows for step in row["path"] if step[0] == "lineTo"])


def test_the_lines_of_the_heat_map_are_those_of_39_and_86_percent(open_page):
    page = open_page()
    page.click("posterior")
    lines = heat_lines(page)
    shown = page.js("return vae.posterior()")
    z, p = np.column_stack([shown["z1"], shown["z2"]]), np.array(shown["p"])
    origin, unit = page.place_of((0, 0))
    codes = (lines - origin) / unit * [1, -1]
    order = np.sort(p)[::-1]
    levels = [order[np.searchsorted(np.cumsum(order), share)] for share in (0.393, 0.865)]
    nearest = [p[np.argmin(np.sum((z - code) ** 2, axis=1))] for code in codes]
    distances = np.abs(np.log(np.divide.outer(nearest, levels)))
    assert len(codes) > 20
    assert np.median(distances.min(axis=1)) < 0.7  # the grid is coarse: a place is e**0.7 off


def test_the_heat_map_is_explained_under_the_plane(open_page):
    page = open_page()
    assert page.text("verdict") == ""
    page.click("posterior")
    assert page.text("verdict") == (
        "Orange: how probable each code is, given image x; the lines hold 39 and 86 % of it."
    )
    page.click("clear")
    assert "under the prior" in page.text("verdict")


def test_the_posterior_follows_a_drawing(open_page):
    page = open_page()
    page.click("posterior")
    seen = []
    for digit in ("1", "0"):
        page.click("clear")
        page.draw(*STROKES[digit])
        seen.append(np.mean(heat_lines(page), axis=0))
    assert np.hypot(*(seen[0] - seen[1])) > 20


# ---- Dragging, sizing, keys ----------------------------------------------------------------------


def test_the_ellipse_is_dragged_from_where_it_is_gripped(open_page):
    page = be_encoder(open_page, "known")
    mean, sigma = own_of(page)
    gripped = [mean[0] + 0.3 * sigma[0], mean[1]]
    start = page.js("return vae.at(arguments[0])", gripped)
    left, top, right, bottom = page.box("plane")
    place = (start[0] - left) / (right - left), (start[1] - top) / (bottom - top)
    page.drag("plane", [place, (place[0] - 0.1, place[1] + 0.1)])
    moved = own_of(page)[0] - mean
    _, unit = page.place_of((0, 0))
    np.testing.assert_allclose(moved, np.array([-0.1, -0.1]) * (right - left) / unit, atol=0.03)
    np.testing.assert_array_equal(own_of(page)[1], sigma)
    np.testing.assert_allclose(page.code(), own_of(page)[0])


@pytest.mark.parametrize(("name", "axis"), [("sizeAcross", 0), ("sizeUp", 1)])
def test_a_handle_sizes_one_axis_by_mouse_and_by_keys(name, axis, open_page):
    page = be_encoder(open_page, "known")
    mean, sigma = own_of(page)
    page.keys(name, Keys.ARROW_UP)
    page.keys(name, Keys.SHIFT, Keys.ARROW_RIGHT)
    expected = sigma.copy()
    expected[axis] *= np.exp(0.3)
    np.testing.assert_allclose(own_of(page)[1], expected)
    assert float(page[name].get_attribute("aria-valuenow")) == pytest.approx(
        expected[axis], abs=0.0051
    )
    handle, centre = page.box(name), page.js("return vae.at(arguments[0])", mean.tolist())
    away = (handle[:2] + handle[2:]) / 2 - centre
    page.drag(name, [(0.5, 0.5), tuple(0.5 + away / (handle[2:] - handle[:2]) / 2)])
    _, unit = page.place_of((0, 0))
    expected[axis] += np.abs(away)[axis] / 2 / 2 / unit
    np.testing.assert_allclose(own_of(page)[1], expected, atol=0.01)
    np.testing.assert_array_equal(own_of(page)[0], mean)


def test_arrow_keys_move_the_own_gaussian(open_page):
    page = be_encoder(open_page, "known")
    mean, _ = own_of(page)
    page.keys("plane", Keys.ARROW_LEFT)
    page.keys("plane", Keys.SHIFT, Keys.ARROW_DOWN)
    step = own_of(page)[0] - mean
    assert step[0] < 0
    assert step[1] == pytest.approx(4 * step[0])
    assert page.text("spoken").startswith(f"z = ({own_of(page)[0][0]:.2f}, ")


def test_a_sigma_stays_between_0_01_and_2(open_page):
    page = be_encoder(open_page, "known")
    for key, end, expected in (
        (Keys.ARROW_LEFT, Keys.END, 0.01),
        (Keys.ARROW_RIGHT, Keys.HOME, 2),
    ):
        page["sizeAcross"].send_keys(Keys.SHIFT, *25 * [key])
        page.settle()
        assert own_of(page)[1][0] == pytest.approx(expected)
        page.keys("sizeAcross", end)
        assert own_of(page)[1][0] == pytest.approx(2.01 - expected)
        assert page["sizeAcross"].is_displayed()


def test_a_finger_drags_the_ellipse_and_a_handle(open_page):
    page = open_page("known", 390, 844, touch=True, prefers_reduced_motion="reduce")
    page.click("beEncoder")
    page.js("document.getElementById('space').scrollIntoView({block: 'center'})")
    page.settle()
    mean, sigma = own_of(page)
    x, y = page.js("return vae.at(arguments[0])", mean.tolist())
    for kind, *points in (
        ("touchStart", (x, y)),
        ("touchMove", (x - 30, y + 20)),
        ("touchEnd",),
    ):
        page.touch(kind, *points)
    assert (own_of(page)[0] < mean).all()
    handle = page.box("sizeAcross")
    x, y = (handle[:2] + handle[2:]) / 2
    away = np.sign(x - page.js("return vae.at(arguments[0])", own_of(page)[0].tolist())[0])
    for kind, *points in (
        ("touchStart", (x, y)),
        ("touchMove", (x + 20 * away, y)),
        ("touchEnd",),
    ):
        page.touch(kind, *points)
    assert own_of(page)[1][0] > sigma[0]


def test_each_press_of_a_key_turns_beta_on(open_page):
    page = be_encoder(open_page, "known")
    page.keys("beta", Keys.HOME, *48 * [Keys.ARROW_RIGHT])
    seen = [float(page.text("betaText"))]
    for _ in range(5):
        page.keys("beta", Keys.ARROW_RIGHT)
        seen.append(float(page.text("betaText")))
    np.testing.assert_allclose(seen, 10 ** np.array([-0.08, -0.04, 0, 0.02, 0.04, 0.06]), rtol=5e-3)


# ---- What follows it, and what ends it -----------------------------------------------------------


def test_best_for_another_image_and_of_a_link_is_best_at_this_beta_too(open_page):
    model, _ = models()["squared-error"]
    page = be_encoder(open_page)
    page.click("best")
    set_beta(page, 10)
    page.click("example")
    for _ in range(2):
        mean, sigma = own_of(page)
        x = np.array(page.js("return vae.image"))
        reconstruction, kl = terms(model, x, mean, sigma)
        least = least_loss(model, x, 10, [np.append(mean, np.log(sigma)), np.zeros(4)])
        assert reconstruction + 10 * kl <= 1.015 * least
        page.wait_for("location.hash.includes('own=best')")
        address = page.js("return location.href")
        page.driver.get("about:blank")
        page.driver.get(address)
        page.settle()


def test_best_follows_beta_images_and_drawings_until_one_moves_it(open_page):
    page = be_encoder(open_page)
    page.click("best")
    seen = [own_of(page)[0].tolist() + own_of(page)[1].tolist()]
    for act in (
        lambda: set_beta(page, 3.98),
        lambda: page.click("example"),
        lambda: page.draw(*STROKES["1"]),
    ):
        act()
        assert page["best"].get_attribute("aria-pressed") == "true"
        seen.append(own_of(page)[0].tolist() + own_of(page)[1].tolist())
    assert len({tuple(numbers) for numbers in seen}) == 4
    page.keys("plane", Keys.ARROW_LEFT)
    assert page["best"].get_attribute("aria-pressed") == "false"
    moved = own_of(page)
    set_beta(page, 1)
    np.testing.assert_array_equal(own_of(page), moved)


def test_encoders_returns_to_the_gaussian_of_the_encoder(open_page):
    page = be_encoder(open_page, "known")
    expected = own_of(page)
    page.drag("plane", [(0.5, 0.5), (0.3, 0.3)])
    page.keys("sizeUp", Keys.SHIFT, Keys.ARROW_UP)
    page.click("theirs")
    np.testing.assert_allclose(own_of(page), expected)


def test_being_the_encoder_ends_by_its_button_an_epoch_and_another_code(open_page):
    page = open_page("known")
    for end in (
        lambda: page.click("beEncoder"),
        lambda: page.keys("epoch", Keys.HOME),
        lambda: page.click("fresh"),
        lambda: page.click("clear"),
    ):
        page.click("example")
        page.click("beEncoder")
        assert page.js("return vae.own") is not None
        assert page.text("encoder") == "you"
        assert page.text("gaussian").count("your ") == 2
        end()
        assert page.js("return vae.own") is None
        assert not page["own"].is_displayed()
        assert not page["sizeUp"].is_displayed()
        assert page.text("encoder") == "encoder"
    assert not page["beEncoder"].is_enabled()  # the pad is empty


def test_best_and_encoders_glide_where_motion_is_not_reduced(open_page):
    page = open_page("known")
    page.click("beEncoder")
    page.drag("plane", [(0.5, 0.5), (0.3, 0.3)])
    start = own_of(page)[0]
    page.click("theirs")
    page.tick(300)
    middle = own_of(page)[0]
    page.tick(600)
    end = own_of(page)[0]
    part = (middle - start) / (end - start)
    np.testing.assert_allclose(part, 0.5, atol=0.01)  # half of the way in half of the time
    np.testing.assert_allclose(end, page.js("return vae.encode(vae.image).mean"))


# ---- What is said --------------------------------------------------------------------------------


def test_the_verdict_says_what_the_own_gaussian_is_worth(open_page):
    page = be_encoder(open_page)
    assert page.text("verdict") == "The encoder's. Drag it, or a handle: find a smaller loss."
    page.drag("plane", [(0.5, 0.5), (0.2, 0.2)])
    encoders, own = float(page.text("ownLoss")), own_column(page)[2]
    assert page.text("verdict") == f"The encoder's loss is {own - encoders:.1f} nats smaller."
    page.click("best")
    gap = encoders - own_column(page)[2]
    assert gap > 0.05
    assert page.text("verdict") == f"Best: {gap:.1f} nats below the encoder's loss."
    assert f"loses {gap:.1f} nats here: the amortization gap" in page.text("task")
    page.keys("sizeUp", Keys.ARROW_UP)
    page.keys("sizeUp", Keys.ARROW_DOWN)
    assert page.text("verdict") == f"You beat the encoder by {gap:.1f} nats: that is the best."
    assert page["yourLoss"].get_attribute("class") == "won"


def test_what_beta_does_is_said_and_that_it_is_of_this_image_only(open_page):
    page = be_encoder(open_page)
    page.click("best")
    sigmas, verdicts = [], []
    for beta in (0.01, 0.1, 3.98, 10):
        set_beta(page, beta)
        sigmas.append(own_of(page)[1].mean())
        verdicts.append(page.text("verdict"))
        assert "β weighs KL for this image only" in page.text("task")
    assert sigmas == sorted(sigmas)
    assert "smaller: KL weighs less" in verdicts[1]
    assert "nearer to the prior" in verdicts[2] or "close to the prior" in verdicts[2]
    assert all("collapse" not in verdict for verdict in verdicts)


def test_best_is_called_the_prior_only_where_its_divergence_is_almost_0(open_page):
    page = be_encoder(open_page, "weighted")
    page.click("best")
    for beta in (1, 10):
        set_beta(page, beta)
        is_prior = float(page.text("yourKl")) < 0.01
        says_so = page.text("verdict") == "Best is the prior: z carries nothing about x."
        assert says_so is is_prior is (beta == 10)
    assert "this is called posterior collapse" in page.text("task")


def test_the_bars_are_the_two_losses_as_the_table_has_them(open_page):
    page = be_encoder(open_page)
    page.drag("plane", [(0.5, 0.5), (0.3, 0.3)])
    losses = [page.text("ownLoss"), page.text("yourLoss")]
    label = page["trade"].get_attribute("aria-label")
    assert label == f"The encoder's loss and yours, as bars: {losses[0]} and {losses[1]}"


def test_beta_other_than_1_is_named_at_the_heat_map(open_page):
    page = be_encoder(open_page)
    page.click("posterior")
    page.wait_for("drawn.plane.some(row => row.kind === 'text' && row.text === 'p(z | x)')")
    set_beta(page, 3.98)
    assert "p(x | z)^(1/β) · p(z)" in {row["text"] for row in page.drawn("text")}


def test_what_is_new_has_names_and_values_for_a_screen_reader(open_page):
    page = be_encoder(open_page, "known")
    names = {
        "beEncoder": "Be the encoder",
        "best": "Best",
        "theirs": "Encoder's",
        "beta": "β, the weight of the KL divergence for this image",
        "sizeAcross": "σ₁",
        "sizeUp": "σ₂",
        "posterior": "posterior",
        "step": "Step",
    }
    shown = {name: page[name].accessible_name for name in names if page[name].is_displayed()}
    assert shown == {name: names[name] for name in shown}
    assert len(shown) >= 6
    assert page["sizeUp"].get_attribute("role") == "slider"
    set_beta(page, 3.98)
    assert page["beta"].get_attribute("aria-valuetext") == "3.98"


# ---- Samples -------------------------------------------------------------------------------------


def sample_places(page):
    """Where the rings of the samples are, in pixels of the plane."""
    halo = page.js("return getComputedStyle(plane).getPropertyValue('--halo').trim()")
    halo = {"#fff": "#ffffff", "#000": "#000000"}[halo]
    discs = page.discs(radius=3.2).get(halo, []) + page.discs(radius=1.7).get(halo, [])
    return np.array(discs)


def test_again_lets_samples_fly_from_the_prior_to_the_gaussian(open_page):
    page = open_page("known")
    page.click("sample")
    page.tick(200)
    origin, unit = page.place_of((0, 0))
    epsilon = (sample_places(page) - origin) / unit * [1, -1]
    assert len(epsilon) == 8
    assert "ε from the prior" in {row["text"] for row in page.drawn("text")}
    page.tick(1000)
    z = (sample_places(page) - origin) / unit * [1, -1]
    encoded = page.js("return vae.encode(vae.image)")
    sigma = np.exp(np.array(encoded["logVariance"]) / 2)
    np.testing.assert_allclose(z, encoded["mean"] + sigma * epsilon, atol=0.02)


def test_with_reduced_motion_the_samples_are_there_at_once(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    before = sample_places(page)
    page.click("sample")
    after = sample_places(page)
    assert len(after) == 8
    assert np.abs(after - before).max() > 2
    assert "ε from the prior" not in {row["text"] for row in page.drawn("text")}


def test_pointing_at_a_sample_rings_its_place(open_page):
    page = open_page("known", prefers_reduced_motion="reduce")
    places = sample_places(page)
    page.move(((3 + 0.5) / 8, 0.5), "samples")
    rings = [
        row["path"][0][1:3]
        for row in page.drawn("stroke")
        if row["path"] and row["path"][0][0] == "arc" and row["path"][0][3] == 7
    ]
    np.testing.assert_allclose(rings[0], places[3], atol=0.01)
