"""The page holds model, latent codes and training exactly, and nothing else gets into it."""

import base64
import re
import shutil
import zlib

import numpy as np
import pytest
from helpers import LOSS_NAMES, ROOT, finish, losses_of, start
from page_content import array, content_of

import explorer
import vae_mnist
from explorer.content import choose_strip, strip_candidates


@pytest.fixture(scope="module")
def data(data):
    """The digits, with fewer test images."""
    return data._replace(x_test=data.x_test[:300], y_test=data.y_test[:300])


@pytest.fixture
def make_page(model, data):
    """Make a page of an untrained model, with some arguments or fields of the data replaced."""

    def make(recorder=None, losses=None, edge=1.6449, collapsed=False, **changes):
        shown = data._replace(**changes)
        losses = losses or losses_of(model, shown.x_test)
        return explorer.make_page(
            model,
            shown,
            recorder,
            losses=losses,
            colours=vae_mnist.CLASS_COLOURS,
            edge=edge,
            neighbours=7,
            collapsed=collapsed,
        )

    return make


def recorder_of(codes, data):
    """Return a Recorder that holds these codes of each epoch, and one grey level for each strip."""
    recorder = explorer.Recorder(data.x_test[: len(codes[0])], data.y_test[: len(codes[0])])
    recorder.codes = list(codes)
    count, levels = len(recorder.candidates), np.linspace(0, 1, len(codes))
    recorder.strips = [np.full((count, 784), 255 * level, np.uint8) for level in levels]
    recorder.log_variances = [np.full((count, 2), -level) for level in levels]
    recorder.strip_losses = [np.arange(count) + level for level in levels]
    recorder.losses = [
        dict.fromkeys((*LOSS_NAMES, "kl_weight"), 10.0 + epoch) for epoch in range(len(codes) - 1)
    ]
    return recorder


def test_weights_codes_labels_and_images_are_stored_bit_for_bit(make_page, model, data):
    z_mean, _ = model.encode(data.x_test)
    content = content_of(make_page())
    parts = content["model"]
    steps = [step for part in ("shared", "mean", "logVariance", "decoder") for step in parts[part]]
    dense = [step for step in steps if "weights" in step]
    texts = [step[kind] for step in dense for kind in ("weights", "biases")]
    for text, expected in zip(texts, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array(text, "<f4"), expected.ravel())
    assert [step["activation"] for step in steps if step not in dense] == ["relu", "relu"]
    np.testing.assert_array_equal(array(content["codes"], "<f4").reshape(-1, 2), z_mean)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), data.y_test)
    images = array(content["images"], "u1").reshape(-1, 784)
    np.testing.assert_array_equal(images, data.x_test[:40])
    assert content["side"] == 28


def test_the_settings_and_the_test_losses_are_those_given(make_page, model, data):
    losses = losses_of(model, data.x_test)
    content = content_of(make_page(losses=losses))
    assert content["reconstructionLoss"] == "squared-error"
    assert content["testLosses"] == losses
    assert content["edge"] == 1.6449
    assert content["neighbours"] == 7


def test_the_page_has_the_settings_of_the_script(model, data, monkeypatch):
    model.kl_weight = 3.0
    monkeypatch.setattr(vae_mnist, "NEIGHBOURS", 11)
    monkeypatch.setattr(vae_mnist, "COLLAPSED_KL", 100.0)
    content = content_of(vae_mnist.explorer_page(model, data))
    assert content["neighbours"] == 11
    assert content["collapsed"] is True
    expected = model.evaluate(data.x_test, seed=0, verbose=0, return_dict=True)
    assert content["testLosses"] == pytest.approx(expected)


@pytest.mark.parametrize("collapsed", [False, True])
def test_the_page_says_whether_there_is_posterior_collapse(collapsed, make_page):
    assert content_of(make_page(collapsed=collapsed))["collapsed"] is collapsed


# ---- The training --------------------------------------------------------------------------------


