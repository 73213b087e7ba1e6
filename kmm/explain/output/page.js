"use strict";

const find = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

// --- The film: circles of each sensitivity, as the library wrote them into the page, and the heat

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

// --- The enlarged film: the same drawing, moved into a dialog. Its viewBox is the visible part, in pixels of the film.

const view = document.querySelector(".view");
const viewer = byId("viewer");
const letter = Number(byId("circles")?.getAttribute("font-size"));
const MOST_ZOOM = 40;

function readBox() {
  const { x, y, width, height } = view.viewBox.baseVal;
  return { x, y, width, height };
}

// The film always fills the view, so that it cannot be moved out of sight.
function setBox(x, y, width) {
  const [whole, high] = [Number(view.getAttribute("width")), Number(view.getAttribute("height"))];
  width = Math.min(whole, Math.max(whole / MOST_ZOOM, width));
  const height = (width * high) / whole;
  x = Math.min(whole - width - 0.5, Math.max(-0.5, x));
  y = Math.min(high - height - 0.5, Math.max(-0.5, y));
  view.setAttribute("viewBox", [x, y, width, height].join(" "));
  byId("circles").setAttribute("font-size", (letter * width) / whole); // ranks keep their size on the screen
}

function zoomAt(factor, clientX, clientY) {
  const point = new DOMPoint(clientX, clientY).matrixTransform(view.getScreenCTM().inverse());
  const box = readBox();
  setBox(point.x - (point.x - box.x) / factor, point.y - (point.y - box.y) / factor, box.width / factor);
}

function zoomMiddle(factor) {
  const { left, top, width, height } = view.getBoundingClientRect();
  zoomAt(factor, left + width / 2, top + height / 2);
}

function pan(right, down) {
  const { x, y, width } = readBox();
  const scale = view.getScreenCTM().a;
  setBox(x - right / scale, y - down / scale, width);
}

// Gray levels within the window are spread from black to white, as in a DICOM viewer.
function setGrays(width, level) {
  byId("window").value = width;
  byId("level-of-grays").value = level;
  const [chosen, middle] = [Number(byId("window").value), Number(byId("level-of-grays").value)];
  for (const part of find("#grays feComponentTransfer > *")) {
    part.setAttribute("slope", 255 / chosen);
    part.setAttribute("intercept", 0.5 - middle / chosen);
  }
  const plain = chosen === 255 && middle === 127.5;
  if (plain) byId("picture").removeAttribute("filter");
  else byId("picture").setAttribute("filter", "url(#grays)");
}

function changeGrays(width, level) {
  setGrays(Number(byId("window").value) + width, Number(byId("level-of-grays").value) + level);
}

function resetView() {
  setBox(-0.5, -0.5, Infinity);
  setGrays(255, 127.5);
}

function openViewer() {
  viewer.querySelector(".tools").after(byId("film-controls"));
  byId("stage").append(view);
  viewer.showModal();
}

function closeViewer() {
  setBox(-0.5, -0.5, Infinity);
  byId("place").before(byId("film-controls"));
  byId("place").append(view);
  byId("enlarge").focus();
}

const held = new Map(); // pointers that are down on the film, by their id

function measureHeld() {
  const [a, b] = [...held.values()];
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
}

function movePointer(event) {
  const before = held.get(event.pointerId);
  if (!before) return;
  const [right, down] = [event.clientX - before.x, event.clientY - before.y];
  const pinch = held.size === 2 && measureHeld();
  held.set(event.pointerId, { x: event.clientX, y: event.clientY, grays: before.grays });
  if (pinch) {
    const { x, y, apart } = measureHeld();
    if (pinch.apart) zoomAt(apart / pinch.apart, x, y);
    pan(x - pinch.x, y - pinch.y);
  } else if (before.grays) {
    changeGrays(right, down / 2);
  } else {
    pan(right, down);
  }
}

function linkViewer() {
  const stage = byId("stage");
  byId("enlarge").addEventListener("click", openViewer);
  view.addEventListener("click", () => viewer.open || openViewer());
  byId("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("close", closeViewer);
  byId("reset").addEventListener("click", resetView);
  find("[data-zoom]").forEach((part) => part.addEventListener("click", () => zoomMiddle(Number(part.dataset.zoom))));
  for (const id of ["window", "level-of-grays"]) byId(id).addEventListener("input", () => changeGrays(0, 0));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX, event.clientY);
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("pointerdown", (event) => {
    const grays = event.shiftKey || event.button === 2;
    held.set(event.pointerId, { x: event.clientX, y: event.clientY, grays });
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", movePointer);
  for (const kind of ["pointerup", "pointercancel"]) {
    stage.addEventListener(kind, (event) => held.delete(event.pointerId));
  }
}

const VIEWER_KEYS = {
  "+": () => zoomMiddle(1.4),
  "=": () => zoomMiddle(1.4),
  "-": () => zoomMiddle(1 / 1.4),
  0: resetView,
  ArrowLeft: () => pan(60, 0),
  ArrowRight: () => pan(-60, 0),
  ArrowUp: () => pan(0, 60),
  ArrowDown: () => pan(0, -60),
};

// --- The report

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

function orderSentences(by) {
  document.body.classList.toggle("by-share", by === "share");
  const lines = find("tr", byId("sentences"));
  lines.sort((a, b) => b.dataset[by] - a.dataset[by]);
  byId("sentences").replaceChildren(...lines);
}

// --- Keys. Circles, report and strip are one tab stop each; the arrow keys, Home and End move inside them.

function moveInside(event) {
  const parts = find("[data-part]", event.currentTarget).filter((part) => part.checkVisibility());
  const here = parts.indexOf(document.activeElement);
  const moves = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: parts.length - 1 };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const next = parts[moves[event.key]];
  if (!next) return;
  for (const part of parts) part.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// Elsewhere the arrow keys go to the previous and the next study, or pan the enlarged film.
function pressKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape") readOut(null);
  if (event.target.closest("input, select, .strip")) return;
  if (viewer?.open) {
    if (!(event.key in VIEWER_KEYS)) return;
    event.preventDefault();
    VIEWER_KEYS[event.key]();
  } else if (event.key === "ArrowLeft") {
    byId("previous")?.click();
  } else if (event.key === "ArrowRight") {
    byId("next")?.click();
  }
}

// Only the index knows the order of the studies: the links lead to it, and it redirects to the previous or next page.
function linkNeighbours() {
  const name = location.pathname.split("/").pop();
  for (const side of ["previous", "next"]) {
    byId(side).href += `#${side}=${name}`;
    byId(side).hidden = false;
  }
}

for (const kind of ["mouseover", "focusin", "click"]) {
  document.addEventListener(kind, (event) => readOut(event.target.closest("[data-part]")));
}
find(".controls").forEach((part) => (part.hidden = false));
find(".rove").forEach((part) => part.addEventListener("keydown", moveInside));
document.addEventListener("keydown", pressKey);
addEventListener("beforeprint", () => find("details").forEach((part) => (part.open = true)));
if (byId("next")) linkNeighbours();
if (view) {
  byId("sensitivity").addEventListener("input", (event) => showSensitivity(Number(event.target.value)));
  linkToggle(byId("show-circles"), byId("circles"));
  linkToggle(byId("show-heat"), byId("heat"));
  byId("opacity").addEventListener("input", (event) => {
    byId("heat").setAttribute("opacity", event.target.value / 100);
    byId("show-heat").checked = true;
    byId("heat").classList.remove("off");
  });
  linkViewer();
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
  byId("shade")?.addEventListener("change", (event) => orderSentences(event.target.value));
}
