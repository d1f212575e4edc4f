const data = JSON.parse(document.getElementById("planes-data").textContent);
const { width, height, pixel_mm, letters, planes } = data, half = Math.round(data.threshold * 255);
const by = (id) => document.getElementById(id);
const slider = by("slice"), outline = by("outline"), words = by("words"), canvases = [by("first"), by("second")];
const nothing = new Uint8Array(width * height), decoded = planes.map(() => [null, null]);
let at = 0, lut = new Uint8Array(256);

function draw() {
  canvases.forEach((canvas, side) => {
    const one = decoded[at][side];
    const image = render(one ? one.grey : nothing, one && one.probability, width, height, lut, half, outline.checked);
    const place = paint(canvas, image, width * pixel_mm, height * pixel_mm, [letters.left, letters.right, letters.front, letters.back], null);
    const pen = canvas.getContext("2d");
    pen.font = "600 15px system-ui, sans-serif"; pen.textAlign = "left"; pen.fillStyle = "#ffd24a";
    if (!one) pen.fillText("not scanned here", canvas.width / 2 - 60, canvas.height / 2);
    else if (outline.checked) for (const [number, row, column] of planes[at].halves[side].lesions) {
      const x = place.left + column / width * place.w + 3, y = place.top + row / height * place.h + 10;
      pen.fillText(String(number), Math.min(x, canvas.width - 20), Math.max(y, 14));
    }
  });
  words.textContent = planes[at].words;
  slider.value = String(at + 1);
  slider.setAttribute("aria-valuetext", planes[at].words);
}

function go(plane) {
  at = Math.max(0, Math.min(planes.length - 1, plane));
  draw();
}

function setWindow(index) {
  lut = tabulate(data, index);
  for (const one of document.querySelectorAll("input[name=window]")) one.checked = Number(one.value) === index;
  draw();
}

const keys = { ArrowUp: 1, ArrowRight: 1, PageUp: 5, ArrowDown: -1, ArrowLeft: -1, PageDown: -5 };
by("viewer").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || (event.target === slider && event.key.startsWith("Arrow"))) return;
  if (event.target.name === "window" && event.key.startsWith("Arrow")) return;
  if (event.key in keys) go(at + keys[event.key]);
  else if (event.key === "Home") go(0);
  else if (event.key === "End") go(planes.length - 1);
  else if (event.key === "o") { outline.checked = !outline.checked; draw(); }
  else if (Number(event.key) >= 1 && Number(event.key) <= data.windows.length) setWindow(Number(event.key) - 1);
  else return;
  event.preventDefault();
});
let turned = 0;
for (const canvas of canvases) canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  turned += event.deltaY;
  if (Math.abs(turned) >= 40) { go(at - Math.sign(turned)); turned = 0; }
}, { passive: false });
slider.addEventListener("input", () => go(Number(slider.value) - 1));
outline.addEventListener("change", draw);
data.windows.forEach(([name], index) => {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "window", value: String(index) });
  input.addEventListener("change", () => setWindow(index));
  label.append(input, ` ${name}`);
  by("windows").append(label);
});

(async () => {
  await Promise.all(planes.flatMap((plane, index) => plane.halves.map(async (one, side) => {
    if (one) decoded[index][side] = {
      grey: await decode(one.grey, width, height),
      probability: one.probability && await decode(one.probability, width, height),
    };
  })));
  document.documentElement.classList.add("scripted");
  const marked = planes.flatMap((plane, index) => plane.marked ? [index] : []);
  at = marked.length ? marked[marked.length >> 1] : planes.length >> 1;
  setWindow(1);
})();
