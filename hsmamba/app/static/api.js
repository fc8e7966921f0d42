// What the page asks of the server, and how it says what went wrong.

const box = document.getElementById("error");
box.querySelector("button").addEventListener("click", () => { box.hidden = true; });

export function showError(text) {
  box.querySelector("span").textContent = text;
  box.hidden = false;
}

async function answer(response) {
  const found = await response.json().catch(() => ({ error: "the app gave no answer; is it still running?" }));
  if (!response.ok) throw new Error(found.error || response.statusText);
  return found;
}

export async function get(name, told = {}) {
  return answer(await fetch(`api/${name}?${new URLSearchParams(told)}`));
}

export async function post(name, told = {}) {
  return answer(await fetch(`api/${name}`, { method: "POST", body: JSON.stringify(told) }));
}

// Files that belong together (an ENVI header and its numbers, a shapefile's parts) lie side by side on the other end.
const MAIN = /\.(hdr|shp|tiff?|mat|np[yz]|vrt|geojson|json|gpkg|h5|he5|nc)$/i;
export async function upload(files, limit) {
  const batch = Math.random().toString(36).slice(2);
  let main = null;
  for (const file of files) {
    if (file.size > limit) throw new Error(`${file.name} is larger than ${limit / 2 ** 30} GiB; type its path instead, it is read where it is`);
    const told = new URLSearchParams({ name: file.name, batch });
    const { path } = await answer(await fetch(`api/upload?${told}`, { method: "PUT", body: file }));
    if (main === null || (MAIN.test(file.name) && !MAIN.test(main)) || /\.(hdr|shp)$/i.test(file.name)) main = path;
  }
  return main;
}

// Do something, and say what went wrong. Resolves to undefined then.
export async function attempt(action) {
  try {
    box.hidden = true;
    return await action();
  } catch (error) {
    showError(error instanceof TypeError ? "the app does not answer; is it still running?" : error.message);
    return undefined;
  }
}

export function picture(name, told) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error(`the picture ${name} could not be drawn`));
    image.src = `api/${name}?${new URLSearchParams(told)}`;
  });
}

// Follow a piece of work until its end; `told` sees every status.
export async function follow(name, told) {
  for (;;) {
    const status = await get(name);
    await told(status);
    if (status.state !== "running") return status;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

export function showProgress(box, status) {
  const bar = box.querySelector("progress");
  box.dataset.state = status.state;
  box.hidden = status.state === "idle";
  if (status.state === "running" && status.share === null) bar.removeAttribute("value");
  else bar.value = status.state === "running" ? status.share : status.state === "done" ? 1 : 0;
  const what = { running: status.text, done: "done", failed: "failed", cancelled: "cancelled" }[status.state] || "";
  box.querySelector("span").textContent = `${what} · ${status.seconds.toFixed(1)} s`;
}

export function fill(list, items, make) {
  list.replaceChildren(...items.map(make));
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
