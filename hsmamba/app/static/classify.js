// The first tab: a scene, its labels, its map.

import { attempt, element, fill, follow, get, picture, post, showProgress, upload } from "./api.js";
import { drawSpectra } from "./chart.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const TONES = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2"];
const PRESETS = [["Natural colour", [650, 550, 450]], ["Infrared", [850, 650, 550]], ["Short-wave infrared", [2200, 850, 650]]];

let about = null, state = null, chosen = 1, spectra = [], shown = {};

const view = new View($("view"), {
  onClick: (at) => attempt(() => addSpectrum(at)),
  onStroke: (path) => attempt(() => paint(path)),
  onHover: (at) => { $("where").textContent = at ? `row ${at[0]}, column ${at[1]}` : ""; },
});

export async function begin(told) {
  about = told;
  $("limit").textContent = `Files you choose are copied to a temporary folder, up to ${about.limit / 2 ** 30} GiB each; a path is read where it lies, whatever its size. GeoTIFF, ENVI (.hdr with its data file), .mat, .npy, .npz and products' folders.`;
  const names = { muufl_crop: "MUUFL Gulfport", indian_pines: "Indian Pines" };
  fill($("bundled"), about.bundled, (name) => element("button", { type: "button", textContent: names[name] || name, onclick: () => open(name) }));
  fill($("model"), about.models, ({ name }) => element("option", { value: name, textContent: name }));
  fill($("exports"), Object.entries(about.exports), ([what, text]) =>
    element("li", {}, element("a", { href: "#", textContent: what, onclick: (event) => { event.preventDefault(); attempt(() => download(what)); } }), ` ${text}`));
  sayModel();
  state = await get("state");
  if (state.scene) await showScene();
  const work = await get("work");
  if (work.state === "running") watch();
}

