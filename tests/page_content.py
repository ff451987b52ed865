"""Reads what the script wrote into a page."""

import base64
import json
import string
from html.parser import HTMLParser

import numpy as np

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"


class Scripts(HTMLParser):
    """Collects the text of each script element."""

    def __init__(self, page):
        """Parses the bytes of a page."""
        super().__init__()
        self.texts = []
        self.is_open = False
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag, attributes):
        self.is_open = tag == "script"
        if self.is_open:
            self.texts.append("")

    def handle_endtag(self, tag):
        self.is_open = False

    def handle_data(self, data):
        if self.is_open:
            self.texts[-1] += data


def content_of(page):
    """What the script wrote into a page."""
    content, program = Scripts(page).texts
    assert "use strict" in program
    return json.loads(content)


def array(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def grey_levels(text):
    """Pixels from 0 to 1 of letters, one for each."""
    return np.array([LETTERS.index(letter) for letter in text]) / 63
