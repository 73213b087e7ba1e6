"use strict";

const byId = (id) => document.getElementById(id);
const table = byId("studies");
const rows = [...table.querySelectorAll("tbody tr")].map((row) => ({ row, text: row.textContent.toLowerCase() }));
const most = 200; // rows that are shown at once: laying out thousands takes seconds
let shown = most;

function showRows() {
  const words = byId("filter").value.toLowerCase().split(/\s+/);
  const kind = byId("kind").value;
  const found = rows.filter(
    ({ row, text }) => words.every((word) => text.includes(word)) && (!kind || row.classList.contains(kind)),
  );
  table.tBodies[0].replaceChildren(...found.slice(0, shown).map(({ row }) => row));
  byId("found").textContent = `${found.length} of ${rows.length} studies`;
  byId("more").hidden = found.length <= shown;
}

function startOver() {
  shown = most;
  showRows();
}

// Numbers by value, text by the reader's alphabet; unknown values stay last in both directions.
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
  startOver();
}

table.tHead.addEventListener("click", (event) => {
  const head = event.target.closest("th");
  if (!event.target.closest("button")) return;
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  sortRows(head.cellIndex, descending ? -1 : 1);
});
byId("filter").addEventListener("input", startOver);
byId("kind").addEventListener("change", startOver);
byId("more").addEventListener("click", () => {
  shown += most;
  showRows();
});
byId("controls").hidden = false;
showRows();
byId("rest").remove();
