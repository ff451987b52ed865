"""The figures draw what they are given, whatever the data set and the style."""

import functools
import io
import itertools

import keras
import matplotlib
import matplotlib.style
import numpy as np
import pytest
from helpers import LOG_NAMES, LOSS_NAMES
from matplotlib.colors import to_rgb, to_rgba
from scipy.stats import norm

import vae_mnist

EDGE = 1.6448536269514722  # the 95 % quantile of the standard normal


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("classes", [1, 10, 27], ids="{} classes".format)
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
        expected = [to_rgba(vae_mnist.CLASS_COLOURS[index]) for index in np.arange(2000) % classes]
    else:
        expected = matplotlib.colormaps["turbo"](np.arange(2000) % classes / (classes - 1))
    np.testing.assert_allclose(colours, expected, atol=1 / 255)


def test_the_scatter_shows_every_latent_code_on_equal_axes():
    z = np.random.default_rng(0).standard_normal((500, 2)) * [1, 3]
    z[7] = [-20, 0]
    scatter = vae_mnist.latent_scatter_figure(z, np.zeros(500, int)).axes[0]
    np.testing.assert_array_equal(scatter.collections[0].get_offsets(), z)
    assert scatter.get_aspect() == 1
    assert scatter.get_xlim() == scatter.get_ylim() == pytest.approx((-21, 21))
    assert (scatter.get_xlabel(), scatter.get_ylabel()) == ("$z_1$", "$z_2$")


def test_no_two_colours_of_classes_look_alike_and_none_is_grey():
    """By distances in CIELAB, of which 2.3 is just noticed; a dot is small, so more is needed."""
    srgb = np.array([to_rgb(colour) for colour in vae_mnist.CLASS_COLOURS])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(linear @ np.transpose(to_xyz) / np.sum(to_xyz, axis=1)).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    distances = np.linalg.norm(lab[:, None] - lab, axis=2) + np.diag(np.full(10, np.inf))
    assert distances.min() > 30
    assert np.hypot(lab[:, 1], lab[:, 2]).min() > 40


def test_colours_go_with_the_class_where_the_codes_lack_one():
    labels = np.array([0, 3, 9])
    figure = vae_mnist.latent_scatter_figure(np.eye(3)[:, :2], labels, classes=range(9, -1, -1))
    figure.draw_without_rendering()
    colours = figure.axes[0].collections[0].get_facecolors()
    np.testing.assert_allclose(
        colours, [to_rgba(vae_mnist.CLASS_COLOURS[label]) for label in labels]
    )


def test_labels_that_the_classes_lack_have_colours_of_their_own():
    figure = vae_mnist.latent_scatter_figure(np.eye(2), [0, 1], classes=[0, 2])
    figure.draw_without_rendering()
    colours = [to_rgba(colour) for colour in vae_mnist.CLASS_COLOURS[:2]]
    np.testing.assert_allclose(figure.axes[0].collections[0].get_facecolors(), colours)


@pytest.mark.parametrize("size", [1, 3])
def test_codes_of_another_size_than_two_are_not_drawn(size):
    with pytest.raises((TypeError, ValueError)):
        vae_mnist.latent_scatter_figure(np.zeros((5, size)), np.zeros(5, int))


def test_the_scatter_accepts_lists_and_labels_in_a_column_and_rejects_one_hot_labels():
    scatter, _ = vae_mnist.latent_scatter_figure([[0, 0], [2, 1]], [[4], [1]]).axes
    assert texts(scatter) == ["1", "4"]
    with pytest.raises(ValueError, match="not one-hot"):
        vae_mnist.latent_scatter_figure(np.eye(2), np.eye(2, dtype=int))


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


@pytest.mark.parametrize("count", [10, 30])
def test_names_of_classes_at_one_place_do_not_overlap_and_stay_near(count):
    labels = np.repeat(np.arange(count), 3)
    z = 0.5 + 0.001 * np.random.default_rng(0).standard_normal((len(labels), 2))
    figure = vae_mnist.latent_scatter_figure(z, labels)
    figure.draw_without_rendering()
    names = figure.axes[0].texts
    assert [name.get_text() for name in names] == [str(label) for label in range(count)]
    boxes = [name.get_window_extent() for name in names]
    overlapping = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(overlapping)
    places = np.array([name.get_position() for name in names])
    assert np.abs(places - 0.5).max() < (0.5 if count <= 10 else 1.25)
    inside = figure.axes[0].get_window_extent()
    assert all(inside.x0 < box.x0 and box.x1 < inside.x1 for box in boxes)


