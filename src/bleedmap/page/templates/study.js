const study = JSON.parse(document.getElementById("slices-data").textContent);
const { width, height, heights_mm, extents_mm, pixel_mm, letters, slices } = study;
const count = slices.length, half = Math.round(study.threshold * 255);
const [rowMm, columnMm] = pixel_mm, at = { slice: 0, row: height >> 1, column: width >> 1 };
const grey = new Array(count), probability = new Array(count);
const by = (id) => document.getElementById(id);
const slider = by("slice"), outline = by("outline"), words = by("words"), planes = { axial: by("axial"), coronal: by("coronal"), sagittal: by("sagittal") };
let lut = new Uint8Array(256), chosen = 1;

function setWindow(index) {
  chosen = index;
  lut = tabulate(study, index);
  for (const one of document.querySelectorAll("input[name=window]")) one.checked = Number(one.value) === index;
  draw();
}

// The heights at which a slice ends, from the lowest: uneven slices are drawn as thick as they stand for.
const bottom = heights_mm[0] - extents_mm[0] / 2, tall = heights_mm[count - 1] + extents_mm[count - 1] / 2 - bottom;
const lines = Math.max(count, Math.min(1024, Math.round(tall / Math.min(rowMm, columnMm, tall / count))));
const sliceOf = new Uint16Array(lines);
for (let line = 0, s = count - 1; line < lines; line++) {
  const height_mm = bottom + tall * (1 - (line + 0.5) / lines);
  while (s > 0 && (heights_mm[s] + heights_mm[s - 1]) / 2 > height_mm) s--;
  sliceOf[line] = s;
}
const lineOf = (s) => (bottom + tall - heights_mm[s]) / tall;

// A plane across the slices: line y shows slice `sliceOf[y]`, column x its pixel `first + x * step`.
function cut(w, first, step) {
  const codes = new Uint8Array(w * lines), over = new Uint8Array(w * lines);
  for (let y = 0, i = 0; y < lines; y++) {
    const s = sliceOf[y];
    for (let x = 0, p = first; x < w; x++, i++, p += step) {
      codes[i] = grey[s][p];
      if (probability[s]) over[i] = probability[s][p];
    }
  }
  return render(codes, over, w, lines, lut, half, outline.checked);
}

let place = {};
function draw() {
  const { slice: s, row, column } = at;
  place = paint(planes.axial, render(grey[s], probability[s], width, height, lut, half, outline.checked), width * columnMm, height * rowMm,
    [letters.left, letters.right, letters.front, letters.back], null);
  const pen = planes.axial.getContext("2d");
  pen.font = "600 15px system-ui, sans-serif"; pen.textAlign = "left"; pen.fillStyle = "#ffd24a";
  if (outline.checked) study.lesions.forEach((one, index) => {
    if (s < one.first[0] || s > one.last[0]) return;
    const x = place.left + one.last[2] * columnMm * place.zoom + 3, y = place.top + one.first[1] * rowMm * place.zoom + 10;
    pen.fillText(String(index + 1), Math.min(x, planes.axial.width - 14), Math.max(y, 14));
  });
  paint(planes.coronal, cut(width, row * width, 1), width * columnMm, tall,
    [letters.left, letters.right, letters.top, letters.bottom], [column / width, lineOf(s)]);
  paint(planes.sagittal, cut(height, column, width), height * rowMm, tall,
    [letters.front, letters.back, letters.top, letters.bottom], [row / height, lineOf(s)]);
  words.textContent = slices[s].words;
  slider.value = String(s + 1);
  slider.setAttribute("aria-valuetext", slices[s].words);
}

function go(s) {
  at.slice = Math.max(0, Math.min(count - 1, s));
  draw();
}

function nextLesion() {
  const starts = study.lesions.map((one) => ({ s: (one.first[0] + one.last[0]) >> 1, row: (one.first[1] + one.last[1]) >> 1, column: (one.first[2] + one.last[2]) >> 1 }));
  if (!starts.length) return;
  nextLesion.index = ((nextLesion.index ?? -1) + 1) % starts.length;
  const one = starts[nextLesion.index];
  at.row = Math.min(one.row, height - 1); at.column = Math.min(one.column, width - 1);
  go(one.s);
}

function pointed(canvas, event) {
  const box = canvas.getBoundingClientRect(), zoom = canvas.width / box.width;
  return [(event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom];
}

const keys = { ArrowUp: 1, ArrowRight: 1, PageUp: 5, ArrowDown: -1, ArrowLeft: -1, PageDown: -5 };
by("viewer").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || (event.target === slider && event.key.startsWith("Arrow"))) return;
  if (event.target.name === "window" && event.key.startsWith("Arrow")) return;
  if (event.key in keys) go(at.slice + keys[event.key]);
  else if (event.key === "Home") go(0);
  else if (event.key === "End") go(count - 1);
  else if (event.key === "o") { outline.checked = !outline.checked; draw(); }
  else if (event.key === "n") nextLesion();
  else if (Number(event.key) >= 1 && Number(event.key) <= study.windows.length) setWindow(Number(event.key) - 1);
  else return;
  event.preventDefault();
});
let turned = 0;
for (const canvas of Object.values(planes)) canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  turned += event.deltaY;
  if (Math.abs(turned) >= 40) { go(at.slice - Math.sign(turned)); turned = 0; }
}, { passive: false });
planes.axial.addEventListener("click", (event) => {
  const [x, y] = pointed(planes.axial, event);
  at.column = Math.max(0, Math.min(width - 1, Math.floor((x - place.left) / place.w * width)));
  at.row = Math.max(0, Math.min(height - 1, Math.floor((y - place.top) / place.h * height)));
  draw();
});
slider.addEventListener("input", () => go(Number(slider.value) - 1));
outline.addEventListener("change", draw);
by("next").addEventListener("click", nextLesion);
by("next").hidden = study.lesions.length === 0;
study.windows.forEach(([name], index) => {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "window", value: String(index) });
  input.addEventListener("change", () => setWindow(index));
  label.append(input, ` ${name}`);
  by("windows").append(label);
});

(async () => {
  await Promise.all(slices.map(async (one, s) => {
    grey[s] = await decode(one.grey, width, height);
    probability[s] = one.probability && await decode(one.probability, width, height);
  }));
  document.documentElement.classList.add("scripted");
  at.slice = count >> 1;
  setWindow(1);
  if (study.lesions.length) nextLesion();
})();
