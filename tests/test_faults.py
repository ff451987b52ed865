"""Whatever happens to a run, its files are whole, old or new, and it ends in one clear line."""

import contextlib
import errno
import hashlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import BUNDLED, OUTPUT_FILES, ROOT, contents, finish, start_script

import vae_mnist

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, users and limits")

OLD = {name: f"old {name}".encode() for name in OUTPUT_FILES}
NEW = {name: f"new {name}".encode() * 10_000 for name in OUTPUT_FILES}


def assert_whole(files):
    """Every file is the old one or the new one; nothing else is there, but what a kill left."""
    for name, content in files.items():
        assert content in (OLD[name], NEW[name])
    assert files.keys() == OLD.keys()


def visible(directory):
    """The contents of `directory` but for the hidden folder that a killed run leaves behind."""
    return {p.name: p.read_bytes() for p in directory.iterdir() if not p.name.startswith(".")}


# ---- Signals -------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("epochs", [1, 4], ids="after epoch {}".format)
def test_a_signal_during_training_leaves_the_old_files(epochs, output):
    processes = {
        number: start_script("--data", BUNDLED, "--epochs", 100_000, "--output-dir", output)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    for number, process in processes.items():
        while not process.stdout.readline().startswith(f"{epochs:>5} "):
            assert process.poll() is None
        process.send_signal(number)
    for process in processes.values():
        status, _, err = finish(process)
        assert (status, err) == (130, "vae_mnist.py: interrupted\n")
    assert contents(output) == OLD


@posix
def test_a_kill_during_training_leaves_the_old_files(output):
    process = start_script("--data", BUNDLED, "--epochs", 100_000, "--output-dir", output)
    while not process.stdout.readline().startswith("    2 "):
        assert process.poll() is None
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert contents(output) == OLD


MOMENTS = [
    *(("write_bytes", moment) for moment in range(len(NEW))),
    *(("replace", moment) for moment in range(len(NEW))),
]


@contextlib.contextmanager
def at(function, moment, action):
    """Calls `action` when write_files has called `function` `moment` times, half-way in a write."""
    owner = {"write_bytes": Path, "replace": os}[function]
    original = getattr(owner, function)
    calls = 0

    def wrapper(path, argument):
        nonlocal calls
        calls += 1
        if calls > moment:
            if function == "write_bytes":
                original(path, argument[: len(argument) // 2])
            action()
        return original(path, argument)

    setattr(owner, function, wrapper)
    try:
        yield
    finally:
        setattr(owner, function, original)


@pytest.mark.parametrize(("function", "moment"), MOMENTS)
def test_an_interrupt_during_writing_leaves_whole_files(function, moment, output):
    def interrupt():
        raise KeyboardInterrupt

    with at(function, moment, interrupt), pytest.raises(KeyboardInterrupt):
        vae_mnist.write_files(output, NEW)
    files = contents(output)
    assert_whole(files)
    replaced = moment if function == "replace" else 0
    assert sum(files[name] == NEW[name] for name in files) == replaced


@posix
def test_a_kill_during_writing_leaves_whole_files(tmp_path):
    """A child that has no TensorFlow threads yet forks itself once for every moment."""
    program = """
import os, pathlib, signal, sys
from test_faults import MOMENTS, NEW, OLD, at, vae_mnist
for index, (function, moment) in enumerate(MOMENTS):
    directory = pathlib.Path(sys.argv[1], str(index))
    directory.mkdir()
    for name, content in OLD.items():
        (directory / name).write_bytes(content)
    child = os.fork()
    if child == 0:
        with at(function, moment, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            vae_mnist.write_files(directory, NEW)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""
    subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT / "tests", check=True, timeout=60
    )
    for index in range(len(MOMENTS)):
        assert_whole(visible(tmp_path / str(index)))
        vae_mnist.write_files(tmp_path / str(index), NEW)  # what the kill left is not in the way
        assert visible(tmp_path / str(index)) == NEW


# ---- Disks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_size_limit(size):
    """As on a full disk, a file can't grow above `size` bytes."""
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def ordinary_user():
    """Without the rights of root, for whom no file is read-only."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


@pytest.fixture
def public_directory():
    """A directory that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@posix
@pytest.mark.parametrize("size", [0, 100, 50_000])
def test_a_full_disk_leaves_the_old_files_and_names_the_new_one(size, output):
    with file_size_limit(size), pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.write_files(output, NEW)
    assert str(output / OUTPUT_FILES[0]) in str(error.value)
    assert "File too large" in str(error.value)
    assert contents(output) == OLD


@posix
def test_a_disk_that_fills_up_ends_the_run_in_one_line(small_file, output, capsys):
    arguments = ["--data", str(small_file), "--epochs", "1", "--output-dir", str(output)]
    with file_size_limit(30_000):
        assert vae_mnist.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"vae_mnist.py: error: {output}{os.sep}")
    assert err.count("\n") == 1
    assert contents(output) == OLD


@posix
def test_a_read_only_directory_is_refused(public_directory):
    with ordinary_user(), pytest.raises(vae_mnist.InputError, match="Permission denied"):
        vae_mnist.write_files(public_directory, {})


@posix
@pytest.mark.parametrize("name", ["digits.npz", "train-images-idx3-ubyte"])
def test_a_file_without_read_permission_is_refused(name, public_directory):
    for other in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (public_directory / other).touch()
    secret = public_directory / name
    secret.touch(mode=0)
    path = secret if secret.suffix else public_directory
    with ordinary_user(), pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.load_data(path)
    assert str(error.value).startswith(f"{secret}: cannot be read (Permission denied)")


def test_a_directory_in_the_place_of_a_file_is_named(output):
    (output / "manifold.png").unlink()
    (output / "manifold.png").mkdir()
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.write_files(output, {"manifold.png": b"new"})
    assert f"{output / 'manifold.png'}: cannot be written (" in str(error.value)


def test_a_clean_up_that_fails_is_no_failed_write(monkeypatch, output):
    """As on a network's disk, where a folder may still hold what was just moved out of it."""

    def rmdir(*path, **options):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    monkeypatch.setattr(os, "rmdir", rmdir)
    vae_mnist.write_files(output, NEW)
    assert visible(output) == NEW


def run_and_meanwhile(action, monkeypatch, small_file, output):
    """Runs the program, with `action` in place of its report on the one epoch."""
    monkeypatch.setattr(vae_mnist, "print_row", lambda row, epochs, start: action())
    return vae_mnist.main(
        ["--data", str(small_file), "--epochs", "1", "--output-dir", str(output / "new")]
    )


def test_a_directory_removed_during_training_is_made_again(monkeypatch, small_file, output):
    status = run_and_meanwhile((output / "new").rmdir, monkeypatch, small_file, output)
    assert status == 0
    assert tuple(sorted(contents(output / "new"))) == OUTPUT_FILES


def test_a_directory_that_cannot_be_made_again_is_named(monkeypatch, small_file, output, capsys):
    def put_a_file_there():
        (output / "new").rmdir()
        (output / "new").touch()

    assert run_and_meanwhile(put_a_file_there, monkeypatch, small_file, output) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"vae_mnist.py: error: {output / 'new'}: cannot be written (")
    assert err.count("\n") == 1


def test_two_runs_into_one_directory_tear_no_file(output):
    others = {name: content.upper() for name, content in NEW.items()}

    def write(files):
        for _ in range(50):
            vae_mnist.write_files(output, files)

    threads = [threading.Thread(target=write, args=[files]) for files in (NEW, others)]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        for name in OUTPUT_FILES:
            assert (output / name).read_bytes() in (OLD[name], NEW[name], others[name])
            seen += 1
    for thread in threads:
        thread.join()
    assert seen > 100
    assert contents(output).keys() == NEW.keys()


# ---- Networks ------------------------------------------------------------------------------------


@pytest.fixture
def mnist(small_file):
    """The bytes of a file that stands for the full MNIST."""
    return small_file.read_bytes()


def point_at(port, monkeypatch):
    """Has the script download from a port of this machine."""
    monkeypatch.setattr(vae_mnist, "MNIST_URL", f"http://127.0.0.1:{port}/mnist.npz")


@pytest.fixture
def cache(tmp_path, monkeypatch, mnist):
    """An empty cache of Keras, and no proxy on the way to the test's server."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(vae_mnist, "MNIST_SHA256", hashlib.sha256(mnist).hexdigest())
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "datasets"


@pytest.fixture
def serve(monkeypatch):
    """Starts a server of bytes at MNIST_URL; returns the list that will name its requests.

    It answers when it has `together` requests for the bytes. One that `stalls` goes on to hold the
    connection after the last of them.
    """
    servers = []
    end = threading.Event()

    def start(body, promised=None, together=1, stalls=False):
        requests = []
        everyone = threading.Barrier(together, timeout=60)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                everyone.wait()
                requests.append(self.command)
                self.send_response(200)
                self.send_header("Content-Length", promised or len(body))
                self.end_headers()
                self.wfile.write(body)
                if stalls:
                    end.wait(60)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        point_at(server.server_port, monkeypatch)
        return requests

    yield start
    end.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent_server(monkeypatch):
    """A server at MNIST_URL that accepts connections and never answers.

    It goes away in the end, so that a client that would wait for ever fails its test.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        point_at(server.getsockname()[1], monkeypatch)
        end = threading.Timer(30, server.close)
        end.start()
        yield
        end.cancel()


def assert_bundled(capsys, why):
    """The data are the bundled digits, and one line says why."""
    data = vae_mnist.load_data()
    assert data.name == "MNIST, 5,000 bundled digits"
    assert len(data.x_test) == 1000
    err = capsys.readouterr().err
    assert err.startswith("note: MNIST could not be downloaded (")
    assert why in err
    assert err.endswith("with --data.\n")
    assert err.count("\n") == 1


def test_mnist_is_downloaded_once(cache, serve, mnist, digits):
    requests = serve(mnist)
    for _ in range(2):
        data = vae_mnist.load_data()
        assert data.name == "MNIST"
        np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(60, 784))
    assert requests == ["GET"]
    assert contents(cache) == {"mnist.npz": mnist}


