"use strict";
const body = document.querySelector("tbody"), rows = [...body.rows], count = document.getElementById("count");
const filter = document.getElementById("filter"), search = document.getElementById("search");
const buttons = [...document.querySelectorAll("thead button")];
document.documentElement.classList.add("scripted");
function show() {
  const words = search.value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = (filter.value !== "" && row.dataset.status !== filter.value) || !row.textContent.toLowerCase().includes(words);
    shown += row.hidden ? 0 : 1;
  }
  count.textContent = `${shown} of ${rows.length} shown`;
}
function sort(button) {
  const head = button.closest("th"), falling = head.getAttribute("aria-sort") === "ascending";
  for (const one of buttons) one.closest("th").removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
  const number = head.classList.contains("number");
  rows.sort((one, other) => {
    const a = value(one), b = value(other);
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = number ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
    return falling ? -order : order;
  });
  body.append(...rows);
}
for (const button of buttons) button.addEventListener("click", () => sort(button));
filter.addEventListener("change", show);
search.addEventListener("input", show);
show();
