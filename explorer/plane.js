// ==== The plane: its axes, and what stays while the code moves ====================================

const TILES = 20;   // decoded images in a row of the plane
const PADDING = 8;  // pixels between the frame and what it holds, so that a dot at the edge is whole
const plane = element("plane");
const base = document.createElement("canvas");  // what stays while the code moves

// ---- Axes ---------------------------------------------------------------------------------------

let view = null;  // of the last drawing; null where the plane has no room to be drawn

/** Axes and looks of a plane that is `width` pixels wide. */
function viewOf(width) {
  const em = rootSize();
  const margin = 2.2 * em;  // left of the axes and under them; 2 pixels above and to the right
  const colours = ["plot", "mark", "halo", "epsilon", "dot-edge", "accent", "line", "quiet", "heat",
    "own", "mu", "sigma"];
  return {
    em, margin,
    limit: state.limit,  // axes: -limit to limit
    frame: width - margin - 2,  // its length
    length: width - margin - 2 - 2 * PADDING,  // of the axes
    dotAlpha: Number(styleOf(plane, "--dot-alpha")),
    ...Object.fromEntries(colours.map(name => [name, styleOf(plane, `--${name}`)])),
  };
}

/**
 * The axes hold nearly all dots or, with "zoom", the square; without, they make room in steps for
 * the code that is shown and for the means of the Gaussians. They stay while the code is dragged.
 */
function limitOfAxes() {
  if (state.pressed) return state.pressed.limit;
  if (state.zoom) return 1.03 * edge;
  const means = isTrained() ? [state.image?.mean ?? [], state.own?.mean ?? []] : [];
  const room = limitOfDots();
  const needed = Math.max(...[shownCode(), ...means].flat().map(Math.abs));
  return needed <= room ? room : Math.ceil(4 * needed) / 4;
}

const placeAxes = () => { values.limit = limitOfAxes(); };

/** Nearly all dots of the trained model lie within this and, at an earlier epoch, of that epoch. */
function limitOfDots() {
  if (isTrained()) return roomOf(testCodes);
  const [ofEpoch] = atEpoch(training.codes.map(codes => [roomOf(codes)]));
  return Math.max(roomOf(testCodes), ofEpoch);
}

const rooms = new Map();  // by the codes

function roomOf(codes) {
  if (!rooms.has(codes)) {
    rooms.set(codes, Math.max(LEAST_LIMIT, 1.03 * edge, 1.05 * quantileOf(codes)));
  }
  return rooms.get(codes);
}

const clip = (value, least, most) => Math.max(least, Math.min(most, value));
const toX = z1 => view.margin + PADDING + (z1 / view.limit + 1) / 2 * view.length;
const toY = z2 => 2 + PADDING + (1 - z2 / view.limit) / 2 * view.length;
const within = value => clip(value, -view.limit, view.limit);

/** The place of a code, or where it leaves the frame. */
const toFrame = z => z.map(value => within(value * view.length / (view.length + PADDING)) *
  (view.length + PADDING) / view.length);

/** The code at a place of the plane, or null on the numbers of the axes. */
function codeAt(x, y) {
  if (!view || !isInFrame(x, y)) return null;
  return codeNear(x, y);
}

function codeNear(x, y) {
  const z1 = ((x - view.margin - PADDING) / view.length * 2 - 1) * view.limit;
  const z2 = (1 - (y - 2 - PADDING) / view.length * 2) * view.limit;
  return [within(z1), within(z2)];
}

function isInFrame(x, y) {
  const {margin, frame} = view;
  return x >= margin && x <= margin + frame && y >= 2 && y <= 2 + frame;
}

/** Calls `draw`, which draws within the frame only. */
function clipped(context, draw) {
  context.save();
  context.beginPath();
  context.rect(view.margin, 2, view.frame, view.frame);
  context.clip();
  draw();
  context.restore();
}

// ---- Dots or images, the square, the numbers of the axes ------------------------------------------