def test_the_time_out_of_sockets_is_left_as_it_was(cache, serve, mnist):
    serve(mnist)
    vae_mnist.load_data()
    assert socket.getdefaulttimeout() is None


def test_a_damaged_cache_is_downloaded_again(cache, serve, mnist):
    cache.mkdir()
    (cache / "mnist.npz").write_bytes(mnist[:-5])
    serve(mnist)
    assert vae_mnist.load_data().name == "MNIST"
    assert contents(cache) == {"mnist.npz": mnist}


def test_wrong_bytes_are_refused_by_the_checksum_and_not_kept(cache, serve, mnist, capsys):
    serve(mnist[:-1] + b"!")
    assert_bundled(capsys, "a corrupted file came: its SHA-256 is wrong")
    assert not cache.exists()


def test_a_download_broken_off_is_not_kept(cache, serve, mnist, capsys):
    serve(mnist[:1000], promised=len(mnist))
    assert_bundled(capsys, "IncompleteRead")
    assert not cache.exists()


def test_without_a_network_the_bundled_digits_are_used(cache, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    point_at(port, monkeypatch)
    assert_bundled(capsys, "Connection refused")


def test_a_proxy_that_refuses_leaves_the_bundled_digits(cache, serve, monkeypatch, capsys):
    serve(b"")
    proxy = vae_mnist.MNIST_URL.removesuffix("/mnist.npz")
    monkeypatch.setenv("https_proxy", proxy)  # whose server knows no CONNECT
    monkeypatch.setattr(vae_mnist, "MNIST_URL", "https://mnist.invalid/mnist.npz")
    assert_bundled(capsys, "Tunnel connection failed: 501")


def test_a_server_that_never_answers_is_left_within_ten_seconds(cache, silent_server, capsys):
    start = time.monotonic()
    assert_bundled(capsys, "no answer in 5 s")
    assert time.monotonic() - start < 10


def test_a_download_that_stalls_is_left(cache, serve, mnist, monkeypatch, capsys):
    monkeypatch.setattr(vae_mnist, "SERVER_PATIENCE", 0.5)
    serve(mnist[:1000], promised=len(mnist), stalls=True)
    assert_bundled(capsys, "no answer in 0.5 s")
    assert not cache.exists()


def test_two_runs_may_download_at_the_same_time(cache, serve, mnist):
    serve(mnist, together=2)
    program = f"""
import vae_mnist
vae_mnist.MNIST_URL = {vae_mnist.MNIST_URL!r}
vae_mnist.MNIST_SHA256 = {vae_mnist.MNIST_SHA256!r}
vae_mnist.SERVER_PATIENCE = 60
print(vae_mnist.load_data().name)
"""
    command = [sys.executable, "-c", program]
    runs = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for run in runs:
        status, out, err = finish(run)
        assert (status, err) == (0, "")
        assert out.endswith("MNIST\n")
    assert contents(cache) == {"mnist.npz": mnist}


def test_a_home_that_cannot_be_written_moves_the_cache(serve, mnist, cache, monkeypatch, tmp_path):
    serve(mnist)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "missing" / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert vae_mnist.load_data().name == "MNIST"
    assert contents(tmp_path / ".keras" / "datasets") == {"mnist.npz": mnist}


def test_no_place_for_a_cache_leaves_the_bundled_digits(
    serve, mnist, cache, monkeypatch, tmp_path, capsys
):
    serve(mnist)
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert_bundled(capsys, "Not a directory")


# ---- XLA -----------------------------------------------------------------------------------------


def test_without_xla_the_uncompiled_epoch_trains(monkeypatch, small_file, tmp_path, capsys):
    ordinary_function = tf.function

    def function(*args, jit_compile=None, **kwargs):
        if not jit_compile:
            return ordinary_function(*args, **kwargs)

        def fail(*args):
            raise tf.errors.UnimplementedError(None, None, "no XLA in\nthis build")

        return fail

    monkeypatch.setattr(tf, "function", function)
    output = tmp_path / "new"
    arguments = ["--data", str(small_file), "--epochs", "1", "--output-dir", str(output)]
    assert vae_mnist.main(arguments) == 0
    assert capsys.readouterr().err == (
        "note: XLA is not available here (no XLA in this build); training without it, more "
        "slowly.\n"
    )
    assert tuple(sorted(contents(output))) == OUTPUT_FILES
