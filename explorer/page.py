"""Put style, content and scripts into template.html, and read the content of a page again.

Needs nothing but Python's own library.
"""

import html
import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
VERSION = 3  # of the content: raise it when the scripts need what an older page does not hold
SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        *("model", "posterior", "ink", "state", "words", "canvas", "plane", "heat", "marks"),
        *("panels", "own", "tasks", "link", "events"),
    )
)
TITLE, STYLE = "<title></title>", "<style></style>"
NOTICE = "<p>This is the template of a page: python vae_mnist.py fills it.</p>"
CONTENT_TAG = '<script type="application/json" id="content">'
IMAGES_TAG = '<script type="application/json" id="allImages">'  # last, since the start needs it not


class PageError(ValueError):
    """A page cannot be made; the text says why."""


def fill_template(content):
    """Return the page of `content`, a dict that JSON can hold, as bytes of HTML."""
    images = content["allImages"]
    content = {name: value for name, value in content.items() if name != "allImages"}
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")  # "</script>" would end it
    page = read_file("template.html")
    for mark, replacement in (
        (TITLE, f"<title>Latent space of {html.escape(content['name'])}</title>"),
        (STYLE, f"<style>\n{read_file('style.css')}</style>"),
        (
            NOTICE,
            f"{CONTENT_TAG}{text}</script>\n"
            f"<script>\n{program()}</script>\n"
            f"{IMAGES_TAG}{json.dumps(images)}</script>",
        ),
    ):
        before, found, after = page.partition(mark)
        if not found or mark in after:
            raise ValueError(f"template.html must contain {mark} once")
        page = f"{before}{replacement}{after}"
    return page.encode("utf-8", "replace")  # a file's name may hold what no text can


def program():
    """Return the scripts as one program, in a scope of its own: a document may hold two pages."""
    scripts = "\n".join(read_file(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n\n{scripts}}})();\n'


def read_file(name):
    """Return the text of a file of this folder."""
    return (FOLDER / name).read_text("utf-8")


def read_content(page):
    """Return the content of a page, bytes of HTML.

    Raises PageError for another file, and for content of another version.
    """
    content = read_tag(CONTENT_TAG, page)
    version = content.get("version", 1)
    if version != VERSION:
        raise PageError(
            f"its content has version {version}, and this is version {VERSION}; "
            "let vae_mnist.py write the page again"
        )
    return content | {"allImages": read_tag(IMAGES_TAG, page)}


def read_tag(tag, page):
    """Return what the JSON in an element of a page holds."""
    found = re.search(re.escape(tag).encode() + b"(.*?)</script>", page, re.DOTALL)
    if not found:
        raise PageError("this is no page that vae_mnist.py wrote")
    try:
        return json.loads(found[1])
    except ValueError as error:
        raise PageError("the content of this page is damaged") from error
