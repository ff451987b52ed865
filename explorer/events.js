// ==== What people do: each handler changes the state and nothing else =============================

/** Shows another code of the trained model; what plays stops, and so does being the encoder. */
const pin = (code, change) => set({pinned: code, epoch: TRAINED, playing: null, flight: null,
  own: null, isBest: false, message: "", ...change});

const pinAloud = code => pin(code, {spoken: state.spoken + 1});
const drawEpsilons = () =>
  Array.from({length: content.samples}, () => [drawNormal(), drawNormal()]);

// ---- Image x ------------------------------------------------------------------------------------

/**
 * Takes another image x. One who is the encoder stays it: with the best Gaussian for this image, if
 * that was chosen, or else with the encoder's. `own`, "best" or "encoder", begins it.
 */
function useImage(image, change, own = state.own && (state.isBest ? "best" : "encoder")) {
  pin(image.mean, {image, ...change});
  if (own === "best") moveOwn(bestOwn(), {...change, isBest: true});
  else if (own) moveOwn(encodersGaussian(), change);
}

/** Takes a test image; `own` and other changes of the state may be given. */
function takeImage(number, {own, ...change} = {}) {
  useImage(imageOf(testImage(number), number),
    {strokes: [], pen: null, epsilons: drawEpsilons(), ...change}, own);
}

function nextTestImage() {
  const place = content.imageOrder.indexOf(state.image?.number);
  takeImage(content.imageOrder[(place + 1) % content.imageOrder.length]);
}

const clearPad = () => pin(state.pinned, {image: null, strokes: [], pen: null});

const placeOnPad = event =>
  [event.offsetX / element("pad").clientWidth, event.offsetY / element("pad").clientHeight];

/** Whether the main button, a finger or a pen is down. */
const isDown = event => (event.buttons & 1) !== 0;

/** Starts a stroke; at an earlier epoch, where the pad shows another image, also a new drawing. */
function startStroke(event) {
  if (state.pen !== null || event.button !== 0) return;
  event.target.setPointerCapture(event.pointerId);
  set({pen: event.pointerId, strokes: [...shownStrokes(), []]});
  drawTo(event);
}

function drawTo(event) {
  if (event.pointerId !== state.pen) return;
  if (!isDown(event)) {  // it was released out of the browser's sight
    set({pen: null, strokes: state.strokes.filter(points => points.length > 0)});
    return;
  }
  const strokes = [...state.strokes.slice(0, -1), [...state.strokes.at(-1), placeOnPad(event)]];
  const ink = inkOf(strokes);
  if (ink.size === 0) {
    set({strokes});
    return;
  }
  const drawn = imageOfInk(ink, SIDE);
  const pixels = content.isPaper ? drawn.map(value => 1 - value) : drawn;
  const epsilons = state.image?.number === -1 ? state.epsilons : drawEpsilons();
  useImage(imageOf(pixels, -1), {strokes, epsilons});
}

function endStroke(event) {
  if (event.pointerId === state.pen) set({pen: null});
}

/** Takes an image of the strip; an earlier epoch stays. */
function takeFromStrip(place) {
  const number = training.images[place];
  if (isTrained()) takeImage(number);
  else takeImage(number, {epoch: state.epoch, playing: state.playing, own: null});
}

// ---- The plane ----------------------------------------------------------------------------------

function pressPlane(event) {
  if (!event.isPrimary || event.button !== 0) return;
  const {offsetX: x, offsetY: y} = event, code = codeAt(x, y);
  if (!code) return;
  plane.setPointerCapture(event.pointerId);
  const pressed = {limit: view.limit, x, y, dot: dotAt(x, y)};
  if (!state.own) {
    pin(code, {pressed, hover: null});
    return;
  }
  const {mean} = state.own;
  const grip = isOnOwn(x, y) ? mean.map((m, i) => m - code[i]) : [0, 0];
  moveMean(code.map((z, i) => z + grip[i]), {pressed: {...pressed, grip}, hover: null});
}

