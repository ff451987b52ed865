"""Files: whatever happens while they are written, each is whole, the old one or the new one."""

import os

import pytest
from helpers import OLD, contents, exit_status
from matplotlib.figure import Figure

import vae_mnist

NAMES = ["history.csv", "metrics.json", "vae.keras"]


def writer(error=None):
    """Return a function that writes a file, or half of it and raises `error`."""

    def write(path):
        path.write_bytes(b"half")
        if error:
            raise error
        path.write_bytes(f"new {path.name}".encode())

    return write


def test_new_files_are_written_in_place_of_the_old_ones_and_printed(output, capsys):
    files = {name: writer() for name in NAMES}
    vae_mnist.write_files(output, files.items())
    new = {name: f"new {name}".encode() for name in NAMES}
    assert contents(output) == OLD | new
    assert capsys.readouterr().out == "".join(f"wrote {output / name}\n" for name in files)


def test_a_file_that_is_a_link_is_replaced_where_the_link_points(output, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "kept.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"old")
    link = output / "history.csv"
    link.unlink()
    try:
        link.symlink_to(elsewhere)
    except OSError:
        pytest.skip("links are not allowed here")
    vae_mnist.write_files(output, [("history.csv", writer())])
    assert link.is_symlink()
    assert elsewhere.read_bytes() == b"new history.csv"
    assert contents(elsewhere.parent) == {"kept.csv": b"new history.csv"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()], ids=["^C", "bug"])
def test_an_interrupt_or_a_bug_leaves_each_file_old_or_new(error, output):
    writers = [writer(), writer(error), writer()]
    with pytest.raises(type(error)):
        vae_mnist.write_files(output, zip(NAMES, writers, strict=True))
    assert contents(output) == OLD | {"history.csv": b"new history.csv"}


def test_a_file_that_fails_is_named_and_the_others_are_written(output, capsys):
    writers = [writer(), writer(OSError(28, "No space left on device")), writer()]
    with pytest.raises(vae_mnist.InputError) as error:
        vae_mnist.write_files(output, zip(NAMES, writers, strict=True))
    assert str(error.value) == (
        f"cannot write {output / 'metrics.json'} (No space left on device); close programs that "
        "use it, or give another --output-dir"
    )
    new = {"history.csv": b"new history.csv", "vae.keras": b"new vae.keras"}
    assert contents(output) == OLD | new
    assert "metrics.json" not in capsys.readouterr().out


def test_a_locked_file_ends_a_run_in_one_line_that_names_it(
    eagerly, small_file, output, monkeypatch, capsys
):
    """As a spreadsheet locks the file that it shows, on Windows."""
    replace = os.replace

    def replace_unless_locked(source, target):
        if os.path.basename(target) == "history.csv":
            raise PermissionError(13, "Permission denied", str(source), 13, str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_unless_locked)
    for name in ("latent_scatter", "manifold", "training_curves"):
        monkeypatch.setattr(vae_mnist, f"{name}_figure", lambda *args, **options: Figure())
    assert exit_status("--data", small_file, "--epochs", 1, "--output-dir", output) == 2
    files = contents(output)
    assert {name for name in OLD if files[name] == OLD[name]} == {"history.csv"}
    assert capsys.readouterr().err == (
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
    (error,) = err.splitlines()
    assert error.startswith(f"vae_mnist.py: error: cannot write {output / 'vae.keras'} (")
    files = contents(output)
    assert files["vae.keras"] == OLD["vae.keras"]
    assert files["history.csv"].startswith(b"epoch,")
