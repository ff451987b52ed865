"""Make a page anew from the content of an existing one, with today's style and scripts."""

import argparse
import sys
from pathlib import Path

from .page import PageError, fill_template, read_content


def main(argv=None):
    """Write the new page and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m explorer", description=__doc__)
    parser.add_argument("old", type=Path, help="an explorer.html that a run has written")
    parser.add_argument("new", type=Path, help="the page to write; it may be the same file")
    paths = parser.parse_args(argv)
    try:
        page = fill_template(read_content(paths.old.read_bytes()))
        paths.new.write_bytes(page)
    except PageError as error:
        print(f"python -m explorer: error: {paths.old}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"python -m explorer: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
