"""Make the page to explore the latent space of a VAE: one HTML file that needs no network.

`Recorder` is a Keras callback that keeps what the page shows of the training, and `make_page`
returns the page. The page runs the model by itself, as a list of steps that are read off its
layers; a `PageError` says what of a model it cannot run.
"""

from .page import PageError as PageError


def __getattr__(name):
    """Import what needs Keras when it is asked for: `python -m explorer` does without."""
    if name not in ("Recorder", "make_page"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import content

    return getattr(content, name)