/** Whether a place of the plane is in one's own ellipse of two sigma, or near its centre. */
function isOnOwn(x, y) {
  const {x: x0, y: y0, radii} = placeOf(state.own);
  const [across, up] = radii.map(radius => Math.max(22, 2 * radius));
  return ((x - x0) / across) ** 2 + ((y - y0) / up) ** 2 < 1;
}

const CLICK = 3;  // pixels that a pointer may move in a click

function moveOverPlane(event) {
  if (!event.isPrimary || !view) return;
  const {offsetX: x, offsetY: y} = event, {pressed} = state;
  if (pressed && isDown(event)) {
    const isDrag = Math.hypot(x - pressed.x, y - pressed.y) > CLICK;
    const change = isDrag && pressed.dot >= 0 ? {pressed: {...pressed, dot: -1}} : {};
    if (!state.own) pin(codeNear(x, y), change);
    else if (pressed.grip) moveMean(codeNear(x, y).map((z, i) => within(z + pressed.grip[i])));
  } else if (event.pointerType === "mouse") {
    set({pressed: null, hover: state.own && isOnOwn(x, y) ? null : {x, y}});
  }
}

/** Ends a press; a click on a dot takes its image, but for a drawing, which stays. */
function releasePlane(event) {
  if (!event.isPrimary) return;
  const {pressed, own, image} = state;
  set({pressed: null});
  const isClick = event.type === "pointerup" && pressed?.dot >= 0;
  if (isClick && !own && image?.number !== -1) takeImage(pressed.dot);
}

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
const hasModifier = event => event.altKey || event.ctrlKey || event.metaKey;

function pressKeyOnPlane(event) {
  const arrow = ARROWS[event.key], isKeep = event.key === "Enter" || event.key === " ";
  if (hasModifier(event) || !(arrow || isKeep)) return;
  event.preventDefault();
  if (!view) return;
  const step = view.limit / (event.shiftKey ? 10 : 40);
  const moved = z => z.map((value, i) => {
    const most = Math.max(view.limit, Math.abs(value));  // a code outside comes back in steps
    return arrow[i] ? clip(value + step * arrow[i], -most, most) : value;
  });
  if (arrow && state.own) moveMean(moved(state.own.mean), {spoken: state.spoken + 1});
  else if (arrow) pinAloud(moved(state.pinned));
  else if (!event.repeat && isTrained()) keep();
}

/** Shows only a class, or all if it is the only one; with Shift or Ctrl, or by touch, adds or removes it. */
function clickClass(label, event) {
  const isAdding = event.shiftKey || event.ctrlKey || event.metaKey
    || (state.isTouch && !state.shown.every(Boolean));
  const isOnly = state.shown.every((is, other) => is === (other === label));
  const shown = state.shown.map((is, other) =>
    isAdding && !isOnly ? is !== (other === label) : isOnly || other === label);
  set({shown});
}

// ---- Be the encoder -----------------------------------------------------------------------------

const LEAST_BETA = 0.01, MOST_BETA = 10;
const MOST = 100;  // of a coordinate that an address may name
const logVarianceOf = sigma => 2 * Math.log(clip(sigma, LEAST_SIGMA, GREATEST_SIGMA));

/** A copy of the encoder's Gaussian of image x. */
const encodersGaussian = () =>
  ({mean: [...state.image.mean], logVariance: [...state.image.logVariance]});

/** Moves one's own Gaussian; it no longer follows beta, unless `change` says so. */
const moveOwn = (own, change) => pin(own.mean, {...change, own});

const moveMean = (mean, change) => moveOwn({mean, logVariance: state.own.logVariance}, change);

/** Sets a sigma of one's own Gaussian. */
function sizeOwn(axis, sigma) {
  const logVariance = state.own.logVariance.map((value, i) => i === axis ? logVarianceOf(sigma) : value);
  moveOwn({mean: state.own.mean, logVariance});
}

function beEncoder() {
  if (state.own) pin(state.image.mean);
  else moveOwn(encodersGaussian(), {beta: 1});
}

const GLIDE = 0.6;  // seconds

