const study = JSON.parse(document.getElementById("slices-data").textContent);
const { width, height, heights_mm, extents_mm, pixel_mm, letters, slices } = study;
const count = slices.length, half = Math.round(study.threshold * 255);
const [rowMm, columnMm] = pixel_mm, at = { slice: 0, row: height >> 1, column: width >> 1 };
const grey = new Array(count), probability = new Array(count);
const planes = { axial: by("axial"), coronal: by("coronal"), sagittal: by("sagittal") };

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
  pen.font = `600 ${15 * place.unit}px system-ui, sans-serif`; pen.textAlign = "left"; pen.fillStyle = "#ffd24a";
  if (outline.checked) study.lesions.forEach((one, index) => {
    if (s < one.first[0] || s > one.last[0]) return;
    const x = place.left + one.last[2] * columnMm * place.zoom + 3, y = place.top + one.first[1] * rowMm * place.zoom + 10;
    pen.fillText(String(index + 1), Math.min(x, planes.axial.width - 14), Math.max(y, 14));
  });
  paint(planes.coronal, cut(width, row * width, 1), width * columnMm, tall,
    [letters.left, letters.right, letters.top, letters.bottom], [column / width, lineOf(s)]);
  paint(planes.sagittal, cut(height, column, width), height * rowMm, tall,
    [letters.front, letters.back, letters.top, letters.bottom], [row / height, lineOf(s)]);
  tell(s, slices[s].words);
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

listen(study, { count, where: () => at.slice, go, draw, canvases: Object.values(planes), keys: { n: nextLesion } });
planes.axial.addEventListener("click", (event) => {
  const [x, y] = pointed(planes.axial, event);
  at.column = Math.max(0, Math.min(width - 1, Math.floor((x - place.left) / place.w * width)));
  at.row = Math.max(0, Math.min(height - 1, Math.floor((y - place.top) / place.h * height)));
  draw();
});
by("next").addEventListener("click", nextLesion);
by("next").hidden = study.lesions.length === 0;

(async () => {
  await Promise.all(slices.map(async (one, s) => {
    grey[s] = await decode(one.grey, width, height);
    probability[s] = one.probability && await decode(one.probability, width, height);
  }));
  document.documentElement.classList.add("scripted");
  at.slice = count >> 1;
  setWindow(study, 1, draw);
  if (study.lesions.length) nextLesion();
})();
