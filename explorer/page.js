// ==== The content: what explorer/__init__.py wrote into the page =================================

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

/** The codes of each epoch, from 0 on; whole numbers of 16 bits, in steps of `step`. */
function codesOfEpochs({codes, images, step}) {
  const numbers = Float32Array.from(new Int16Array(bytesOf(codes).buffer), number => number * step);
  const epochs = numbers.length / (2 * images);
  return Array.from({length: epochs}, (_, epoch) =>
    numbers.subarray(2 * images * epoch, 2 * images * (epoch + 1)));
}

const SIDE = content.side, SIZE = SIDE ** 2;
const model = {
  ...Object.fromEntries(
    Object.entries(content.model).map(([part, steps]) => [part, steps.map(stepOf)])),
  crossEntropy: content.reconstructionLoss === "cross-entropy",
};
const testCodes = floatsOf(content.codes);
const labels = new Uint16Array(bytesOf(content.labels).buffer);
const examples = bytesOf(content.images);
const edge = content.edge;  // the dashed square goes from -edge to edge
const unfolding = content.unfolding ? codesOfEpochs(content.unfolding) : [testCodes];
const lastEpoch = unfolding.length - 1;

// ==== Texts and canvases =========================================================================

/** A number with `digits` after the point, a true minus sign, and no "−0.00". */
function signed(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
}

const codeText = ([z1, z2]) => `z₁\u00a0=\u00a0${signed(z1, 2)}   z₂\u00a0=\u00a0${signed(z2, 2)}`;
const count = number => number.toLocaleString("en");
const weightText = content.klWeight === 1 ? "" : `${content.klWeight} × `;

