"""Fixtures of several files; what they are made of is in helpers.py."""

import contextlib
import functools
import gc
import io
import os
import shutil
import signal
import socket
import sys

import numpy as np
import pytest

# As a user may have set them.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=true"


def process_settings():
    """Return what a script might set for its process, and this one leaves as it is."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    timeout = socket.getdefaulttimeout()
    return gc.isenabled(), handlers, sys.stdout.__class__, sys.excepthook, timeout


SETTINGS_BEFORE_THE_IMPORT = process_settings()

import helpers  # noqa: E402
import original_program  # noqa: E402

import vae_mnist  # noqa: E402


def pytest_collection_modifyitems(items):
    """The smoke test is first, and last is what reads the runs that were started before it."""
    items.sort(
        key=lambda test: (test.path.stem != "test_smoke", "default_runs" in test.fixturenames)
    )


@pytest.fixture
def settings_unchanged():
    """Fail the test if the import of the script or anything since has changed the process."""
    yield
    assert process_settings() == SETTINGS_BEFORE_THE_IMPORT


@pytest.fixture
def output(tmp_path):
    """An output directory that already holds a file of each name."""
    directory = tmp_path / "old results"
    directory.mkdir()
    for name, content in helpers.OLD.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture
def rejected(output, monkeypatch, capsys):
    """Run the program, which must end before it trains; return the one line of its error."""

    def run(*arguments):
        monkeypatch.setattr(vae_mnist.VAE, "fit", lambda *args, **kwargs: pytest.fail("it trains"))
        before = helpers.contents(output)
        status = helpers.exit_status("--output-dir", output, *arguments)
        out, err = capsys.readouterr()
        assert helpers.contents(output) == before
        assert status == 2
        assert out == ""
        assert err.startswith("vae_mnist.py: error: ")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture(scope="session")
def digits():
    """A few digits, as a dict with KEYS."""
    return helpers.slice_of_mnist(240, 60)


@pytest.fixture(scope="session")
def data():
    """Some thousand digits, as `load_data` returns them."""
    return helpers.some_digits()


@pytest.fixture(scope="session")
def small_file(tmp_path_factory, digits):
    """An .npz file of the few digits, for all tests: none may change it."""
    path = tmp_path_factory.mktemp("data") / "few digits.npz"
    np.savez(path, **digits)
    return path


@pytest.fixture
def eagerly():
    """Steps without a graph, which takes longer to make than it saves in a few steps."""
    vae_mnist.tf.config.run_functions_eagerly(True)
    yield
    vae_mnist.tf.config.run_functions_eagerly(False)


@pytest.fixture
def model():
    """An untrained model, always the same."""
    vae_mnist.keras.utils.set_random_seed(0)
    return vae_mnist.VAE()


@pytest.fixture
def fit(data):
    """Train a model on 60 images; arguments of `fit` and `compile` can be replaced.

    By default with plain steps: Adam's take most of the time of a short training.
    """

    def fit(model, optimizer=None, jit_compile=False, x=data.x_train[:60], **changes):
        optimizer = optimizer or vae_mnist.keras.optimizers.SGD(0.001)
        model.compile(optimizer=optimizer, jit_compile=jit_compile)
        settings = {"epochs": 1, "batch_size": 20, "seed": 0, "verbose": 0}
        settings["validation_data"] = data.x_validation[:20]
        return model.fit(x, **settings | changes)

    return fit


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, small_file):
    """The directory of a run on the few digits with FINISHED, where no option has its default."""
    directory = tmp_path_factory.mktemp("finished") / "größe" / "ディレクトリ"
    options = [f"--{name}={value}" for name, value in helpers.FINISHED.items()]
    assert helpers.exit_status("--data", small_file, "--output-dir", directory, *options) == 0
    return directory


@pytest.fixture(scope="session", autouse=True)
def started_runs(request, tmp_path_factory):
    """Start two runs of the script before the first test, where a test reads them."""
    if not any("default_runs" in test.fixturenames for test in request.session.items):
        return []
    folder = tmp_path_factory.mktemp("runs")
    digits = folder / "digits.npz"
    np.savez(digits, **helpers.slice_of_mnist(4000, 1000))
    shutil.copy(helpers.SCRIPT, folder)
    (folder / "keras.json").write_text('{"floatx": "float16", "backend": "jax"}', encoding="utf-8")
    of_a_notebook = {"MPLBACKEND": "module://backend_of_a_notebook"}  # that is not installed here
    of_earlier_work = {"KERAS_HOME": str(folder)}
    runs = []
    for script, environment in (
        (helpers.SCRIPT, of_a_notebook),
        (folder / helpers.SCRIPT.name, of_earlier_work),
    ):
        directory = folder / f"output {len(runs)}"
        options = ["--data", digits, "--epochs", 3, "--output-dir", directory]
        runs.append((helpers.start(script, *options, **environment), directory))
    return runs


@pytest.fixture(scope="session")
def default_runs(started_runs):
    """Two runs of the script on some thousand digits, side by side, as a user makes them.

    The second has no folder of the page beside it, and other settings of Keras. For each its
    status, output, errors and directory.
    """
    return [(*helpers.finish(process), directory) for process, directory in started_runs]


@pytest.fixture(scope="session")
def benchmark_file(tmp_path_factory):
    """An .npz file of 2,000 training and 500 test images, for the benchmarks."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, **helpers.slice_of_mnist(2000, 500))
    return path


@pytest.fixture(scope="session")
def original_run(tmp_path_factory, benchmark_file):
    """The output and the directory of four epochs of the original program."""
    folder = tmp_path_factory.mktemp("original")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        options = ["--data", benchmark_file, "--epochs", 4, "--output-dir", folder]
        original_program.main([*map(str, options)])
    return output.getvalue(), folder


# ---- The page in a browser -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def driver():
    """A browser without a window."""
    import browser
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser.PROGRAMS[0]
    for flag in browser.FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(browser.PROGRAMS[1])
    driver = webdriver.Chrome(options=options, service=service)
    command = {"source": browser.RECORDER}
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", command)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def page_path(tmp_path_factory):
    """The file of each of the PAGES, made when it is asked for."""
    import browser

    directory = tmp_path_factory.mktemp("pages")

    @functools.cache
    def path(name):
        path = directory / f"{name}.html"
        path.write_bytes(browser.PAGES[name]())
        return path

    return path


@pytest.fixture
def open_page(driver, page_path):
    """Open a page, by its name, in a window of a size; it must leave no message and no request."""
    import browser

    def open_page(
        name="squared-error", width=1280, height=900, *, touch=False, letters=16, path=None, **media
    ):
        page = browser.Page(driver)
        driver.get("about:blank")
        page.resize(width, height, touch)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        page.set_letters(letters)
        page.emulate(**media)
        driver.get((path or page_path(name)).as_uri())
        page.settle()
        return page

    driver.get_log("browser"), driver.get_log("performance")
    yield open_page
    assert driver.get_log("browser") == []
    requests = [row["message"] for row in driver.get_log("performance")]
    requests = [row for row in requests if '"Network.requestWillBeSent"' in row]
    assert all('"url":"file:///' in row or '"url":"about:' in row for row in requests)
