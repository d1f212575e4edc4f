// The reading page: slices with the outline, what the program says of them, what the reader says, and the brush.

import { ask, follow, get, Problem, send, type Study, type View } from "./api";
import { chance, day, h, mayDiscard, millilitres, moment, person, table } from "./dom";
import { listen } from "./gestures";
import type { Screen } from "./main";
import { GlStack, hasWebGl2, PictureStack, type Spot, type Stack } from "./stack";
import { Ruler } from "./ruler";
import { findNext } from "./worklist";

const SAYS = [["agree", "Agree", "1"], ["missed", "Bleed missed", "2"], ["false alarm", "False alarm", "3"], ["cannot say", "Cannot say", "4"]] as const;
const KEYS: [string, string][] = [
  ["↑ ↓, wheel, one finger; PageUp PageDown", "slice up or down, by one; by five"], ["Home, End", "lowest, highest slice"], ["w", "next window"],
  ["right button, dragged", "window: width across, level down"], ["+ − 0, Ctrl + wheel, two fingers", "larger, smaller, the whole slice"], ["middle button, dragged", "move the enlarged slice"],
  ["o", "overlay on or off"], ["m, then left button or one finger, dragged", "measure in mm; m again removes the lines"], ["m, then Shift + arrows, Space", "the same by keys: move by 1 mm; begin or end a line"],
  ["n", "next lesion"], ["1 2 3 4", "agree, bleed missed, false alarm, cannot say"], ["Enter", "save the reading"], ["b", "brush on or off"],
  ["e", "erase or paint"], ["[ ]", "smaller or larger brush"], ["Shift + arrows, Space", "move the brush, paint a dab"], ["z", "undo"], ["s", "save the correction"], ["u", "next unread study"],
];
const PAINTED = "what you painted";
const UNOUTLINED = ["missed", "cannot say"];  // what can be said where there is no outline
const NO_BRUSH = "The brush is off: this browser has no WebGL2, which it needs. Slices, windows and readings work; to correct an outline, use a browser with graphics acceleration.";
const LETTERS = ["left", "right", "front", "back"] as const;

