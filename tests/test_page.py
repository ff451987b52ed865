"""The page to explore the plane holds the model to the last bit, and nothing else gets into it."""

import re
import webbrowser

import numpy as np
import pytest
from conftest import ROOT, contents, exit_status
from page_content import array, content_of

import vae_mnist

HOSTILE = "</script><script>alert(1)</script><!-- \" ' & \udcff \u2028"


@pytest.fixture(scope="module")
def z_mean():
    return np.random.default_rng(0).standard_normal((1000, 2), dtype=np.float32)


@pytest.fixture
def make_page(model, data, z_mean):
    """Makes a page of an untrained model, with some fields of the data replaced."""

    def make(**changes):
        losses = vae_mnist.Losses(20.0, 17.0, 3.0)
        return vae_mnist.explorer_page(model, data._replace(**changes), z_mean, losses)

    return make


def test_weights_codes_labels_and_images_come_back_bit_for_bit(make_page, model, data, z_mean):
    content = content_of(make_page())
    layers = ("h1", "z_mean", "z_log_sigma_sq", "h2", "reconstruction")
    names = [f"{layer}/{part}" for layer in layers for part in ("kernel", "bias")]
    for name, expected in zip(names, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array(content["weights"][name], "<f4"), expected.ravel())
    np.testing.assert_array_equal(array(content["codes"], "<f4").reshape(-1, 2), z_mean)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), data.y_test)
    images = array(content["images"], "u1").reshape(-1, 784)
    np.testing.assert_array_equal(images, data.x_test[: len(images)])
    assert len(images) == 40


def test_the_page_says_which_loss_and_how_the_test_images_do(make_page):
    content = content_of(make_page())
    assert content["reconstructionLoss"] == "squared-error"
    assert content["testLosses"] == {"loss": 20.0, "reconstruction": 17.0, "kl": 3.0}
    assert content["square"] == pytest.approx(1.6449, abs=1e-4)


def test_codes_of_the_epochs_come_back_to_half_a_step(model, data, z_mean):
    unfolding = [0.1 * z_mean[:50], -2.0 * np.abs(z_mean[:50]), z_mean[:50]]
    losses = {"validation_loss": 20.0, "validation_reconstruction": 17.0, "validation_kl": 3.0}
    history = [{"epoch": epoch} | losses for epoch in (1, 2)]
    page = vae_mnist.explorer_page(
        model, data, z_mean, vae_mnist.Losses(20.0, 17.0, 3.0), history, unfolding
    )
    content = content_of(page)["unfolding"]
    assert content["images"] == 50
    assert content["step"] == pytest.approx(2 * np.abs(z_mean[:50]).max() / 32767)
    numbers = array(content["codes"], "<i2").reshape(3, 50, 2)
    np.testing.assert_allclose(
        numbers * content["step"], unfolding, rtol=0, atol=0.501 * content["step"]
    )
    assert content["validationLosses"] == 2 * [{"loss": 20.0, "reconstruction": 17.0, "kl": 3.0}]


def test_codes_that_are_all_zero_come_back_as_zeros(model, data, z_mean):
    losses = vae_mnist.Losses(20.0, 17.0, 3.0)
    page = vae_mnist.explorer_page(model, data, z_mean, losses, [], [np.zeros((5, 2))])
    content = content_of(page)["unfolding"]
    assert content["step"] > 0
    assert not array(content["codes"], "<i2").any()


def test_a_page_without_a_training_has_none_of_it(make_page):
    assert content_of(make_page())["unfolding"] is None


def test_epochs_without_their_codes_are_refused(model, data, z_mean):
    losses = vae_mnist.Losses(20.0, 17.0, 3.0)
    with pytest.raises(ValueError, match="before the training and after each epoch"):
        vae_mnist.explorer_page(model, data, z_mean, losses, [{"epoch": 1}], [z_mean])


@pytest.mark.parametrize("shape", [(1000, 3), (999, 2)])
def test_codes_that_are_not_of_the_test_images_are_refused(shape, model, data):
    losses = vae_mnist.Losses(20.0, 17.0, 3.0)
    with pytest.raises(ValueError, match="reshape"):
        vae_mnist.explorer_page(model, data, np.zeros(shape), losses)


@pytest.mark.parametrize(
    ("epochs", "images"), [(1, 2000), (50, 2000), (100, 2000), (1000, 201), (10**6, 1)]
)
def test_the_first_2000_test_images_are_watched_and_fewer_in_a_long_training(
    epochs, images, data, monkeypatch
):
    monkeypatch.setattr(vae_mnist, "train", lambda *args, **kwargs: [])
    many = data._replace(x_test=np.tile(data.x_test, (3, 1)))
    options = vae_mnist.parse_arguments([f"--epochs={epochs}"])
    model, _, (z_mean,) = vae_mnist.train_model(options, many, np.random.default_rng(0))
    assert len(z_mean) == images
    np.testing.assert_allclose(z_mean[0], vae_mnist.encode(model, data.x_test[0])[0][0], atol=1e-6)


