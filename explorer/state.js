// ==== The content: what explorer/content.py wrote into the page ==================================

const element = id => document.getElementById(id);
const content = JSON.parse(element("content").textContent);

function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

const floatsOf = text => new Float32Array(bytesOf(text).buffer);

/** A step of the model with its arrays; a step without arrays is an activation. */
function stepOf(step) {
  if (step.activation) return step;
  return Object.fromEntries(Object.entries(step).map(([name, text]) => [name, floatsOf(text)]));
}

/** Pieces of an array, each of `size` numbers. */
function pieces(numbers, size) {
  return Array.from({length: numbers.length / size}, (_, i) =>
    numbers.subarray(size * i, size * (i + 1)));
}

const SIDE = content.side, SIZE = SIDE ** 2;
const {edge, classes} = content;  // a dashed square goes from -edge to edge
const model = {
  ...Object.fromEntries(
    Object.entries(content.model).map(([part, steps]) => [part, steps.map(stepOf)])),
  crossEntropy: content.reconstructionLoss === "cross-entropy",
};
const testCodes = floatsOf(content.codes);
const labels = new Uint16Array(bytesOf(content.labels).buffer);
const exampleImages = pieces(bytesOf(content.images), SIZE).map(bytes =>
  Float64Array.from(bytes, byte => byte / 255));
const training = content.training && readTraining(content.training);

/** What was recorded of the training, by epoch; at the end of each list stands the trained model. */
function readTraining(recorded) {
  const numbers = new Int16Array(bytesOf(recorded.codes).buffer);
  const codes = pieces(Float32Array.from(numbers, number => number * recorded.step),
    2 * recorded.images);
  const images = recorded.stripImages;
  const trained = images.map(number => encode(model, exampleImages[number]));
  const gaussians = name => pieces(floatsOf(recorded[name]), 2 * images.length);
  return {
    images,
    codes: [...codes, testCodes.subarray(0, 2 * recorded.images)],
    means: [...gaussians("stripMeans"), Float32Array.from(trained.flatMap(({mean}) => mean))],
    logVariances: [...gaussians("stripLogVariances"),
      Float32Array.from(trained.flatMap(({logVariance}) => logVariance))],
    stripEpochs: recorded.stripEpochs,
    strips: pieces(bytesOf(recorded.strips), images.length * SIZE),
    losses: recorded.validationLosses,
  };
}

const LAST_EPOCH = training ? training.losses.length : 0;
const TRAINED = LAST_EPOCH + 1;  // the epoch that stands for the trained model

// ==== The state: all that the page shows is made of it ===========================================

const state = {
  image: null,      // x: {number (-1 for a drawing), pixels, mean, logVariance, losses}
  strokes: [],      // of the drawing: lists of [x, y] from 0 to 1
  pen: null,        // the pointer that draws
  epsilons: [],     // of the samples
  pinned: [0, 0],   // the code that is decoded
  hover: null,      // {code, x, y} of the mouse over the plane
  pressed: null,    // {pointer, limit} of the press that drags the code
  layer: "dots",    // or "images"
  zoom: false,
  shown: classes.map(() => true),
  epoch: TRAINED,   // between two epochs while the training plays
  kept: [],         // {letter, code}
  walk: [],         // of them: where the walk starts and ends
  percent: 0,       // of the walk
  playing: null,    // {what}: "training" or "walk"
  message: "",      // of the kept codes
  spoken: 0,        // counts what is to be read aloud
  screen: 0,        // counts changes of size, resolution and colours
};

let isAsked = false;

/** Changes the state; the page shows it at the next frame. */
function set(change) {
  Object.assign(state, change);
  if (!isAsked) requestAnimationFrame(render);
  isAsked = true;
}

/** Shows each of PARTS that depends on something which has changed. */
function render() {
  isAsked = false;
  for (const part of PARTS) {
    const now = part.of(state);
    if (part.before?.every((value, i) => value === now[i])) continue;
    part.before = now;
    part.show();
  }
}

// ---- What follows from it -----------------------------------------------------------------------

const isTrained = () => state.epoch === TRAINED;
const showsImages = () => state.layer === "images" && isTrained();
const isSame = (a, b) => a[0] === b[0] && a[1] === b[1];
const isAtMean = () => state.image !== null && isSame(state.pinned, state.image.mean);
const samples = () => state.image ? state.epsilons.map(e => sampleLatent(state.image, e)) : [];
const nearest = (z, except) => nearestClasses(z, testCodes, labels, content.neighbours, except);

/** What a list by epoch holds at `state.epoch`, or between two. */
function atEpoch(list) {
  const before = Math.floor(state.epoch);
  if (before === state.epoch) return list[before];
  return between(list[before], list[before + 1], state.epoch - before);
}

/** The place in the strip of the image whose training is shown: image x, or else the first. */
const replayedPlace = () => Math.max(0, training.images.indexOf(state.image?.number));

/** What is shown of the image: x with the trained model, or an image of the strip before. */
function shownImage() {
  if (isTrained()) return state.image;
  const place = replayedPlace(), number = training.images[place];
  const [mean, logVariance] = [training.means, training.logVariances].map(list =>
    [...atEpoch(list).slice(2 * place, 2 * place + 2)]);
  return {number, pixels: exampleImages[number], mean, logVariance, losses: null};
}

/** The code that the blue dot marks. */
const shownCode = () => isTrained() ? state.pinned : shownImage().mean;

/** {reconstruction, kl}, in nats, and {pixels}: the losses of an image and of its pixels. */
function lossesOf(encoded, pixels) {
  const ofPixels = expectedLosses(model, encoded, pixels);
  const reconstruction = ofPixels.reduce((sum, loss) => sum + loss, 0);
  return {pixels: ofPixels, reconstruction, kl: klDivergence(encoded)};
}

function imageOf(pixels, number) {
  const encoded = encode(model, pixels);
  return {number, pixels, ...encoded, losses: lossesOf(encoded, pixels)};
}