/** Glides to a Gaussian; where motion is reduced, goes there at once. */
function glideTo(target, isBest) {
  const from = state.own;
  if (state.isStill) moveOwn(target, {isBest});
  else play("playing", "glide", GLIDE, part => moveOwn(part === 1 ? target : {
    mean: between(from.mean, target.mean, smooth(part)),
    logVariance: between(from.logVariance, target.logVariance, smooth(part)),
  }, {isBest, playing: state.playing}));
}

function turnBeta() {
  const beta = betaAt(Number(element("beta").value));
  set({beta, betas: [Math.min(beta, state.betas[0]), Math.max(beta, state.betas[1])]});
  if (state.isBest) moveOwn(bestOwn(), {isBest: true});
}

function pressSize(event, axis) {
  if (!event.isPrimary || event.button !== 0) return;
  event.target.setPointerCapture(event.pointerId);
  const {left, top} = event.target.getBoundingClientRect(), half = event.target.offsetWidth / 2;
  set({pressed: {limit: view.limit, axis,
    grip: [left + half - event.clientX, top + half - event.clientY]}, hover: null});
}

function dragSize(event) {
  const {pressed} = state;
  if (pressed?.axis === undefined || !state.own || !isDown(event)) return;
  const {left, top} = plane.getBoundingClientRect(), {axis, grip} = pressed;
  sizeOwn(axis, sigmaAt(axis, event.clientX + grip[0] - left, event.clientY + grip[1] - top));
}

function pressKeyOnSize(event, axis) {
  const way = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[event.key];
  const end = {Home: LEAST_SIGMA, End: GREATEST_SIGMA}[event.key];
  if (!(way || end) || hasModifier(event)) return;
  event.preventDefault();
  const step = way * (event.shiftKey ? 0.25 : 0.05);
  sizeOwn(axis, end ?? Math.exp(state.own.logVariance[axis] / 2 + step));
}

// ---- Kept codes ---------------------------------------------------------------------------------

function keep() {
  const {kept, walk, pinned} = state;
  const same = kept.find(({code}) => isSame(code, pinned));
  if (same) {
    set({message: `this is ${same.letter}`});
    return;
  }
  if (kept.length === LETTERS.length) {
    set({message: "all ten places are taken"});
    return;
  }
  const letter = LETTERS.find(free => kept.every(item => item.letter !== free));
  const item = {letter, code: pinned};
  set({kept: [...kept, item].sort((a, b) => a.letter < b.letter ? -1 : 1),
    walk: [...walk, item].slice(-2), percent: 100, message: `kept as ${letter}`});
}

/** Goes to a kept code, which becomes the end of the walk. */
function chooseKept(item) {
  const walk = [...state.walk.filter(other => other !== item), item].slice(-2);
  pin(item.code, {walk, percent: 100});
}

/** Removes the end of the walk; where others are kept, a walk remains. */
function removeKept() {
  const item = state.walk.at(-1);
  const kept = state.kept.filter(other => other !== item);
  const start = state.walk.filter(other => other !== item);
  const others = kept.filter(other => !start.includes(other));
  const playing = state.playing?.what === "walk" ? null : state.playing;
  set({kept, walk: [...others, ...start].slice(-2), percent: 0, playing,
    message: `${item.letter} is removed`});
  if (kept.length === 0) plane.focus();
}

// ---- What plays ---------------------------------------------------------------------------------

/**
 * Calls `show` with parts that go from 0 to 1 in `seconds`. Meanwhile state[slot] says what plays;
 * setting it to something else ends that.
 */
function play(slot, what, seconds, show) {
  const motion = {what};
  let begun;
  const next = now => {
    if (state[slot] !== motion) return;
    begun ??= now;
    const part = Math.min(1, (now - begun) / 1000 / seconds);
    show(part);
    if (part < 1) requestAnimationFrame(next);
    else set({[slot]: null});
  };
  set({[slot]: motion, hover: null});
  requestAnimationFrame(next);
}

const FLIGHT = 0.9;  // seconds, of which a third on the prior

