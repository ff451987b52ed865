"""Files: whatever happens while they are written, each is whole, the old one or the new one."""

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest
from conftest import (
    OUTPUT_FILES,
    contents,
    ordinary_user,
    posix,
    run_python,
)

import vae_mnist

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
def test_an_exception_during_writing_leaves_whole_files(function, moment, output):
    def interrupt():
        raise KeyboardInterrupt

    with at(function, moment, interrupt), pytest.raises(KeyboardInterrupt):
        vae_mnist.write_files(output, NEW)
    files = contents(output)
    assert_whole(files)
    replaced = moment if function == "replace" else 0
    assert sum(files[name] == NEW[name] for name in files) == replaced


KILLED_AT_EVERY_MOMENT = """
import os, pathlib, signal, sys
from test_files import MOMENTS, NEW, OLD, at, vae_mnist
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


def killed_at_every_moment(small_file, directory):
    """A child that has no TensorFlow threads yet forks itself once for every moment."""
    run_python(KILLED_AT_EVERY_MOMENT, directory, PYTHONPATH=os.path.dirname(__file__))
    return [directory / str(index) for index in range(len(MOMENTS))]


BACKGROUND = {"killed at every moment": killed_at_every_moment} if os.name == "posix" else {}


@posix
def test_a_kill_during_writing_leaves_whole_files(results):
    for directory in results["killed at every moment"].result():
        assert_whole(visible(directory))
        vae_mnist.write_files(directory, NEW)  # what the kill left is not in the way
        assert visible(directory) == NEW


def test_the_paths_of_what_was_written_are_returned(tmp_path):
    paths = vae_mnist.write_files(tmp_path / "a" / "b", {"x": b"1", "y": lambda path: path.touch()})
    assert paths == [tmp_path / "a" / "b" / "x", tmp_path / "a" / "b" / "y"]
    assert contents(tmp_path / "a" / "b") == {"x": b"1", "y": b""}
    assert not vae_mnist.unfinished_directories


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


def test_a_directory_removed_during_training_is_made_again(
    monkeypatch, small_file, output, without_figures
):
    status = run_and_meanwhile((output / "new").rmdir, monkeypatch, small_file, output)
    assert status == 0
    assert "vae.keras" in contents(output / "new")


def test_a_directory_that_cannot_be_made_again_is_named(
    monkeypatch, small_file, output, without_figures, capsys
):
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
