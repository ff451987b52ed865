"""The comparison of whole runs reads what the programs print."""

import whole_run


def test_the_test_loss_of_the_original_is_found(original_run):
    out, _ = original_run
    assert whole_run.TEST_LOSS.findall(out) == out.splitlines()[-1:]


def test_the_test_loss_of_a_run_is_found(default_runs):
    out = default_runs[0][1]
    assert whole_run.TEST_LOSS.findall(out) == [
        line for line in out.splitlines() if line.startswith("test loss ")
    ]


def test_a_run_prints_the_lines_that_end_its_parts(default_runs):
    lines = iter(default_runs[0][1].splitlines())
    for beginning in whole_run.ends_of_parts(epochs=3):
        assert any(line.startswith(beginning) for line in lines), beginning  # in this order


# It prints the lines of a run of two epochs and waits in the first and in the last part.
PROGRAM = """
import time
time.sleep(0.2)
for line in ("MNIST", "epoch", "    1  20.0", "    2  19.0", "test loss", "k-NN accuracy", "wrote"):
    print(line)
time.sleep(0.2)
"""


def test_the_time_of_a_part_is_that_between_two_lines(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    first, *others, last = whole_run.times_of_parts(script, "data.npz", 2)
    assert min(first, last) > sum(others)
