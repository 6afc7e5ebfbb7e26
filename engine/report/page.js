"use strict";
const clean = (text) => text.trim().toLowerCase();

function sortBy(header) {
  const table = header.closest("table"), column = header.cellIndex, body = table.tBodies[0];
  const descending = header.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const sign = descending ? -1 : 1;
  const words = (one, other) => key(one).localeCompare(key(other)) * sign;
  const numbers = (one, other) => (Number(key(one)) - Number(key(other))) * sign;
  const rows = [...body.rows];
  const numeric = rows.every((row) => key(row) !== "" && !Number.isNaN(Number(key(row))));
  rows.sort(numeric ? numbers : words).forEach((row) => body.append(row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => sortBy(button.closest("th")));

for (const input of document.querySelectorAll("input[data-table]")) {
  const table = document.getElementById(input.dataset.table);
  const count = document.getElementById(input.dataset.table + "-count");
  input.addEventListener("input", () => {
    const wanted = clean(input.value);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !clean(row.textContent).includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = wanted ? shown + " of " + table.tBodies[0].rows.length : "";
  });
}

const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
const pauses = document.querySelectorAll("button[data-pause]");
let isMoving = !still;
const label = () => pauses.forEach((button) => { button.textContent = isMoving ? "Pause" : "Play"; });
for (const button of pauses)
  button.addEventListener("click", () => {
    isMoving = !isMoving;
    document.body.classList.toggle("paused", !isMoving);
    document.body.classList.add("moving");
    label();
  });
label();
