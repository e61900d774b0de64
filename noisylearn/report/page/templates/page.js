"use strict";

// Light or dark, other than the reader's system says.
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const isDark = getComputedStyle(root).colorScheme === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
});

// Tables: a column's button sorts by numbers where cells state them, otherwise by text; empty cells come last.
function keyOf(row, column) {
  const cell = row.cells[column];
  const order = "order" in cell.dataset ? Number(cell.dataset.order) : cell.textContent.trim();
  return order === "" || Number.isNaN(order) ? null : order;
}
function compared(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}
function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const sign = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
  heads.forEach((head, i) =>
    head.setAttribute("aria-sort", i !== column ? "none" : sign === 1 ? "ascending" : "descending"));
  const keyed = [...table.tBodies[0].rows].map((row) => [keyOf(row, column), row]);
  keyed.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compared(a, b));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}
for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, i) =>
    head.querySelector("button").addEventListener("click", () => sort(table, i)));
}

// Charts: drawn as SVG in the colour of text; expressions are interpreted, not evaluated as scripts.
const axis = { labelColor: "currentColor", titleColor: "currentColor", gridColor: "currentColor", gridOpacity: 0.15,
  domainColor: "currentColor", tickColor: "currentColor", domainOpacity: 0.5, tickOpacity: 0.5, titleFontWeight: 500 };
const config = { font: "system-ui, sans-serif", background: null, view: { stroke: null }, axis,
  legend: { labelColor: "currentColor", titleColor: "currentColor", labelFontSize: 12 },
  autosize: { type: "fit-x", contains: "padding" } };
const views = {};
async function draw(place) {
  const spec = JSON.parse(place.nextElementSibling.textContent);
  const { view } = await vegaEmbed(place, spec, { ast: true, renderer: "svg", actions: false, config });
  (views[place.dataset.scope] ??= []).push(view);
}
Promise.all([...document.querySelectorAll(".chart")].map(draw)).then(() => root.classList.add("drawn"));

// Legends: what is not ticked is drawn in no chart of the section.
for (const legend of document.querySelectorAll(".legend")) {
  legend.addEventListener("change", () => {
    const hidden = [...legend.querySelectorAll("input:not(:checked)")].map((box) => box.value);
    for (const view of views[legend.dataset.scope] ?? []) view.signal("hidden", hidden).runAsync();
  });
}
