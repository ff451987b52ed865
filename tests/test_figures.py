"""The figures draw what they are given, whatever the data set."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from scipy.stats import norm

import vae_mnist

# Of M. Petroff, "Accessible Color Sequences for Data Visualization" (2021), in the script's order.
PETROFF = ["#b9ac70", "#a96b59", "#94a4a2", "#3f90da", "#832db6"]
PETROFF += ["#ffa90e", "#e76300", "#717581", "#bd1f01", "#92dadd"]
EDGE = 1.6448536269514722  # the 95 % quantile of the standard normal


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("classes", [1, 2, 10, 27], ids="{} classes".format)
def test_the_scatter_has_a_colour_and_a_name_for_every_class(classes):
    angles = np.arange(2000) % classes / classes * 2 * np.pi
    z = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    labels = 100 + np.arange(2000) % classes
    figure = vae_mnist.latent_scatter_figure(z, labels)
    scatter, bar = figure.axes
    names = [str(100 + index) for index in range(classes)]
    figure.draw_without_rendering()
    assert [text.get_text() for text in bar.get_yticklabels()] == names
    assert texts(scatter) == names
    assert bar.get_ylabel() == "class"
    (points,) = scatter.collections
    colours = points.get_facecolors()
    assert len(np.unique(colours, axis=0)) == classes
    if classes <= 10:
        expected = [to_rgba(PETROFF[index]) for index in np.arange(2000) % classes]
    else:
        expected = matplotlib.colormaps["turbo"](np.arange(2000) % classes / (classes - 1))
    np.testing.assert_allclose(colours, expected, atol=1 / 255)


def test_the_scatter_shows_every_code_on_equal_axes():
    z = np.random.default_rng(0).standard_normal((500, 2)) * [1, 3]
    scatter = vae_mnist.latent_scatter_figure(z, np.zeros(500, int)).axes[0]
    np.testing.assert_array_equal(scatter.collections[0].get_offsets(), z)
    assert scatter.get_aspect() == 1
    limit = 1.05 * np.abs(z).max()
    assert scatter.get_xlim() == scatter.get_ylim() == pytest.approx((-limit, limit))
    assert (scatter.get_xlabel(), scatter.get_ylabel()) == ("$z_1$", "$z_2$")


def test_the_scatter_has_room_for_codes_on_the_negative_side():
    z = np.array([[-5.0, 0.0], [1.0, 1.0]])
    scatter = vae_mnist.latent_scatter_figure(z, [0, 1]).axes[0]
    assert scatter.get_xlim() == pytest.approx((-5.25, 5.25))


def test_codes_of_three_numbers_are_no_plane():
    with pytest.raises(ValueError, match="too many values"):
        vae_mnist.latent_scatter_figure(np.zeros((5, 3)), np.zeros(5, int))


def test_the_scatter_takes_lists():
    scatter, _ = vae_mnist.latent_scatter_figure(
        [[0, 0], [0, 1], [2, 2], [2, 1]], [4, 4, 1, 1]
    ).axes
    assert texts(scatter) == ["1", "4"]


def test_colours_go_with_the_class_where_the_codes_lack_one():
    labels = np.array([0, 3, 9])
    figure = vae_mnist.latent_scatter_figure(np.eye(3)[:, :2], labels, classes=range(9, -1, -1))
    figure.draw_without_rendering()
    colours = figure.axes[0].collections[0].get_facecolors()
    np.testing.assert_allclose(colours, [to_rgba(PETROFF[label]) for label in labels])


def test_classes_that_lack_a_label_are_refused():
    with pytest.raises(ValueError, match="classes must hold every label"):
        vae_mnist.latent_scatter_figure(np.eye(2), [0, 1], classes=["zero", "one"])


def test_names_for_the_classes_are_not_taken_for_them():
    with pytest.raises(TypeError, match="positional"):
        vae_mnist.latent_scatter_figure(np.eye(2), [0, 1], ["zero", "one"])


def test_the_scatter_shows_the_square_of_the_manifold_around_codes_that_lie_close():
    scatter = vae_mnist.latent_scatter_figure(np.full((3, 2), 0.1), np.zeros(3, int)).axes[0]
    (square,) = scatter.patches
    corners = square.get_bbox().get_points()
    np.testing.assert_allclose(corners, [[-EDGE, -EDGE], [EDGE, EDGE]])
    assert (square.get_linestyle(), square.get_fill()) == ("--", False)
    assert scatter.get_xlim()[1] == pytest.approx(1.05 * EDGE)


def test_a_class_has_its_name_at_the_median_of_its_codes():
    z = np.array([[0, 0], [0, 1], [3, 2], [-3, -3], [-3, -2], [-2, -3]])
    scatter, _ = vae_mnist.latent_scatter_figure(z, np.array([5, 5, 5, 6, 6, 6])).axes
    assert {text.get_text(): text.get_position() for text in scatter.texts} == {
        "5": (0, 1),
        "6": (-3, -3),
    }
    assert {(text.get_ha(), text.get_va()) for text in scatter.texts} == {("center", "center")}


def test_the_name_of_a_single_code_does_not_cover_it():
    figure = vae_mnist.latent_scatter_figure(np.array([[0.5, 0.25]]), np.array([7]))
    figure.draw_without_rendering()
    (name,) = figure.axes[0].texts
    box = name.get_window_extent()
    x, y = figure.axes[0].transData.transform((0.5, 0.25))
    assert box.x0 < x < box.x1
    assert 0 < box.y0 - y < box.height


def test_names_are_left_out_only_where_they_are_near():
    """With axes to 1.05 * 18, a name 1 away is left out, and one 1.1 away is written."""
    z = np.array([[18, 18], [0, 0], [0, 0], [0, 1], [0, 1], [5, 0], [5, 0], [5, 1.1], [5, 1.1]])
    scatter, _ = vae_mnist.latent_scatter_figure(z, np.array([0, 1, 1, 2, 2, 3, 3, 4, 4])).axes
    assert texts(scatter) == ["0", "1", "3", "4"]


def test_class_names_that_would_overlap_are_left_to_the_colour_bar():
    z = np.array([[0, 0], [0.01, 0], [2, 2]])
    scatter, _ = vae_mnist.latent_scatter_figure(z, np.array([4, 9, 1])).axes
    assert texts(scatter) == ["1", "4"]


def test_the_manifold_runs_as_the_scatter_does():
    pixels = np.repeat(np.linspace(0, 1, 225)[:, None], 784, axis=1)
    (axes,) = vae_mnist.manifold_figure(pixels).axes
    picture = axes.images[0].get_array()
    lowest, rightmost, highest = pixels[0, 0], pixels[14, 0], pixels[-1, 0]
    assert (picture[-28:, :28] == lowest).all()
    assert (picture[-28:, -28:] == rightmost).all()
    assert (picture[:28, -28:] == highest).all()
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        values = [float(label.get_text()) for label in labels]
        np.testing.assert_allclose(values, norm.ppf(np.linspace(0.05, 0.95, 15)), atol=0.005)
        assert labels[7].get_text() == "0.00"
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == [i + 0.5 for i in range(15)]
    assert axes.images[0].get_extent() == [0, 15, 0, 15]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")


def test_an_image_keeps_its_orientation_in_the_manifold():
    digit = np.linspace(0, 1, 784).reshape(28, 28)
    (axes,) = vae_mnist.manifold_figure(np.tile(digit.ravel(), (225, 1))).axes
    np.testing.assert_array_equal(axes.images[0].get_array()[28:56, 56:84], digit)


def test_the_manifold_codes_ascend_with_z_1_fastest():
    codes = vae_mnist.manifold_codes().reshape(15, 15, 2)
    assert (np.diff(codes[..., 0], axis=1) > 0).all()
    assert (np.diff(codes[..., 1], axis=0) > 0).all()
    np.testing.assert_allclose(codes[3, 11], norm.ppf([0.05 + 0.9 * 11 / 14, 0.05 + 0.9 * 3 / 14]))
    assert codes.dtype == np.float32


@pytest.mark.parametrize("count", [1, 10])
def test_reconstructions_stand_under_their_originals(count):
    x, reconstruction = np.random.default_rng(0).random((2, count, 784))
    axes = vae_mnist.reconstructions_figure(x, reconstruction).axes
    shown = [panel.images[0].get_array().ravel() for panel in axes]
    np.testing.assert_array_equal(shown, [*x, *reconstruction])
    assert not any([*panel.get_xticks(), *panel.get_yticks()] for panel in axes)
    labels = [panel.get_ylabel() for panel in axes]
    assert labels == ["original"] + (count - 1) * [""] + ["reconstruction"] + (count - 1) * [""]


@pytest.fixture
def other_style():
    """A user's settings of matplotlib that would change pictures."""
    with matplotlib.rc_context({"image.origin": "lower", "image.interpolation": "bicubic"}):
        yield


