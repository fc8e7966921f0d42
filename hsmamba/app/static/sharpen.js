// The second tab: two images, sharpened and compared.

import { attempt, element, fill, follow, get, picture, post, showProgress, upload } from "./api.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const SAYS = { before: "coarse", after: "sharpened", guide: "guide" };
const TITLES = { D_lambda: "Dλ", D_s: "Ds", D_lambda_K: "Dλ,K" };

let about = null, state = null;
const view = new View($("pair-view"), { onSwipe: (share) => { $("swipe").value = share; } });

export async function begin(told) {
  about = told;
  $("adapt-seconds").max = about.seconds;
  state = await get("pair");
  if (state.pair) await showPair();
}

function open(told) {
  return attempt(async () => {
    state = await post("pair", told);
    await showPair();
  });
}

async function showPair() {
  const { pair } = state;
  document.body.classList.add("has-pair");
  const size = ([rows, columns, count]) => `${columns} × ${rows} pixels, ${count} ${count === 1 ? "band" : "bands"}`;
  $("pair-facts").textContent = `${pair.name}: coarse ${size(pair.ms)}; guide ${size(pair.guide)}; ratio ${pair.ratio}`;
  $("pair-facts").hidden = false;
  $("opening-pair").open = false;
  const groups = { classical: "Classical methods", weight: "Weights of the zoo that fit", untrained: "Networks, trained on this pair alone" };
  const found = Object.entries(groups).map(([kind, label]) => [label, pair.methods.filter((one) => one.kind === kind)]).filter(([, methods]) => methods.length);
  fill($("method"), found, ([label, methods]) => element("optgroup", { label }, ...methods.map(({ name }) => element("option", { value: name, textContent: name }))));
  $("method").value = pair.methods.some((one) => one.name === "GSA") ? "GSA" : pair.methods[0].name;
  sayMethod();
  view.setSize(pair.guide[0], pair.guide[1]);
  view.setSwipe(0.5);
  $("swipe").value = 0.5;
  $("right").value = state.result ? "after" : "guide";
  await showResult();
}

function sayMethod() {
  const method = state.pair.methods.find((one) => one.name === $("method").value);
  const classical = method.kind === "classical";
  $("method-text").textContent = classical ? "Takes a second, and is not tuned." : method.text;
  $("adapt").disabled = classical;
  $("adapt-seconds").disabled = classical;
  if (classical) $("adapt").checked = false;
  if (method.kind === "untrained") $("adapt").checked = true;
}

async function showSides() {
  const v = state.version;
  const sides = [["left", $("left").value], ["right", $("right").value]];
  const images = await Promise.all(sides.map(([, which]) => (which === "after" && !state.result ? null : picture("pair.png", { which, v }))));
  sides.forEach(([side], k) => view.set(side, images[k]));
  const [left, right] = document.querySelectorAll(".swipe span");
  [left.textContent, right.textContent] = sides.map(([, which]) => SAYS[which]);
}

async function showResult() {
  const { result } = state;
  document.body.classList.toggle("has-sharp", Boolean(result));
  if (result) {
    const held = Object.keys(result.full).includes("up-sampled");
    $("figures-text").textContent = (held
      ? "Reduced scale: held-out tiles of this pair, whose truth is the coarse image. Full scale: the middle of the result, without truth."
      : "Of a strip of this pair. Reduced scale: its truth is the coarse image. Full scale: without truth.") + ` ${result.used}, ${result.seconds} s.`;
    table($("reduced"), "Reduced scale", result.reduced, result.used);
    table($("full"), "Full scale", result.full, result.used);
    fill($("sharpen-notes"), result.notes, (text) => element("li", { textContent: text }));
  }
  await showSides();
}

const LESS = new Set(["SAM", "ERGAS", "D_lambda", "D_s", "D_lambda_K"]);

function table(box, title, rows, mine) {
  const names = Object.keys(rows);
  if (!names.length) return box.replaceChildren();
  const columns = Object.keys(rows[names[0]]);
  const head = element("tr", {}, element("th", { textContent: title }), ...columns.map((name) => element("th", { textContent: `${TITLES[name] || name} ${LESS.has(name) ? "↓" : "↑"}` })));
  const digits = (value) => value.toFixed(Math.abs(value) >= 10 ? 2 : 3);
  box.replaceChildren(head, ...names.map((name) => element("tr", { className: name === mine ? "mine" : "" }, element("td", { textContent: name }), ...columns.map((column) => element("td", { textContent: digits(rows[name][column]) })))));
}

async function run() {
  $("sharpen-progress").dataset.state = "asked";
  await post("sharpen", { method: $("method").value, adapt: $("adapt").checked ? $("adapt-seconds").value : "" });
  fill($("sharpen-notes"), [], () => null);
  $("run-sharpen").disabled = true;
  $("cancel-sharpen").hidden = false;
  let version = state.version;
  const status = await follow("pair/work", async (now) => {
    showProgress($("sharpen-progress"), now);
    if (now.version !== version) {
      version = now.version;
      state = await get("pair");
      $("right").value = "after";
      await showResult();
    }
  }).finally(() => {
    $("run-sharpen").disabled = false;
    $("cancel-sharpen").hidden = true;
  });
  if (status.state === "failed") throw new Error(status.error);
  fill($("sharpen-notes"), [...new Set([...(state.result?.notes || []), ...status.notes])], (text) => element("li", { textContent: text }));
}

$("open-pair").addEventListener("submit", (event) => { event.preventDefault(); open({ ms: $("ms").value, guide: $("guide").value }); });
$("sample").addEventListener("click", () => open({ sample: true }));
for (const side of ["ms", "guide"]) $(`${side}-file`).addEventListener("change", ({ target }) => attempt(async () => {
  if (target.files.length) $(side).value = await upload(target.files, about.limit);
  target.value = "";
}));
$("method").addEventListener("change", sayMethod);
$("run-sharpen").addEventListener("click", () => attempt(run));
$("cancel-sharpen").addEventListener("click", () => attempt(() => post("pair/cancel")));
for (const side of ["left", "right"]) $(side).addEventListener("change", () => attempt(showSides));
$("swipe").addEventListener("input", ({ target }) => view.setSwipe(Number(target.value)));
$("pair-in").addEventListener("click", () => view.zoom(1.4));
$("pair-out").addEventListener("click", () => view.zoom(1 / 1.4));
$("pair-fit").addEventListener("click", () => view.fit());
