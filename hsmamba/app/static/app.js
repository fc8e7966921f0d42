// The page: two tabs.

import { attempt, get } from "./api.js";
import * as classify from "./classify.js";
import * as sharpen from "./sharpen.js";

const names = ["classify", "sharpen"];

function show(name) {
  for (const one of names) {
    document.getElementById(one).hidden = one !== name;
    document.getElementById(`tab-${one}`).setAttribute("aria-selected", one === name);
  }
}

for (const name of names) document.getElementById(`tab-${name}`).addEventListener("click", () => show(name));

attempt(async () => {
  const about = await get("about");
  await Promise.all([classify.begin(about), sharpen.begin(about)]);
  document.body.dataset.ready = "yes";
});
