"use strict";
const study = JSON.parse(document.getElementById("slices-data").textContent);
const { width, height, heights_mm, extents_mm, pixel_mm, letters, slices } = study;
const count = slices.length, pixels = width * height, half = Math.round(study.threshold * 255), shown = 0.5 * 255;
const [rowMm, columnMm] = pixel_mm, at = { slice: 0, row: height >> 1, column: width >> 1 };
const grey = new Array(count), probability = new Array(count);
const by = (id) => document.getElementById(id);
const slider = by("slice"), outline = by("outline"), words = by("words"), planes = { axial: by("axial"), coronal: by("coronal"), sagittal: by("sagittal") };
let lut = new Uint8Array(256), chosen = 1;

async function decode(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const rgba = pen.getImageData(0, 0, width, height).data, one = new Uint8Array(pixels);
  for (let i = 0; i < pixels; i++) one[i] = rgba[4 * i];
  return one;
}

function toHu(code) {
  let k = 1;
  while (k < study.grey.length - 1 && code > study.grey[k]) k++;
  const part = (code - study.grey[k - 1]) / (study.grey[k] - study.grey[k - 1]);
  return study.hu[k - 1] + part * (study.hu[k] - study.hu[k - 1]);
}

function setWindow(index) {
  chosen = index;
  const [, level, span] = study.windows[index];
  for (let code = 0; code < 256; code++) lut[code] = Math.max(0, Math.min(255, Math.round(255 * (toHu(code) - level + span / 2) / span)));
  for (const one of document.querySelectorAll("input[name=window]")) one.checked = Number(one.value) === index;
  draw();
}

// A plane as an ImageData: `pick(x, y)` gives [slice, pixel]; colour and line are those of the still pictures.
function render(w, h, pick) {
  const image = new ImageData(w, h), data = image.data, over = new Uint8Array(w * h);
  for (let y = 0, i = 0; y < h; y++) {
    for (let x = 0; x < w; x++, i++) {
      const [s, p] = pick(x, y), value = lut[grey[s] ? grey[s][p] : 0];
      over[i] = probability[s] ? probability[s][p] : 0;
      let r = value, g = value, b = value;
      if (outline.checked && over[i] >= shown) {
        const pale = 255 * (1 - (over[i] - shown) / (255 - shown));
        r += 0.35 * (255 - r); g += 0.35 * (pale - g); b += 0.35 * (pale - b);
      }
      data.set([r, g, b, 255], 4 * i);
    }
  }
  if (outline.checked) {
    for (let y = 0, i = 0; y < h; y++) for (let x = 0; x < w; x++, i++) {
      if (over[i] < half) continue;
      const edge = x === 0 || y === 0 || x === w - 1 || y === h - 1 || over[i - 1] < half || over[i + 1] < half || over[i - w] < half || over[i + w] < half;
      if (edge) data.set([255, 38, 38, 255], 4 * i);
    }
  }
  return image;
}

function paint(canvas, image, wMm, hMm, corners, cross) {
  const zoom = Math.min(canvas.width / wMm, canvas.height / hMm), w = wMm * zoom, h = hMm * zoom;
  const left = (canvas.width - w) / 2, top = (canvas.height - h) / 2, pen = canvas.getContext("2d");
  const small = new OffscreenCanvas(image.width, image.height);
  small.getContext("2d").putImageData(image, 0, 0);
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, left, top, w, h);
  pen.fillStyle = pen.strokeStyle = "#d6d8dc";
  pen.font = "600 16px system-ui, sans-serif";
  const middle = canvas.height / 2, centre = canvas.width / 2;
  const letter = (text, x, y, align) => { pen.textAlign = align; pen.fillText(text, x, y); };
  letter(corners[0], 6, middle, "left"); letter(corners[1], canvas.width - 6, middle, "right");
  letter(corners[2], centre, 18, "center"); letter(corners[3], centre, canvas.height - 7, "center");
  const bar = 50 * zoom;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(canvas.width - 12 - bar, canvas.height - 14); pen.lineTo(canvas.width - 12, canvas.height - 14);
  pen.stroke();
  pen.font = "12px system-ui, sans-serif";
  letter("5 cm", canvas.width - 12 - bar / 2, canvas.height - 19, "center");
  if (cross) {
    pen.strokeStyle = "rgba(124, 196, 245, .55)"; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(left, top + cross[1] * h); pen.lineTo(left + w, top + cross[1] * h);
    pen.moveTo(left + cross[0] * w, top); pen.lineTo(left + cross[0] * w, top + h); pen.stroke();
  }
  return { zoom, left, top, w, h };
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

let place = {};
function draw() {
  const { slice: s, row, column } = at;
  place = paint(planes.axial, render(width, height, (x, y) => [s, y * width + x]), width * columnMm, height * rowMm,
    [letters.left, letters.right, letters.front, letters.back], null);
  const pen = planes.axial.getContext("2d");
  pen.font = "600 15px system-ui, sans-serif"; pen.textAlign = "left"; pen.fillStyle = "#ffd24a";
  if (outline.checked) study.lesions.forEach((one, index) => {
    if (s < one.first[0] || s > one.last[0]) return;
    const x = place.left + one.last[2] * columnMm * place.zoom + 3, y = place.top + one.first[1] * rowMm * place.zoom + 10;
    pen.fillText(String(index + 1), Math.min(x, planes.axial.width - 14), Math.max(y, 14));
  });
  paint(planes.coronal, render(width, lines, (x, y) => [sliceOf[y], row * width + x]), width * columnMm, tall,
    [letters.left, letters.right, letters.top, letters.bottom], [column / width, lineOf(s)]);
  paint(planes.sagittal, render(height, lines, (x, y) => [sliceOf[y], x * width + column]), height * rowMm, tall,
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
    grey[s] = await decode(one.grey);
    probability[s] = one.probability && await decode(one.probability);
  }));
  document.documentElement.classList.add("scripted");
  at.slice = count >> 1;
  setWindow(1);
  if (study.lesions.length) nextLesion();
})();