let classNames = [];  // of the classes, with their places

const drawBase = remembered(() => {
  plane.classList.toggle("images", shows("images"));
  fit(plane);
  const {clientWidth} = plane;
  view = clientWidth < 8 * rootSize() ? null : viewOf(clientWidth);
  if (!view) return;
  base.width = plane.width;
  base.height = plane.height;
  const context = base.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  clipped(context, () => {
    context.fillStyle = view.plot;
    context.fillRect(view.margin, 2, view.frame, view.frame);
    if (shows("images")) drawImages(context);
    else drawDots(context);
    drawSquare(context);
  });
  drawAxes(context);
  classNames = isTrained() && !shows("images") ? placeNames(context) : [];
});

const radiusOfDots = count =>
  clip(view.length / 350, 0.9, 2) * (count < 3000 ? 1.4 : 1);

/** The means of all test images or, at an earlier epoch, of the first ones. */
function drawDots(context) {
  const codes = isTrained() ? testCodes : atEpoch(training.codes);
  const {shown} = state, isPale = shows("posterior"), {limit} = view;
  const radius = radiusOfDots(codes.length / 2);
  context.globalAlpha = isPale ? view.dotAlpha : 1;
  for (let i = 0; i < codes.length / 2; i++) {
    if (!shown[labels[i]]) continue;
    const [z1, z2] = [codes[2 * i], codes[2 * i + 1]];
    const isOutside = Math.max(Math.abs(z1), Math.abs(z2)) > limit;
    const [x, y] = isOutside ? markOf([z1, z2]) : [toX(z1), toY(z2)];
    if (!isPale) disc(context, x, y, radius + 0.4, view["dot-edge"]);
    disc(context, x, y, radius, content.colours[labels[i]]);
  }
  context.globalAlpha = 1;
}

/** Where a dot outside the axes is marked: at the frame, or nowhere in a part of the plane. */
function markOf(code) {
  if (state.zoom) return [toX(code[0]), toY(code[1])];
  const [z1, z2] = toFrame(code);
  return [toX(z1), toY(z2)];
}

/** The number of the test image whose dot is at a place of the plane, or -1. */
function dotAt(x, y) {
  if (!shows("dots") || !isTrained()) return -1;
  const reach = radiusOfDots(testCodes.length / 2) + 1;
  let found = -1, least = reach ** 2;
  for (let i = 0; i < labels.length; i++) {
    if (!state.shown[labels[i]] || !testImages.has(i)) continue;
    const [dotX, dotY] = markOf([testCodes[2 * i], testCodes[2 * i + 1]]);
    const square = (dotX - x) ** 2 + (dotY - y) ** 2;
    if (square <= least) [found, least] = [i, square];
  }
  return found;
}

