// ==== The posterior of image x: a heat map and two lines, over the dots ============================

const HEAT = 320;  // pixels in a row of the heat map
const LOWEST = -10;  // the logarithm of a density, beside the highest, that is still shown
const SHARES = [1 - Math.exp(-1 / 2), 1 - Math.exp(-2)];  // which one and two sigma of a Gaussian hold
const heat = make("canvas", {width: HEAT, height: HEAT});

/** Colours the heat map, from transparent to opaque; returns its lines, [z1, z2] pairs of their ends. */
const makeHeat = remembered(() => {
  const log = enlarge(logDensity(), HEAT);
  const most = log.reduce((a, b) => Math.max(a, b), -Infinity);
  const hue = styleOf(plane, "--heat");  // #rrggbb
  const [red, green, blue] = [1, 3, 5].map(place => parseInt(hue.slice(place, place + 2), 16));
  const context = heat.getContext("2d");
  const pixels = context.createImageData(HEAT, HEAT), {data} = pixels;
  for (let i = 0; i < log.length; i++) {
    const height = log[i] - most;
    if (height < LOWEST) continue;
    data[4 * i] = red;
    data[4 * i + 1] = green;
    data[4 * i + 2] = blue;
    data[4 * i + 3] = 235 * Math.exp(0.8 * height);
  }
  context.putImageData(pixels, 0, 0);
  return SHARES.map(share => contourOf(log, most + levelOf(log, most, share)));
});

/** Where the logarithm of the density is above this, less `most`, there is `share` of the whole. */
function levelOf(log, most, share) {
  const bins = new Float64Array(500);
  let total = 0;
  for (const value of log) {
    if (value - most < LOWEST) continue;
    const density = Math.exp(value - most);
    bins[Math.min(bins.length - 1, Math.floor((value - most) / LOWEST * bins.length))] += density;
    total += density;
  }
  let sum = 0;
  return (bins.findIndex(value => (sum += value) >= share * total) + 1) / bins.length * LOWEST;
}

/** Lines around the places of a square field where it is above `level`. */
function contourOf(field, level) {
  const lines = [], reachOf = place => (2 * (place + 0.5) / HEAT - 1) * grid.reach;
  for (let row = 0; row + 1 < HEAT; row++) {
    for (let column = 0; column + 1 < HEAT; column++) {
      const first = row * HEAT + column, isAbove = field[first] > level;
      if (field[first + 1] > level === isAbove && field[first + HEAT] > level === isAbove
        && field[first + HEAT + 1] > level === isAbove) continue;
      const corners = [field[first], field[first + 1], field[first + HEAT + 1], field[first + HEAT]];
      const crossed = [];
      for (let side = 0; side < 4; side++) {
        const a = corners[side] - level, b = corners[(side + 1) % 4] - level;
        if ((a > 0) === (b > 0)) continue;
        const part = a / (a - b);
        const [x, y] = [[part, 0], [1, part], [1 - part, 1], [0, 1 - part]][side];
        crossed.push([reachOf(column + x), -reachOf(row + y)]);
      }
      for (let i = 0; i + 1 < crossed.length; i += 2) lines.push([crossed[i], crossed[i + 1]]);
    }
  }
  return lines;
}

function drawHeat(context) {
  if (!state.gridDone) return;
  const {reach} = grid, contours = makeHeat();
  context.drawImage(heat, toX(-reach), toY(reach), toX(reach) - toX(-reach), toY(-reach) - toY(reach));
  context.strokeStyle = view.heat;
  context.lineWidth = 1.5;
  context.lineCap = "round";
  context.beginPath();
  for (const lines of contours) for (const [[a1, a2], [b1, b2]] of lines) {
    context.moveTo(toX(a1), toY(a2));
    context.lineTo(toX(b1), toY(b2));
  }
  context.stroke();
}

/** What the heat map shows: with β other than 1, the density that Best approximates then. */
function nameOfHeat() {
  if (!state.image) return "p(z)";
  return state.own && state.beta !== 1 ? "p(x | z)^(1/β) · p(z)" : "p(z | x)";
}

/** Names the heat map at a side of it: where the name covers neither a class's nor the ellipse. */
function nameHeat(context, gaussian) {
  const ends = state.gridDone ? makeHeat().at(-1).map(([end]) => end) : [];
  if (ends.length === 0) return;
  const text = nameOfHeat(), {em} = view, half = halfOf(context, text);
  const farthestTo = (axis, way) => {
    const [z1, z2] = ends.reduce((far, end) => way * end[axis] > way * far[axis] ? end : far);
    return axis === 0 ? [toX(z1) + way * (half + 0.2 * em), toY(z2)]
      : [toX(z1), toY(z2) - way * 0.8 * em];
  };
  const places = [[1, 1], [0, 1], [1, -1], [0, -1]].map(([axis, way]) => farthestTo(axis, way));
  const isOutside = ([x, y]) => {
    if (!gaussian) return true;
    const {x: x0, y: y0, radii} = placeOf(gaussian);
    return ((x - x0) / (2 * radii[0] + half)) ** 2 + ((y - y0) / (2 * radii[1] + em)) ** 2 > 1;
  };
  placeName(context, text, view.heat, [...places.filter(isOutside), ...places]);
}