function paint(canvas, pixels) {
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

/** Fits a canvas to its size on the screen; returns its context, in CSS pixels, and its width. */
function fit(canvas) {
  const width = Math.max(1, canvas.clientWidth);
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(Math.max(1, canvas.clientHeight) * ratio);
  const context = canvas.getContext("2d");
  context.scale(canvas.width / width, canvas.width / width);
  return {context, width};
}

// ==== The plane ==================================================================================

const TILES = 20;  // decoded images in a row of the plane
const plane = element("plane");
const base = document.createElement("canvas");
const shown = content.classes.map(() => true);  // the classes that the legend has switched on
let code = [0, 0];
let epoch = lastEpoch;  // of the dots; between two epochs while the training plays
let own = null;  // your own image: the mean and log-variance of its code, samples of it, its caption
let names = [];  // of the classes, with their places

const isTrained = () => epoch === lastEpoch;
const showsImages = () => element("images").checked && isTrained();

// ---- How it is drawn: read once for a drawing -----------------------------------------------------

let view = null;  // of the last drawing

/** Axes and looks of a plane that is `width` pixels wide. */
function viewOf(width) {
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const em = parseFloat(style.fontSize);
  const margin = 2.6 * em;  // left of the axes and under them; 2 pixels above and to the right
  const onBlack = colour("--plot") === "#000" || showsImages();
  return {
    em, margin, width,
    limit: element("zoom").checked ? 1.03 * edge : limitAt(epoch),  // axes: -limit to limit
    inner: width - margin - 2,  // their length
    plot: colour("--plot"), line: colour("--line"), quiet: colour("--quiet"),
    mark: onBlack ? "#fff" : "#111",
    halo: onBlack ? "#000" : "#fff",
    prior: onBlack ? "#bbb" : "#555",
    tones: content.colours.map(tone => toneSeenOn(colour("--plot"), tone)),
  };
}

/** The axes hold all dots of the trained model and, as far as they move out of these, of an epoch. */
function limitAt(epoch) {
  const before = Math.floor(epoch), after = Math.ceil(epoch);
  const [first, second] = [before, after].map(number =>
    Math.max(farthestOf(testCodes), farthestOf(unfolding[number])));
  return 1.05 * (first + (second - first) * (epoch - before));
}

const farthest = new Map();  // by the codes

function farthestOf(codes) {
  if (!farthest.has(codes)) {
    const most = codes.reduce((most, value) => Math.max(most, Math.abs(value)), edge);
    farthest.set(codes, most);
  }
  return farthest.get(codes);
}

const CONTRAST = 3;  // of dots, at least

/** A colour "#rrggbb", darker where it would not be seen on a white plot. */
function toneSeenOn(plot, colour) {
  if (plot === "#000") return colour;  // on which all of them are seen
  let channels = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
  while (1.05 / (luminance(channels) + 0.05) < CONTRAST) channels = channels.map(c => 0.97 * c);
  return `rgb(${channels.map(Math.round).join(" ")})`;
}

/** The relative luminance that WCAG defines. */
function luminance(channels) {
  const [red, green, blue] = channels.map(channel => channel / 255).map(value =>
    value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

const toX = z1 => view.margin + (z1 + view.limit) / (2 * view.limit) * view.inner;
const toY = z2 => (view.limit - z2) / (2 * view.limit) * view.inner + 2;
const within = value => Math.max(-view.limit, Math.min(view.limit, value));

function toCode(x, y) {
  const z1 = ((x - view.margin) / view.inner * 2 - 1) * view.limit;
  const z2 = (1 - (y - 2) / view.inner * 2) * view.limit;
  return [within(z1), within(z2)];
}

function isInSight({x, y}) {
  const {margin, inner} = view;
  return x >= margin && x <= margin + inner && y >= 2 && y <= 2 + inner;
}

/** Calls `draw`, which draws within the axes only. */
function clippedToAxes(pen, draw) {
  pen.save();
  pen.beginPath();
  pen.rect(view.margin, 2, view.inner, view.inner);
  pen.clip();
  draw();
  pen.restore();
}

// ---- What stays while the code moves --------------------------------------------------------------

/** Draws dots or images, the bells of N(0, 1) and the axes; places the names of the classes. */
function drawBase() {
  const {context, width} = fit(plane);
  view = viewOf(width);
  base.width = plane.width;
  base.height = plane.height;
  const pen = base.getContext("2d");
  pen.setTransform(context.getTransform());
  clippedToAxes(pen, () => {
    pen.fillStyle = view.plot;
    pen.fillRect(view.margin, 2, view.inner, view.inner);
    if (showsImages()) pen.drawImage(decodedLayer(), view.margin, 2, view.inner, view.inner);
    else drawDots(pen);
    drawSquare(pen);
    drawBells(pen, [0, 0], [1, 1], view.prior);
  });
  drawAxes(pen);
  names = isTrained() && !showsImages() ? placeNames(pen) : [];
  drawMarks();
}

/** The mean codes that are shown: of all test images at the end, of the first ones before it. */
function codesOfDots() {
  if (isTrained()) return testCodes;
  const before = Math.floor(epoch);
  return codesBetween(unfolding[before], unfolding[before + 1], epoch - before);
}

function drawDots(pen) {
  const codes = codesOfDots();
  const few = codes.length < 2 * 3000;
  const radius = (view.inner > 450 ? 1.3 : 0.9) * (few ? 1.5 : 1);
  for (let i = 0; i < codes.length / 2; i++) {
    if (!shown[labels[i]]) continue;
    pen.fillStyle = view.tones[labels[i]];
    pen.beginPath();
    pen.arc(toX(codes[2 * i]), toY(codes[2 * i + 1]), radius, 0, 7);
    pen.fill();
  }
}

const decodedLayers = new Map();  // by the limit of the axes, which alone changes them

/** The plane decoded, as a canvas of TILES x TILES images. */
function decodedLayer() {
  const {limit} = view;
  if (!decodedLayers.has(limit)) decodedLayers.set(limit, decodeLayer(limit));
  return decodedLayers.get(limit);
}

function decodeLayer(limit) {
  const layer = document.createElement("canvas");
  const tile = document.createElement("canvas");
  layer.width = layer.height = TILES * SIDE;
  const context = layer.getContext("2d");
  const centre = index => ((index + 0.5) / TILES * 2 - 1) * limit;
  for (let row = 0; row < TILES; row++) {
    for (let column = 0; column < TILES; column++) {
      paint(tile, decode(model, [centre(column), -centre(row)]));
      context.drawImage(tile, column * SIDE, row * SIDE);
    }
  }
  return layer;
}

function drawSquare(pen) {
  pen.save();
  pen.strokeStyle = view.mark;
  pen.lineWidth = 1.3;
  pen.setLineDash([6, 4]);
  pen.strokeRect(toX(-edge), toY(edge), toX(edge) - toX(-edge), toY(-edge) - toY(edge));
  pen.restore();
}

// Peaks, in parts of the plot. Densities are drawn to one scale; only of a very small sigma, which
// would leave the plot, the peak is held.
const PEAK_OF_PRIOR = 0.03, HIGHEST_PEAK = 0.25;

/** Draws the bells of two normal distributions, of z₁ along the lower axis, of z₂ along the left. */
function drawBells(pen, mean, sigma, colour) {
  const bells = [0, 1].map(axis => bellOf(mean[axis], sigma[axis]));
  drawLine(pen, () => {
    for (const [z, height] of bells[0]) pen.lineTo(toX(z), view.inner + 2 - height);
  }, colour);
  drawLine(pen, () => {
    for (const [z, height] of bells[1]) pen.lineTo(view.margin + height, toY(z));
  }, colour);
}

/** The heights, in pixels, of a bell at every pixel of an axis and at its mean. */
function bellOf(mean, sigma) {
  const {inner, limit} = view;
  const peak = inner * Math.min(HIGHEST_PEAK, PEAK_OF_PRIOR / sigma);
  const places = Array.from({length: Math.ceil(inner) + 1}, (_, i) => (2 * i / inner - 1) * limit);
  return [...places, mean].sort((a, b) => a - b)
    .map(z => [z, peak * Math.exp(-(((z - mean) / sigma) ** 2) / 2)]);
}

function drawAxes(pen) {
  const {em, margin, inner, limit} = view;
  pen.strokeStyle = view.line;
  pen.strokeRect(margin, 2, inner, inner);
  pen.fillStyle = view.quiet;
  pen.font = `${0.75 * em}px system-ui, sans-serif`;
  const widest = pen.measureText("\u22120.0").width;
  const step = [0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500].find(size =>
    limit / size < 5 && size / (2 * limit) * inner > 1.4 * widest) ?? limit;
  const below = inner + 1.2 * em;
  for (let value = -Math.floor(limit / step) * step; value <= limit; value += step) {
    const text = signed(value, step < 1 ? 2 : 0);
    pen.textAlign = "center";
    if (toX(value) < margin + inner - 1.7 * em) pen.fillText(text, toX(value), below);
    pen.textAlign = "right";
    if (toY(value) > 1.4 * em) pen.fillText(text, margin - 6, toY(value) + 0.25 * em);
  }
  pen.font = `italic ${0.9 * em}px system-ui, sans-serif`;
  pen.fillText("z₁", margin + inner, below);
  pen.fillText("z₂", margin - 6, 0.9 * em);
}

/** A name for every class at the median of its codes, where no other name is near. */
function placeNames(pen) {
  pen.font = `bold ${view.em}px system-ui, sans-serif`;
  const placed = [];
  content.classes.forEach((name, label) => {
    const centre = medianOfClass(label);
    if (!shown[label] || !centre) return;
    const text = name.slice(0, 12);
    const place = {text, x: toX(centre[0]), y: toY(centre[1])};
    place.halfWidth = pen.measureText(text).width / 2 + 2;
    if (isInSight(place) && isFree(place, placed)) placed.push(place);
  });
  return placed;
}

/** Whether a text of one line covers none of `others`. */
function isFree({x, y, halfWidth}, others) {
  return others.every(other =>
    Math.abs(x - other.x) > halfWidth + other.halfWidth || Math.abs(y - other.y) > view.em);
}

const medians = new Map();  // by class

/** The median of the test codes of a class, or null where it has none. */
function medianOfClass(label) {
  if (!medians.has(label)) {
    const members = [...labels.keys()].filter(i => labels[i] === label);
    const middle = axis =>
      members.map(i => testCodes[2 * i + axis]).sort((a, b) => a - b)[members.length >> 1];
    medians.set(label, members.length ? [middle(0), middle(1)] : null);
  }
  return medians.get(label);
}

// ---- What moves, over the base ------------------------------------------------------------------

/** Draws the code, kept images, the walk, your own image with its samples, and names over them. */
function drawMarks() {
  const context = plane.getContext("2d");
  context.clearRect(0, 0, plane.clientWidth, plane.clientHeight);
  context.drawImage(base, 0, 0, plane.clientWidth, plane.clientHeight);
  if (!isTrained()) return;  // all of them are of the trained model
  const captions = [];
  clippedToAxes(context, () => {
    drawLine(context, () => {
      for (const image of chosen) context.lineTo(toX(image.code[0]), toY(image.code[1]));
    });
    for (const image of kept) {
      const [x, y] = [toX(image.code[0]), toY(image.code[1])];
      drawLine(context, () => context.arc(x, y, 4, 0, 7));
      captions.push({text: image.letter, x, y, away: 5});
    }
    if (own) captions.push(drawOwn(context));
    drawCross(context, toX(code[0]), toY(code[1]));
  });
  for (const {text, x, y} of names) write(context, text, x, y, view.em);
  const taken = [...names];
  for (const caption of captions.filter(isInSight)) {
    const place = placeOfCaption(caption, taken);
    taken.push(place);
    write(context, caption.text, place.x, place.y, 0.85 * view.em);
  }
}

/** Strokes a path that `path` makes, with a halo. */
function drawLine(context, path, colour = view.mark) {
  for (const [stroke, width] of [[view.halo, 4], [colour, 1.7]]) {
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.beginPath();
    path();
    context.stroke();
  }
}

/** Draws the cloud of your own image: bells, ellipse of one sigma, samples; returns its caption. */
function drawOwn(context) {
  const sigma = sigmaOf(own);
  const [x, y] = [toX(own.mean[0]), toY(own.mean[1])];
  const radii = sigma.map(value => value / (2 * view.limit) * view.inner);
  drawBells(context, own.mean, sigma, view.mark);
  drawLine(context, () => context.ellipse(x, y, ...radii, 0, 0, 7));
  drawLine(context, () => context.arc(x, y, 1, 0, 7));
  for (const [z1, z2] of own.samples) {
    context.fillStyle = view.halo;
    drawLine(context, () => context.arc(toX(z1), toY(z2), 2.5, 0, 7));
    context.fill();
  }
  return {text: own.caption, x, y, away: Math.max(7, ...radii) + 1};
}

function drawCross(context, x, y) {
  drawLine(context, () => {
    for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 5 * right, y + 5 * down);
      context.lineTo(x + 13 * right, y + 13 * down);
    }
  });
}

/** Writes a text around (x, y), with a halo. */
function write(context, text, x, y, size) {
  context.font = `bold ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.lineJoin = "round";
  context.strokeStyle = view.halo;
  context.lineWidth = 4;
  context.strokeText(text, x, y + size / 3);
  context.fillStyle = view.mark;
  context.fillText(text, x, y + size / 3);
}

/** The first place beside a mark where its caption covers none that is taken. */
function placeOfCaption({text, x, y, away}, taken) {
  const halfWidth = (0.27 * text.length + 0.2) * view.em;
  const sides = [[0, -1], [0, 1], [1, 0], [-1, 0], [1, -1], [-1, -1], [1, 1], [-1, 1]];
  const places = [away, away + 12].flatMap(distance => sides.map(([right, down]) => ({
    x: x + right * (distance + halfWidth),
    y: y + down * (distance + 0.6 * view.em),
    halfWidth,
  })));
  const isWhole = place => place.x - halfWidth > view.margin
    && place.x + halfWidth < view.width && isInSight(place);
  return places.find(place => isWhole(place) && isFree(place, taken)) ?? places[0];
}

// ---- The legend ---------------------------------------------------------------------------------

function makeLegend() {
  const switches = content.classes.map((name, label) =>
    legendButton([document.createElement("i"), name], () => { shown[label] = !shown[label]; }));
  const none = legendButton(["none"], () => shown.fill(false));
  const all = legendButton(["all"], () => shown.fill(true));
  none.className = all.className = "several";
  element("classes").append(...switches, none, all);
}

function legendButton(children, change) {
  const button = document.createElement("button");
  button.append(...children);
  button.onclick = () => {
    change();
    drawBase();
    showLegend();
  };
  return button;
}

/** Shows which classes are on, and the colours that they have in the plot. */
function showLegend() {
  const buttons = element("classes").children;
  shown.forEach((isShown, label) => {
    buttons[label].setAttribute("aria-pressed", isShown);
    buttons[label].firstChild.style.background = view.tones[label];
  });
}

// ==== What plays: the training or a walk, one at a time ==========================================

const still = matchMedia("(prefers-reduced-motion: reduce)");
let playing = null;  // "training" or "walk"
let frame = 0;  // that is asked for

/** Calls `show` with values that go from `from` to `to`, by `speed` in a second. */
function animate(what, from, to, speed, show) {
  let begun;
  const next = now => {
    begun ??= now;
    const value = Math.min(to, from + speed * (now - begun) / 1000);
    frame = requestAnimationFrame(next);
    show(value);
    if (value === to) stop();
  };
  stop();
  playing = what;
  frame = requestAnimationFrame(next);
  showPlayers();
}

function stop() {
  cancelAnimationFrame(frame);
  if (!playing) return;
  playing = null;
  showPlayers();
}

function showPlayers() {
  const play = still.matches ? "Next epoch" : "Play";
  element("unfold").textContent = playing === "training" ? "Pause" : play;
  const walk = `${still.matches ? "Step" : "Walk"}${chosen.length === 2 ? ` from ${route()}` : ""}`;
  element("play").textContent = playing === "walk" ? "Pause" : walk;
}

// ==== The training ===============================================================================

const SPEED = Math.max(1, lastEpoch / 12);  // epochs in a second

/** "epoch 7: loss 21.9 = reconstruction 18.6 + KL 3.3", in nats of the validation images. */
function epochText(number) {
  if (number === 0) return "epoch 0: not trained yet";
  const {loss, reconstruction, kl} = content.unfolding.validationLosses[number - 1];
  return `epoch ${number}: loss ${loss.toFixed(1)} = reconstruction ${reconstruction.toFixed(1)} + `
    + `${weightText}KL ${kl.toFixed(1)}`;
}

/** Shows the plane and the first test images as they were at an epoch, or between two. */
function showEpoch(next) {
  epoch = next;
  element("images").disabled = !isTrained();
  for (const id of ["here", "walks", "own"]) element(id).inert = !isTrained();
  plane.classList.toggle("earlier", !isTrained());
  element("hint").textContent = isTrained() ? "" : `Dots: the first ${count(unfolding[0].length / 2)}
    test images, as they were then. Decoder, marks and vote are of the trained model: they come back at
    the last epoch.`;
  if (content.unfolding) {
    const text = epochText(Math.round(epoch));
    element("epoch").value = Math.round(epoch);
    element("epoch").setAttribute("aria-valuetext", text);
    element("losses").textContent = text;
    drawStrip(content.unfolding);
  }
  drawBase();
}

/** Paints the first test images over their reconstructions at this epoch, or the last kept before. */
function drawStrip({strips, stripEpochs, stripImages, levels}) {
  const size = strips.length / stripEpochs.length;
  const number = stripEpochs.findLastIndex(kept => kept <= Math.round(epoch));
  const pixels = Array.from(strips.slice(size * number, size * (number + 1)), letter =>
    levels.indexOf(letter) / 63);
  const images = size / SIZE;
  const strip = element("strip");
  const tile = document.createElement("canvas");
  strip.width = images * SIDE;
  strip.height = 2 * SIDE;
  const context = strip.getContext("2d", {willReadFrequently: true});
  for (let i = 0; i < images; i++) {
    paint(tile, exampleImage(stripImages[i]));
    context.drawImage(tile, i * SIDE, 0);
    paint(tile, pixels.slice(SIZE * i, SIZE * (i + 1)));
    context.drawImage(tile, i * SIDE, SIDE);
  }
  element("stripEpoch").textContent = stripEpochs[number];
  strip.setAttribute("aria-label",
    `Test images over their reconstructions at epoch ${stripEpochs[number]}`);
}

/** Plays on, from the start if it is at the end; where motion is reduced, shows the next epoch. */
function playTraining() {
  const first = isTrained() ? 0 : epoch;
  if (playing === "training") {
    stop();
    showEpoch(Math.round(epoch));  // as the slider and the strip say
  } else if (still.matches) showEpoch(isTrained() ? 0 : Math.floor(epoch) + 1);
  else animate("training", first, lastEpoch, SPEED, showEpoch);
}

// ==== The image at the code ======================================================================

/** Goes to a code: its image, its vote, without that of test image `except`, and its cross. */
function setCode(next, {aloud = false, except = -1} = {}) {
  code = next;
  paint(element("decoded"), decode(model, code));
  const voters = nearestClasses(code, testCodes, labels, except);
  const text = voters.length === 0 ? "no other test code" : voteText(voters);
  element("code").textContent = codeText(code);
  element("vote").textContent = text;
  element("voters").hidden = voters.length === 0;
  if (aloud) sayCode();
  drawMarks();
}

function sayCode() {
  element("spoken").textContent = `${codeText(code)}; ${element("vote").textContent}`;
}

/** The winner of the vote, as in "7: 21 of 25". */
function voteText(voters) {
  const {label, number} = vote(voters);
  return `${content.classes[label]}: ${number} of ${voters.length}`;
}

let pressed = null;  // where the pointer was pressed on the plane, while it is down

function moveCode(event) {
  if (!event.isPrimary || !isTrained()) return;
  stop();
  setCode(toCode(event.offsetX, event.offsetY));
}

plane.onpointermove = moveCode;
plane.onpointerdown = event => {
  if (!event.isPrimary || event.button !== 0) return;
  pressed = {x: event.offsetX, y: event.offsetY};
  moveCode(event);
};
plane.onpointerup = event => {
  if (!event.isPrimary || event.button !== 0) return;
  const isClick = pressed && Math.hypot(event.offsetX - pressed.x, event.offsetY - pressed.y) < 6;
  pressed = null;
  if (isClick && isTrained()) keep();
};
plane.onpointercancel = plane.onpointerleave = event => {
  if (event.isPrimary) pressed = null;
};
plane.onkeydown = event => {
  const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
  const move = moves[event.key];
  const keeps = event.key === "Enter" || event.key === " ";
  if (event.altKey || event.ctrlKey || event.metaKey || !(move || keeps)) return;
  event.preventDefault();
  if (!isTrained()) return;
  stop();
  const step = view.limit / (event.shiftKey ? 10 : 40);
  if (move) setCode(code.map((z, i) => move[i] ? within(z + step * move[i]) : z), {aloud: true});
  else if (!event.repeat) keep();
};

function newDigit() {
  stop();
  setCode([drawNormal(), drawNormal()], {aloud: true});
}

// ==== Kept images, and the walk between two of them ==============================================

const LETTERS = [..."ABCDEFGHIJ"];  // of as many images as are kept
let kept = [];
let chosen = [];  // the walk is from the first of them to the second

const route = () => chosen.map(image => image.letter).join(" to ");

function keep() {
  stop();
  const oldest = kept.length === LETTERS.length ? kept[0] : null;
  if (oldest) removeKept(oldest);
  const letter = LETTERS.find(free => kept.every(image => image.letter !== free));
  const image = {letter, code};
  kept = [...kept, image];
  chosen = [...chosen, image].slice(-2);
  showKept(oldest
    ? `Kept as ${letter}, in place of the oldest: ten images are kept.`
    : `Kept as ${letter}.`);
}

function removeKept(removed) {
  kept = kept.filter(image => image !== removed);
  chosen = chosen.filter(image => image !== removed);
  if (chosen.length === 0) chosen = kept.slice(-1);
}

/** Shows what is kept, and says `text`. */
function showKept(text = kept.length === 0 ? "None yet." : "") {
  const isReady = chosen.length === 2;
  element("kept").replaceChildren(...kept.map(keptButton));
  element("keptText").textContent = text;
  element("remove").textContent = `Remove ${chosen.at(-1)?.letter ?? ""}`;
  element("remove").disabled = chosen.length === 0;
  element("forget").disabled = kept.length === 0;
  element("play").disabled = element("walk").disabled = !isReady;
  showPlaceOnWalk(isReady && chosen[1].code === code ? 100 : 0);
  showPlayers();
  drawMarks();
}

function keptButton(image) {
  const canvas = document.createElement("canvas");
  canvas.className = "image";
  paint(canvas, decode(model, image.code));
  const button = document.createElement("button");
  button.append(canvas, image.letter);
  button.setAttribute("aria-label", `${image.letter}: ${codeText(image.code)}`);
  button.setAttribute("aria-pressed", chosen.includes(image));
  button.onclick = () => choose(image);
  return button;
}

/** Goes to a kept image, which becomes the end of the walk. */
function choose(image) {
  stop();
  chosen = [...chosen.filter(other => other !== image), image].slice(-2);
  setCode(image.code);
  showKept();
  element("kept").children[kept.indexOf(image)].focus();
}

function removeChosen() {
  stop();
  const image = chosen.at(-1);
  removeKept(image);
  showKept(`${image.letter} is removed.`);
}

function removeAll() {
  stop();
  kept = [];
  chosen = [];
  showKept();
}

function showPlaceOnWalk(percent) {
  element("walk").value = percent;
  const text = `${Math.round(percent)} percent from ${route()}`;
  element("walk").setAttribute("aria-valuetext", chosen.length === 2 ? text : "no walk yet");
}

function walkTo(percent) {
  const [from, to] = chosen;
  showPlaceOnWalk(percent);
  setCode(from.code.map((z, i) => z + (to.code[i] - z) * percent / 100));
}

/** Walks on, from the start if it is at the end; where motion is reduced, takes a step. */
function walk() {
  const start = Number(element("walk").value) % 100;
  if (playing === "walk") stop();
  else if (still.matches) walkTo(Math.min(100, start + 10));
  else animate("walk", start, 100, 33, walkTo);
}

// ==== Your own image =============================================================================

const NOTHING_DRAWN = "Nothing is drawn yet: draw on the black square, or take a test image.";
const SAMPLES = 8;
// The loss of a pixel that is shown white, in nats: black for white, or twice that of not knowing.
const WHITE = model.crossEntropy ? 2 * Math.log(2) : 0.5;
const pad = element("pad");
let strokes = [];  // lists of [x, y] from 0 to 1
let ink = new Set();  // the cells of the pad that they ink
let example = -1;
let drawing = null;  // the pointer that draws

/** Shows an image, its loss and its cloud, and goes to its mean code. */
function setOwn(pixels, caption, text, number) {
  own = {...encode(model, pixels), caption, samples: []};
  const losses = pixelLosses(model, decodeRaw(model, own.mean), pixels);
  const reconstruction = losses.reduce((sum, loss) => sum + loss, 0);
  paint(element("encoded"), pixels);
  paint(element("error"), losses.map(loss => loss / WHITE));
  showLosses("own", reconstruction, klDivergence(own));
  const sigma = sigmaOf(own);
  element("ownCode").textContent = [0, 1].map(j =>
    `z${"₁₂"[j]} = ${signed(own.mean[j], 2)} ± ${sigma[j].toFixed(2)}`).join("   ");
  element("ownText").textContent = text;
  element("sample").disabled = false;
  stop();
  showSamples();
  setCode(own.mean, {except: number});
}

/** Fills a column of the table. */
function showLosses(column, reconstruction, kl) {
  element(`${column}Error`).textContent = reconstruction.toFixed(1);
  element(`${column}Kl`).textContent = kl.toFixed(1);
  element(`${column}Loss`).textContent = (reconstruction + content.klWeight * kl).toFixed(1);
}

function drawSamples() {
  own.samples = Array.from({length: SAMPLES}, () => sampleLatent(own));
  showSamples();
  drawMarks();
}

function showSamples() {
  element("samples").replaceChildren(...(own?.samples ?? []).map(z => {
    const voters = nearestClasses(z, testCodes, labels);
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.className = "image";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Decoded from ${codeText(z)}`);
    paint(canvas, decode(model, z));
    caption.textContent = content.classes[vote(voters).label];
    figure.append(canvas, caption);
    return figure;
  }));
}

