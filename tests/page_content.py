"""Reads what the script wrote into a page."""

import base64
import json
import re

import numpy as np


def content_of(page):
    """What the script wrote into a page."""
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page.decode(), re.DOTALL)
    content, program, images = scripts
    assert "use strict" in program
    return json.loads(content) | {"allImages": json.loads(images)}


def array(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)