def test_images_stand_upright_in_fixed_grey_levels_whatever_the_style(other_style):
    figures = (
        vae_mnist.reconstructions_figure(np.zeros((2, 784)), np.ones((2, 784))),
        vae_mnist.manifold_figure(np.full((225, 784), 0.5)),
    )
    for figure in figures:
        for panel in figure.axes:
            (picture,) = panel.images
            assert picture.origin == "upper"
            assert picture.get_clim() == (0, 1)
            assert picture.get_interpolation() == "nearest"
            np.testing.assert_array_equal(picture.cmap([0.0, 1.0])[:, :3], [[0, 0, 0], [1, 1, 1]])


NO_PIXELS = {
    "bytes": np.full((225, 784), 200, np.uint8),
    "below 0": np.full((225, 784), -0.01),
    "above 1": np.full((225, 784), 1.01),
    "no numbers": np.full((225, 784), np.nan),
}


@pytest.mark.parametrize("values", NO_PIXELS.values(), ids=NO_PIXELS)
def test_what_are_no_pixels_is_not_drawn(values):
    pixels = np.zeros((2, 784))
    for draw in (
        lambda: vae_mnist.manifold_figure(values),
        lambda: vae_mnist.reconstructions_figure(values[:2], pixels),
        lambda: vae_mnist.reconstructions_figure(pixels, values[:2]),
    ):
        with pytest.raises(ValueError, match=r"pixels must be in \[0, 1\]: see `scale`"):
            draw()