function clearPad() {
  own = null;
  strokes = [];
  ink = new Set();
  drawing = null;
  paint(element("encoded"), new Uint8Array(SIZE));
  paint(element("error"), new Uint8Array(SIZE));
  for (const id of ["ownError", "ownKl", "ownLoss"]) element(id).textContent = "\u2013";
  element("ownCode").textContent = "";
  element("ownText").textContent = NOTHING_DRAWN;
  element("sample").disabled = true;
  showSamples();
  drawPad();
  drawMarks();
}

/** Draws all that is on the pad. */
function drawPad() {
  const {context, width} = fit(pad);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, width);
  context.imageSmoothingEnabled = false;
  if (own && strokes.length === 0) context.drawImage(element("encoded"), 0, 0, width, width);
  for (const stroke of strokes) drawStroke(stroke);
}

function drawStroke(points) {
  const context = pad.getContext("2d");
  const width = pad.clientWidth;
  context.strokeStyle = "#fff";
  context.lineWidth = width / 10;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const [x, y] of [points[0], ...points]) context.lineTo(x * width, y * width);
  context.stroke();
}

/** Draws on to where the pointer is. */
function drawTo(event) {
  const point = [event.offsetX / pad.clientWidth, event.offsetY / pad.clientHeight];
  const stroke = strokes.at(-1);
  const before = stroke.at(-1) ?? point;
  stroke.push(point);
  drawStroke([before, point]);
  inkSegment(ink, before, point);
  if (ink.size > 0) setOwn(imageOfInk(ink, SIDE), "yours", "Your drawing.");
}