@pytest.mark.parametrize("count", [31, 62])
def test_more_classes_than_can_be_read_have_no_names_and_a_colour_bar_with_some(count):
    z = np.random.default_rng(0).standard_normal((2 * count, 2))
    figure = vae_mnist.latent_scatter_figure(z, 100 + np.arange(2 * count) % count)
    figure.draw_without_rendering()
    scatter, bar = figure.axes
    assert texts(scatter) == []
    labels = bar.get_yticklabels()
    step = int(labels[1].get_text()) - 100
    assert [label.get_text() for label in labels] == [
        str(100 + index) for index in range(0, count, step)
    ]
    assert 10 < len(labels) <= 30
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_the_axes_of_the_manifold_have_the_values_of_the_latent_codes():
    (axes,) = vae_mnist.manifold_figure(np.zeros((225, 784))).axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        values = [float(label.get_text()) for label in labels]
        np.testing.assert_allclose(values, norm.ppf(np.linspace(0.05, 0.95, 15)), atol=0.005)
        assert labels[7].get_text() == "0.00"
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == [i + 0.5 for i in range(15)]
    assert axes.images[0].get_extent() == [0, 15, 0, 15]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")


@pytest.mark.parametrize("count", [1, 10])
def test_reconstructions_stand_under_their_originals(count):
    x, reconstruction = np.random.default_rng(0).random((2, count, 784))
    axes = vae_mnist.reconstructions_figure(x, reconstruction).axes
    shown = [panel.images[0].get_array().ravel() for panel in axes]
    np.testing.assert_allclose(shown, [*x, *reconstruction], atol=1e-6)
    assert not any([*panel.get_xticks(), *panel.get_yticks()] for panel in axes)
    labels = [panel.get_ylabel() for panel in axes]
    assert labels == ["original"] + (count - 1) * [""] + ["reconstruction"] + (count - 1) * [""]


DRAWINGS = {
    "reconstructions": lambda: vae_mnist.reconstructions_figure(np.eye(2, 784), np.eye(2, 784)),
    "latent_scatter": lambda: vae_mnist.latent_scatter_figure(np.eye(2), [4, 9]),
    "manifold": lambda: vae_mnist.manifold_figure(np.eye(225, 784)),
    "samples": lambda: vae_mnist.samples_figure(np.eye(64, 784)),
    "training_curves": lambda: vae_mnist.training_curves_figure(
        {name: [2.0, 1.0] for name in LOG_NAMES}
    ),
}
STYLES = {
    "a dark style": "dark_background",
    "the style of matplotlib 1": "classic",
    "a matplotlibrc": {
        "image.origin": "lower",
        "image.interpolation": "bicubic",
        "axes.grid": True,
        "font.size": 20,
        "savefig.facecolor": "red",
        "savefig.dpi": 30,
    },
}


@functools.cache
def picture(name, style="default"):
    """Return a figure, drawn and saved in a style, as the bytes of a PNG file."""
    file = io.BytesIO()
    with matplotlib.style.context(STYLES.get(style, style)):
        DRAWINGS[name]().savefig(file)
    return file.getvalue()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_the_same_in_every_style(name, style):
    assert picture(name, style) == picture(name)