/** Draws new epsilons, which fly from the prior to the Gaussian of the image. */
function drawSamplesAgain() {
  set({epsilons: drawEpsilons(), flown: 0});
  if (!state.isStill) play("flight", "samples", FLIGHT, flown => set({flown}));
}

/** Shows an epoch; being the encoder ends. */
const goToEpoch = epoch =>
  pin(state.own ? state.image.mean : state.pinned, {epoch, hover: null});

/** One epoch further; after the last, from the start. */
const stepTraining = () => goToEpoch(isTrained() ? 0 : Math.floor(state.epoch) + 1);

const REPLAY = 12;  // seconds; a short training takes a second an epoch

/** Plays on, from the start if it is at the end; where motion is reduced, shows the next epoch. */
function playTraining() {
  if (state.playing?.what === "training") set({playing: null});
  else if (state.isStill) stepTraining();
  else {
    const first = isTrained() ? 0 : state.epoch, left = TRAINED - first;
    goToEpoch(first);
    play("playing", "training", left / Math.max(1, TRAINED / REPLAY),
      part => set({epoch: part === 1 ? TRAINED : first + part * left}));
  }
}

/** Walks on, from the start if it is at the end; where motion is reduced, takes a step. */
function playWalk() {
  const first = state.percent % 100;
  if (state.playing?.what === "walk") set({playing: null});
  else if (state.isStill) walkTo(Math.min(100, first + 10));
  else play("playing", "walk", (100 - first) / 33,
    part => walkTo(first + part * (100 - first), {playing: state.playing}));
}

function walkTo(percent, change) {
  const [from, to] = state.walk;
  pin(between(from.code, to.code, percent / 100), {percent, ...change});
}

// ---- Tasks --------------------------------------------------------------------------------------

/** Starts a task in a clean state. */
function startTask(place) {
  if (element("tasks").matches(":popover-open")) element("tasks").hidePopover();
  takeImage(content.imageOrder[0], {own: null, kept: [], walk: [], percent: 0, layer: "dots", zoom: false,
    beta: 1, betas: [1, 1], shown: classes.map(() => true), hover: null, task: place});
  const {start, focus} = state.tasks[place];
  start();
  render();
  element(focus).focus({preventScroll: true});
  element("trying").scrollIntoView({block: "nearest"});  // the controls and the text, under the plane
}

/** Ends the task; the focus goes to where another one begins. */
function endTask() {
  const button = element("taskList").children[state.task].firstChild;
  set({task: null});
  render();
  (element("tryButton").checkVisibility() ? element("tryButton") : button).focus();
}

// ==== The start ==================================================================================

function fillTexts() {
  write("fresh", `New ${content.noun}`);
  for (const node of document.querySelectorAll("#page .noun")) node.textContent = content.noun;
  for (const node of document.querySelectorAll("#page .neighbours")) {
    node.textContent = content.neighbours;
  }
  write("weight", timesText(content.klWeight));
  write("count", grouped(labels.length));
  write("share", shareText);
  const formulaText = model.crossEntropy ? "the cross-entropy" : "(x̂ − x)² / 2";
  write("errorText", `The reconstruction loss sums ${formulaText} over the pixels; `
    + `a pixel loss of ${WHITE.toFixed(1)} is shown white.`);
  element("page").classList.toggle("paper", content.isPaper);
  element("collapsed").hidden = !content.collapsed;
  element("training").hidden = !training;
  element("epoch").max = TRAINED;
}

/** The first line, in words for a mouse or for fingers. */
function showLead() {
  const draws = `draw ${article(content.noun)} ${content.noun}, play the training.`;
  write("lead", state.isTouch ? `Tap it, ${draws}` : `Move over it, click a dot, ${draws}`);
  for (const node of document.querySelectorAll("#page .mouse")) node.hidden = state.isTouch;
  for (const node of document.querySelectorAll("#page .finger")) node.hidden = !state.isTouch;
}

