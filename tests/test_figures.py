"""The figures draw what they are given, whatever the data set."""

import numpy as np
import pytest

import vae_mnist


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
    (points,) = scatter.collections
    assert len(np.unique(points.get_facecolors(), axis=0)) == classes


def test_the_scatter_shows_every_code_on_equal_axes():
    z = np.random.default_rng(0).standard_normal((500, 2)) * [1, 3]
    scatter = vae_mnist.latent_scatter_figure(z, np.zeros(500, int)).axes[0]
    np.testing.assert_array_equal(scatter.collections[0].get_offsets(), z)
    assert scatter.get_aspect() == 1
    assert scatter.get_xlim() == scatter.get_ylim()
    assert scatter.get_ylim()[1] > np.abs(z).max()


def test_the_scatter_shows_the_square_of_the_manifold_around_codes_that_lie_close():
    scatter = vae_mnist.latent_scatter_figure(np.full((3, 2), 0.1), np.zeros(3, int)).axes[0]
    (square,) = scatter.patches
    edge = vae_mnist.MANIFOLD_QUANTILES[-1]
    np.testing.assert_array_equal(square.get_bbox().get_points(), [[-edge, -edge], [edge, edge]])
    assert scatter.get_xlim()[1] > edge


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
        np.testing.assert_allclose(values, vae_mnist.MANIFOLD_QUANTILES, atol=0.005)
        assert labels[7].get_text() == "0.00"


def test_an_image_keeps_its_orientation_in_the_manifold():
    digit = np.linspace(0, 1, 784).reshape(28, 28)
    (axes,) = vae_mnist.manifold_figure(np.tile(digit.ravel(), (225, 1))).axes
    np.testing.assert_array_equal(axes.images[0].get_array()[28:56, 56:84], digit)


def test_the_manifold_codes_ascend_with_z_1_fastest():
    codes = vae_mnist.manifold_codes().reshape(15, 15, 2)
    assert (np.diff(codes[..., 0], axis=1) > 0).all()
    assert (np.diff(codes[..., 1], axis=0) > 0).all()
    assert codes.dtype == np.float32


@pytest.mark.parametrize("count", [1, 10])
def test_reconstructions_stand_under_their_originals(count):
    x, reconstruction = np.random.default_rng(0).random((2, count, 784))
    axes = vae_mnist.reconstructions_figure(x, reconstruction).axes
    shown = [panel.images[0].get_array().ravel() for panel in axes]
    np.testing.assert_array_equal(shown, [*x, *reconstruction])
    assert [panel.get_ylabel() for panel in axes if panel.get_ylabel()] == [
        "original",
        "reconstruction",
    ]


def test_grey_levels_are_fixed():
    figures = (
        vae_mnist.reconstructions_figure(np.zeros((2, 784)), np.ones((2, 784))),
        vae_mnist.manifold_figure(np.full((225, 784), 0.5)),
    )
    for figure in figures:
        assert {panel.images[0].get_clim() for panel in figure.axes} == {(0, 1)}


def test_the_curves_are_those_of_the_history():
    fields = vae_mnist.Losses._fields
    names = ["epoch", *(prefix + name for prefix in ("", "validation_") for name in fields)]
    history = [dict(zip(names, range(first, first + len(names)), strict=True)) for first in (1, 2)]
    panels = vae_mnist.training_curves_figure(history).axes
    titles = [panel.get_title() for panel in panels]
    assert titles == ["loss", "reconstruction loss", "KL divergence"]
    for panel, name in zip(panels, fields, strict=True):
        for line, split in zip(panel.lines, (name, f"validation_{name}"), strict=True):
            expected = [[row["epoch"], row[split]] for row in history]
            np.testing.assert_array_equal(line.get_xydata(), expected)
        labels = [text.get_text() for text in panel.get_legend().get_texts()]
        assert labels == ["training", "validation"]
