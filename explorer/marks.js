// ==== What moves on the plane: Gaussians, samples, kept codes, the pinned code =====================

let taken = [];  // the places of all names on the plane

function drawMarks() {
  drawBase();
  placeHandles();
  if (!view) return;
  const context = plane.getContext("2d");
  context.clearRect(0, 0, plane.clientWidth, plane.clientHeight);
  context.drawImage(base, 0, 0, plane.clientWidth, plane.clientHeight);
  const image = shownImage(), {own} = state;
  taken = [...classNames, ...(own ? stemsOf(own) : []).map(([, [x, y]]) => ({x, y, width: 18}))];
  clipped(context, () => {
    if (shows("posterior")) drawHeat(context);
    drawBells(context, image);
    if (isTrained()) drawWalk(context);
    if (state.flight) drawPrior(context);
    if (own) drawEncoders(context);
    if (image) drawGaussian(context, image);
    if (isTrained()) drawSamples(context);
    for (const {text, x, y} of classNames) writeAt(context, text, x, y, view.em);
    if (image) nameGaussian(context, image);
    if (shows("posterior")) nameHeat(context, image);
    if (own) nameEncoders(context);
    if (isTrained()) drawKept(context);
    drawPin(context, toFrame(shownCode()));
  });
}

// ---- Lines and names ------------------------------------------------------------------------------

/** Strokes what `path` makes, with a halo. */
function stroke(context, colour, path, width = 1.7) {
  for (const [style, lineWidth] of [[view.halo, width + 2.3], [colour, width]]) {
    context.strokeStyle = style;
    context.lineWidth = lineWidth;
    context.beginPath();
    path();
    context.stroke();
  }
}

function ellipse(context, {x, y, radii}, times) {
  context.ellipse(x, y, times * radii[0], times * radii[1], 0, 0, 7);
}

/** Writes a text around (x, y), or from x on, with a halo. */
function writeAt(context, text, x, y, size, colour = view.mark, align = "center") {
  context.font = `bold ${size}px system-ui, sans-serif`;
  context.textAlign = align;
  context.lineJoin = "round";
  context.strokeStyle = view.halo;
  context.lineWidth = 4;
  context.strokeText(text, x, y + size / 3);
  context.fillStyle = colour;
  context.fillText(text, x, y + size / 3);
}

/** Half the width of a name on the plane. */
function halfOf(context, text) {
  context.font = `bold ${0.85 * view.em}px system-ui, sans-serif`;
  return context.measureText(text).width / 2 + 4;
}

/** Whether a name of this half width is in the frame and covers none of the others. */
function isFree([x, y], half, others) {
  const {margin, frame, em} = view;
  return x - half > margin && x + half < margin + frame && y > 2 + 0.6 * em
    && y < 2 + frame - 0.6 * em
    && others.every(name => Math.abs(name.x - x) > half + name.width / 2
      || Math.abs(name.y - y) > em);
}

/**
 * Writes a name at the first of `places` where it is in the frame and covers no other name, or else
 * only names of classes, or else at none.
 */
function placeName(context, text, colour, places) {
  const half = halfOf(context, text);
  const place = places.find(at => isFree(at, half, taken))
    ?? places.find(at => isFree(at, half, taken.slice(classNames.length)));
  if (!place) return;
  const [x, y] = place;
  taken.push({x, y, width: 2 * half});
  writeAt(context, text, x, y, 0.85 * view.em, colour);
}

// ---- Gaussians ------------------------------------------------------------------------------------

/** The place of a Gaussian's mean on the plane, and of its sigmas there, in pixels. */
function placeOf(gaussian) {
  const [x, y] = [toX(gaussian.mean[0]), toY(gaussian.mean[1])];
  return {x, y, radii: sigmaOf(gaussian).map(sigma => sigma / (2 * view.limit) * view.length)};
}

const PEAK_OF_PRIOR = 0.03, HIGHEST_PEAK = 0.25;  // parts of the axes

/** Draws the densities of the prior and of the image's Gaussian at both axes, to one scale. */
function drawBells(context, image) {
  const sigma = image ? sigmaOf(image) : [1, 1];
  const scale = view.length * Math.min(PEAK_OF_PRIOR, HIGHEST_PEAK * Math.min(...sigma));
  drawBellsOf(context, [0, 0], [1, 1], scale, view.epsilon);
  if (image) drawBellsOf(context, image.mean, sigma, scale, state.own ? view.own : view.mark);
  const size = 0.75 * view.em, bottom = 2 + view.frame;
  const side = image?.mean[0] < 0 ? 1.5 : -1.5;  // where the other bell is not
  writeAt(context, "prior", toX(side), bottom - scale * Math.exp(-0.5 * 1.5 ** 2) - size, size,
    view.epsilon);
  if (image) nameBell(context, image, bottom - Math.min(scale / sigma[0], view.frame / 2), size);
}