def test_the_recorder_keeps_codes_reconstructions_and_losses_of_each_epoch(
    eagerly, fit, model, data
):
    recorder = explorer.Recorder(data.x_test[:50].reshape(-1, 28, 28), data.y_test[:50])
    before, _ = model.encode(data.x_test[:50])
    history = fit(model, epochs=2, callbacks=[recorder]).history
    after, _ = model.encode(data.x_test[:50])
    assert len(recorder.codes) == len(recorder.strips) == 3
    np.testing.assert_allclose(recorder.codes[0], before, atol=1e-6)
    np.testing.assert_allclose(recorder.codes[2], after, atol=1e-6)
    chosen = recorder.candidates
    pixels = model.decode(after[chosen])
    np.testing.assert_allclose(recorder.strips[2] / 255, pixels, atol=0.501 / 255)
    _, log_variances = model.encode(data.x_test[:50])
    np.testing.assert_allclose(recorder.log_variances[2], log_variances[chosen], atol=1e-6)
    x = np.repeat(data.x_test[chosen] / np.float32(255), 1000, axis=0)
    epsilon = np.random.default_rng(0).standard_normal((len(x), 2), np.float32)
    drawn, _ = model.image_losses(x, epsilon)
    drawn = np.reshape(drawn, (-1, 1000)).mean(axis=1)
    np.testing.assert_allclose(recorder.strip_losses[2], drawn, rtol=0.02)
    for name in LOSS_NAMES:
        assert [losses[name] for losses in recorder.losses] == history[f"val_{name}"]
    assert [losses["kl_weight"] for losses in recorder.losses] == history["kl_weight"]


@pytest.mark.parametrize("method", ["decode", "loss_terms"])
def test_an_interrupt_while_an_epoch_is_recorded_keeps_none_of_it(
    method, eagerly, fit, model, data, monkeypatch
):
    """Or the losses of all later epochs would stand beside the codes of others."""
    recorder = explorer.Recorder(data.x_test[:50], data.y_test[:50])
    fit(model, callbacks=[recorder])

    def press_ctrl_c(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model, method, press_ctrl_c)
        recorder.on_epoch_end(
            1, dict.fromkeys(("val_loss", "val_reconstruction", "val_kl"), 1.0) | {"kl_weight": 1.0}
        )
    kept = (recorder.codes, recorder.log_variances, recorder.strips, recorder.strip_losses)
    assert [*map(len, kept), len(recorder.losses)] == [2, 2, 2, 2, 1]


def test_a_second_training_is_recorded_after_the_first(eagerly, fit, model, data):
    recorder = explorer.Recorder(data.x_test[:50], data.y_test[:50])
    for _ in range(2):
        fit(model, callbacks=[recorder])
    assert (len(recorder.codes), len(recorder.losses)) == (3, 2)


def test_a_recorder_of_another_model_is_rejected(eagerly, fit, model, data):
    recorder = explorer.Recorder(data.x_test[:50], data.y_test[:50])
    fit(model, callbacks=[recorder])
    with pytest.raises(ValueError, match="make a new Recorder for another model"):
        fit(vae_mnist.VAE(), callbacks=[recorder])


def test_more_is_recorded_of_the_first_four_images_of_each_of_ten_classes():
    labels = np.array(100 * [5] + [7, 1, 7, *range(20, 40), 1])
    images = np.full((len(labels), 784), 9, np.uint8)
    candidates = explorer.Recorder(images, labels).candidates
    assert set(labels[candidates]) == {1, 5, 7, *range(20, 27)}
    assert candidates.tolist()[:8] == [101, 123, 0, 1, 2, 3, 100, 102]


STRIPS = {
    # codes along a line, their labels, and the numbers of the images in the strip
    "the first of each class that its neighbours vote right, then one that they vote wrong": (
        [5.0, 0, 0.1, 0.2, 0.3, 5.1, 5.2, 5.3, 5.4, 9, 9.1, 9.2, 9.3],
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
        [1, 5, 9, 2, 3, 6, 7, 8, 10, 11, 0],
    ),
    "the first where none is voted right": ([0, 1, 0.1, 1.1], [0, 0, 1, 1], [0, 2, 3, 1]),
    "no hard one where all are voted right": (
        [0, 0.1, 0.2, 0.3, 5, 5.1, 5.2, 5.3],
        4 * [0] + 4 * [1],
        [0, 4, 1, 2, 3, 5, 6, 7],
    ),
}


