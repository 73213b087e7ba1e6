"use strict";

const find = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

// One circle set for each sensitivity stands in the page as the library computed it; the slider shows one of them.
function showSensitivity(position) {
  find(".step").forEach((part) => part.classList.toggle("off", Number(part.dataset.step) !== position));
  const slider = byId("sensitivity");
  const chosen = byId("levels").options[position];
  slider.value = position;
  slider.setAttribute("aria-valuetext", chosen.label);
  byId("level").textContent = chosen.label;
}

function readHash() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (wanted.has("sensitivity")) {
    const levels = [...byId("levels").options].map((option) => Math.abs(option.label - wanted.get("sensitivity")));
    showSensitivity(levels.indexOf(Math.min(...levels)));
  }
  if (wanted.has("heat")) {
    byId("show-heat").checked = wanted.get("heat") !== "0";
    byId("show-heat").dispatchEvent(new Event("change"));
  }
}

function linkToggle(box, layer) {
  box.addEventListener("change", () => layer.classList.toggle("off", !box.checked));
}

function readOut(part) {
  const line = byId("readout");
  find(".hot").forEach((other) => other.classList.remove("hot"));
  line.hidden = !part;
  if (!part) return;
  find(`[data-part="${part.dataset.part}"]`).forEach((other) => other.classList.add("hot"));
  const name = document.createElement("bdi");
  name.textContent = part.dataset.name || part.textContent;
  line.replaceChildren(name, ": " + (part.dataset.say || part.title));
}

// The circles, the report and the strip are one tab stop each; the arrow keys, Home and End move inside them.
function moveInside(event) {
  const parts = find("[data-part]", event.currentTarget);
  const here = parts.indexOf(document.activeElement);
  const moves = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: parts.length - 1 };
  const next = parts[moves[event.key]];
  if (!next) return;
  event.preventDefault();
  for (const part of parts) part.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

for (const kind of ["mouseover", "focusin", "click"]) {
  document.addEventListener(kind, (event) => readOut(event.target.closest("[data-part]")));
}
document.addEventListener("keydown", (event) => event.key === "Escape" && readOut(null));
addEventListener("beforeprint", () => find("details").forEach((part) => (part.open = true)));
find(".controls").forEach((part) => (part.hidden = false));
find(".rove").forEach((part) => part.addEventListener("keydown", moveInside));

if (byId("sensitivity")) {
  byId("sensitivity").addEventListener("input", (event) => showSensitivity(Number(event.target.value)));
  linkToggle(byId("show-circles"), byId("circles"));
  linkToggle(byId("show-heat"), byId("heat"));
  addEventListener("hashchange", readHash);
  readHash();
}
if (byId("strip")) {
  const zoom = (size) => byId("strip").style.setProperty("--cell", size + "px");
  byId("zoom").addEventListener("input", (event) => zoom(event.target.value));
  byId("fit").addEventListener("click", () => {
    byId("zoom").value = byId("strip").clientWidth / byId("strip").children.length;
    zoom(byId("zoom").value);
  });
  byId("palette").addEventListener("change", (event) => document.body.classList.toggle("paper", event.target.checked));
}
