"""A page in a real browser, and what a person does with it by mouse, keys and fingers."""

import re
import shutil

import keras
import numpy as np
import pytest
from helpers import trained

import explorer
import vae_mnist

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

PROGRAMS = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(None in PROGRAMS, reason="no chromium with chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
HOSTILE = "</script><script>document.title = 'hacked'</script>"
WIDE = {(1366, 633): 480, (1280, 900): 580, (1920, 1080): 800, (1024, 700): 410}  # and the plane
NARROW = [(390, 844), (844, 390), (320, 256)]

# ---- Pages ---------------------------------------------------------------------------------------
# "known" has known codes, in two clouds of 30 that no flip and no transposition leaves in place. In
# two epochs of training each moves on a straight line from a place of its own, by way of another.
# The trained model is another one than that of the last epoch. A third class, far off, sets the
# axes; its images are not among the first, which were watched while the model was trained.

PLACES = {0: (1.5, 0.5), 1: (-0.75, 1.75), 2: (-3.0, -2.5)}
EARLIER = [
    {0: (-1.0, 0.25), 1: (0.5, -1.0)},
    {0: (1.0, -1.5), 1: (-2.0, -0.5)},
    {0: (1.25, 0.75), 1: (-1.0, 1.5)},
]
KNOWN_SIGMA = np.array([0.2, 0.4])
STRIP = [0, 30, 1, 2, 3, 31, 32, 33, 4, 5, 6]  # one of each class, then others: all voted right


def clouds(places):
    """The codes of all classes around their places."""
    spread = np.random.default_rng(0).uniform(-0.1, 0.1, (30, 2))
    spread -= spread.mean(axis=0)
    return np.concatenate([place + spread for place in places.values()]).astype(np.float32)


KNOWN_CODES = clouds(PLACES)


def images_of(codes):
    """Images whose first pixels are their codes: two bytes for each number from -4 to 4."""
    images = np.zeros((len(codes), 784), np.uint8)
    images[:, 0:4:2], rest = np.divmod((codes + 4) / 8 * 255, 1)
    images[:, 1:4:2] = 255 * rest
    images[:, 300:400] = 255
    return images


def known_model(kl_weight=1.0, sigma=KNOWN_SIGMA):
    """A model whose encoder reads the code off those pixels, and knows it to `sigma`."""
    x = keras.Input((784,))
    encoder = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
    kernel = np.zeros((784, 2))
    kernel[[0, 2], [0, 1]] = 8
    kernel[[1, 3], [0, 1]] = 8 / 255
    encoder.set_weights([kernel, np.full(2, -4), 0 * kernel, 2 * np.log(sigma)])
    keras.utils.set_random_seed(0)
    h2 = keras.layers.Dense(8, activation="relu")
    decoder = keras.Sequential([keras.Input((2,)), h2, keras.layers.Dense(784)])
    return vae_mnist.VAE(encoder, decoder, kl_weight=kl_weight)


def known_data(count=90):
    images, labels = images_of(KNOWN_CODES)[:count], np.repeat([0, 1, 2], 30)[:count]
    return vae_mnist.Data("known", *2 * (images, labels), images, labels, classes=np.arange(10))


def sigma_of_epoch(epoch):
    return KNOWN_SIGMA * (4 - epoch)


def strip_of_epoch(epoch):
    """Bytes of the images in the strip, each of one grey level."""
    return np.repeat(np.uint8(40 * epoch + 3 * np.arange(11))[:, None], 784, axis=1)


def strip_losses_of_epoch(epoch):
    """Reconstruction losses of the images in the strip."""
    return 30.0 - 5 * epoch + np.arange(11)


def losses_of_epoch(epoch):
    return {"loss": 21.94 - epoch, "reconstruction": 18.62 - epoch, "kl": 3.32, "kl_weight": 1.0}


def make_known_page(places=EARLIER, losses=losses_of_epoch, **settings):
    data = known_data()
    recorder = explorer.Recorder(data.x_test[:60], data.y_test[:60])
    recorder.codes = [clouds(moment) for moment in places]
    epochs = range(len(places))
    order = [STRIP.index(n) if n in STRIP else 0 for n in recorder.candidates]
    sigmas = [np.tile(2 * np.log(sigma_of_epoch(e)), (len(order), 1)) for e in epochs]
    recorder.log_variances = sigmas
    recorder.strips = [strip_of_epoch(epoch)[order] for epoch in epochs]
    recorder.strip_losses = [strip_losses_of_epoch(epoch)[order] for epoch in epochs]
    recorder.losses = [losses(epoch) for epoch in epochs][1:]
    return vae_mnist.explorer_page(known_model(**settings), data, recorder)


def make_page(loss="squared-error", **changes):
    """The page of a trained model, with fields of its data replaced."""
    model, data = trained(loss)
    return vae_mnist.explorer_page(model, data._replace(**changes))


def make_collapsed_page():
    model = vae_mnist.VAE()
    weights = model.get_weights()
    model.set_weights([*weights[:2], *(0 * array for array in weights[2:6]), *weights[6:]])
    _, data = trained("squared-error")
    recorder = explorer.Recorder(data.x_test[:100], data.y_test[:100])
    model.compile(optimizer=vae_mnist.adam(1e-9), jit_compile=False)
    settings = {"epochs": 2, "callbacks": [recorder], "verbose": 0}
    model.fit(data.x_train[:200], validation_data=data.x_validation, **settings)
    return vae_mnist.explorer_page(model, data, recorder)


def other_model():
    """Other activations, more layers, dropout, a normalization, images of 32 x 32 pixels."""
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (60, 1024), dtype=np.uint8)
    data = vae_mnist.Data("32", *3 * (images, np.arange(60) % 10), np.arange(10))
    normalization, Dense = keras.layers.BatchNormalization(), keras.layers.Dense  # noqa: N806
    x = keras.Input((1024,))
    h = keras.layers.Dropout(0.3)(normalization(Dense(40, activation="tanh")(x)))
    gamma_beta_mean_variance = np.outer([1.5, -0.4, 0.2, 0.7], np.ones(40))
    normalization.set_weights(gamma_beta_mean_variance)
    h = keras.layers.Activation("leaky_relu")(Dense(30)(h))
    encoder = keras.Model(x, [Dense(2)(h), Dense(2)(h)])
    layers = [Dense(20, activation=name) for name in ("gelu", "elu", "silu")]
    decoder = keras.Sequential([keras.Input((2,)), *layers, Dense(1024, activation="sigmoid")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_mnist, "IMAGE_SIDE", 32)
        model = vae_mnist.VAE(encoder, decoder)
        return model, data, vae_mnist.explorer_page(model, data)


def weighted_losses(epoch):
    """A KL weight that grows during the training."""
    weight = [0.0, 0.5, 4.0][epoch]
    return {"loss": 17.6 + weight * 0.26, "reconstruction": 17.6, "kl": 0.26, "kl_weight": weight}


def make_paper_page():
    """Dark ink on light paper, which the model sees as it is."""
    data = known_data()
    return vae_mnist.explorer_page(known_model(), data._replace(x_test=255 - data.x_test))


OUTLIERS = np.array([(3.9, 0.5), (-0.5, -3.9)])  # 2 of 1,000 codes, far from the others


def make_outliers_page():
    """Two codes lie outside the axes, which hold 99.5 % of the codes."""
    codes = np.random.default_rng(0).uniform(-2, 2, (1000, 2))
    codes[500:502] = OUTLIERS
    labels = np.arange(1000) % 10
    data = known_data()._replace(x_test=images_of(codes), y_test=labels)
    return vae_mnist.explorer_page(known_model(), data)


FAR = [{0: (-9.0, 0.25), 1: (0.5, -1.0)}, {0: (-5.0, 0.25), 1: (-2.0, -0.5)}]
PAGES = {
    "squared-error": lambda: make_page(name="MNIST"),
    "cross-entropy": lambda: make_page("cross-entropy"),
    "47 classes": lambda: make_page(
        name=200 * "W", classes=np.arange(47), y_test=np.arange(1000) % 47
    ),
    "one class": lambda: make_page(name=HOSTILE, classes=np.array([7]), y_test=np.full(1000, 7)),
    "long names": lambda: make_page(
        classes=np.array([f"{label}{199 * 'W'}" for label in range(10)]),
        y_test=np.array([f"{label}{199 * 'W'}" for label in trained("squared-error")[1].y_test]),
    ),
    "known": make_known_page,
    "weighted": lambda: make_known_page(EARLIER, weighted_losses, kl_weight=4.0),
    "narrow Gaussian": lambda: make_known_page(sigma=np.array([0.02, 0.5])),
    "far": lambda: make_known_page(FAR),
    "one image": lambda: vae_mnist.explorer_page(known_model(), known_data(1)),
    "two images": lambda: vae_mnist.explorer_page(known_model(), known_data(2)),
    "collapsed": make_collapsed_page,
    "other layers": lambda: other_model()[2],
    "paper": make_paper_page,
    "outliers": make_outliers_page,
}

# ---- What is drawn, and what is expected of it ---------------------------------------------------

CIRCLE = [(0.5 + 0.3 * np.sin(t), 0.5 - 0.33 * np.cos(t)) for t in np.linspace(0, 2 * np.pi, 24)]
STROKES = {
    "0": [CIRCLE],
    "1": [[(0.55, 0.15), (0.45, 0.85)]],
    "3": [
        [
            *((0.3, 0.22), (0.42, 0.15), (0.58, 0.15), (0.68, 0.25), (0.66, 0.38), (0.55, 0.46)),
            *((0.45, 0.48), (0.6, 0.52), (0.7, 0.62), (0.68, 0.76), (0.56, 0.85), (0.42, 0.85)),
            (0.3, 0.78),
        ]
    ],
    "7": [[(0.2, 0.2), (0.8, 0.2), (0.45, 0.85)]],
}


def vote_of(z, codes, labels, skipped=None):
    """The sentence of the vote, by brute force; or that no code is near."""
    distances = np.linalg.norm(codes - z, axis=1)
    if skipped is not None:
        distances[skipped] = np.inf
    if distances.min() > 0.15:
        return f"No test image is near: the nearest code is {distances.min():.2f} away."
    counts = np.bincount(labels[np.argsort(distances)[:25]])
    return f"{counts.max()} of the 25 nearest test images are {counts.argmax()}"


# ---- What a page draws, its time and its chance --------------------------------------------------
# Recorded from the start of a page, by canvas: what was filled, stroked and written since it was
# cleared, and how often it was. "base" is what the plane shows under the marks.
# Frames come as the browser shows them, but their time stands still until a test lets it pass; and
# Math.random gives the same numbers in every page.

RECORDER = """
{
  let time = 0;
  window.tick = milliseconds => { time += milliseconds; };
  const request = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = callback => request(() => callback(time));
  let seed = 1;
  Math.random = () => {  // mulberry32
    seed = (seed + 0x6D2B79F5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
window.drawn = {};
window.clearings = {};
const {prototype} = CanvasRenderingContext2D;
let path = [];
const before = (name, action) => {
  const original = prototype[name];
  prototype[name] = function (...values) {
    action(this, values);
    return original.apply(this, values);
  };
};
const add = (context, row) => (drawn[context.canvas.id || "base"] ??= []).push(row);
for (const name of ["scale", "clearRect"]) {
  before(name, context => { drawn[context.canvas.id || "base"] = []; });
}
before("clearRect", ({canvas: {id}}) => { clearings[id] = (clearings[id] ?? 0) + 1; });
before("beginPath", () => { path = []; });
for (const name of ["arc", "ellipse", "lineTo"]) {
  before(name, (context, values) => path.push([name, ...values]));
}
before("fill", context => add(context, {kind: "fill", path, colour: context.fillStyle}));
before("stroke", context => add(context,
  {kind: "stroke", path, colour: context.strokeStyle, width: context.lineWidth}));
before("fillText", (context, [text, x, y]) => add(context,
  {kind: "text", text, x, y, align: context.textAlign}));
before("strokeRect", (context, values) => add(context,
  {kind: "rectangle", values, colour: context.strokeStyle,
    isDashed: context.getLineDash().length > 0}));
"""


class Page:
    """An open page, and what a person does with it; each action waits until the page shows it."""

    def __init__(self, driver):
        """The page that `driver` has open."""
        self.driver = driver

    def resize(self, width, height, mobile=False):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.settle()

    def set_letters(self, size):
        """Set the size of letters that a reader chooses in the browser."""
        sizes = {"fontSizes": {"standard": size, "fixed": size}}
        self.driver.execute_cdp_cmd("Page.setFontSizes", sizes)

    def emulate(self, medium="", **features):
        """Set what the page may ask of its medium, such as prefers_color_scheme."""
        features = [{"name": key.replace("_", "-"), "value": features[key]} for key in features]
        settings = {"media": medium, "features": features}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", settings)

    def settle(self):
        """Wait for two frames: until the page shows what was done.

        A page that was just opened first reads all its images, and then lists the tasks.
        """
        self.driver.execute_async_script(
            "const [done] = arguments, page = document.getElementById('page');"
            "const isRead = () => !page || page.hidden || page.querySelector('#taskList > *');"
            "const wait = () => requestAnimationFrame(isRead() ? done : wait);"
            "requestAnimationFrame(wait)"
        )

    def tick(self, milliseconds):
        """Let time pass for what plays in the page, which moves by no other clock."""
        self.js("tick(arguments[0])", milliseconds)
        self.settle()

    def js(self, program, *arguments):
        return self.driver.execute_script(program, *arguments)

    def wait_for(self, condition):
        """Wait until a condition of JavaScript holds, which is looked at in each frame."""
        self.driver.execute_async_script(
            "const [done] = arguments;"
            f"const wait = () => ({condition}) ? done() : requestAnimationFrame(wait); wait()"
        )
        self.settle()

    def __getitem__(self, name):
        """The element of an id."""
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        """What can be read in an element, with plain minus signs and spaces."""
        text = self.js("return document.getElementById(arguments[0]).innerText", name)
        return " ".join(text.replace("\N{MINUS SIGN}", "-").split())

    def numbers(self, name):
        """The two numbers of a text such as "(1.00, -2.00)"."""
        return [float(number) for number in self.text(name).strip("z= ()●").split(", ")]

    def box(self, name):
        """Where an element is in the window: left, top, right, bottom."""
        box = self.js(
            "const b = document.getElementById(arguments[0]).getBoundingClientRect();"
            "return [b.left, b.top, b.right, b.bottom]",
            name,
        )
        return np.array(box)

    def code(self):
        return np.array(self.js("return vae.code"))

    def button_texts(self, name):
        return [button.text for button in self.buttons(name)]

    def buttons(self, name):
        found = self[name].find_elements(By.TAG_NAME, "button")
        return [button for button in found if button.is_displayed()]

    def table(self):
        """The rows of the table of losses, as they are read."""
        return self.js(
            "return [...table.rows].map(row => [...row.cells].filter(cell => cell.offsetWidth)"
            ".map(cell => cell.innerText.replaceAll('\\n', ' ')))"
        )

    # ---- Mouse, keys and fingers

    def pointer(self, name, duration=0):
        """Scroll to an element; return a chain of actions, and what moves its pointer there.

        Places are from (0, 0), top left, to (1, 1).
        """
        element, width, height = self.js(
            "const element = document.getElementById(arguments[0]);"
            "element.scrollIntoView({block: 'nearest'});"
            "return [element, element.clientWidth, element.clientHeight]",
            name,
        )
        chain = ActionChains(self.driver, duration)

        def move_to(place):
            right, down = (place[0] - 0.5) * width, (place[1] - 0.5) * height
            chain.move_to_element_with_offset(element, round(right), round(down))

        return chain, move_to

    def move(self, place, name="plane"):
        chain, move_to = self.pointer(name)
        move_to(place)
        chain.perform()
        self.settle()

    def click(self, name, place=(0.5, 0.5)):
        chain, move_to = self.pointer(name)
        move_to(place)
        chain.click().perform()
        self.settle()

    def drag(self, name, points):
        chain, move_to = self.pointer(name, duration=5)
        move_to(points[0])
        chain.click_and_hold()
        for point in points[1:]:
            move_to(point)
        chain.release().perform()
        self.settle()

    def pin(self, place):
        """Drag the code to a place of the plane; a click there may take the image of a dot."""
        start = [part + 0.04 if part < 0.5 else part - 0.04 for part in place]
        self.drag("plane", [start, place])

    def draw(self, *strokes):
        for points in strokes:
            self.drag("pad", points)

    def press_and_lose(self, name):
        """Press in the middle of an element, release out of the browser's sight, and move on."""
        left, top, right, bottom = self.box(name)
        x, y = (left + right) / 2, (top + bottom) / 2
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseMoved", x - 40, y - 30, buttons=0)
        self.mouse("mouseMoved", x + 40, y + 50, buttons=0)

    def mouse(self, kind, x, y, **settings):
        """Send an event of the mouse; (x, y) are pixels of the window."""
        event = {"type": kind, "x": float(x), "y": float(y), **settings}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        self.settle()

    def keys(self, name, *keys):
        self[name].send_keys(*keys)
        self.settle()

    def press_button(self, name, number):
        self.buttons(name)[number].click()
        self.settle()

    def touch(self, kind, *points):
        """Send a touch event; points are in pixels of the window."""
        points = [{"x": float(x), "y": float(y)} for x, y in points]
        event = {"type": kind, "touchPoints": points}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        self.settle()

    # ---- What it shows

    def image(self, name):
        """The grey levels of a canvas, or of the first in an element: [height, width], 0 to 255."""
        return self.images(name)[0]

    def images(self, name):
        """The grey levels of each canvas that is seen in an element."""
        images = self.js(
            "const element = document.getElementById(arguments[0]);"
            "const all = [element, ...element.querySelectorAll('*')];"
            "const isSeen = canvas => getComputedStyle(canvas).visibility === 'visible';"
            "return all.filter(node => node.matches('canvas') && isSeen(node)).map(canvas => {"
            "  const {width, height} = canvas, copy = canvas.cloneNode();"
            "  const context = copy.getContext('2d', {willReadFrequently: true});"
            "  context.drawImage(canvas, 0, 0);"
            "  const {data} = context.getImageData(0, 0, width, height);"
            "  return [height, width, Array.from(data).filter((_, i) => i % 4 === 0)]; })",
            name,
        )
        return [np.reshape(levels, (height, width)) for height, width, levels in images]

    def drawn(self, kind, canvas="plane"):
        """What was drawn on a canvas: "text", "fill", "stroke" or "rectangle"."""
        rows = self.js("return drawn[arguments[0]] ?? []", canvas)
        return [row for row in rows if row["kind"] == kind]

    def discs(self, canvas="plane", radius=None):
        """The centres of discs, of a radius; by colour."""
        discs = {}
        for row in self.drawn("fill", canvas):
            name, x, y, size, *_ = row["path"][-1]
            if name == "arc" and (radius is None or abs(size - radius) < 0.01):
                discs.setdefault(row["colour"], []).append((x, y))
        return discs

    def axis_numbers(self):
        """The numbers along the lower axis with their x, and beside the left one with their y."""
        below, beside = {}, {}
        for row in self.drawn("text", "base"):
            if re.fullmatch("\N{MINUS SIGN}?[\\d.]+", row["text"]):
                value = float(row["text"].replace("\N{MINUS SIGN}", "-"))
                if row["align"] == "center":
                    below[value] = row["x"]
                else:
                    beside[value] = row["y"] - 4  # the middle of its line
        return below, beside

    def place_of(self, code):
        """The place of a code on the plane, in pixels, by the numbers of the axes."""
        below, beside = self.axis_numbers()
        unit = below[1] - below[0]
        return np.array([below[0] + unit * code[0], beside[0] - unit * code[1]]), unit

    def dots_by_colour(self):
        """The places of the dots, in pixels of the plane; without their darker edges."""
        radii = [row["path"][-1][3] for row in self.drawn("fill", "base")[1::2]]
        return self.discs("base", radii[0])

    def dots(self):
        """The codes of the dots in the order of their drawing, by the numbers of the axes."""
        places = [row["path"][-1][1:3] for row in self.drawn("fill", "base")[1::2]]
        origin, unit = self.place_of((0, 0))
        return (np.array(places) - origin) / unit * [1, -1]

    def ellipses(self):
        """The centres and radii of the ellipses on the plane, [[x, y, radius, radius], ...]."""
        paths = [row["path"] for row in self.drawn("stroke") if row["width"] < 2]
        return np.array([p[0][1:5] for p in paths if p and p[0][0] == "ellipse"])

    def pin_place(self):
        """Where the blue dot is, in pixels of the plane."""
        (place,) = self.discs(radius=4.5)[self.colour("accent")]
        return np.array(place)

    def colour(self, name):
        """The colour of a name in style.css, as the plane has it."""
        style = "return getComputedStyle(plane).getPropertyValue(`--${arguments[0]}`).trim()"
        return self.js(style, name)

    def code_at(self, place):
        """The code of a place of the plane, in pixels, as a drag finds it."""
        width, height = self.js("return [plane.clientWidth, plane.clientHeight]")
        self.pin((place[0] / width, place[1] / height))
        return self.code()