@pytest.mark.parametrize("kind", STRIPS)
def test_the_strip_shows(kind):
    places, labels, expected = STRIPS[kind]
    labels, codes = np.array(labels), np.column_stack([places, np.zeros(len(places))])
    candidates = strip_candidates(labels)
    assert candidates[choose_strip(candidates, labels, codes, 3)].tolist() == expected


def test_the_recorder_takes_pixels_as_their_bytes(data):
    of_bytes = explorer.Recorder(data.x_test[:5], data.y_test[:5])
    of_pixels = explorer.Recorder(data.x_test[:5] / 255, data.y_test[:5])
    np.testing.assert_array_equal(of_bytes.x, of_pixels.x)


def test_the_recorder_takes_the_first_2000_images_or_as_many_as_it_is_told(data):
    images, labels = np.tile(data.x_test, (9, 1)), np.tile(data.y_test, 9)
    assert len(explorer.Recorder(images, labels).x) == 2000
    assert len(explorer.Recorder(images, labels, count=2500).x) == 2500


@pytest.mark.parametrize("images", [np.full((5, 784), 255.0), np.full((5, 784), 7)])
def test_the_recorder_rejects_other_images(images):
    with pytest.raises(TypeError, match="images must be bytes, uint8 from 0 to 255, or floats in"):
        explorer.Recorder(images, np.arange(5))


def test_a_training_without_validation_images_cannot_be_recorded(eagerly, fit, model, data):
    recorder = explorer.Recorder(data.x_test[:50], data.y_test[:50])
    with pytest.raises(ValueError, match="give fit validation_data"):
        fit(model, validation_data=None, callbacks=[recorder])


def test_recorded_codes_are_stored_to_half_a_step(make_page, data):
    z = np.random.default_rng(0).standard_normal((50, 2), dtype=np.float32)
    codes = [0.1 * z, -2.0 * np.abs(z), z]
    recorder = recorder_of(codes, data)
    content = content_of(make_page(recorder))["training"]
    assert content["images"] == 50
    assert content["step"] == pytest.approx(2 * np.abs(z).max() / 32767)
    numbers = array(content["codes"], "<i2").reshape(3, 50, 2)
    np.testing.assert_allclose(
        numbers * content["step"], codes, rtol=0, atol=0.501 * content["step"]
    )
    assert content["validationLosses"] == recorder.losses


def test_codes_that_are_all_zero_are_stored_as_zeros(make_page, data):
    content = content_of(make_page(recorder_of([np.zeros((5, 2))], data)))["training"]
    assert content["step"] > 0
    assert not array(content["codes"], "<i2").any()


def test_a_long_training_keeps_the_codes_of_fewer_images(make_page, data, monkeypatch):
    monkeypatch.setattr("explorer.content.CODES", 29)
    content = content_of(make_page(recorder_of(3 * [np.ones((50, 2))], data)))["training"]
    assert content["images"] == 9
    assert len(array(content["codes"], "<i2")) == 3 * 9 * 2


@pytest.mark.parametrize(("count", "epochs"), [(4, [0, 1, 2, 3]), (201, list(range(0, 201, 4)))])
def test_reconstructions_of_51_epochs_are_stored_from_the_first_to_the_last(
    count, epochs, make_page, data
):
    recorder = recorder_of(count * [np.ones((50, 2))], data)
    content = content_of(make_page(recorder))["training"]
    assert content["stripEpochs"] == epochs
    strips = array(content["strips"], "u1").reshape(len(epochs), -1)
    levels = np.floor(255 * np.linspace(0, 1, count))[epochs, None]
    assert strips.shape[1] == 784 * len(content["stripImages"])
    np.testing.assert_array_equal(strips, np.tile(levels, strips.shape[1]))


