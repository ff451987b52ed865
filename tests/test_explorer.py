"""The map follows the pointer, keeps what is clicked, and does without a display."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backend_bases import MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg

import vae_mnist


@pytest.fixture
def explorer(model):
    z = np.random.default_rng(0).standard_normal((100, 2))
    figure = vae_mnist.explorer_figure(model, z, np.arange(100) % 10)
    FigureCanvasAgg(figure).draw()
    return figure


def panels(figure):
    """The axes of the plane, of the digit at the pointer, and of the row of ten."""
    upper, lower = figure.subfigs
    left, right = upper.subfigs
    return left.axes[0], right.axes[0], lower.axes


def send(figure, kind, code):
    """A real event of the mouse at a code of the plane."""
    x, y = panels(figure)[0].transData.transform(code)
    event = MouseEvent(kind, figure.canvas, x, y, button=1)
    figure.canvas.callbacks.process(kind, event)


def shown(axes):
    """The picture that axes show, or None."""
    (picture,) = axes.images
    return picture.get_array() if picture.get_visible() else None


def decoded(model, code):
    return np.reshape(model.decode_pixels(np.array([code], np.float32)), (28, 28))


def test_nothing_is_shown_before_the_pointer_moves(explorer):
    _, digit, pins = panels(explorer)
    assert len(pins) == 10
    assert all(shown(axes) is None for axes in (digit, *pins))


@pytest.mark.parametrize("code", [(0.5, -1.0), (-1.25, 0.75)])
def test_the_digit_at_the_pointer_is_decoded(explorer, model, code):
    send(explorer, "motion_notify_event", code)
    digit = panels(explorer)[1]
    np.testing.assert_allclose(shown(digit), decoded(model, code), atol=1e-6)
    assert digit.get_xlabel() == f"$z_1$ = {code[0]:.2f}   $z_2$ = {code[1]:.2f}"


def test_a_canvas_that_cannot_paint_a_part_is_drawn_whole(explorer, monkeypatch):
    drawn = []
    monkeypatch.setattr(FigureCanvasAgg, "supports_blit", False)
    monkeypatch.setattr(explorer.canvas, "draw_idle", lambda: drawn.append(True))
    send(explorer, "motion_notify_event", (0, 0))
    assert drawn == [True]


def test_moving_pins_nothing(explorer):
    send(explorer, "motion_notify_event", (0, 0))
    assert all(shown(axes) is None for axes in panels(explorer)[2])


def test_the_pointer_beside_the_plane_changes_nothing(explorer):
    for kind in ("motion_notify_event", "button_press_event"):
        explorer.canvas.callbacks.process(kind, MouseEvent(kind, explorer.canvas, 1, 1, button=1))
    assert all(shown(axes) is None for axes in (panels(explorer)[1], *panels(explorer)[2]))


def test_the_last_ten_clicks_are_kept_in_their_order(explorer, model):
    codes = [(0.1 * index, -0.1 * index) for index in range(12)]
    for code in codes:
        send(explorer, "button_press_event", code)
    for axes, code in zip(panels(explorer)[2], codes[2:], strict=True):
        np.testing.assert_allclose(shown(axes), decoded(model, code), atol=1e-6)
        assert axes.get_xlabel() == f"$z_1$ = {code[0]:.2f}\n$z_2$ = {code[1]:.2f}"


def test_a_click_that_zooms_pins_nothing(explorer):
    zoom = object()
    explorer.canvas.widgetlock(zoom)
    send(explorer, "button_press_event", (0, 0))
    assert all(shown(axes) is None for axes in panels(explorer)[2])


def test_without_a_display_one_line_names_the_pictures(capsys):
    with matplotlib.rc_context({"backend": "agg"}):
        vae_mnist.show({}, "some/where")
    assert capsys.readouterr().err == (
        "note: no windows can be opened here (agg); the pictures are in some/where.\n"
    )


def test_a_backend_that_is_missing_is_named_in_one_line(monkeypatch, capsys):
    def fail(backend):
        raise ImportError("no module named\nPyQt")

    monkeypatch.setattr(pyplot, "switch_backend", fail)
    vae_mnist.show({}, "some/where")
    err = capsys.readouterr().err
    assert err.startswith("note: no windows can be opened here (no module named PyQt); ")
    assert err.count("\n") == 1


def test_every_figure_gets_a_window(explorer, monkeypatch):
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "qtagg")
    monkeypatch.setattr(pyplot, "switch_backend", lambda backend: None)
    opened = []
    monkeypatch.setattr(
        pyplot,
        "show",
        lambda: opened.extend((name, pyplot.figure(name)) for name in pyplot.get_figlabels()),
    )
    other = vae_mnist.new_figure(3, 3)
    try:
        vae_mnist.show({"explorer": explorer, "other": other}, "outputs")
    finally:
        pyplot.close("all")
    assert opened == [("explorer", explorer), ("other", other)]


def test_the_windows_are_opened_after_the_files_are_written(
    small_file, tmp_path, monkeypatch, capsys
):
    seen = []

    def show(figures, directory):
        seen.append((list(figures), directory, sorted(p.name for p in directory.iterdir())))

    monkeypatch.setattr(vae_mnist, "show", show)
    output = tmp_path / "new"
    arguments = ["--data", str(small_file), "--epochs", "1", "--output-dir", str(output)]
    assert vae_mnist.main([*arguments, "--show"]) == 0
    ((names, directory, files),) = seen
    assert names[0] == "explorer"
    assert directory == output
    assert {f"{name}.png" for name in names[1:]} == {name for name in files if ".png" in name}