/** Makes what there is one of for each class or place; it replaces what a saved page has of them. */
function fillLists() {
  for (const canvas of document.querySelectorAll("#page canvas.image")) {
    canvas.width = canvas.height = SIDE;
  }
  const buttons = classes.map((name, label) => {
    const dot = make("i");
    dot.style.background = content.colours[label];
    return make("button", {onclick: event => clickClass(label, event),
      title: `${name}: only this class; with Shift or Ctrl, this one too`}, dot, name);
  });
  const all = make("button", {textContent: "all", onclick: () => set({shown: classes.map(() => true)})});
  element("classes").replaceChildren(...buttons, all);
  element("kept").replaceChildren(...LETTERS.map(() => make("li")));
  element("samples").replaceChildren(...Array.from({length: content.samples}, (_, place) => {
    const canvas = picture();
    canvas.setAttribute("role", "img");
    return make("figure", {onpointerenter: () => set({ringed: place}),
      onpointerleave: () => set({ringed: null})}, canvas);
  }));
  element("strip").replaceChildren(...(training?.images ?? []).map((number, place) => {
    const input = make("input", {type: "radio", name: "strip", autocomplete: "off",
      onclick: () => takeFromStrip(place)});
    input.setAttribute("aria-label", `${capitalized(imageName(number))}: ${classes[labels[number]]}`);
    return make("label", {}, input, picture(2));
  }));
}

function listen() {
  const on = (id, listeners) => {
    for (const [type, listener] of Object.entries(listeners)) {
      element(id).addEventListener(type, listener);
    }
  };
  on("pad", {pointerdown: startStroke, pointermove: drawTo, pointerup: endStroke,
    pointercancel: endStroke});
  on("plane", {pointerdown: pressPlane, pointermove: moveOverPlane, pointerup: releasePlane,
    pointercancel: releasePlane, pointerleave: () => set({hover: null}),
    keydown: pressKeyOnPlane});
  for (const [axis, id] of ["sizeAcross", "sizeUp"].entries()) {
    on(id, {pointerdown: event => pressSize(event, axis), pointermove: dragSize,
      pointerup: releasePlane, pointercancel: releasePlane,
      keydown: event => pressKeyOnSize(event, axis)});
  }
  for (const [id, listener] of Object.entries({
    example: nextTestImage,
    clear: clearPad,
    unfold: playTraining,
    step: stepTraining,
    keep,
    fresh: () => pinAloud([drawNormal(), drawNormal()]),
    back: () => pinAloud(state.image.mean),
    sample: drawSamplesAgain,
    beEncoder,
    best: () => glideTo(bestOwn(), true),
    theirs: () => glideTo(encodersGaussian(), false),
    endTask,
    endTaskBelow: endTask,
    remove: removeKept,
    play: playWalk,
    closeHow: () => element("how").hidePopover(),
  })) on(id, {click: listener});
  for (const [id, layer] of [["codes", "dots"], ["images", "images"], ["posterior", "posterior"]]) {
    on(id, {change: () => set({layer})});
  }
  on("zoom", {change: () => set({zoom: element("zoom").checked})});
  on("beta", {input: turnBeta});
  on("epoch", {input: () => goToEpoch(Number(element("epoch").value))});
  on("walk", {input: () => walkTo(Number(element("walk").value))});
  listenToWindow();
}

/** Media, sizes, the address, keys, and clicks beside an open list of tasks. */
function listenToWindow() {
  const follow = (query, name) => {
    const media = matchMedia(query), take = () => set({[name]: media.matches, playing: null, flight: null});
    media.addEventListener("change", take);
    take();
  };
  follow("(prefers-reduced-motion: reduce)", "isStill");
  follow("(pointer: coarse)", "isTouch");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showOnScreen);
  const sizes = new ResizeObserver(entries => {
    const isNew = ({target}) => target.clientWidth > 0 && fitted.get(target) !== sizeOf(target);
    if (entries.some(isNew)) showOnScreen();
  });
  for (const id of ["plane", "pad", "curve", "trade"]) sizes.observe(element(id));
  listenToResolution();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) set({playing: null, flight: null});
  });
  for (const [type, isPrinting] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(type, () => print(isPrinting));
  }
  addEventListener("hashchange", followAddress);
  addEventListener("keydown", event => {
    const open = document.querySelector(":popover-open");
    if (event.key === "Escape" && open) open.hidePopover();
  });
  addEventListener("pointerdown", dismissTasks, true);
}