pad.onpointerdown = event => {
  if (drawing !== null || event.button !== 0) return;
  if (strokes.length === 0) clearPad();  // of a test image
  drawing = event.pointerId;
  pad.setPointerCapture(drawing);
  strokes.push([]);
  drawTo(event);
};
pad.onpointermove = event => {
  if (event.pointerId === drawing && isTrained()) drawTo(event);
};
pad.onpointerup = pad.onpointercancel = event => {
  if (event.pointerId !== drawing) return;
  drawing = null;
  if (own) drawSamples();
};

/** Pixels in [0, 1] of a test image. */
const exampleImage = number =>
  Array.from(examples.subarray(number * SIZE, (number + 1) * SIZE), value => value / 255);

function nextExample() {
  example = (example + 1) % (examples.length / SIZE);
  const name = `test image ${example + 1}`;
  strokes = [];
  ink = new Set();
  drawing = null;
  setOwn(exampleImage(example), name, `This is ${name}, class ${content.classes[labels[example]]}.`,
    example);
  sayCode();
  drawPad();
  drawSamples();
}

// ==== The start ==================================================================================

function fillTexts() {
  element("title").textContent = document.title = `The plane of codes of ${content.name}`;
  element("weight").textContent = weightText;
  element("count").textContent = count(labels.length);
  element("share").textContent = `${Math.round(100 * erf(edge / Math.SQRT2))} %`;
  element("collapsed").hidden = !content.collapsed;
  element("training").hidden = !content.unfolding;
  element("epoch").max = lastEpoch;
  element("lossName").textContent = `loss = reconstruction + ${weightText}KL`;
  const formula = model.crossEntropy ? "their cross-entropy" : "(x̂ − x)² / 2 of the unclipped x̂";
  element("errorText").textContent = `The losses of the pixels, ${formula} (white: ${WHITE.toFixed(1)} `
    + "or more), add up to the reconstruction.";
  showLosses("test", content.testLosses.reconstruction, content.testLosses.kl);
}