def test_each_original_needs_its_reconstruction():
    with pytest.raises(ValueError, match="zip"):
        vae_mnist.reconstructions_figure(np.zeros((3, 784)), np.zeros((2, 784)))


def test_the_curves_are_those_of_the_history():
    fields = vae_mnist.Losses._fields
    names = ["epoch", *(prefix + name for prefix in ("", "validation_") for name in fields)]
    history = [dict(zip(names, range(first, first + len(names)), strict=True)) for first in (1, 2)]
    panels = vae_mnist.training_curves_figure(history).axes
    titles = [panel.get_title() for panel in panels]
    assert titles == ["loss", "reconstruction loss", "KL divergence"]
    columns = [panel.get_subplotspec().colspan.start for panel in panels]
    assert columns == [0, 1, 2]
    for panel, name in zip(panels, fields, strict=True):
        for line, split in zip(panel.lines, (name, f"validation_{name}"), strict=True):
            expected = [[row["epoch"], row[split]] for row in history]
            np.testing.assert_array_equal(line.get_xydata(), expected)
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("epoch", "nats per image")
        legend = panel.get_legend()
        entries = [text.get_text() for text in legend.get_texts()]
        assert entries == ["training", "validation"]
        assert [line.get_linestyle() for line in legend.get_lines()] == ["-", "--"]
        assert [line.get_linestyle() for line in panel.lines] == ["-", "--"]


def test_only_whole_epochs_are_numbered():
    names = ["epoch", "loss", "reconstruction", "kl"]
    names += [f"validation_{name}" for name in names[1:]]
    history = [dict.fromkeys(names, epoch) | {"epoch": epoch} for epoch in (1, 2, 3)]
    figure = vae_mnist.training_curves_figure(history)
    figure.draw_without_rendering()
    for panel in figure.axes:
        assert all(tick == round(tick) for tick in panel.get_xticks())


def test_the_curves_of_a_history_read_from_a_file_are_the_same():
    """Where every number is a text."""
    names = ["epoch", "loss", "reconstruction", "kl"]
    names += [f"validation_{name}" for name in names[1:]]
    history = [dict.fromkeys(names, 10.5 * epoch) | {"epoch": epoch} for epoch in (1, 2, 3)]
    texts = [{name: str(value) for name, value in row.items()} for row in history]
    for panel, expected in zip(
        vae_mnist.training_curves_figure(texts).axes,
        vae_mnist.training_curves_figure(history).axes,
        strict=True,
    ):
        for line, expected_line in zip(panel.lines, expected.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), expected_line.get_xydata())
