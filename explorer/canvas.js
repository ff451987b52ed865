// ==== Numbers in words, and canvases =============================================================

/** A number with `digits` after the point, a true minus sign, and no "−0.00". */
function signed(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
}

const pair = values => `(${values.map(value => signed(value, 2)).join(", ")})`;
const grouped = number => number.toLocaleString("en");
const imageName = number => number < 0 ? "your drawing" : `test image ${number + 1}`;
const capitalized = text => text[0].toUpperCase() + text.slice(1);

/** "12 of the 25 nearest test images are 4" */
function voteText(voters) {
  if (voters.length === 0) return "There is no other test image.";
  const [[label, number]] = countVotes(voters);
  return `${number} of the ${voters.length} nearest test images ${number === 1 ? "is" : "are"}\u00a0${
    classes[label]}`;
}

/**
 * Texts of the terms of a loss, of which the written sum is right: the loss and the weighted KL
 * divergence are rounded, and the reconstruction is what remains.
 */
function lossTexts({reconstruction, kl}, weight) {
  const tenths = value => Math.round(10 * value);
  const [loss, term] = [tenths(reconstruction + weight * kl), tenths(weight * kl)];
  const text = number => (number / 10).toFixed(1);
  return {
    loss: text(loss), reconstruction: text(loss - term), term: text(term),
    product: weight === 1 ? "" : productText(weight, kl, text(term)),
  };
}

const weightText = weight => `${Number(weight.toPrecision(3))}`;

/** "4 × 0.26", with as many digits as it takes for the written product to be `term`. */
function productText(weight, kl, term) {
  const written = Number(weightText(weight));
  const digits = [2, 3, 4, 5].find(count =>
    (written * Number(kl.toFixed(count))).toFixed(1) === term) ?? 5;
  return `${weightText(weight)} × ${kl.toFixed(digits)}`;
}

/** Shows pixels in [0, 1] on a canvas of as many pixels. */
function drawPixels(canvas, pixels) {
  if (canvas.width !== SIDE) canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const image = context.createImageData(SIDE, SIDE);
  const {data} = image;
  for (let i = 0; i < SIZE; i++) {
    data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = 255 * pixels[i];  // which the image clips
    data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** A canvas that shows pixels. */
function picture(pixels) {
  const canvas = document.createElement("canvas");
  canvas.className = "image";
  drawPixels(canvas, pixels);
  return canvas;
}

/** Fits a canvas to its size on the screen; returns its context, in CSS pixels. */
function fit(canvas) {
  canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  return context;
}

/** A colour or length that style.css gives an element. */
const styleOf = (node, name) => getComputedStyle(node).getPropertyValue(name).trim();
const rootSize = () => parseFloat(styleOf(document.documentElement, "font-size"));
