"""Reads what the script wrote into a page."""

import base64
import json
import re
import string

import numpy as np

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"


def content_of(page):
    """What the script wrote into a page."""
    content, program = re.findall(r"<script[^>]*>(.*?)</script>", page.decode(), re.DOTALL)
    assert "use strict" in program
    return json.loads(content)


def array(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def grey_levels(text):
    """Pixels from 0 to 1 of letters, one for each."""
    return np.array([LETTERS.index(letter) for letter in text]) / 63
