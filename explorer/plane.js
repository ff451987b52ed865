// ==== The plane ==================================================================================

const TILES = 20;   // decoded images in a row of the plane
const PADDING = 8;  // pixels between the frame and what it holds, so that a dot at the edge is whole
const plane = element("plane");
const base = document.createElement("canvas");  // what stays while the code moves

// ---- Its axes -----------------------------------------------------------------------------------

let view = null;  // of the last drawing; null where the plane has no room to be drawn

/** Axes and looks of a plane that is `width` pixels wide. */
function viewOf(width) {
  const em = rootSize();
  const margin = 2.2 * em;  // left of the axes and under them; 2 pixels above and to the right
  const colour = name => styleOf(plane, `--${name}`);
  return {
    em, margin,
    limit: state.pressed?.limit ?? limitOfAxes(),  // axes: -limit to limit
    frame: width - margin - 2,  // its length
    length: width - margin - 2 - 2 * PADDING,  // of the axes
    plot: colour("plot"), mark: colour("mark"), halo: colour("halo"), prior: colour("prior"),
    dotEdge: colour("dot-edge"), accent: colour("accent"), line: colour("line"),
    quiet: colour("quiet"),
  };
}

/**
 * The axes hold the dots or the dashed square, and make room in steps for the code that is shown
 * and, beside the dots, for the mean of the image.
 */
function limitOfAxes() {
  const room = state.zoom ? 1.03 * edge : 1.05 * limitOfDots();
  const mean = state.image && !state.zoom ? state.image.mean : [];
  const needed = Math.max(...[...shownCode(), ...mean].map(Math.abs));
  return needed <= room ? room : Math.ceil(4 * needed) / 4;
}

/** All dots of the trained model lie within this and, at an earlier epoch, all of that epoch. */
function limitOfDots() {
  if (!training) return farthestOf(testCodes);
  const [ofEpoch] = atEpoch(training.codes.map(codes => [farthestOf(codes)]));
  return Math.max(farthestOf(testCodes), ofEpoch);
}

const farthest = new Map();  // by the codes

function farthestOf(codes) {
  if (!farthest.has(codes)) {
    const most = codes.reduce((most, value) => Math.max(most, Math.abs(value)), edge);
    farthest.set(codes, most);
  }
  return farthest.get(codes);
}

const toX = z1 => view.margin + PADDING + (z1 / view.limit + 1) / 2 * view.length;
const toY = z2 => 2 + PADDING + (1 - z2 / view.limit) / 2 * view.length;
const within = value => Math.max(-view.limit, Math.min(view.limit, value));

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

// ---- What stays while the code moves: dots or images, the square, the axes -----------------------

let names = [];  // of the classes, with their places

function drawBase() {
  plane.classList.toggle("images", showsImages());
  const {clientWidth} = plane;
  if (clientWidth < 8 * rootSize()) {
    view = null;
    return;
  }
  fit(plane);
  view = viewOf(clientWidth);
  base.width = plane.width;
  base.height = plane.height;
  const context = base.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  clipped(context, () => {
    context.fillStyle = view.plot;
    context.fillRect(view.margin, 2, view.frame, view.frame);
    if (showsImages()) drawImages(context);
    else drawDots(context);
    drawSquare(context);
  });
  drawAxes(context);
  names = isTrained() && !showsImages() ? placeNames(context) : [];
}

/** The means of all test images or, at an earlier epoch, of the first ones. */
function drawDots(context) {
  const codes = isTrained() ? testCodes : atEpoch(training.codes);
  const isFew = codes.length < 2 * 3000;
  const radius = Math.max(0.9, Math.min(2, view.length / 350)) * (isFew ? 1.4 : 1);
  for (let i = 0; i < codes.length / 2; i++) {
    if (!state.shown[labels[i]]) continue;
    const [x, y] = [toX(codes[2 * i]), toY(codes[2 * i + 1])];
    disc(context, x, y, radius + 0.4, view.dotEdge);
    disc(context, x, y, radius, content.colours[labels[i]]);
  }
}

