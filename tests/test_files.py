"""Files: whatever happens while they are written, each is whole, the old one or the new one."""

import os

import pytest
from conftest import OUTPUT_FILES, contents, exit_status

import vae_mnist

OLD = {name: f"old {name}".encode() for name in OUTPUT_FILES}
NEW = {name: f"new {name}".encode() for name in OUTPUT_FILES}


def writers(moment=None, error=None):
    """Functions that write NEW; that number `moment` raises `error` half-way."""

    def write(path, index, content):
        path.write_bytes(content[: len(content) // 2])
        if index == moment:
            raise error
        path.write_bytes(content)

    return {
        name: lambda path, index=index, content=content: write(path, index, content)
        for index, (name, content) in enumerate(NEW.items())
    }


def test_files_are_written_and_then_told(tmp_path, capsys):
    directory = tmp_path / "a" / "b"
    vae_mnist.write_files(directory, writers())
    assert contents(directory) == NEW
    assert capsys.readouterr().out == "".join(f"wrote {directory / name}\n" for name in NEW)


def test_bytes_are_written_as_they_are(tmp_path):
    vae_mnist.write_files(tmp_path, {"x": b"1\n", "y": b""})
    assert contents(tmp_path) == {"x": b"1\n", "y": b""}


def test_new_files_take_the_place_of_the_old_ones(output):
    vae_mnist.write_files(output, writers())
    assert contents(output) == NEW


@pytest.mark.parametrize("moment", range(len(NEW)))
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()], ids=["^C", "bug"])
def test_what_breaks_off_the_writing_leaves_the_old_files(moment, error, output, capsys):
    with pytest.raises(type(error)):
        vae_mnist.write_files(output, writers(moment, error))
    assert contents(output) == OLD
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("moment", range(len(NEW)))
def test_what_breaks_off_the_moving_leaves_each_file_old_or_new(moment, output, monkeypatch):
    replace = os.replace
    calls = []

    def break_off(*paths):
        if len(calls) == moment:
            raise KeyboardInterrupt
        calls.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", break_off)
    with pytest.raises(KeyboardInterrupt):
        vae_mnist.write_files(output, writers())
    files = contents(output)
    assert files.keys() == OLD.keys()
    assert [name for name in NEW if files[name] == NEW[name]] == list(NEW)[:moment]
    assert [name for name in OLD if files[name] == OLD[name]] == list(OLD)[moment:]


def test_a_full_disk_is_told_in_one_line_and_leaves_the_old_files(output):
    error = OSError(28, "No space left on device")
    with pytest.raises(vae_mnist.InputError) as told:
        vae_mnist.write_files(output, writers(3, error))
    assert str(told.value) == (
        f"{output}: cannot be written (No space left on device); mend that or use another directory"
    )
    assert contents(output) == OLD


def test_a_disk_that_fills_up_ends_a_run_in_one_line(eagerly, small_file, output, capsys):
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        assert exit_status("--data", small_file, "--epochs", 1, "--output-dir", output) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    assert err.startswith(f"vae_mnist.py: error: {output}: cannot be written (")
    assert err.count("\n") == 1
    assert contents(output) == OLD
