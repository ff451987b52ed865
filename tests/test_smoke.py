"""First of all: the program runs, and leaves its files. Seconds after `pytest` one knows."""

import matplotlib.image
import pytest
from helpers import OUTPUT_FILES, contents


def test_a_run_leaves_all_its_files_and_none_is_empty(finished_run):
    files = contents(finished_run)
    assert sorted(files) == sorted(OUTPUT_FILES)
    assert all(files.values())


@pytest.mark.parametrize("name", [name for name in OUTPUT_FILES if name.endswith(".png")])
def test_no_picture_is_blank(name, finished_run):
    assert matplotlib.image.imread(finished_run / name)[..., :3].std() > 0.1