def test_gaussians_and_losses_of_the_strip_are_stored_for_every_epoch(make_page, data):
    codes = np.random.default_rng(0).standard_normal((60, 50, 2), dtype=np.float32)
    recorder = recorder_of(codes, data)
    content = content_of(make_page(recorder))["training"]
    numbers = content["stripImages"]
    means = array(content["stripMeans"], "<f4").reshape(60, len(numbers), 2)
    np.testing.assert_array_equal(means, codes[:, numbers])
    log_variances = array(content["stripLogVariances"], "<f4").reshape(60, len(numbers), 2)
    np.testing.assert_allclose(log_variances[:, 3, 1], -np.linspace(0, 1, 60), atol=1e-6)
    losses = array(content["stripLosses"], "<f4").reshape(60, len(numbers))
    places = [recorder.candidates.tolist().index(number) for number in numbers]
    expected = np.add.outer(np.linspace(0, 1, 60), places)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [None, 50, 6])
def test_the_images_of_the_strip_are_the_first_to_be_shown(count, make_page, data):
    recorder = recorder_of([np.ones((count, 2))], data) if count else None
    content = content_of(make_page(recorder))
    order = content["imageOrder"]
    strip = content["training"]["stripImages"] if count else []
    assert order == [*strip, *(number for number in range(40) if number not in strip)]
    images = array(content["images"], "u1").reshape(-1, 784)
    np.testing.assert_array_equal(images, data.x_test[order])


def test_all_test_images_are_in_the_page(make_page, data):
    compressed = base64.b64decode(content_of(make_page())["allImages"])
    assert zlib.decompress(compressed) == data.x_test.tobytes()


