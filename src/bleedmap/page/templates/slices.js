"use strict";
// What every viewer of slices shares: decoding, windows, colour and line, letters and the scale bar.
async function decode(uri, width, height) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const rgba = pen.getImageData(0, 0, width, height).data, one = new Uint8Array(width * height);
  for (let i = 0; i < one.length; i++) one[i] = rgba[4 * i];
  return one;
}

function toHu(study, code) {
  let k = 1;
  while (k < study.grey.length - 1 && code > study.grey[k]) k++;
  const part = (code - study.grey[k - 1]) / (study.grey[k] - study.grey[k - 1]);
  return study.hu[k - 1] + part * (study.hu[k] - study.hu[k - 1]);
}

// What each stored grey looks like in one of the windows.
function tabulate(study, index) {
  const [, level, span] = study.windows[index], lut = new Uint8Array(256);
  for (let code = 0; code < 256; code++) lut[code] = Math.max(0, Math.min(255, Math.round(255 * (toHu(study, code) - level + span / 2) / span)));
  return lut;
}

// A plane as an ImageData, of stored greys and (or null) probabilities in 255ths; colour and line are those of the still pictures.
function render(codes, over, w, h, lut, half, outlined) {
  const image = new ImageData(w, h), data = image.data, shown = 0.5 * 255;
  for (let i = 0; i < codes.length; i++) {
    const value = lut[codes[i]], at = 4 * i;
    data[at] = data[at + 1] = data[at + 2] = value;
    data[at + 3] = 255;
    if (outlined && over && over[i] >= shown) {
      const pale = 255 * (1 - (over[i] - shown) / (255 - shown));
      data[at] += 0.35 * (255 - value); data[at + 1] += 0.35 * (pale - value); data[at + 2] += 0.35 * (pale - value);
    }
  }
  if (outlined && over) {
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
  const unit = Math.max(1, canvas.width / (canvas.clientWidth || canvas.width));  // a pixel of the screen: letters stay legible on a phone
  pen.font = `600 ${16 * unit}px system-ui, sans-serif`;
  const middle = canvas.height / 2, centre = canvas.width / 2;
  const letter = (text, x, y, align) => { pen.textAlign = align; pen.fillText(text, x, y); };
  letter(corners[0], 6 * unit, middle, "left"); letter(corners[1], canvas.width - 6 * unit, middle, "right");
  letter(corners[2], centre, 18 * unit, "center"); letter(corners[3], centre, canvas.height - 7 * unit, "center");
  const bar = 50 * zoom;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(canvas.width - 12 - bar, canvas.height - 14); pen.lineTo(canvas.width - 12, canvas.height - 14);
  pen.stroke();
  pen.font = `${12 * unit}px system-ui, sans-serif`;
  letter("5 cm", canvas.width - 12 - bar / 2, canvas.height - 19, "center");
  if (cross) {
    pen.strokeStyle = "rgba(124, 196, 245, .55)"; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(left, top + cross[1] * h); pen.lineTo(left + w, top + cross[1] * h);
    pen.moveTo(left + cross[0] * w, top); pen.lineTo(left + cross[0] * w, top + h); pen.stroke();
  }
  return { zoom, left, top, w, h, unit };
}

const by = (id) => document.getElementById(id);
const slider = by("slice"), outline = by("outline"), words = by("words");
let lut = new Uint8Array(256);

// Say where the viewer stands.
function tell(index, sentence) {
  words.textContent = sentence;
  slider.value = String(index + 1);
  slider.setAttribute("aria-valuetext", sentence);
}

function setWindow(study, index, draw) {
  lut = tabulate(study, index);
  for (const one of document.querySelectorAll("input[name=window]")) one.checked = Number(one.value) === index;
  draw();
}

// Slider, keys, wheel, windows and outline of `count` slices; `where()` is the one shown, `go(index)` shows another.
function listen(study, { count, where, go, draw, canvases, keys = {} }) {
  const steps = { ArrowUp: 1, ArrowRight: 1, PageUp: 5, ArrowDown: -1, ArrowLeft: -1, PageDown: -5 };
  by("viewer").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target === slider && event.key.startsWith("Arrow"))) return;
    if (event.target.name === "window" && event.key.startsWith("Arrow")) return;
    if (event.key in steps) go(where() + steps[event.key]);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(count - 1);
    else if (event.key === "o") { outline.checked = !outline.checked; draw(); }
    else if (event.key in keys) keys[event.key]();
    else if (Number(event.key) >= 1 && Number(event.key) <= study.windows.length) setWindow(study, Number(event.key) - 1, draw);
    else return;
    event.preventDefault();
  });
  let turned = 0;
  for (const canvas of canvases) canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    turned += event.deltaY;
    if (Math.abs(turned) >= 40) { go(where() - Math.sign(turned)); turned = 0; }
  }, { passive: false });
  slider.addEventListener("input", () => go(Number(slider.value) - 1));
  outline.addEventListener("change", draw);
  study.windows.forEach(([name], index) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "window", value: String(index) });
    input.addEventListener("change", () => setWindow(study, index, draw));
    label.append(input, ` ${name}`);
    by("windows").append(label);
  });
}
