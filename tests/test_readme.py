"""README and the pages beside it: commands, snippets, files and numbers."""

import re
import sys
import types

import keras
import numpy as np
import pytest
from helpers import LOG_NAMES, ROOT, trained
from scipy.special import logsumexp

import vae_mnist

NAMES = ("README.md", "README.zh-CN.md", "docs/book.md", "docs/book.zh-CN.md", "docs/changing.md")
PAGES = {name: (ROOT / name).read_text("utf-8") for name in (*NAMES, "data/README.md")}
README, CHINESE, BOOK, CHINESE_BOOK, CHANGING = (PAGES[name] for name in NAMES)


def commands(text):
    return re.search(r"^```\n(.*?)^```", text, re.M | re.S)[1]


def snippets(text):
    """Return the Python of a page, without what only a notebook understands."""
    found = re.findall(r"^( *)```python\n(.*?)^ *```", text, re.M | re.S)
    code = [re.sub(f"^{indent}", "", body, flags=re.M) for indent, body in found]
    return [re.sub(r"^%.*\n", "", body, flags=re.M) for body in code]


def test_the_first_commands_are_those_that_the_gate_runs():
    install = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/"
    run, test = commands(README).splitlines()
    assert (run, test) == (f"{install}python vae_mnist.py", f"{install}pytest")
    assert test in (ROOT / ".ci" / "run").read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_is_linked_is_there(name):
    paths = re.findall(r'(?:src="|\]\()(?!https?:)([^")#]+)', PAGES[name])
    for path in paths:
        assert (ROOT / name).parent.joinpath(path).exists(), path


# ---- The names of the book -----------------------------------------------------------------------


def rows_of_names(text):
    """Return the three cells of each row of the table of the listing's names."""
    start = text.index("| `input_data.read_data_sets` |")
    table = text[start:].partition("\n\n")[0]
    return [[cell.strip() for cell in row.split("|")[1:4]] for row in table.splitlines()]


def found(name):
    """Whether a name of the port, such as "VAE.fit", is one of the script."""
    owner = vae_mnist
    for part in name.split("."):
        owner = getattr(owner, part, None)
    return owner is not None


def test_every_name_of_the_book_leads_to_one_of_the_script():
    words = "".join(here for _, here, _ in rows_of_names(BOOK))
    names = re.findall(r"`([A-Za-z_.]+)(?:\*\*2)?`", words)
    assert [name for name in names if not found(name)] == ["x", "epsilon"]  # arguments
    assert len(names) > 15


# ---- The Chinese pages ---------------------------------------------------------------------------


def rows_of_numbers(text):
    """Return the numbers of each row of the tables with test losses, as they are written."""
    ranges = re.compile("\\|.*\\d\\d\\.\\d\\d \N{EN DASH} ")
    rows = [row for row in text.splitlines() if ranges.match(row)]
    return [re.findall(r"\d+\.\d+", row.partition("|")[2].partition("|")[2]) for row in rows]


def test_the_chinese_readme_has_the_commands_and_the_numbers_of_the_readme():
    assert commands(CHINESE) == commands(README)
    assert rows_of_numbers(CHINESE) == rows_of_numbers(README)
    assert len(rows_of_numbers(README)) == 3


def test_the_chinese_page_on_the_book_has_the_names_and_snippets_of_the_other():
    def names(text):
        return [re.findall(r"`[^`]+`", here) for _, here, _ in rows_of_names(text)]

    assert list(map(sorted, names(CHINESE_BOOK))) == list(map(sorted, names(BOOK)))
    assert len(names(BOOK)) == 15
    (chinese,), (expected,) = map(snippets, (CHINESE_BOOK, BOOK))
    comments = re.compile("#.*")
    assert comments.sub("", chinese) == comments.sub("", expected)


# ---- Snippets ------------------------------------------------------------------------------------


@pytest.fixture
def in_project(tmp_path, monkeypatch, small_file):
    """A working directory with the folder that the pages name; the data are a few digits."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    few = vae_mnist.load_data(small_file)
    monkeypatch.setattr(vae_mnist, "load_data", lambda: few)
    return tmp_path


class Neighbours:
    """Stands for scikit-learn's classifier, which is not among the requirements."""

    def __init__(self, count):
        assert count == 25

    def fit(self, codes, labels):
        self.train = codes, labels
        return self

    def score(self, codes, labels):
        return vae_mnist.knn_accuracy(*self.train, codes, labels)