function listen() {
  for (const id of ["codes", "images", "zoom"]) element(id).onchange = drawBase;
  element("unfold").onclick = playTraining;
  element("epoch").oninput = () => { stop(); showEpoch(Number(element("epoch").value)); };
  element("keep").onclick = keep;
  element("keep").onkeydown = event => {
    if (event.repeat && event.key === "Enter") event.preventDefault();
  };
  element("fresh").onclick = newDigit;
  element("play").onclick = walk;
  element("walk").oninput = () => { stop(); walkTo(Number(element("walk").value)); };
  element("remove").onclick = removeChosen;
  element("forget").onclick = removeAll;
  element("clear").onclick = clearPad;
  element("example").onclick = nextExample;
  element("sample").onclick = drawSamples;
  still.onchange = () => { stop(); showEpoch(Math.round(epoch)); showPlayers(); };
  matchMedia("(prefers-color-scheme: dark)").onchange = redraw;
  redrawAtOtherRatios();
}

function redraw() {
  drawBase();
  showLegend();
  drawPad();
}

/** A window may move to a screen of finer pixels, without any other change. */
function redrawAtOtherRatios() {
  const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
  query.addEventListener("change", () => { redraw(); redrawAtOtherRatios(); }, {once: true});
}

element("page").hidden = false;
fillTexts();
makeLegend();
listen();
showEpoch(lastEpoch);
showLegend();
showKept();
clearPad();
setCode(code);
new ResizeObserver(() => { if (plane.clientWidth !== view.width) redraw(); }).observe(plane);
window.vae = {
  encode: pixels => encode(model, pixels),
  decode: z => decode(model, z),
  get code() { return [...code]; },
};