/** A press beside the open list of tasks closes it and does nothing else. */
function dismissTasks(event) {
  const list = element("tasks");
  if (!list.matches(":popover-open") || list.contains(event.target)
    || element("tryButton").contains(event.target)) return;
  list.hidePopover();
  const swallow = other => {
    other.stopPropagation();
    other.preventDefault();
  };
  swallow(event);
  if (event.button !== 0) return;
  addEventListener("click", swallow, {capture: true, once: true});
  addEventListener("pointerdown", () => removeEventListener("click", swallow, true),
    {capture: true, once: true});  // this press may have been no click
}

/** Draws the page for light paper, or for the screen again, at once: printing does not wait. */
function print(isPrinting) {
  document.documentElement.classList.toggle("printing", isPrinting);
  showOnScreen();
  render();
}

const showOnScreen = () => set({screen: state.screen + 1});

/** A window may move to a screen of finer pixels, without any other change. */
function listenToResolution() {
  const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
  query.addEventListener("change", () => { showOnScreen(); listenToResolution(); }, {once: true});
}

/** Calls `work` while the browser has nothing else to do, until it says that it is done. */
function whenIdle(work) {
  const idle = window.requestIdleCallback ?? (call => setTimeout(() => {
    const end = performance.now() + 10;
    call({timeRemaining: () => end - performance.now()});
  }, 30));
  const next = deadline => {
    if (!work(() => deadline.timeRemaining() > 3)) idle(next);
  };
  idle(next);
}

/** Decodes the grid of the posterior, as long as there is time; says whether it is done. */
function decodeGridInPieces(hasTime) {
  do decodeGrid(grid, model, 4); while (grid.done < GRID ** 2 && hasTime());
  if (grid.done < GRID ** 2) return false;
  set({gridDone: true});
  return true;
}

const PARTS = [placeAxes, decodeTiles, drawMarks, showPreview, showLegend, showPad, showImage, showOutput,
  showLosses, showSamples, showOwn, showTask, showKept, showWalk, showTraining, drawCurve, showStrip,
  showLead, speak, showAddress].map(remembered);

/** Waits until the whole page is read, at the end of which the test images stand, and is shown. */
async function wholePage() {
  if (document.readyState === "loading") {
    await new Promise(done => addEventListener("DOMContentLoaded", done, {once: true}));
  }
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
}

async function startPage() {
  element("needsScripts")?.remove();
  element("page").hidden = false;
  fillTexts();
  fillLists();
  listen();
  nextTestImage();
  followAddress();
  render();
  whenIdle(decodeGridInPieces);
  await wholePage();
  await readAllImages();
  set({tasks: findTasks()});
  if (location.hash) followAddress();
}

startPage();

// For the console, and for tests from outside.
window.vae = {
  encode: pixels => encode(model, pixels),
  decode: z => decode(model, z),
  get code() { return [...state.pinned]; },
  get image() { return state.image && [...state.image.pixels]; },
  get own() { return state.own && {mean: [...state.own.mean], sigma: sigmaOf(state.own)}; },
  at: z => placeInWindow(z),
  posterior: () => posteriorOnGrid(),
};

/** The place of a code in the window. */
function placeInWindow([z1, z2]) {
  const {left, top} = plane.getBoundingClientRect();
  return [left + toX(z1), top + toY(z2)];
}

/** {z1, z2, p}: the density that the heat map shows, of sum 1, row by row from the lowest z2. */
function posteriorOnGrid() {
  const log = logDensity(), most = Math.max(...log);
  const densities = [...log].map(value => Math.exp(value - most)), total = sumOf(densities);
  const codes = densities.map((_, place) => gridCode(grid, place));
  return {z1: codes.map(([z1]) => z1), z2: codes.map(([, z2]) => z2),
    p: densities.map(density => density / total)};
}