export const showReading: Screen = async (place, me, id = "") => {
  const base = `/api/studies/${id}`;
  const study = await get<Study>(base);
  const heading = drawHeading(study);
  if (!study.has_view) {
    const words = study.error || (["receiving", "complete"].includes(study.state) ? `There is nothing to show yet: the study is ${study.state}${study.waiting ? `, ${study.waiting}` : ""}.`
      : "There is nothing to show any more: the images were deleted by their age.");
    const said = h("p", { role: "status", className: "note" });
    const read = h("button", { type: "button", onclick: () => void send("POST", `${base}/readings`, { version: study.version, says: "cannot say" })
      .then(() => { said.textContent = "Saved: cannot say. It is no longer unread."; read.disabled = true; }, (error: Problem) => { said.textContent = error.sentence; }) }, "Mark as read: cannot say");
    const readable = study.unread && (study.verdict !== null || ["refused", "failed"].includes(study.state));  // what the server takes
    place.replaceChildren(heading, h("p", { className: "problem" }, words), readable ? h("div", { className: "tools" }, read, said) : "");
    return follow(() => void get<Study>(base, true).then((now) => { if (now.has_view || now.state !== study.state) location.reload(); }).catch(() => {}));
  }
  const versioned = `${base}/v${study.version}`;
  const view = await get<View>(`${versioned}/view`);
  if (!place.isConnected) return () => {};  // another page was asked for meanwhile
  const count = view.shape[0], seen = new Set<number>(), opened = Date.now();
  const start = view.lesions[0] ? (view.lesions[0].first[0]! + view.lesions[0].last[0]!) >> 1 : count >> 1;
  let slice = start, shown: [number, number] = [0, 1], overlay = true, lesion = -1, erase = false, size = 5, unsaved = false, strokes = 0, begun = "0", stack: Stack;

  // The stage.
  const words = h("p", { className: "words", "aria-live": "polite" }), at = h("p", { className: "note place" }), spot = h("span", { className: "spot" });
  const setting = h("span", { className: "setting" });
  const slider = h("input", { type: "range", min: "1", max: String(count), "aria-label": "Slice", oninput: () => go(Number(slider.value) - 1) });
  const stage = h("div", { className: "stage", tabIndex: 0, role: "application", "aria-label": "Slices" },
    ...LETTERS.map((side) => h("span", { className: `letter ${side}` }, view.letters[side]!)), spot, setting);
  const glass = hasWebGl2();
  const canvas = h("canvas", { "aria-hidden": "true" }), picture = h("img", { alt: "", draggable: false });
  const opening = h("p", { className: "opening", role: "status" }, "Loading the slices…");
  stage.prepend(glass ? canvas : picture, glass ? opening : "");

  // Windows and overlay.
  const windows = view.windows.map(([name, level, width], index) => {
    const radio = h("input", { type: "radio", name: "window", id: `window-${index}`, checked: index === 0, onchange: () => setWindow(index) });
    return h("label", {}, radio, ` ${name} ${level}/${width}`);
  });
  const ruler = new Ruler(view.pixel_mm, view.shape), measure = h("button", { type: "button", "aria-pressed": "false", onclick: () => setRuler() }, "Measure (m)");
  stage.append(ruler.sheet);
  const show = h("input", { type: "checkbox", checked: true, onchange: () => setOverlay(show.checked) });

  // What the reader says.
  const free = h("textarea", { id: "words", rows: 2, maxLength: 2000 }), said = h("p", { role: "status", className: "note" });
  const others = h("div", { role: "status" });
  const choices = SAYS.map(([value, label, key]) => h("label", {}, h("input", { type: "radio", name: "says", value, disabled: view.verdict === null && !UNOUTLINED.includes(value) }), ` ${label} `, h("kbd", {}, key)));
  const reading = h("form", { className: "box", onsubmit: (event: SubmitEvent) => { event.preventDefault(); void saveReading(); } },
    h("fieldset", {}, h("legend", {}, view.verdict === null ? "Your reading" : "Your reading of the outline"), ...choices),
    h("label", { htmlFor: "words" }, "Words, if any"), free,
    h("div", { className: "tools" }, h("button", { type: "submit", className: "main" }, "Save reading (Enter)"), h("button", { type: "button", onclick: () => void next() }, "Next unread (u)")), said, others);

  // The brush.
  const brush = h("button", { type: "button", "aria-pressed": "false", onclick: () => setBrush() }, "Brush (b)");
  const rubber = h("button", { type: "button", "aria-pressed": "false", disabled: true, onclick: () => setErase() }, "Erase (e)");
  const width = h("input", { type: "range", min: "1", max: "41", step: "2", value: "5", disabled: true, id: "pen", oninput: () => setSize(Number(width.value)) });
  const undo = h("button", { type: "button", disabled: true, onclick: () => undoStroke() }, "Undo (z)");
  const keep = h("button", { type: "button", className: "main", disabled: true, onclick: () => void saveCorrection() }, "Save correction (s)");
  const origin = h("select", { id: "origin", disabled: true, onchange: () => void begin() });
  const kept = h("p", { role: "status", className: "note" });
  const correct = h("section", { className: "box" }, h("h2", {}, "Correct the outline"),
    ...(glass ? [h("div", { className: "tools" }, brush, rubber, undo), h("label", { htmlFor: "pen" }, "Brush, pixels across"), width, h("label", { htmlFor: "origin" }, "Begin from"), origin, keep]
      : [h("p", {}, NO_BRUSH)]), kept);

  const newer = h("div", { role: "status" });
  place.replaceChildren(heading, newer, h("div", { className: "reading" },
    h("div", { className: "images" }, stage, h("div", { className: "under" }, slider, words, at, ...[...(view.series ?? []), ...view.geometry].map((one) => h("p", { className: "note" }, one))),
      h("div", { className: "tools" }, h("fieldset", { className: "windows" }, h("legend", {}, "Window (w)"), ...windows), h("label", {}, show, " Overlay (o)"), measure, drawScale())),
    h("div", { className: "panel" }, drawVerdict(view), drawLesions(), reading, correct, drawFiles(), h("details", {}, h("summary", {}, "Keys"),
      h("dl", { className: "keys" }, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]))))));

  function drawLesions(): HTMLElement {
    if (!view.lesions.length) return h("p", { className: "note" }, view.verdict === null ? "" : "No lesion is marked.");
    return table("Lesions, largest first", ["No.", "mL", "Side", "Slices", "Size, mm", "Mean HU"], view.lesions.map((one, index) => [
      h("button", { type: "button", className: "link", onclick: () => toLesion(index) }, String(one.lesion)), millilitres(one.volume_ml), one.side ?? "–",
      one.first_slice === one.last_slice ? String(one.first_slice) : `${one.first_slice}–${one.last_slice}`, 
      [one.longest_axial_diameter_mm, one.perpendicular_diameter_mm, one.height_mm].map((mm) => mm.toFixed(0)).join(" × "),
      one.mean_hu === null ? "" : one.mean_hu.toFixed(0)]));
  }

  function drawFiles(): HTMLElement {
    const names = { "report.html": "Report", "dicom.zip": "DICOM results", "images.zip": "DICOM images" } as Record<string, string>;
    return h("p", { className: "note" }, study.files.length ? "Files: " : "", ...study.files.flatMap((one, index) => [index ? " · " : "", h("a", { href: `${versioned}/${one}`, target: one === "report.html" ? "_blank" : "", rel: "noopener" }, names[one] ?? one)]));
  }

  /** What readers said and drew of this version, this one among them. */
  function drawKept(): void {
    const ours = <T extends { version: number }>(all: T[]) => all.filter((one) => one.version === study.version);
    others.replaceChildren(...ours(study.readings).map((one) => h("p", { className: "note" }, `${moment(one.at)}: ${one.user} said “${one.says}”${one.words ? `, ${one.words}` : ""}.`)));
    origin.replaceChildren(h("option", { value: "0" }, view.verdict === null ? "no outline" : "the program's outline"),
      ...ours(study.corrections).map((one) => h("option", { value: String(one.number) }, `correction ${one.number}, ${one.user}`)));
    origin.value = begun;
  }
  function go(to: number): void { stack.show(Math.max(0, Math.min(count - 1, to))); }
  function told(one: Spot): void {
    slice = one.slice;
    seen.add(slice);
    slider.value = String(slice + 1);
    slider.setAttribute("aria-valuetext", view.lines[slice]!);
    if (words.textContent !== view.lines[slice]) words.textContent = view.lines[slice]!;  // it is read out
    at.textContent = view.places[slice]!;
    ruler.show(slice);
    spot.textContent = one.row < 0 ? `${slice + 1} / ${count}` : `${slice + 1} / ${count} · row ${one.row}, column ${one.column}: ${one.hu} HU`;
  }
  const matches = ([, level, wide]: View["windows"][number]) => level === shown[0] && wide === shown[1];
  function setWindow(index: number): void { const [, level, wide] = view.windows[index]!; putWindow(level, wide); }
  function putWindow(level: number, wide: number): void {
    shown = [Math.max(-1000, Math.min(3000, Math.round(level))), Math.max(2, Math.min(4000, Math.round(wide)))];
    view.windows.forEach((one, index) => { place.querySelector<HTMLInputElement>(`#window-${index}`)!.checked = matches(one); });
    setting.textContent = `level ${shown[0]}, width ${shown[1]}`;
    stack.setWindow(...shown);
  }
  function zoom(factor: number, x = stage.clientWidth / 2, y = stage.clientHeight / 2): void { stack.zoom(factor, x, y); ruler.fit(stack.box); }
  function setRuler(): void {
    ruler.on = !ruler.on;
    if (ruler.on && stack.canDraw && gl().drawing) setBrush();
    if (!ruler.on) ruler.clear();
    measure.setAttribute("aria-pressed", String(ruler.on));
    if (ruler.on) stage.focus({ preventScroll: true });  // where the keys measure
  }
  function setOverlay(on: boolean): void { overlay = on; show.checked = on; stack.setOverlay(on); }
  function toLesion(index: number): void { lesion = index; const one = view.lesions[index]!; go((one.first[0]! + one.last[0]!) >> 1); stage.focus(); }

  const gl = () => stack as GlStack;
  function setBrush(): void {
    const on = !gl().drawing;
    if (on && ruler.on) setRuler();
    gl().setDrawing(on);
    gl().setPen(erase, size);
    brush.setAttribute("aria-pressed", String(on));
    for (const one of [rubber, width, undo, origin]) one.disabled = !on;
    keep.disabled = !on && !unsaved;
    kept.textContent = unsaved ? "Not saved yet." : on ? "Painting on the slices changes the outline; nothing is kept until you save." : "";
  }
  function undoStroke(): void { if (!gl().undo()) kept.textContent = `Nothing more can be undone.${unsaved ? " Not saved yet." : ""}`; }
  function setErase(): void { erase = !erase; rubber.setAttribute("aria-pressed", String(erase)); gl().setPen(erase, size); }
  function setSize(to: number): void { size = Math.max(1, Math.min(41, to)); width.value = String(size); gl().setPen(erase, size); }
  async function begin(): Promise<void> {
    if (!mayDiscard(unsaved ? PAINTED : "")) { origin.value = begun; return; }
    try {
      await gl().begin(origin.value === "0" ? `${versioned}/mask.nii.gz` : `${base}/corrections/${origin.value}.nii.gz`);
      begun = origin.value;
      unsaved = false;
      kept.textContent = "";
    } catch (error) { origin.value = begun; kept.textContent = (error as Problem).sentence; }
  }

  const choice = () => reading.querySelector<HTMLInputElement>("input[name=says]:checked");
  const readingNow = () => [choice()?.value, free.value.trim()].filter(Boolean).join(": ");
  let readingSaved = "";
  async function saveReading(): Promise<void> {
    const chosen = choice(), now = readingNow();
    if (!chosen) { said.textContent = "Choose first what you say of it."; return; }
    try {
      await send("POST", `${base}/readings`, { version: study.version, says: chosen.value, words: free.value, seconds_open: (Date.now() - opened) / 1000, slices_seen: seen.size });
      readingSaved = now;
      said.textContent = `Saved: ${chosen.value}. You saw ${seen.size} of ${count} slices.`;
    } catch (error) { said.textContent = (error as Problem).sentence; }
  }
  async function saveCorrection(): Promise<void> {
    const drawn = strokes;
    keep.disabled = true;
    try {
      const from = study.corrections.find((one) => String(one.number) === begun)?.sha256 ?? view.mask_sha256;
      const answer = await ask(`${base}/corrections?version=${study.version}&base=${from}`, { method: "PUT", headers: { "Content-Type": "application/gzip" }, body: await gl().save() });
      const { number, voxels, sha256 } = await answer.json() as { number: number; voxels: number; sha256: string };
      if (!study.corrections.some((one) => one.number === number)) study.corrections.push({ number, version: study.version, at: Date.now() / 1000, user: me.name, voxels, sha256 });
      begun = String(number);  // what is painted from now on changes this one
      drawKept();
      kept.textContent = `Saved as correction ${number}: ${voxels.toLocaleString("en-GB")} voxels marked.${strokes > drawn ? " What you painted since is not saved yet." : ""}`;
      unsaved = strokes > drawn;
    } catch (error) { kept.textContent = (error as Problem).sentence; }
    keep.disabled = !gl().drawing && !unsaved;
  }
  async function next(): Promise<void> {
    try {
      const to = await findNext(id);
      if (to === null) said.textContent = "No other study is unread."; else location.hash = `#/study/${to}`;
    } catch (error) { said.textContent = (error as Problem).sentence; }
  }

  const steps: Record<string, number> = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 };
  const key = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range])")) return;
    const painting = stack.canDraw && gl().drawing, one = event.key;
    if (target.matches("[type=range]") && (one in steps || one === "Home" || one === "End")) return;  // the slider's own keys
    if (event.shiftKey && painting && one.startsWith("Arrow")) {
      const { row, column } = gl().here, by = Math.max(1, size >> 1);
      gl().move(slice, Math.max(0, Math.min(view.shape[1] - 1, row + (one === "ArrowDown" ? by : one === "ArrowUp" ? -by : 0))),
        Math.max(0, Math.min(view.shape[2] - 1, column + (one === "ArrowRight" ? by : one === "ArrowLeft" ? -by : 0))));
    } else if (event.shiftKey && ruler.on && one.startsWith("Arrow")) {
      ruler.move(one === "ArrowRight" ? 1 : one === "ArrowLeft" ? -1 : 0, one === "ArrowDown" ? 1 : one === "ArrowUp" ? -1 : 0);
    } else if (one in steps) go(slice + steps[one]!);
    else if (one === "Home") go(0);
    else if (one === "End") go(count - 1);
    else if (one === "w") setWindow((view.windows.findIndex(matches) + 1) % view.windows.length);
    else if (one === "+" || one === "=") zoom(1.25);
    else if (one === "-") zoom(0.8);
    else if (one === "0") zoom(0);
    else if (one === "o") setOverlay(!overlay);
    else if (one === "m") setRuler();
    else if (one === "n" && view.lesions.length) toLesion((lesion + 1) % view.lesions.length);
    else if (/^[1-4]$/.test(one)) { const box = reading.querySelectorAll<HTMLInputElement>("input[name=says]")[Number(one) - 1]!; box.checked ||= !box.disabled; }
    else if (one === "u") void next();
    else if (one === "b" && stack.canDraw) setBrush();
    else if (one === "e" && painting) setErase();
    else if (one === "z" && painting) undoStroke();
    else if (one === "s" && !keep.disabled) void saveCorrection();
    else if ((one === "[" || one === "]") && painting) setSize(size + (one === "]" ? 2 : -2));
    else if (one === " " && (painting || ruler.on) && !target.matches("button, summary, input, a")) { if (painting) gl().dab(); else ruler.mark(slice); }
    else if (one === "Enter" && !target.matches("button, a, summary")) { if (!event.repeat) void saveReading(); }
    else return;
    event.preventDefault();
  };
  const lost = () => unsaved ? PAINTED : readingNow() === readingSaved ? "" : "your reading";
  const stay = (event: BeforeUnloadEvent) => { if (lost()) event.preventDefault(); };

  stack = new PictureStack(picture, versioned, view);
  if (glass) {
    try {
      const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
      stack = await GlStack.open(canvas, versioned, view, (come, all) => { opening.textContent = `Loading the slices: ${mb(come)} of ${mb(all)} MB`; });
    } catch (error) {
      if (error instanceof Problem) throw error;
      // a driver that promises WebGL2 and fails
      console.warn("the slices are shown as pictures", error);
      canvas.replaceWith(picture);
      correct.replaceChildren(h("h2", {}, "Correct the outline"), h("p", {}, NO_BRUSH));
    }
    opening.remove();
  }
  drawKept();
  stack.onSpot = told;
  listen(stage, {
    step: (by) => go(slice + by), zoom, pan: (...drag) => { stack.pan(...drag); ruler.fit(stack.box); }, point: (x, y) => stack.point(x, y),
    adjust: (across, down) => putWindow(shown[0] + down, shown[1] + across), painting: () => stack.canDraw && gl().drawing,
    measuring: () => ruler.on, begin: (x, y) => ruler.begin(slice, x, y), draw: (x, y) => ruler.draw(x, y), end: (meant) => ruler.end(meant),
  });
  if (stack.canDraw) gl().onDrawn = () => { unsaved = true; strokes++; kept.textContent = "Not saved yet."; };
  const sized = new ResizeObserver(() => ruler.fit(stack.box));
  sized.observe(stage);
  go(start);
  setWindow(0);
  stage.dataset.ready = "yes";
  stage.focus();
  const end = follow(() => void get<Study>(base, true).then((now) => {
    if (now.readings.length !== study.readings.length || now.corrections.length !== study.corrections.length) {
      const other = now.corrections.filter((one) => one.user !== me.name && !study.corrections.some((known) => known.number === one.number)).map((one) => ` ${one.user} saved correction ${one.number} meanwhile.`);
      Object.assign(study, { readings: now.readings, corrections: now.corrections });
      drawKept();
      kept.append(...other);
    }
    if (now.version === study.version || !now.has_view || newer.firstChild) return;
    newer.append(h("p", { className: "problem" }, `This is version ${study.version} of the study. Version ${now.version} is there now: ${now.cause}. `,
      h("button", { type: "button", onclick: () => location.reload() }, `Open version ${now.version}`)));
  }).catch(() => {}));
  document.addEventListener("keydown", key);
  window.addEventListener("beforeunload", stay);
  return Object.assign(() => {
    end();
    sized.disconnect();
    document.removeEventListener("keydown", key);
    window.removeEventListener("beforeunload", stay);
    stack.close();
  }, { unsaved: lost });
};