def test_drawing_a_figure_leaves_the_users_style_and_backend_as_they_are():
    with matplotlib.rc_context({"axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        DRAWINGS["samples"]().savefig(io.BytesIO())
        assert dict(matplotlib.rcParams) == before


def test_images_stand_upright_in_fixed_grey_levels_without_a_grid():
    for name in ("reconstructions", "manifold", "samples"):
        figure = DRAWINGS[name]()
        for panel in figure.axes:
            (picture,) = panel.images
            assert picture.origin == "upper"
            assert picture.get_clim() == (0, 1)
            assert picture.get_interpolation() == "nearest"
            np.testing.assert_array_equal(picture.cmap([0.0, 1.0])[:, :3], [[0, 0, 0], [1, 1, 1]])
            lines = [*panel.get_xgridlines(), *panel.get_ygridlines()]
            assert not any(line.get_visible() for line in lines)


def test_the_marks_of_the_scatter_stand_out():
    scatter = DRAWINGS["latent_scatter"]().axes[0]
    (square,) = scatter.patches
    assert to_rgb(square.get_edgecolor()) == (0, 0, 0)
    for name in scatter.texts:
        assert to_rgb(name.get_color()) == (0, 0, 0)
        (halo,) = name.get_path_effects()
        assert halo._gc == {"linewidth": 3, "foreground": "white"}


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan])
def test_figures_reject_pixels_outside_0_1(value):
    values = np.full((225, 784), value)
    pixels = np.zeros((2, 784))
    for draw in (
        lambda: vae_mnist.manifold_figure(values),
        lambda: vae_mnist.samples_figure(values[:64]),
        lambda: vae_mnist.reconstructions_figure(values[:2], pixels),
        lambda: vae_mnist.reconstructions_figure(pixels, values[:2]),
    ):
        with pytest.raises(ValueError, match=r"^images are float64 .* floats from 0 to 1"):
            draw()


def test_figures_show_bytes_as_their_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 784), np.uint8)
    axes = vae_mnist.reconstructions_figure(images, images / 255).axes
    shown = [panel.images[0].get_array().ravel() for panel in axes]
    np.testing.assert_allclose(shown, np.tile(images / 255, (2, 1)), atol=1e-6)


def test_each_original_needs_its_reconstruction():
    with pytest.raises(ValueError, match="zip"):
        vae_mnist.reconstructions_figure(np.zeros((3, 784)), np.zeros((2, 784)))


@pytest.mark.parametrize(
    ("draw", "shape"),
    [
        (vae_mnist.manifold_figure, (224, 784)),
        (vae_mnist.samples_figure, (8, 8, 784)),
    ],
)
def test_figures_reject_pixels_of_another_shape(draw, shape):
    with pytest.raises(ValueError, match=r"cannot reshape array|^images are float64"):
        draw(np.zeros(shape))


def test_samples_are_shown_upright_and_row_by_row():
    pixels = np.random.default_rng(0).random((64, 784))
    (axes,) = vae_mnist.samples_figure(pixels).axes
    picture = axes.images[0].get_array()
    assert picture.shape == (8 * 28, 8 * 28)
    np.testing.assert_allclose(picture[28:56, 56:84], pixels[10].reshape(28, 28), atol=1e-6)
    assert not [*axes.get_xticks(), *axes.get_yticks()]


def test_the_curves_are_those_of_the_history_over_whole_epochs():
    logs = {name: [10 * index, 10 * index + 1, 7] for index, name in enumerate(LOG_NAMES)}
    figure = vae_mnist.training_curves_figure(logs)
    figure.draw_without_rendering()
    panels = figure.axes
    titles = [panel.get_title() for panel in panels]
    assert titles == ["loss", "reconstruction loss", "KL divergence"]
    columns = [panel.get_subplotspec().colspan.start for panel in panels]
    assert columns == [0, 1, 2]
    for panel, name in zip(panels, LOSS_NAMES, strict=True):
        for line, split in zip(panel.lines, (name, f"val_{name}"), strict=True):
            expected = list(zip((1, 2, 3), logs[split], strict=True))
            np.testing.assert_array_equal(line.get_xydata(), expected)
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("epoch", "nats per image")
        legend = panel.get_legend()
        entries = [text.get_text() for text in legend.get_texts()]
        assert entries == ["training", "validation"]
        assert [line.get_linestyle() for line in legend.get_lines()] == ["-", "--"]
        assert [line.get_linestyle() for line in panel.lines] == ["-", "--"]
        assert all(tick == round(tick) for tick in panel.get_xticks())


def test_the_curves_of_a_history_begin_at_its_first_epoch_and_may_lack_validation():
    history = keras.callbacks.History()
    history.epoch, history.history = [4, 5], {name: [1.0, 2.0] for name in LOSS_NAMES}
    history.history["val_loss"] = [3.0]  # as with validation_freq=2
    panels = vae_mnist.training_curves_figure(history).axes
    for panel in panels:
        (line,) = panel.lines
        np.testing.assert_array_equal(line.get_xydata(), [[5, 1], [6, 2]])
