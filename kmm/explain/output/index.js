"use strict";

const byId = (id) => document.getElementById(id);
const most = 200; // rows that are shown at once: laying out thousands takes seconds

// A page links to its previous or next study as `index.html#next=PAGE`; this redirects to it before the table is read.
// Returns a message if there is no such study.
function redirect() {
  const [, side, page] = /^#(next|previous)=(.+)$/.exec(location.hash) ?? [];
  if (!side) return "";
  const pages = JSON.parse(byId("pages").textContent);
  const place = pages.findIndex((name) => name === page || encodeURIComponent(name) === page || encodeURI(name) === page);
  const found = place < 0 ? undefined : pages[place + (side === "next" ? 1 : -1)];
  if (found) location.replace("./" + encodeURIComponent(found));
  if (place < 0) return "This index does not list the page that you came from.";
  return side === "next" ? "That was the last study." : "That was the first study.";
}

function start(message) {
  const table = byId("studies");
  const titles = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  const rows = [...table.querySelectorAll("tbody tr")].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  let shown = most;

  function showRows() {
    const words = byId("filter").value.toLowerCase().split(/\s+/);
    const kind = byId("kind").value;
    const found = rows.filter(
      ({ row, text }) => words.every((word) => text.includes(word)) && (!kind || row.classList.contains(kind)),
    );
    const laidOut = found.slice(0, shown).map(({ row }) => row);
    for (const row of laidOut) {
      for (const cell of [...row.cells].slice(2, -1)) cell.dataset.title = titles[cell.cellIndex]; // on narrow screens
    }
    table.tBodies[0].replaceChildren(...laidOut);
    byId("found").textContent = `${found.length} of ${rows.length} rows`;
    byId("more").hidden = found.length <= shown;
  }

  function startOver() {
    shown = most;
    showRows();
  }

  // Sorts numbers by value, text by the reader's locale; unknown values stay last in both directions.
  function sortRows(column, sign) {
    const order = new Intl.Collator(undefined, { numeric: true }).compare;
    for (const entry of rows) {
      const cell = entry.row.cells[column];
      entry.key = "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
    }
    const isUnknown = (key) => key === "" || key === "–";
    rows.sort((a, b) => {
      if (isUnknown(a.key) || isUnknown(b.key)) return isUnknown(a.key) - isUnknown(b.key);
      return sign * (typeof a.key === "number" ? a.key - b.key : order(a.key, b.key));
    });
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    table.tHead.rows[0].cells[column].setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
    startOver();
  }

  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!event.target.closest("button")) return;
    sortRows(head.cellIndex, head.getAttribute("aria-sort") === "ascending" ? -1 : 1);
  });
  for (const column of titles.keys()) {
    if (!column) continue; // the column of films cannot be sorted
    for (const [sign, arrow] of [[1, "▲"], [-1, "▼"]]) {
      byId("sort").append(new Option(`${titles[column]} ${arrow}`, `${sign * column}`));
    }
  }
  byId("sort").addEventListener("change", (event) => {
    const chosen = Number(event.target.value);
    if (chosen) sortRows(Math.abs(chosen), Math.sign(chosen));
  });
  byId("filter").addEventListener("input", startOver);
  byId("kind").addEventListener("change", startOver);
  byId("more").addEventListener("click", () => {
    shown += most;
    showRows();
  });
  addEventListener("beforeprint", () => {
    shown = Infinity;
    showRows();
  });
  addEventListener("afterprint", startOver);
  byId("controls").hidden = false;
  byId("scroll").classList.add("titled");
  byId("end").textContent = message;
  byId("end").hidden = !message;
  showRows();
  byId("rest").remove();
}

const message = redirect();
addEventListener("DOMContentLoaded", () => start(message));