def test_the_snippets_run_one_after_the_other(eagerly, in_project, monkeypatch, capsys):
    frames = []
    display = types.SimpleNamespace(IFrame=lambda path, **size: frames.append((path, size)))
    ipython = types.SimpleNamespace(version_info=(9, 0), get_ipython=lambda: None)
    monkeypatch.setitem(sys.modules, "IPython", ipython)  # as matplotlib asks it
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    classifiers = types.SimpleNamespace(KNeighborsClassifier=Neighbours)
    monkeypatch.setitem(sys.modules, "sklearn", types.SimpleNamespace(neighbors=classifiers))
    monkeypatch.setitem(sys.modules, "sklearn.neighbors", classifiers)
    # Without a graph, the steps of Adam take most of the time.
    monkeypatch.setattr(vae_mnist, "adam", lambda: keras.optimizers.SGD(0.001))
    for snippet in snippets(README):
        exec(snippet, {})
    names, histories = {}, []
    for snippet in snippets(CHANGING):
        exec(snippet, names)
        histories.append(names.get("history"))
    warm_up = histories[-1].history
    assert sorted(warm_up) == sorted(LOG_NAMES)
    np.testing.assert_allclose(warm_up["kl_weight"][:7], [0, 0.2, 0.4, 0.6, 0.8, 1, 1])
    assert len(warm_up["loss"]) > 5
    assert frames == [("outputs/page.html", {"width": "100%", "height": 700})]
    assert (in_project / "outputs" / "page.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert float(names["learned"].log_variance) != 0
    assert capsys.readouterr().out.count("epoch      loss  reconstruction") == 1
    # What the recipes say of their numbers.
    data = names["data"]
    z_mean, z_log_sigma_sq = names["conditional"].encode(
        names["with_labels"](data.x_test, data.y_test)
    )
    np.testing.assert_allclose(z_mean[:, 2:], np.eye(10)[data.y_test], atol=1e-6)
    np.testing.assert_array_equal(z_log_sigma_sq[:, 2:], -20)


def test_log_p_x_of_the_recipe_is_the_integral_over_the_latent_space():
    model, data = trained("squared-error")
    (recipe,) = [snippet for snippet in snippets(CHANGING) if "def log_evidence" in snippet]
    names = {"np": np, "vae_mnist": vae_mnist, "model": model, "data": data}
    exec(recipe, names)
    axis = np.arange(-6, 6, 0.1)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    reconstruction = model.decoder.predict(grid, batch_size=10_000, verbose=0)
    for image in data.x_test[:3]:
        errors = np.sum((reconstruction - image / np.float32(255)) ** 2, axis=1)
        log_joint = -0.5 * (errors + np.sum(grid**2, axis=1)) - np.log(2 * np.pi)
        expected = logsumexp(log_joint) + 2 * np.log(0.1)
        assert names["log_evidence"](model, image) == pytest.approx(expected, abs=0.2)


def test_the_weights_of_the_listing_are_those_that_the_page_on_the_book_makes():
    names = {}
    exec(snippets(BOOK)[0], names)
    weights = names["model"].get_weights()
    assert all(0.0005 < np.std(array) < 0.0015 for array in weights[::2])
    assert np.any(weights[2] != weights[4])
    assert names["model"].kl_weight == 1 / 128


def test_the_snippet_for_ones_own_images_makes_a_data_set(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index, image in enumerate(digits["x_test"][:24]):
        path = tmp_path / "my_images" / str(3 + 4 * (index % 2)) / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        enlarged = np.repeat(np.repeat(image, 4, axis=0), 4, axis=1)
        keras.utils.save_img(path, enlarged[..., None], scale=False)
    (snippet,) = snippets(PAGES["data/README.md"])
    exec(snippet, {})
    data = vae_mnist.load_data("mine.npz")
    assert data.classes.tolist() == [3, 7]
    assert len(data.x_test) == 4
    originals = {image.tobytes() for image in digits["x_test"][:24]}
    assert {image.tobytes() for image in data.x_test} < originals
