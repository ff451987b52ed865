// ==== Elements and canvases ======================================================================

/** Writes a text where it is another: what is read aloud is said once. */
function write(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

/** A new element of this name, with properties, and with children. */
function make(name, properties, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** Shows pixels in [0, 1] on a canvas of images, from (0, y) down. */
function drawPixels(canvas, pixels, y = 0) {
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const image = context.createImageData(SIDE, SIDE);
  const {data} = image;
  for (let i = 0; i < SIZE; i++) {
    data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = 255 * pixels[i];  // which the image clips
    data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, y);
}

/** A canvas for images: one, or more below each other. */
const picture = (count = 1) =>
  make("canvas", {className: "image", width: SIDE, height: count * SIDE});

const fitted = new Map();  // canvases, with the sizes that they are fitted to
const sizeOf = canvas => `${canvas.clientWidth} ${canvas.clientHeight}`;

/** Fits a canvas to its size on the screen; returns its context, in CSS pixels. */
function fit(canvas) {
  void state.screen;  // of which the size is a part
  fitted.set(canvas, sizeOf(canvas));
  canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  return context;
}

/** A colour or length that style.css gives an element. */
function styleOf(node, name) {
  void state.screen;
  return getComputedStyle(node).getPropertyValue(name).trim();
}

const rootSize = () => parseFloat(styleOf(document.documentElement, "font-size"));
