"""Files: whatever happens while they are written, each is whole, the old one or the new one."""

import os
import re

import pytest
from helpers import OUTPUT_FILES, contents, exit_status

import vae_mnist

OLD = {name: f"old {name}".encode() for name in OUTPUT_FILES}
NEW = {name: f"new {name}".encode() for name in OUTPUT_FILES}


def writers(moment=None, error=None):
    """Return functions that write NEW; that of number `moment` raises `error` half-way."""

    def write(path, index, content):
        path.write_bytes(content[: len(content) // 2])
        if index == moment:
            raise error
        path.write_bytes(content)

    return {
        name: lambda path, index=index, content=content: write(path, index, content)
        for index, (name, content) in enumerate(NEW.items())
    }


def test_files_are_written_and_printed(tmp_path, capsys):
    directory = tmp_path / "a" / "b"
    assert vae_mnist.write_files(directory, writers()) == {}
    assert contents(directory) == NEW
    assert capsys.readouterr().out == "".join(f"wrote {directory / name}\n" for name in NEW)


def test_bytes_are_written_as_they_are(tmp_path):
    vae_mnist.write_files(tmp_path, {"x": b"1\n", "y": b""})
    assert contents(tmp_path) == {"x": b"1\n", "y": b""}


def test_new_files_take_the_place_of_the_old_ones(output):
    vae_mnist.write_files(output, writers())
    assert contents(output) == NEW


@pytest.mark.parametrize("moment", [0, 4, len(NEW) - 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()], ids=["^C", "bug"])
def test_an_interrupt_or_a_bug_leaves_each_file_old_or_new(moment, error, output):
    with pytest.raises(type(error)):
        vae_mnist.write_files(output, writers(moment, error))
    names = list(NEW)
    expected = {name: NEW[name] for name in names[:moment]}
    expected |= {name: OLD[name] for name in names[moment:]}
    assert contents(output) == expected


@pytest.mark.parametrize("moment", [0, 4, len(NEW) - 1])
def test_a_file_that_fails_is_named_and_the_others_are_written(moment, output, capsys):
    failed = list(NEW)[moment]
    error = OSError(28, "No space left on device")
    failures = vae_mnist.write_files(output, writers(moment, error))
    assert failures == {failed: "No space left on device"}
    assert contents(output) == NEW | {failed: OLD[failed]}
    assert str(output / failed) not in capsys.readouterr().out


def test_a_locked_file_ends_a_run_in_one_line_that_names_it(
    eagerly, small_file, output, monkeypatch, capsys
):
    """As a spreadsheet locks the file that it shows, on Windows."""
    replace = os.replace

    def refuse(source, target):
        if os.path.basename(target) == "history.csv":
            raise PermissionError(13, "Permission denied", str(source), 13, str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    assert exit_status("--data", small_file, "--epochs", 1, "--output-dir", output) == 2
    files = contents(output)
    assert {name for name in OLD if files[name] == OLD[name]} == {"history.csv"}
    assert capsys.readouterr().err == (
        f"note: history.csv in {output}: of an earlier run, not of this model.\n"
        f"vae_mnist.py: error: cannot write {output / 'history.csv'} (Permission denied); close "
        "programs that use it, or give another --output-dir\n"
    )


def test_a_disk_that_fills_up_ends_a_run_in_one_line(eagerly, small_file, output, capsys):
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        assert exit_status("--data", small_file, "--epochs", 1, "--output-dir", output) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    note, error = err.splitlines()
    assert re.match(r"note: .*vae\.keras.* of an earlier run", note)
    assert error.startswith(f"vae_mnist.py: error: cannot write {output / 'vae.keras'} (")
    files = contents(output)
    assert files["vae.keras"] == OLD["vae.keras"]
    assert files["history.csv"].startswith(b"epoch,")