/** Names the bell of the image at its peak, or beside it where the ellipse is. */
function nameBell(context, image, top, size) {
  const {x, y, radii} = placeOf(image), {margin, frame} = view, half = 2.1 * size;
  const isOnEllipse = Math.abs(top - size - y) < 2 * radii[1] + 2 * size;
  const aside = x + (image.mean[0] < 0 ? -1 : 1) * (2 * radii[0] + half);  // where "prior" is not
  const place = clip(isOnEllipse ? aside : x, margin + half, margin + frame - half);
  writeAt(context, "image x", place, top - size, size, state.own ? view.own : view.mark);
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

/** Draws the prior's ellipses, from which the samples start. */
function drawPrior(context) {
  const place = placeOf({mean: [0, 0], logVariance: [0, 0]});
  context.globalAlpha = 1 - state.flown ** 3;
  for (const times of [1, 2]) stroke(context, view.epsilon, () => ellipse(context, place, times));
  writeAt(context, "ε from the prior", place.x, place.y - place.radii[1] - 0.7 * view.em,
    0.85 * view.em, view.epsilon);
  context.globalAlpha = 1;
}

/** Draws the ellipses of one and two sigma of an image; under one's own are the lines of its σ. */
function drawGaussian(context, image) {
  const place = placeOf(image), {x, y, radii} = place, colour = state.own ? view.own : view.mark;
  const isOverHeat = shows("posterior");  // which a filled ellipse would cover
  for (const times of [1, 2]) {
    context.globalAlpha = isOverHeat ? 0 : 0.13;
    context.fillStyle = colour;
    context.beginPath();
    ellipse(context, place, times);
    context.fill();
    context.globalAlpha = 1;
    stroke(context, colour, () => ellipse(context, place, times), isOverHeat ? 1.2 : 1.7);
  }
  stroke(context, view.sigma, () => {
    context.moveTo(x - radii[0], y);
    context.lineTo(x + radii[0], y);
    context.moveTo(x, y - radii[1]);
    context.lineTo(x, y + radii[1]);
  }, 1.2);
  disc(context, x, y, 4.5, view.halo);
  disc(context, x, y, 3.5, view.mu);
  if (!state.own) return;
  stroke(context, colour, () => {
    for (const [from, to] of stemsOf(image)) {
      context.moveTo(...from);
      context.lineTo(...to);
    }
  });
}

/** Says whose Gaussian it is, around it: where no other name is covered. */
function nameGaussian(context, image) {
  const {x, y, radii} = placeOf(image), {margin, frame, em} = view;
  const text = state.own ? "yours" : imageName(image.number), half = halfOf(context, text);
  const right = x + 1.5 * radii[0] + half + 0.3 * em, left = x - 1.5 * radii[0] - half - 0.3 * em;
  const high = y - 1.5 * radii[1] - 0.5 * em, low = y + 1.5 * radii[1] + 0.6 * em;
  const above = y - 2 * radii[1] - 0.8 * em, below = y + 2 * radii[1] + em;
  const aside = clip(x + half / 2, margin + half + 1, margin + frame - half - 1);
  const corners = state.own ? []  // where a handle may stand
    : [[x, above], [x, below], [aside, above], [aside, below]];
  placeName(context, text, state.own ? view.own : view.mark, [...corners, [right, high], [right, low],
    [left, high], [left, low], [aside, above], [aside, below]]);
}

/** Draws the ellipses of the encoder, dashed, beside one's own. */
function drawEncoders(context) {
  const place = placeOf(state.image);
  context.save();
  context.setLineDash([4, 4]);
  for (const times of [1, 2]) stroke(context, view.mark, () => ellipse(context, place, times), 1.2);
  context.restore();
}

/** Names the encoder's ellipse where it stands apart from one's own. */
function nameEncoders(context) {
  const {x, y, radii} = placeOf(state.image), {em} = view, away = placeOf(state.own);
  const isApart = Math.hypot(away.x - x, away.y - y) > 5 * em
    || away.radii.some((radius, i) => radius > 2.5 * radii[i] + em);
  if (!isApart) return;
  const half = halfOf(context, "encoder's");
  const [left, right] = [-1, 1].map(way => x + way * (2 * radii[0] + half + 0.2 * em));
  placeName(context, "encoder's", view.mark, [[x, y - 2 * radii[1] - 0.7 * em],
    [x, y + 2 * radii[1] + 0.8 * em], [right, y], [left, y]]);
}

// ---- The handles of one's own Gaussian ------------------------------------------------------------

const STEM = 15;  // pixels from the ellipse of two sigma to a handle

/** Lines from the ellipse to the handles, which stand where the plane has more room. */
function stemsOf(gaussian) {
  const {x, y, radii} = placeOf(gaussian);
  const [across, up] = gaussian.mean.map(value => value > 0 ? -1 : 1);
  return [
    [[x + across * 2 * radii[0], y], [x + across * (2 * radii[0] + STEM), y]],
    [[x, y - up * 2 * radii[1]], [x, y - up * (2 * radii[1] + STEM)]],
  ];
}

/** Places the handles, which are buttons over the plane. */
function placeHandles() {
  const {own} = state, handles = [element("sizeAcross"), element("sizeUp")];
  for (const handle of handles) handle.hidden = !own || !view;
  if (!own || !view) return;
  const {margin, frame} = view, sigma = sigmaOf(own);
  stemsOf(own).forEach(([, [x, y]], axis) => {
    const handle = handles[axis];
    handle.style.left = `${clip(x, margin, margin + frame)}px`;
    handle.style.top = `${clip(y, 2, 2 + frame)}px`;
    handle.setAttribute("aria-valuenow", sigma[axis].toFixed(2));
  });
}

/** The sigma of an axis for which its handle stands at a place of the plane. */
function sigmaAt(axis, x, y) {
  const {x: x0, y: y0} = placeOf(state.own);
  const away = axis === 0 ? Math.abs(x - x0) : Math.abs(y - y0);
  return (away - STEM) / view.length * view.limit;
}

// ---- Codes ----------------------------------------------------------------------------------------

const WAIT = 1 / 3;  // of a flight: so long the epsilons are seen on the prior before they move

/** From 0 to 1, slowly at both ends. */
const smooth = part => part * part * (3 - 2 * part);

/** The samples or, on their way, places between their epsilons and them. */
function drawSamples(context) {
  const part = state.flight ? smooth(Math.max(0, (state.flown - WAIT) / (1 - WAIT))) : 1;
  samples().forEach((code, i) => {
    const epsilon = state.epsilons[i], [z1, z2] = between(epsilon, code, part);
    if (part < 1) stroke(context, view.epsilon, () => {
      context.moveTo(toX(epsilon[0]), toY(epsilon[1]));
      context.lineTo(toX(z1), toY(z2));
    });
    ring(context, toX(z1), toY(z2), part < 1 ? 4 : 2.5, part === 0 ? view.epsilon : view.accent);
    if (i === state.ringed) {
      stroke(context, view.accent, () => context.arc(toX(z1), toY(z2), 7, 0, 7));
    }
  });
}

function drawWalk(context) {
  stroke(context, view.mark, () => {
    for (const {code} of state.walk) context.lineTo(toX(code[0]), toY(code[1]));
  });
}

function drawKept(context) {
  for (const {letter, code: [z1, z2]} of state.kept) {
    ring(context, toX(z1), toY(z2), 4, view.mark);
    writeAt(context, letter, toX(z1), toY(z2) - 0.95 * view.em, 0.85 * view.em);
  }
}

function ring(context, x, y, radius, colour) {
  stroke(context, colour, () => context.arc(x, y, radius, 0, 7));
  disc(context, x, y, radius - 0.8, view.halo);
}

function drawPin(context, [z1, z2]) {
  disc(context, toX(z1), toY(z2), 7.5, view.mark);
  disc(context, toX(z1), toY(z2), 6.5, view.halo);
  disc(context, toX(z1), toY(z2), 4.5, view.accent);
}

// ---- The decoded image beside the mouse -----------------------------------------------------------

/** The decoded image beside the mouse, on the side where there is room. */
function showPreview() {
  drawBase();
  const {hover} = state, box = element("preview");
  const code = hover && isTrained() ? codeAt(hover.x, hover.y) : null;
  box.hidden = !code;
  if (!code) return;
  const [canvas, text] = box.children, away = 14, {clientWidth: width} = plane;
  drawPixels(canvas, decode(model, code));
  const {classes: votes, count, distance} = voteOn(code);
  text.textContent = distance > FAR ? "none near" : `${classes[votes[0][0]]}: ${votes[0][1]} of ${count}`;
  const isRight = hover.x + away + box.offsetWidth < width;
  const isAbove = hover.y - away - box.offsetHeight > 0;
  box.style.left = `${isRight ? hover.x + away : hover.x - away - box.offsetWidth}px`;
  box.style.top = `${isAbove ? hover.y - away - box.offsetHeight : hover.y + away}px`;
}