function disc(context, x, y, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

// Decoded images by the limit of the axes, which alone changes them: {canvas, done}.
const layers = new Map();

function layerOf(limit) {
  if (!layers.has(limit)) {
    const size = TILES * SIDE;
    layers.set(limit, {canvas: make("canvas", {width: size, height: size}), done: 0});
  }
  return layers.get(limit);
}

/** Draws the decoded images, TILES x TILES of them, as far as they are decoded. */
function drawImages(context) {
  void state.tiles;
  const {limit, margin, frame, length} = view;
  context.fillStyle = "#000";
  context.fillRect(margin, 2, frame, frame);
  context.drawImage(layerOf(limit).canvas, margin + PADDING, 2 + PADDING, length, length);
}

const SLICE = 12;  // milliseconds of a frame

/** Decodes some of the images that are to be shown; the others follow at the next frames. */
function decodeTiles() {
  if (!shows("images")) return;
  const layer = layerOf(state.limit), context = layer.canvas.getContext("2d");
  if (layer.done === TILES ** 2) return;
  const end = performance.now() + SLICE, tile = picture();
  const centre = index => ((index + 0.5) / TILES * 2 - 1) * state.limit;
  while (layer.done < TILES ** 2 && performance.now() < end) {
    const [row, column] = [Math.floor(layer.done / TILES), layer.done % TILES];
    drawPixels(tile, decode(model, [centre(column), -centre(row)]));
    context.drawImage(tile, column * SIDE, row * SIDE);
    layer.done++;
  }
  set({tiles: state.tiles + 1});
}

function drawSquare(context) {
  const {em} = view;
  context.strokeStyle = view.epsilon;
  context.lineWidth = 1.3;
  context.strokeRect(toX(-edge), toY(edge), toX(edge) - toX(-edge), toY(-edge) - toY(edge));
  writeAt(context, `middle ${shareText} of the prior`, toX(-edge) + 0.4 * em, toY(edge) - 0.5 * em,
    0.7 * em, view.epsilon, "left");
}

/** How much of the prior is in the square, on each axis. */
const shareText = `${Math.round(100 * erf(edge / Math.SQRT2))} %`;

function drawAxes(context) {
  const {em, margin, frame, limit, length} = view;
  context.strokeStyle = view.line;
  context.strokeRect(margin, 2, frame, frame);
  context.fillStyle = view.quiet;
  context.font = `${0.75 * em}px system-ui, sans-serif`;
  const widest = context.measureText("\u22120.0").width;
  const step = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500].find(size =>
    limit / size < 5 && size / (2 * limit) * length > 1.4 * widest) ?? limit;
  const below = frame + 2 + em;
  for (let value = -Math.floor(limit / step) * step; value <= limit; value += step) {
    const text = signed(value, step < 1 ? 1 : 0);
    context.textAlign = "center";
    if (toX(value) < margin + frame - 1.7 * em) context.fillText(text, toX(value), below);
    context.textAlign = "right";
    if (toY(value) > 1.9 * em) context.fillText(text, margin - 6, toY(value) + 0.25 * em);
  }
  context.font = `italic ${0.9 * em}px system-ui, sans-serif`;
  context.fillText("z₁", margin + frame, below);
  context.fillText("z₂", margin - 6, em);
}

/** The names of the classes that are shown, at the medians of their codes or not far away. */
function placeNames(context) {
  context.font = `bold ${view.em}px system-ui, sans-serif`;
  const placed = [];
  classes.forEach((name, label) => {
    const centre = medians[label];
    if (!state.shown[label] || !centre) return;
    const text = shortened(name);
    const [width, height] = [context.measureText(text).width + 4, 1.1 * view.em];
    placed.push({text, x: toX(centre[0]), y: toY(centre[1]), width, height});
  });
  for (let round = 0; round < 30; round++) placed.forEach((name, i) => {
    for (const other of placed.slice(0, i)) moveApart(name, other);
  });
  const {margin, frame} = view;
  for (const name of placed) {
    name.x = clip(name.x, margin + name.width / 2, margin + frame - name.width / 2);
    name.y = clip(name.y, 2 + name.height / 2, 2 + frame - name.height / 2);
  }
  return placed;
}

/** Moves two texts, along the axis where less is needed, until neither covers the other. */
function moveApart(a, b) {
  const [across, down] = [
    (a.width + b.width) / 2 - Math.abs(a.x - b.x),
    (a.height + b.height) / 2 - Math.abs(a.y - b.y),
  ];
  if (across <= 0 || down <= 0) return;
  const axis = across < down ? "x" : "y";
  const way = Math.min(across, down) / 2 * (a[axis] < b[axis] ? -1 : 1);
  a[axis] += way;
  b[axis] -= way;
}

/** The places of the test codes of each class. */
const membersOf = classes.map(() => []);
labels.forEach((label, place) => membersOf[label].push(place));

/** The medians of the test codes of each class, or null where it has none. */
const medians = membersOf.map(members => {
  const middle = axis =>
    Float32Array.from(members, place => testCodes[2 * place + axis]).sort()[members.length >> 1];
  return members.length ? [middle(0), middle(1)] : null;
});
