// ==== What people do: each handler changes the state and nothing else =============================

/** Shows another code of the trained model; what plays stops. */
const pin = (code, change) => set({pinned: code, epoch: TRAINED, playing: null, ...change});

const pinAloud = code => pin(code, {spoken: state.spoken + 1});
const drawEpsilons = () =>
  Array.from({length: content.samples}, () => [drawNormal(), drawNormal()]);

// ---- Image x ------------------------------------------------------------------------------------

function nextExample() {
  const place = content.imageOrder.indexOf(state.image?.number);
  const number = content.imageOrder[(place + 1) % content.imageOrder.length];
  takeExample(number);
}

function takeExample(number, change) {
  const image = imageOf(exampleImages[number], number);
  pin(image.mean, {image, strokes: [], pen: null, epsilons: drawEpsilons(), ...change});
}

const clearPad = () =>
  set({image: null, strokes: [], pen: null, epoch: TRAINED, playing: null});

const placeOnPad = event =>
  [event.offsetX / element("pad").clientWidth, event.offsetY / element("pad").clientHeight];

/** Starts a stroke; at an earlier epoch, where the pad shows another image, also a new drawing. */
function startStroke(event) {
  if (state.pen !== null || event.button !== 0) return;
  event.target.setPointerCapture(event.pointerId);
  const before = isTrained() ? state.strokes : [];
  set({pen: event.pointerId, strokes: [...before, []]});
  drawTo(event);
}

function drawTo(event) {
  if (event.pointerId !== state.pen) return;
  if (event.buttons === 0) {  // it was released out of the browser's sight
    set({pen: null, strokes: state.strokes.filter(points => points.length > 0)});
    return;
  }
  const strokes = [...state.strokes.slice(0, -1), [...state.strokes.at(-1), placeOnPad(event)]];
  const ink = inkOf(strokes);
  if (ink.size === 0) {
    set({strokes});
    return;
  }
  const image = imageOf(imageOfInk(ink, SIDE), -1);
  const epsilons = state.image?.number === -1 ? state.epsilons : drawEpsilons();
  pin(image.mean, {image, strokes, epsilons});
}

function endStroke(event) {
  if (event.pointerId === state.pen) set({pen: null});
}

/** Takes the image of the strip that is clicked; an earlier epoch stays. */
function clickStrip(event) {
  const place = Math.floor(event.offsetX / event.target.clientWidth * training.images.length);
  takeExample(training.images[place], {epoch: state.epoch, playing: state.playing});
}

// ---- The plane ----------------------------------------------------------------------------------

function pressPlane(event) {
  if (!event.isPrimary || event.button !== 0) return;
  const code = codeAt(event.offsetX, event.offsetY);
  if (!code) return;
  plane.setPointerCapture(event.pointerId);
  pin(code, {pressed: {limit: view.limit}, hover: null});
}

function moveOverPlane(event) {
  if (!event.isPrimary || !view) return;
  const {offsetX: x, offsetY: y} = event;
  if (state.pressed && event.buttons !== 0) pin(codeNear(x, y));
  else if (event.pointerType === "mouse") {
    const code = codeAt(x, y);
    set({pressed: null, hover: code && {code, x, y}});
  }
}

const releasePlane = event => { if (event.isPrimary) set({pressed: null}); };

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};

function pressKeyOnPlane(event) {
  const arrow = ARROWS[event.key], isKeep = event.key === "Enter" || event.key === " ";
  if (event.altKey || event.ctrlKey || event.metaKey || !(arrow || isKeep)) return;
  event.preventDefault();
  if (!view) return;
  const step = view.limit / (event.shiftKey ? 10 : 40);
  if (arrow) pinAloud(state.pinned.map((z, i) => arrow[i] ? within(z + step * arrow[i]) : z));
  else if (!event.repeat && isTrained()) keep();
}

/** Shows only a class, or all if it is the only one; with Shift or Ctrl adds or removes it. */
function clickClass(label, event) {
  const isAdding = event.shiftKey || event.ctrlKey || event.metaKey;
  const isOnly = state.shown.every((is, other) => is === (other === label));
  set({shown: state.shown.map((is, other) =>
    isAdding ? is !== (other === label) : isOnly || other === label)});
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
    set({message: "all ten places are taken: remove one"});
    return;
  }
  const letter = LETTERS.find(free => kept.every(item => item.letter !== free));
  const item = {letter, code: pinned};
  set({kept: [...kept, item], walk: [...walk, item].slice(-2), percent: 100, playing: null,
    message: `kept as ${letter}`});
}

/** Goes to a kept code, which becomes the end of the walk. */
function chooseKept(item) {
  const walk = [...state.walk.filter(other => other !== item), item].slice(-2);
  pin(item.code, {walk, percent: 100, message: ""});
}

/** Removes the end of the walk; where others are kept, a walk remains. */
function removeKept() {
  const item = state.walk.at(-1);
  const kept = state.kept.filter(other => other !== item);
  const start = state.walk.filter(other => other !== item);
  const others = kept.filter(other => !start.includes(other));
  set({kept, walk: [...others, ...start].slice(-2), percent: 0, playing: null,
    message: `${item.letter} is removed`});
  if (kept.length === 0) plane.focus();
}

