"""The README: its commands, snippets, pictures and requirements are those of the project."""

import json
import re

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_readme_begins_with_the_two_commands_that_the_gate_runs():
    commands = re.search(r"^```\n(.*?)^```", README, re.M | re.S)[1].splitlines()
    assert len(commands) == 2
    for command, program in zip(commands, ("python vae_mnist.py", "pytest"), strict=True):
        assert command == (
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && "
            f".venv/bin/{program}"
        )
    assert "python3-venv" in README
    assert "uv run vae_mnist.py" in README
    assert "uv run --with-requirements requirements.txt pytest" in README
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_every_picture_and_file_of_the_readme_is_there():
    paths = re.findall(r'(?:src="|\]\()(?!https?:)([^")#]+)', README)
    assert len(paths) > 5
    for path in paths:
        assert (ROOT / path).exists()


def test_the_snippets_of_the_readme_import_the_script_first():
    for snippet in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S):
        first = next(line for line in snippet.splitlines() if "import" in line)
        assert first == "import vae_mnist" or "load_model" not in snippet


def requirement_lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_inline_metadata_equals_the_requirements():
    script = (ROOT / "vae_mnist.py").read_text()
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///\n", script, re.MULTILINE)[1]
    dependencies = json.loads(re.search(r"^# dependencies = (\[.*\])$", block, re.MULTILINE)[1])
    program, _, _ = (ROOT / "requirements.txt").read_text().partition("# for the tests")
    assert dependencies == requirement_lines(program)


def readme_snippets():
    """The Python of the README, without what only a notebook understands."""
    readme = re.sub(r"^%.*\n", "", (ROOT / "README.md").read_text(), flags=re.M)
    return re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)


def test_the_readme_has_two_snippets():
    assert len(readme_snippets()) == 2


@pytest.fixture
def beside_a_run(finished_run, tmp_path, monkeypatch):
    """A working directory with the data and a model in their places."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "vae.keras").write_bytes((finished_run / "vae.keras").read_bytes())
    (tmp_path / "data").symlink_to(ROOT / "data")
    return tmp_path


def test_the_snippet_that_uses_the_model_runs(beside_a_run, capsys):
    exec(readme_snippets()[0], {})
    values = re.findall(r": ([\d.]+)$", capsys.readouterr().out, re.M)
    assert len(values) == 2
    assert all(0 <= float(value) <= 1 for value in values)


def test_the_snippet_for_a_notebook_runs(beside_a_run):
    names = {}
    exec(readme_snippets()[1], names)
    assert len(names["history"]) == 10
    assert (beside_a_run / "plane.html").stat().st_size > 2_000_000
