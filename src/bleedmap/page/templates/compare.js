const data = JSON.parse(document.getElementById("planes-data").textContent);
const { width, height, pixel_mm, letters, planes } = data, half = Math.round(data.threshold * 255);
const canvases = [by("first"), by("second")];
const nothing = new Uint8Array(width * height), decoded = planes.map(() => [null, null]);
let at = 0;

function draw() {
  canvases.forEach((canvas, side) => {
    const one = decoded[at][side];
    const image = render(one ? one.grey : nothing, one && one.probability, width, height, lut, half, outline.checked);
    const place = paint(canvas, image, width * pixel_mm, height * pixel_mm, [letters.left, letters.right, letters.front, letters.back], null);
    const pen = canvas.getContext("2d");
    pen.font = `600 ${15 * place.unit}px system-ui, sans-serif`; pen.textAlign = "left"; pen.fillStyle = "#ffd24a";
    if (!one) pen.fillText("not scanned here", canvas.width / 2 - 60 * place.unit, canvas.height / 2);
    else if (outline.checked) for (const [number, row, column] of planes[at].halves[side].lesions) {
      const x = place.left + column / width * place.w + 3, y = place.top + row / height * place.h + 10;
      pen.fillText(String(number), Math.min(x, canvas.width - 20), Math.max(y, 14));
    }
  });
  tell(at, planes[at].words);
}

function go(plane) {
  at = Math.max(0, Math.min(planes.length - 1, plane));
  draw();
}

listen(data, { count: planes.length, where: () => at, go, draw, canvases });

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
  setWindow(data, 1, draw);
})();