// ---- What plays ---------------------------------------------------------------------------------

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Calls `show` with values that go from `from` to `to`, by `speed` in a second. */
function play(what, from, to, speed, show) {
  const playing = {what};
  let begun;
  const next = now => {
    if (state.playing !== playing) return;
    begun ??= now;
    const value = Math.min(to, from + speed * (now - begun) / 1000);
    show(value);
    if (value === to) set({playing: null});
    else requestAnimationFrame(next);
  };
  set({playing, hover: null});
  requestAnimationFrame(next);
}

/** Plays on, from the start if it is at the end; where motion is reduced, shows the next epoch. */
function playTraining() {
  const first = isTrained() ? 0 : state.epoch;
  if (state.playing?.what === "training") set({playing: null, epoch: Math.round(state.epoch)});
  else if (still.matches) set({epoch: isTrained() ? 0 : first + 1, playing: null});
  else play("training", first, TRAINED, Math.max(1, TRAINED / 12), epoch => set({epoch}));
}

/** Walks on, from the start if it is at the end; where motion is reduced, takes a step. */
function playWalk() {
  const first = state.percent % 100;
  if (state.playing?.what === "walk") set({playing: null});
  else if (still.matches) walkTo(Math.min(100, first + 10), {playing: null});
  else play("walk", first, 100, 33, walkTo);
}

function walkTo(percent, change) {
  const [from, to] = state.walk;
  set({percent, pinned: between(from.code, to.code, percent / 100), epoch: TRAINED, ...change});
}

// ==== The start ==================================================================================

function fillTexts() {
  const article = content.noun === "image" ? "an" : "a";
  element("lead").textContent = `Move over it, draw ${article} ${content.noun}, play the training.`;
  element("nouns").textContent = `${content.noun}s`;
  document.querySelector("#page .neighbours").textContent = content.neighbours;
  const weight = content.klWeight === 1 ? "" : `${weightText(content.klWeight)} × `;
  element("weight").textContent = weight;
  element("count").textContent = grouped(labels.length);
  element("share").textContent = `${Math.round(100 * erf(edge / Math.SQRT2))} %`;
  const formula = model.crossEntropy ? "the cross-entropy" : "(x̂ − x)² / 2";
  element("errorText").textContent = `The reconstruction loss sums ${formula} over the pixels; `
    + `a pixel loss of ${WHITE.toFixed(1)} is shown white.`;
  element("collapsed").hidden = !content.collapsed;
  element("training").hidden = !training;
  element("epoch").max = TRAINED;
  fillColumn("test", content.testLosses);
}

/** Makes what there is one of for each class or place; it replaces what a saved page has of them. */
function fillLists() {
  const buttons = classes.map((name, label) => {
    const button = document.createElement("button"), dot = document.createElement("i");
    dot.style.background = content.colours[label];
    button.append(dot, name);
    button.title = `${name}: only this class; with Shift or Ctrl, this one too`;
    button.onclick = event => clickClass(label, event);
    return button;
  });
  const all = document.createElement("button");
  all.textContent = "all";
  all.onclick = () => set({shown: classes.map(() => true)});
  element("classes").replaceChildren(...buttons, all);
  element("kept").replaceChildren(...LETTERS.map(() => document.createElement("li")));
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
  for (const [id, listener] of Object.entries({
    example: nextExample,
    clear: clearPad,
    strip: clickStrip,
    unfold: playTraining,
    keep,
    fresh: () => pinAloud([drawNormal(), drawNormal()]),
    back: () => pinAloud(state.image.mean),
    sample: () => set({epsilons: drawEpsilons()}),
    remove: removeKept,
    play: playWalk,
  })) on(id, {click: listener});
  on("codes", {change: () => set({layer: "dots"})});
  on("images", {change: () => set({layer: "images"})});
  on("zoom", {change: () => set({zoom: element("zoom").checked})});
  on("epoch", {input: () => set({epoch: Number(element("epoch").value), playing: null, hover: null})});
  on("walk", {input: () => walkTo(Number(element("walk").value), {playing: null})});
  still.addEventListener("change", () => set({playing: null, epoch: Math.round(state.epoch)}));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showOnScreen);
  const sizes = new ResizeObserver(showOnScreen);
  for (const id of ["plane", "pad", "curve"]) sizes.observe(element(id));
  listenToResolution();
}

const showOnScreen = () => set({screen: state.screen + 1});

/** A window may move to a screen of finer pixels, without any other change. */
function listenToResolution() {
  const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
  query.addEventListener("change", () => { showOnScreen(); listenToResolution(); }, {once: true});
}

element("page").hidden = false;
fillTexts();
fillLists();
listen();
nextExample();
render();

// For the console, and for tests from outside.
window.vae = {
  encode: pixels => encode(model, pixels),
  decode: z => decode(model, z),
  get code() { return [...state.pinned]; },
};