function drawHeading(study: Study): HTMLElement {
  const { patient } = study;
  return h("div", { className: "heading" }, h("h1", {}, person(patient.name) || "no name"),
    h("p", {}, [patient.patient_id, patient.sex, day(patient.birth_date), study.description, study.study_at.slice(0, 16).replace("T", " "), patient.accession && `accession ${patient.accession}`].filter(Boolean).join(" · ")),
    h("p", { className: "note" }, `${study.state}${study.version > 1 ? `, version ${study.version}` : ""}${study.waiting ? `, ${study.waiting}` : ""} · `, h("a", { href: `#/history/${study.id}` }, "history"),
      study.moved && ` · ${study.moved}`),
    study.error && study.has_view ? h("p", { className: "problem" }, study.error) : "");
}

function drawScale(): HTMLElement {
  return h("span", { className: "scale" }, "Probability 0.5 ", h("i", {}), " 1");
}

function drawVerdict(view: View): HTMLElement {
  if (view.verdict === null) return h("section", { className: "verdict abstained" }, h("h2", {}, "Not segmented"), h("p", {}, "An input check refused this study; the slices are shown without an outline."));
  const kind = view.verdict === "no verdict" ? "abstained" : view.verdict === "bleed marked" ? "positive" : "";
  const headline = view.headline ?? "", detail = headline.startsWith(view.verdict) ? headline.slice(view.verdict.length).replace(/^[, ]+/, "") : headline;
  const fact = (what: string, ...value: (string | HTMLElement)[]) => h("div", {}, h("dt", {}, what), h("dd", {}, ...value));
  return h("section", { className: `verdict ${kind}` }, h("h2", {}, view.verdict), h("p", {}, detail),
    h("dl", {}, view.probability == null ? "" : fact("Probability of a bleed", chance(view.probability)),
      view.volume_ml ? fact("Volume", `${millilitres(view.volume_ml)} mL`, view.interval ? h("small", {}, ` ${view.interval.replaceAll(" %", "\u00a0%")}`) : "") : ""),
    view.interval_is ? h("p", { className: "note" }, view.interval_is) : "",
    view.reasons?.length ? h("ul", {}, ...view.reasons.map((one) => h("li", {}, one))) : "",
    view.types?.length ? h("p", { className: "note" }, `Probability that the study holds a bleed of this type: ${view.types.map(([name, p]) => `${name} ${chance(p)}`).join(", ")}.`) : "",
    view.warnings.length ? h("ul", { className: "attention" }, ...view.warnings.map((one) => h("li", {}, one))) : "",
    view.notes.length ? h("details", {}, h("summary", {}, "Notes on the files"), h("ul", {}, ...view.notes.map((one) => h("li", {}, one)))) : "",
    h("p", { className: "note" }, `Made by the network ${view.weights ?? ""}; a pixel is marked from probability ${view.threshold} on. Research only, not a medical device.`));
}
