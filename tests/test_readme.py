"""README and its Chinese page: commands, snippets, files and numbers."""

import re
import sys
import types

import keras
import numpy as np
import pytest
from helpers import LOG_NAMES, ROOT

import vae_mnist

README = (ROOT / "README.md").read_text("utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text("utf-8")


def commands(text):
    return re.search(r"^```\n(.*?)^```", text, re.M | re.S)[1]


def test_the_first_commands_are_those_that_the_gate_runs():
    install = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/"
    run, test = commands(README).splitlines()
    assert (run, test) == (f"{install}python vae_mnist.py", f"{install}pytest")
    assert test in (ROOT / ".ci" / "run").read_text("utf-8")


@pytest.mark.parametrize("text", [README, CHINESE], ids=["README", "README.zh-CN"])
def test_every_file_that_is_linked_is_there(text):
    paths = re.findall(r'(?:src="|\]\()(?!https?:)([^")#]+)', text)
    assert paths
    for path in paths:
        assert (ROOT / path).exists()


def test_every_name_of_the_book_leads_to_one_of_the_script():
    rows = [row for row in README.splitlines() if row.startswith("| ")]
    start = rows.index("| listing | here | why |")
    words = "".join(row.split("|")[2] for row in rows[start + 2 : start + 17])
    names = re.findall(r"`(?:VAE\.)?([A-Za-z_]+)(?:\*\*2)?`", words)
    missing = {name for name in names if not hasattr(vae_mnist, name)}
    assert missing <= {"call", "x", "epsilon", "gradient", "apply"}  # arguments and methods
    assert len(names) > 15


# ---- The Chinese page ----------------------------------------------------------------------------


def rows_of_numbers(text):
    """Return the numbers of each row of the tables with test losses, as they are written."""
    ranges = re.compile("\\|.*\\d\\d\\.\\d\\d \N{EN DASH} ")
    rows = [row for row in text.splitlines() if ranges.match(row)]
    return [re.findall(r"\d+\.\d+", row.partition("|")[2].partition("|")[2]) for row in rows]


def test_the_chinese_page_has_the_commands_of_the_readme():
    assert commands(CHINESE) == commands(README)


def test_the_chinese_page_has_the_numbers_of_the_readme():
    assert rows_of_numbers(CHINESE) == rows_of_numbers(README)
    assert len(rows_of_numbers(README)) == 4


def test_the_chinese_page_has_the_names_of_the_book():
    def columns(text):
        rows = [row.split("|")[1:3] for row in text.splitlines() if row.startswith("| ")]
        names = [re.findall(r"`[^`]+`", first) for first, _ in rows]
        return [row for row in names if row and not row[0].startswith("`--")]

    of_book = [row for row in columns(README) if row in columns(CHINESE)]
    assert of_book == columns(CHINESE)
    assert len(of_book) == 15


# ---- Snippets ------------------------------------------------------------------------------------


def snippets(text):
    """Return the Python of a page, without what only a notebook understands."""
    found = re.findall(r"^( *)```python\n(.*?)^ *```", text, re.M | re.S)
    code = [re.sub(f"^{indent}", "", body, flags=re.M) for indent, body in found]
    return [re.sub(r"^%.*\n", "", body, flags=re.M) for body in code]


@pytest.fixture
def in_project(small_file, tmp_path, monkeypatch):
    """A working directory with data and images in the places that the pages name."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "my_images/3", "my_images/7"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "mnist_5k.npz").write_bytes(small_file.read_bytes())
    (tmp_path / "mnist.npz").write_bytes(small_file.read_bytes())
    with np.load(small_file) as archive:
        for index, image in enumerate(archive["x_test"][:24]):
            path = tmp_path / "my_images" / str(3 + 4 * (index % 2)) / f"{index:02}.png"
            keras.utils.save_img(path, image[..., None], scale=False)
    return tmp_path


def test_the_snippets_run_one_after_the_other(eagerly, in_project, monkeypatch, capsys):
    frames = []
    display = types.SimpleNamespace(IFrame=lambda path, **size: frames.append((path, size)))
    ipython = types.SimpleNamespace(version_info=(9, 0), get_ipython=lambda: None)
    monkeypatch.setitem(sys.modules, "IPython", ipython)  # as matplotlib asks it
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names, histories = {}, []
    for snippet in snippets(README):
        exec(snippet, names)
        histories.append(names.get("history"))
        if "TruncatedNormal" in snippet:
            weights = names["model"].get_weights()
            assert all(0.0005 < np.std(array) < 0.0015 for array in weights[::2])
            assert np.any(weights[2] != weights[4])
            assert names["model"].kl_weight == 1 / 128
    assert frames == [("page.html", {"width": "100%", "height": 700})]
    assert (in_project / "page.html").read_bytes().startswith(b"<!DOCTYPE html>")
    out = capsys.readouterr().out
    assert out.count("epoch      loss  reconstruction") == 6
    warm_up = histories[-1].history
    assert sorted(warm_up) == sorted(LOG_NAMES)
    np.testing.assert_allclose(warm_up["kl_weight"][:7], [0, 0.2, 0.4, 0.6, 0.8, 1, 1])
    assert len(warm_up["loss"]) > 5
    assert names["robust"].reconstruction_loss is names["absolute_error"]
    for snippet in snippets(CHINESE):
        exec(snippet.replace("callbacks=", "epochs=1, callbacks="), {})


def test_the_snippet_for_ones_own_images_makes_a_data_set(in_project):
    page = (ROOT / "data" / "README.md").read_text("utf-8")
    (snippet,) = [snippet for snippet in snippets(page) if "my_images" in snippet]
    exec(snippet, {})
    data = vae_mnist.load_data("mine.npz")
    assert data.classes.tolist() == [3, 7]
    assert len(data.x_test) == 4
    with np.load("data/mnist_5k.npz") as archive:
        originals = {image.tobytes() for image in archive["x_test"][:24]}
    assert {image.tobytes() for image in data.x_test} < originals