@pytest.mark.parametrize("field", ["name", "class"])
def test_a_hostile_text_stays_text(field, make_page):
    if field == "name":
        assert content_of(make_page(name=HOSTILE))["name"] == HOSTILE.rpartition("/")[2]
    else:
        classes = np.array([HOSTILE, *map(str, range(1, 10))], dtype=object)
        page = make_page(classes=classes, y_test=classes[np.arange(1000) % 10])
        assert content_of(page)["classes"][0] == HOSTILE


def test_only_the_base_name_of_a_path_is_told(make_page):
    page = make_page(name="/home/someone/secret project/digits.npz")
    assert content_of(page)["name"] == "digits.npz"
    assert b"secret" not in page


def test_the_page_has_no_address_and_forbids_the_network(make_page):
    page = make_page().decode()
    assert "content=\"default-src 'none';" in page
    without_base64 = re.sub(r'"[A-Za-z0-9+/=]{100,}"', "", page)
    assert not re.findall(r"https?:|src=|href=|url\(|@import|fetch\(|XMLHttp", without_base64)


def test_equal_content_gives_equal_bytes(make_page):
    assert make_page() == make_page()


def test_a_page_of_mnist_has_at_most_3_2_megabytes(model, data):
    many = data._replace(y_test=np.tile(data.y_test, 10), x_test=np.tile(data.x_test, (10, 1)))
    codes = np.zeros((10_000, 2), np.float32)
    losses = dict.fromkeys(("validation_loss", "validation_reconstruction", "validation_kl"), 1.0)
    training = 50 * [losses], 51 * [codes[:2000]]
    page = vae_mnist.explorer_page(model, many, codes, vae_mnist.Losses(1, 1, 0), *training)
    assert len(page) < 3.2e6


def test_a_number_that_json_does_not_know_is_a_bug(model, data, z_mean):
    with pytest.raises(ValueError, match="JSON"):
        vae_mnist.explorer_page(model, data, z_mean, vae_mnist.Losses(float("nan"), 1.0, 1.0))


def test_colours_go_with_the_class_where_the_test_images_lack_one(make_page, data, z_mean):
    labels = np.where(data.y_test == 0, 4, data.y_test)
    content = content_of(make_page(y_test=labels))
    assert content["classes"] == [str(label) for label in range(10)]
    assert content["colours"] == list(vae_mnist.CLASS_COLOURS)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), labels)
    figure = vae_mnist.latent_scatter_figure(z_mean, labels, data.classes)
    figure.draw_without_rendering()
    colours = figure.axes[0].collections[0].get_facecolors()
    expected = np.array([vae_mnist.colors.to_rgba(c) for c in vae_mnist.CLASS_COLOURS])
    np.testing.assert_allclose(colours, expected[labels])


def test_the_template_by_itself_says_how_to_get_the_page():
    template = (ROOT / "web" / "explorer.html").read_bytes()
    assert content_of(template) is None
    assert template.count(b">null<") == 1
    assert b"python vae_mnist.py" in template


# ---- In a run ------------------------------------------------------------------------------------


@pytest.fixture
def run_briefly(small_file, tmp_path, finished_run, without_figures):
    """Runs the program with a model; returns the output directory."""

    def run(*arguments):
        output = tmp_path / "new"
        fixed = ["--data", small_file, "--model", finished_run / "vae.keras"]
        assert exit_status(*fixed, "--output-dir", output, *arguments) == 0
        return output

    return run


def test_show_opens_the_page_that_was_written(run_briefly, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    page = run_briefly("--show") / "explorer.html"
    assert opened == [page.as_uri()]
    assert page.exists()
    assert capsys.readouterr().err == ""


def test_without_show_no_browser_is_asked(run_briefly, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail("it opens a browser"))
    run_briefly()


def test_without_a_browser_one_line_says_where_the_page_is(run_briefly, monkeypatch, capsys):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    page = run_briefly("--show") / "explorer.html"
    assert capsys.readouterr().err == f"note: no browser can be opened here; the page is {page}.\n"


@pytest.mark.parametrize("show", [[], ["--show"]], ids=["without --show", "with --show"])
def test_without_the_template_one_line_says_so(show, run_briefly, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(vae_mnist, "PAGE_TEMPLATE", tmp_path / "explorer.html")
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail("it opens a browser"))
    files = contents(run_briefly(*show))
    assert "explorer.html" not in files
    assert "metrics.json" in files
    err = capsys.readouterr().err
    assert err == f"note: {tmp_path / 'explorer.html'} is missing: no explorer.html is made.\n"