def test_of_images_that_do_not_fit_the_first_are_in_the_page(make_page, data, monkeypatch):
    monkeypatch.setattr("explorer.content.IMAGE_BYTES", 30_000)
    text = content_of(make_page())["allImages"]
    assert 24_000 < len(text) <= 30_000
    images = zlib.decompress(base64.b64decode(text))
    assert images == data.x_test[: len(images) // 784].tobytes()


@pytest.mark.parametrize("is_paper", [False, True])
def test_images_with_bright_corners_are_ink_on_paper(is_paper, make_page, data):
    images = 255 - data.x_test if is_paper else data.x_test
    assert content_of(make_page(x_test=images))["isPaper"] is is_paper


def test_a_recorder_of_other_images_than_the_page_is_rejected(make_page, data):
    recorder = recorder_of([np.ones((50, 2))], data)
    with pytest.raises(ValueError, match=r"holds other images than the first of data\.x_test"):
        make_page(recorder, x_test=data.x_test[1:], y_test=data.y_test[1:])


def test_a_page_without_a_training_has_none_of_it(make_page, data):
    assert content_of(make_page())["training"] is None
    untrained = explorer.Recorder(data.x_test[:50], data.y_test[:50])
    assert content_of(make_page(untrained))["training"] is None


# ---- The file ------------------------------------------------------------------------------------


def test_a_hostile_text_stays_text(make_page):
    hostile = "</script><script>alert(1)</script><!-- \" ' & \udcff \u2028"
    assert content_of(make_page(name=hostile))["name"] == hostile


def test_the_page_has_no_address_and_forbids_the_network(make_page):
    page = make_page().decode()
    assert "content=\"default-src 'none';" in page
    without_base64 = re.sub(r'"[A-Za-z0-9+/=]{100,}"', "", page)
    assert not re.findall(r"https?:|src=|href=|url\(|@import|fetch\(|XMLHttp", without_base64)


def test_a_page_of_mnist_has_at_most_6_megabytes(model):
    data = vae_mnist.load_data()
    recorder = recorder_of(51 * [np.ones((2000, 2))], data)
    losses = losses_of(model, data.x_test)
    assert 5e6 < len(vae_mnist.explorer_page(model, data, recorder, losses)) < 6e6


def test_a_number_that_json_does_not_know_is_a_bug(make_page):
    with pytest.raises(ValueError, match="JSON"):
        make_page(edge=float("nan"))


def test_labels_are_numbered_by_the_classes(make_page, data):
    labels = np.where(data.y_test == 0, 4, data.y_test)
    content = content_of(make_page(y_test=10 + labels, classes=np.arange(10, 20)))
    assert content["classes"] == [str(label) for label in range(10, 20)]
    assert content["colours"] == list(vae_mnist.CLASS_COLOURS)
    np.testing.assert_array_equal(array(content["labels"], "<u2"), labels)


@pytest.mark.parametrize(
    ("name", "noun"),
    [("MNIST", "digit"), ("mnist.npz", "digit"), ("fashion-mnist", "image")],
)
def test_visitors_are_asked_to_draw_what_the_data_show(name, noun, make_page):
    assert content_of(make_page(name=name))["noun"] == noun


def test_the_template_by_itself_says_how_to_get_the_page(make_page):
    template = (ROOT / "explorer" / "template.html").read_text("utf-8")
    assert template.count("python vae_mnist.py") == 1
    assert b"python vae_mnist.py" not in make_page()


@pytest.mark.parametrize("mark", ["<title></title>", "<style></style>", "<p>This is the template"])
@pytest.mark.parametrize("times", [0, 2])
def test_a_template_needs_each_of_its_marks_once(mark, times, make_page, tmp_path, monkeypatch):
    folder = shutil.copytree(ROOT / "explorer", tmp_path / "explorer")
    template = folder / "template.html"
    lines = template.read_text("utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(mark))
    lines.remove(line)
    template.write_text("\n".join([*lines, *times * [line]]), "utf-8")
    monkeypatch.setattr("explorer.page.FOLDER", folder)
    with pytest.raises(ValueError, match=r"template\.html must contain <.* once"):
        make_page()


# ---- A page made anew from another one -----------------------------------------------------------


def remake(*paths, **environment):
    """Run `python -m explorer` where neither TensorFlow nor Keras can be imported."""
    program = (
        "import runpy, sys; sys.modules['keras'] = sys.modules['tensorflow'] = None;"
        "runpy.run_module('explorer', run_name='__main__')"
    )
    return finish(start("-c", program, *paths, PYTHONPATH=str(ROOT), **environment))


def test_a_page_made_anew_has_the_old_content_and_needs_no_tensorflow(make_page, tmp_path):
    page = make_page(name="größe </style>")
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_bytes(page.replace(b"<style>", b"<style>/* another */"))
    assert remake(old, new) == (0, "", "")
    assert new.read_bytes() == page


NO_PAGE = {
    "no page": (lambda page: b"<html>", "this is no page that vae_mnist.py wrote"),
    "damaged": (
        lambda page: page.replace(b'{"version"', b'"version"'),
        "the content of this page is damaged",
    ),
    "older": (
        lambda page: page.replace(b'{"version": 3, ', b"{"),
        "its content has version 1, and this is version 3; let vae_mnist.py write the page again",
    ),
}


@pytest.mark.parametrize("kind", NO_PAGE)
def test_another_file_than_a_page_of_this_version_ends_in_one_line(kind, make_page, tmp_path):
    change, message = NO_PAGE[kind]
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_bytes(change(make_page()))
    new.write_text("as it was", "utf-8")
    assert remake(old, new) == (2, "", f"python -m explorer: error: {old}: {message}\n")
    assert new.read_text("utf-8") == "as it was"


def test_a_page_that_is_missing_ends_in_one_line(tmp_path):
    status, _, err = remake(tmp_path / "none.html", tmp_path / "new.html")
    assert status == 2
    assert err.count("\n") == 1


def test_a_page_from_the_script_alone_is_the_same_each_time(model, data):
    assert vae_mnist.explorer_page(model, data) == vae_mnist.explorer_page(model, data)


def test_the_page_never_imports_the_script():
    for path in (ROOT / "explorer").glob("*.py"):
        assert "import vae_mnist" not in path.read_text("utf-8")
