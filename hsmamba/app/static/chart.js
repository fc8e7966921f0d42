// Lines of spectra with axes, and a reading under the pointer.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 720, HEIGHT = 190, LEFT = 54, RIGHT = 12, TOP = 10, BOTTOM = 34;

function svg(tag, attributes, text) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return found;
}

const written = (value) => (Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(1) : String(+value.toPrecision(4)));

// lines: [{values, colour, name}]; positions: of the bands; gaps wider than three usual steps are left open.
export function drawSpectra(box, lines, positions, unit) {
  if (!lines.length) {
    box.replaceChildren();
    return;
  }
  const wide = Math.max(320, box.clientWidth || WIDTH);
  const values = lines.flatMap((line) => line.values.filter((value) => value !== null));
  let low = Math.min(...values, 0), high = Math.max(...values);
  if (!(high > low)) high = low + 1;
  const [first, last] = [Math.min(...positions), Math.max(...positions)];
  const x = (position) => LEFT + ((position - first) / (last - first || 1)) * (wide - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${HEIGHT}`, role: "img", "aria-label": "Spectra of the clicked pixels" });
  for (const value of ticks(low, high, 4)) {
    picture.append(svg("line", { class: "axis", x1: LEFT, x2: wide - RIGHT, y1: y(value), y2: y(value) }));
    picture.append(svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, written(value)));
  }
  for (const value of ticks(first, last, wide / 110)) picture.append(svg("text", { x: x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, written(value)));
  picture.append(svg("text", { x: (LEFT + wide) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, unit));
  const order = positions.map((_, k) => k).sort((a, b) => positions[a] - positions[b]);
  const steps = order.slice(1).map((k, i) => positions[k] - positions[order[i]]).sort((a, b) => a - b);
  const usual = steps[Math.floor(steps.length / 2)] || 1;
  for (const line of lines) {
    let path = "", before = null;
    for (const k of order) {
      if (line.values[k] === null) { before = null; continue; }
      const joined = before !== null && (order.length <= 20 || positions[k] - before <= 3 * usual);
      path += `${joined ? "L" : "M"}${x(positions[k]).toFixed(1)} ${y(line.values[k]).toFixed(1)}`;
      before = positions[k];
    }
    picture.append(svg("path", { d: path, fill: "none", stroke: line.colour, "stroke-width": 2, "stroke-linejoin": "round" }));
  }
  const pointer = svg("line", { class: "axis", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const reading = svg("text", { class: "reading", y: TOP + 4, visibility: "hidden" });
  picture.append(pointer, reading);
  picture.addEventListener("pointermove", (event) => {
    const where = ((event.clientX - picture.getBoundingClientRect().left) / picture.clientWidth) * wide;
    const k = order.reduce((best, one) => (Math.abs(x(positions[one]) - where) < Math.abs(x(positions[best]) - where) ? one : best));
    const right = where < wide / 2;
    for (const [name, value] of [["x1", x(positions[k])], ["x2", x(positions[k])], ["visibility", "visible"]]) pointer.setAttribute(name, value);
    for (const [name, value] of [["x", x(positions[k]) + (right ? 6 : -6)], ["text-anchor", right ? "start" : "end"], ["visibility", "visible"]]) reading.setAttribute(name, value);
    const told = lines.map((line) => (line.values[k] === null ? "–" : written(line.values[k]))).join("  ");
    reading.textContent = `${unit === "band" ? `band ${k}` : `${positions[k].toFixed(0)} nm`}: ${told}`;
  });
  picture.addEventListener("pointerleave", () => { for (const one of [pointer, reading]) one.setAttribute("visibility", "hidden"); });
  const legend = document.createElement("div");
  legend.className = "legend";
  for (const line of lines) {
    const entry = document.createElement("span"), tone = document.createElement("i");
    tone.style.background = line.colour;
    entry.append(tone, line.name);
    legend.append(entry);
  }
  box.replaceChildren(picture, legend);
}