function disc(context, x, y, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

const layers = new Map();  // of decoded images, by the limit of the axes, which alone changes them

/** Draws the decoded images, TILES x TILES of them. */
function drawImages(context) {
  const {limit, margin, length} = view;
  if (!layers.has(limit)) layers.set(limit, decodeLayer(limit));
  context.fillStyle = "#000";
  context.fillRect(margin, 2, view.frame, view.frame);
  context.drawImage(layers.get(limit), margin + PADDING, 2 + PADDING, length, length);
}

function decodeLayer(limit) {
  const layer = document.createElement("canvas");
  layer.width = layer.height = TILES * SIDE;
  const context = layer.getContext("2d");
  const centre = index => ((index + 0.5) / TILES * 2 - 1) * limit;
  for (let row = 0; row < TILES; row++) {
    for (let column = 0; column < TILES; column++) {
      const tile = picture(decode(model, [centre(column), -centre(row)]));
      context.drawImage(tile, column * SIDE, row * SIDE);
    }
  }
  return layer;
}

function drawSquare(context) {
  context.save();
  context.strokeStyle = view.mark;
  context.lineWidth = 1.3;
  context.setLineDash([6, 4]);
  context.strokeRect(toX(-edge), toY(edge), toX(edge) - toX(-edge), toY(-edge) - toY(edge));
  context.restore();
}

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
    const centre = medianOfClass(label);
    if (!state.shown[label] || !centre) return;
    const text = name.length > 12 ? `${name.slice(0, 11)}…` : name;
    const [width, height] = [context.measureText(text).width + 4, 1.1 * view.em];
    placed.push({text, x: toX(centre[0]), y: toY(centre[1]), width, height});
  });
  for (let round = 0; round < 30; round++) placed.forEach((name, i) => {
    for (const other of placed.slice(0, i)) moveApart(name, other);
  });
  const {margin, frame} = view;
  for (const name of placed) {
    name.x = Math.max(margin + name.width / 2, Math.min(margin + frame - name.width / 2, name.x));
    name.y = Math.max(2 + name.height / 2, Math.min(2 + frame - name.height / 2, name.y));
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

const medians = classes.map(() => undefined);

/** The median of the test codes of a class, or null where it has none. */
function medianOfClass(label) {
  if (medians[label] === undefined) {
    const members = [...labels.keys()].filter(i => labels[i] === label);
    const middle = axis =>
      members.map(i => testCodes[2 * i + axis]).sort((a, b) => a - b)[members.length >> 1];
    medians[label] = members.length ? [middle(0), middle(1)] : null;
  }
  return medians[label];
}

// ---- What moves: Gaussians, samples, kept codes, the pinned code -----------------------------------

function drawMarks() {
  if (!view) return;
  const context = plane.getContext("2d");
  context.clearRect(0, 0, plane.clientWidth, plane.clientHeight);
  context.drawImage(base, 0, 0, plane.clientWidth, plane.clientHeight);
  const image = shownImage();
  clipped(context, () => {
    drawBells(context, image);
    if (isTrained()) drawWalk(context);
    for (const {text, x, y} of names) write(context, text, x, y, view.em);
    if (image) drawGaussian(context, image);
    if (isTrained()) drawSamples(context);
    if (isTrained()) drawKept(context);
    drawPin(context, shownCode());
  });
}

const PEAK_OF_PRIOR = 0.03, HIGHEST_PEAK = 0.25;  // parts of the axes

/** Draws the densities of the prior and of the image's Gaussian at both axes, to one scale. */
function drawBells(context, image) {
  const sigma = image ? sigmaOf(image) : [1, 1];
  const scale = view.length * Math.min(PEAK_OF_PRIOR, HIGHEST_PEAK * Math.min(...sigma));
  drawBellsOf(context, [0, 0], [1, 1], scale, view.prior);
  if (image) drawBellsOf(context, image.mean, sigma, scale, view.mark);
}

/** Draws the bell of z₁ over the lower axis and of z₂ beside the left one. */
function drawBellsOf(context, mean, sigma, scale, colour) {
  const [along, up] = [0, 1].map(axis => bellOf(mean[axis], sigma[axis], scale));
  const {margin, frame} = view;
  stroke(context, colour, () => {
    for (const [z, height] of along) context.lineTo(toX(z), 2 + frame - height);
  });
  stroke(context, colour, () => {
    for (const [z, height] of up) context.lineTo(margin + height, toY(z));
  });
}

/** Pairs of a code and the height of a bell there, at every pixel of four sigma and at the mean. */
function bellOf(mean, sigma, scale) {
  const {length, limit} = view;
  const places = Array.from({length: Math.ceil(length) + 1}, (_, i) => (2 * i / length - 1) * limit);
  return [...places.filter(z => Math.abs(z - mean) < 4 * sigma), mean].sort((a, b) => a - b)
    .map(z => [z, scale / sigma * Math.exp(-(((z - mean) / sigma) ** 2) / 2)]);
}

function drawWalk(context) {
  stroke(context, view.mark, () => {
    for (const {code} of state.walk) context.lineTo(toX(code[0]), toY(code[1]));
  });
}

/** Draws the ellipses of one and two sigma of an image, and says which image it is. */
function drawGaussian(context, image) {
  const [x, y] = [toX(image.mean[0]), toY(image.mean[1])];
  const radii = sigmaOf(image).map(sigma => sigma / (2 * view.limit) * view.length);
  for (const times of [1, 2]) {
    const path = () => context.ellipse(x, y, times * radii[0], times * radii[1], 0, 0, 7);
    context.globalAlpha = 0.13;
    context.fillStyle = view.mark;
    context.beginPath();
    path();
    context.fill();
    context.globalAlpha = 1;
    stroke(context, view.mark, path);
  }
  const text = imageName(image.number), size = 0.85 * view.em;
  context.font = `bold ${size}px system-ui, sans-serif`;
  const half = context.measureText(text).width / 2 + 4;
  const {margin, frame} = view;
  const above = y - 2 * radii[1] - 0.8 * view.em;
  const place = above > 2 + size ? above : Math.min(frame - size, y + 2 * radii[1] + view.em);
  write(context, text, Math.max(margin + half, Math.min(margin + frame - half, x)), place, size);
}

function drawSamples(context) {
  for (const [z1, z2] of samples()) ring(context, toX(z1), toY(z2), 2.5);
}

function drawKept(context) {
  for (const {letter, code: [z1, z2]} of state.kept) {
    ring(context, toX(z1), toY(z2), 4);
    write(context, letter, toX(z1), toY(z2) - 0.95 * view.em, 0.85 * view.em);
  }
}

function ring(context, x, y, radius) {
  stroke(context, view.mark, () => context.arc(x, y, radius, 0, 7));
  disc(context, x, y, radius - 0.8, view.halo);
}

function drawPin(context, [z1, z2]) {
  disc(context, toX(z1), toY(z2), 7.5, view.mark);
  disc(context, toX(z1), toY(z2), 6.5, view.halo);
  disc(context, toX(z1), toY(z2), 4.5, view.accent);
}

/** Strokes what `path` makes, with a halo. */
function stroke(context, colour, path) {
  for (const [style, width] of [[view.halo, 4], [colour, 1.7]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    path();
    context.stroke();
  }
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

/** The decoded image beside the mouse, on the side where there is room. */
function showPreview() {
  const {hover} = state, box = element("preview");
  box.hidden = !hover || !isTrained();
  if (box.hidden) return;
  const [canvas, text] = box.children;
  drawPixels(canvas, decode(model, hover.code));
  const voters = nearest(hover.code);
  const [[label, number]] = countVotes(voters);
  text.textContent = `${classes[label]}: ${number} of ${voters.length}`;
  const away = 14, {clientWidth: width} = plane;
  const isRight = hover.x + away + box.offsetWidth < width;
  const isAbove = hover.y - away - box.offsetHeight > 0;
  box.style.left = `${isRight ? hover.x + away : hover.x - away - box.offsetWidth}px`;
  box.style.top = `${isAbove ? hover.y - away - box.offsetHeight : hover.y + away}px`;
}