async function download(what) {
  const response = await fetch(`api/export?${new URLSearchParams({ what })}`);
  if (!response.ok) throw new Error((await response.json()).error);
  const link = element("a", { href: URL.createObjectURL(await response.blob()), download: what });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---------------------------------------------------------------- the scene

function open(path, variable = "") {
  return attempt(async () => {
    document.body.classList.add("busy");
    try {
      state = await post("open", { path, variable });
    } finally {
      document.body.classList.remove("busy");
    }
    await showScene();
  });
}

async function showScene() {
  const { scene } = state;
  document.body.classList.add("has-scene");
  document.body.classList.toggle("has-result", Boolean(state.result));
  const range = scene.wavelengths ? `, ${Math.min(...scene.wavelengths).toFixed(0)}–${Math.max(...scene.wavelengths).toFixed(0)} nm` : "";
  $("facts").textContent = `${scene.name}: ${scene.columns} × ${scene.rows} pixels, ${scene.bands} bands${range}, ${scene.dtype}` + (scene.aux ? `, ${scene.aux} bands of a second sensor` : "") + (scene.place ? ", with a place" : ", without a place");
  $("facts").hidden = false;
  $("opening").open = false;
  $("own-labels").hidden = !scene.own_labels;
  $("own-labels").textContent = `Those of the scene (${scene.own_labels})`;
  [chosen, spectra, shown] = [1, [], {}];
  fillBands(scene);
  view.setSize(scene.rows, scene.columns);
  setTool("look");
  showSpectra();
  showLabels();
  await Promise.all([drawComposite(), drawLabels()]);
  if (state.result) await showResult();
}

const bandName = (k) => {
  const { wavelengths, band_names: names } = state.scene;
  return wavelengths ? `${k} · ${wavelengths[k].toFixed(0)} nm` : names.length ? `${k} · ${names[k]}` : `band ${k}`;
};

const bandSelects = ["band-r", "band-g", "band-b"].map($);
const bands = () => bandSelects.map((select) => Number(select.value));

function fillBands(scene) {
  for (const [number, select] of bandSelects.entries()) {
    fill(select, [...Array(scene.bands).keys()], (k) => element("option", { value: k, textContent: bandName(k) }));
    select.value = scene.rgb[number];
  }
  const presets = [["Default", scene.rgb]];
  for (const [name, wanted] of scene.wavelengths ? PRESETS : []) {
    if (wanted.every((nm) => nm >= Math.min(...scene.wavelengths) - 30 && nm <= Math.max(...scene.wavelengths) + 30)) presets.push([name, wanted.map(nearest)]);
  }
  if (presets.length > 1) presets.shift();
  fill($("preset"), [...presets, ["Own bands", null]], ([name, found]) => element("option", { value: JSON.stringify(found), textContent: name }));
}

const nearest = (nm) => state.scene.wavelengths.reduce((best, value, k, all) => (Math.abs(value - nm) < Math.abs(all[best] - nm) ? k : best), 0);

async function drawComposite() {
  view.set("composite", await picture("composite.png", { bands: bands().join(","), clip: $("clip").value, v: state.version }));
}

async function addSpectrum([row, column]) {
  const found = await get("spectrum", { row, column });
  const used = spectra.map((one) => one.colour);
  const colour = TONES.find((tone) => !used.includes(tone)) || TONES[0];
  spectra = [...spectra.slice(1 - TONES.length), { ...found, colour }];
  showSpectra();
}

function showSpectra() {
  const { scene, classes, result } = state;
  const says = (one) => (one.label ? `, labelled ${classes[one.label - 1]?.name}` : "") + (result && one.found ? `, mapped ${result.names[one.found - 1]} (${(100 * one.confidence).toFixed(0)} %)` : "");
  const lines = spectra.map((one) => ({ ...one, name: `row ${one.row}, column ${one.column}${says(one)}` }));
  drawSpectra($("chart"), lines, scene.wavelengths || [...Array(scene.bands).keys()], scene.wavelengths ? "wavelength in nm" : "band");
  $("spectra-hint").hidden = $("no-spectra").hidden = false;
  $("spectra-hint").hidden = spectra.length > 0;
  $("no-spectra").hidden = !spectra.length;
  view.points = spectra;
  view.draw();
}

// ---------------------------------------------------------------- the labels

function setTool(tool) {
  view.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", button.dataset.tool === tool);
  view.draw();
}

async function change(name, told, then = () => {}) {
  state = await post(name, told);
  then();
  showLabels();
  await drawLabels();
}

async function paint(path) {
  if (view.tool === "label" && !state.classes.length) throw new Error("add a class first: type its name under Labels");
  await change("paint", { path, label: view.tool === "erase" ? 0 : chosen, radius: view.radius });
}

async function drawLabels() {
  if (shown.labels === state.labels_version) return;
  shown.labels = state.labels_version;
  view.set("labels", await picture("labels.png", { v: `${state.version}-${state.labels_version}` }), Number($("opacity-labels").value));
}

function showLabels() {
  chosen = Math.max(1, Math.min(chosen, state.classes.length));
  fill($("classes"), state.classes, (one, k) => {
    const number = k + 1;
    const choose = () => { chosen = number; setTool("label"); showLabels(); };
    const name = element("input", { className: "name", type: "text", value: one.name, ariaLabel: `Name of class ${number}`, onfocus: () => { chosen = number; mark(); } });
    name.addEventListener("change", () => attempt(() => change("class/rename", { label: number, name: name.value })).then(showLabels));
    return element("li", { className: number === chosen ? "chosen" : "" },
      element("button", { className: "pick", type: "button", style: `background:${one.colour}`, title: `Label ${one.name}`, ariaLabel: `Label ${one.name}`, onclick: choose }),
      name,
      element("span", { className: "count", textContent: one.count, title: "labelled pixels" }),
      element("button", { className: "remove", type: "button", textContent: "×", title: `Remove ${one.name} and its labels`, ariaLabel: `Remove ${one.name}`, onclick: () => remove(number, one) }));
  });
  const mark = () => {
    [...$("classes").children].forEach((row, k) => row.classList.toggle("chosen", k + 1 === chosen));
    view.colour = state.classes[chosen - 1]?.colour || "#fff";
    view.draw();
  };
  mark();
  $("undo").disabled = !state.can_undo;
  $("label-hint").hidden = state.classes.some((one) => one.count >= 12);
  say($("notes"), state.notes);
}

function remove(number, one) {
  if (one.count && !confirm(`Remove ${one.name} with its ${one.count} labels? This cannot be undone.`)) return;
  attempt(() => change("class/remove", { label: number }));
}

function loadLabels(path) {
  return attempt(async () => {
    await change("labels", { path, field: $("labels-field").value, count: $("labels-count").value });
    $("load-labels").open = false;
    setTool("look");
  });
}

// ---------------------------------------------------------------- training

function sayModel() {
  $("model-text").textContent = about.models.find((one) => one.name === $("model").value)?.text || "";
}

async function train() {
  $("progress").dataset.state = "asked";
  await post("train", { model: $("model").value, epochs: $("epochs").value });
  view.marks = [];
  await watch();
}

async function watch() {
  $("train").disabled = true;
  $("cancel").hidden = false;
  let version = state.version;
  const status = await follow("work", async (now) => {
    showProgress($("progress"), now);
    if (now.version !== version) {
      version = now.version;
      state = await get("state");
      await showResult();
    }
  }).finally(() => {
    $("train").disabled = false;
    $("cancel").hidden = true;
  });
  say($("notes"), status.notes);
  if (status.state === "failed") throw new Error(status.error);
}

async function showResult() {
  const { result, classes } = state;
  if (!result) return;
  const first = !document.body.classList.contains("has-result");
  document.body.classList.add("has-result");
  if (first) $("opacity-labels").value = 0.9;
  const [map, confidence] = await Promise.all([picture("map.png", { v: state.version }), picture("confidence.png", { v: state.version })]);
  view.set("map", map, Number($("opacity-map").value));
  view.set("confidence", confidence, Number($("opacity-confidence").value));
  const labels = view.layers.get("labels");
  if (labels) view.set("labels", labels.image, Number($("opacity-labels").value));
  showAccuracy(result, classes);
  const again = await Promise.all(spectra.map(({ row, column }) => get("spectrum", { row, column })));
  spectra = spectra.map((one, k) => ({ ...again[k], colour: one.colour }));
  showSpectra();
}

function showAccuracy(result, classes) {
  const { accuracy } = result;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  $("accuracy").replaceChildren();
  if (accuracy) {
    $("accuracy").append(percent(accuracy.share), " right", element("small", { textContent: `95 % interval: ${(100 * accuracy.low).toFixed(1)} to ${percent(accuracy.high)}` }));
    const total = accuracy.total.reduce((sum, n) => sum + n, 0);
    const how = accuracy.kind === "kept aside" ? "that trained nothing" : "held out in turn, each part by a model that was trained on the others";
    $("accuracy-text").textContent = `Of ${total} labels at ${accuracy.places} places ${how}. They lie near those of the training; expect less on other ground. ${result.model}, map in ${result.seconds} s.`;
  } else {
    const running = !$("cancel").hidden;
    $("accuracy").append(element("small", { textContent: running ? "The map is there; the accuracy follows." : "No accuracy: label two or more places of a class." }));
    $("accuracy-text").textContent = `${result.model}, trained on ${result.labels} labels, map in ${result.seconds} s.`;
  }
  const colour = (name) => classes.find((one) => one.name === name)?.colour || "#888";
  const rows = result.names.map((name, k) => {
    const tone = element("i", { style: `background:${colour(name)}` });
    const right = accuracy && accuracy.total[k] ? `${accuracy.right[k]} of ${accuracy.total[k]}` : "–";
    return element("tr", {}, element("td", {}, tone, name), element("td", { textContent: right }), element("td", { textContent: result.pixels[k] }));
  });
  $("per-class").replaceChildren(element("tr", {}, ...["Class", "Right", "Pixels mapped"].map((text) => element("th", { textContent: text }))), ...rows);
}

async function suggest(kind) {
  view.marks = await get("suggest", { kind });
  $("no-marks").hidden = !view.marks.length;
  view.draw();
}

function say(list, notes) {
  fill(list, notes, (text) => element("li", { textContent: text }));
}

// ---------------------------------------------------------------- what is clicked

$("open").addEventListener("submit", (event) => { event.preventDefault(); open($("path").value, $("variable").value); });
$("file").addEventListener("change", ({ target }) => attempt(async () => {
  if (!target.files.length) return;
  const path = await upload(target.files, about.limit);
  target.value = "";
  await open(path, $("variable").value);
}));
for (const kind of ["dragover", "drop"]) document.getElementById("classify").addEventListener(kind, (event) => {
  event.preventDefault();
  if (kind === "drop" && event.dataTransfer.files.length) attempt(async () => open(await upload(event.dataTransfer.files, about.limit), $("variable").value));
});
for (const select of bandSelects) select.addEventListener("change", () => { $("preset").value = "null"; attempt(drawComposite); });
$("preset").addEventListener("change", () => {
  const wanted = JSON.parse($("preset").value);
  if (wanted) wanted.forEach((band, k) => { bandSelects[k].value = band; });
  attempt(drawComposite);
});
$("clip").addEventListener("change", () => attempt(drawComposite));
for (const name of ["labels", "map", "confidence"]) $(`opacity-${name}`).addEventListener("input", ({ target }) => {
  const layer = view.layers.get(name);
  if (layer) view.set(name, layer.image, Number(target.value));
});
for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
$("radius").addEventListener("change", ({ target }) => { view.radius = Number(target.value); });
$("undo").addEventListener("click", () => attempt(() => change("undo")));
$("clear").addEventListener("click", () => attempt(() => change("clear")));
$("zoom-in").addEventListener("click", () => view.zoom(1.4));
$("zoom-out").addEventListener("click", () => view.zoom(1 / 1.4));
$("fit").addEventListener("click", () => view.fit());
$("no-spectra").addEventListener("click", () => { spectra = []; showSpectra(); });
$("add-class").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => change("class/add", { name: $("class-name").value }, () => {
    $("class-name").value = "";
    chosen = state.classes.length;
    setTool("label");
  }));
});
$("own-labels").addEventListener("click", () => loadLabels(null));
$("labels-path-form").addEventListener("submit", (event) => { event.preventDefault(); loadLabels($("labels-path").value); });
$("labels-file").addEventListener("change", ({ target }) => attempt(async () => {
  if (!target.files.length) return;
  const path = await upload(target.files, about.limit);
  target.value = "";
  await loadLabels(path);
}));
$("model").addEventListener("change", sayModel);
$("train").addEventListener("click", () => attempt(train));
$("cancel").addEventListener("click", () => attempt(() => post("cancel")));
$("unsure").addEventListener("click", () => attempt(() => suggest("unsure")));
$("different").addEventListener("click", () => attempt(() => suggest("different")));
$("no-marks").addEventListener("click", () => { view.marks = []; $("no-marks").hidden = true; view.draw(); });
document.addEventListener("keydown", (event) => {
  if (!state?.scene || $("classify").hidden || /INPUT|SELECT/.test(event.target.tagName)) return;
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) attempt(() => change("undo"));
  else if (/^[1-9]$/.test(event.key) && state.classes[event.key - 1]) { chosen = Number(event.key); setTool("label"); showLabels(); }
  else if (event.key === "Escape") setTool("look");
});
window.addEventListener("resize", () => { if (state?.scene) showSpectra(); });
