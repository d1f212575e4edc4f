// The slices on the screen: by NiiVue where the browser has WebGL2, else as pictures that the server draws.
// Slices, rows and columns count from 0 here, in the standard view: what the server's files hold, voxel for voxel.

import type { vec3 } from "gl-matrix";
import type { Niivue as NiivueType } from "@niivue/niivue";
import { Problem, take, type View } from "./api";
import { h } from "./dom";

export interface Spot { slice: number; row: number; column: number; hu: number }

export interface Stack {
  readonly canDraw: boolean;
  show(slice: number): void;
  setWindow(level: number, width: number): void;
  setOverlay(on: boolean): void;
  /** Larger by this factor, around a place of the stage in pixels; the whole slice is the smallest. */
  zoom(factor: number, x: number, y: number): void;
  /** Move what is shown with the pointer. */
  pan(fromX: number, fromY: number, x: number, y: number): void;
  /** Say which pixel lies under the pointer. */
  point(x: number, y: number): void;
  /** Where the whole slice lies on the stage, in pixels: left, top, width, height. */
  readonly box: [number, number, number, number];
  /** Called when another place is pointed at. */
  onSpot: (spot: Spot) => void;
  close(): void;
}

const PEN = { R: [0, 0], G: [0, 229], B: [0, 255], A: [0, 255], I: [0, 1], labels: ["", "bleed"] };
const OPACITY = 0.35;  // of the overlay, as in the report's pictures
const LARGEST = 12;  // times the whole slice
const KEPT = 16;  // states of the drawing, for undo

export function hasWebGl2(): boolean {
  return !!document.createElement("canvas").getContext("webgl2");
}

export class GlStack implements Stack {
  readonly canDraw = true;
  onSpot: (spot: Spot) => void = () => {};
  onDrawn: () => void = () => {};
  private at: Spot = { slice: 0, row: 0, column: 0, hu: 0 };
  private overlay = true;
  drawing = false;
  private steps = 0;  // that undo can take back; NiiVue's own states go round in a ring
  private observer = new ResizeObserver(() => { this.nv.resizeListener(); });

  private constructor(private nv: NiivueType, private view: View) {}

  /** Load a version's files; `told` hears how many bytes have come of how many. Throws a Problem, or what NiiVue throws without WebGL2. */
  static async open(canvas: HTMLCanvasElement, base: string, view: View, told: (come: number, all: number) => void): Promise<GlStack> {
    const { Niivue, NVImage, SLICE_TYPE, DRAG_MODE } = await import("./niivue").catch(() => {  // the network, or the server has another version now
      throw new Problem(0, "A part of this page cannot be loaded", "", "load the page again");
    });
    const nv = new Niivue({
      isRadiologicalConvention: true, isOrientationTextVisible: false, crosshairWidth: 0, isColorbar: false, logLevel: "error",
      dragAndDropEnabled: false, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", loadingText: "", sliceType: SLICE_TYPE.AXIAL,
      dragMode: DRAG_MODE.none, maxDrawUndoBitmaps: KEPT, penSize: 5, isResizeCanvas: true, crosshairColor: [1, 0.9, 0.4, 0.8], crosshairGap: 12, backColor: [0, 0, 0, 1],
    });
    const made = new GlStack(nv, view);
    // Its own keys and windows, which the page would not tell of, stay off: gestures and keys are the page's.
    Object.assign(nv, { keyDownListener: () => {}, keyUpListener: () => {}, resetBriCon: () => {} });
    // Before NiiVue, which would let go of a stroke that leaves the slices without telling of it.
    canvas.addEventListener("mouseleave", () => { if (nv.opts.drawingEnabled && !isNaN(nv.drawPenLocation[0]!)) nv.mouseUpListener(); }, true);
    await nv.attachToCanvas(canvas, false);
    canvas.tabIndex = -1;  // the stage around it has the focus
    nv.setSliceType(SLICE_TYPE.AXIAL);
    nv.addColormap("whitered", { R: [255, 255, 255], G: [255, 255, 0], B: [255, 255, 0], A: [0, 255, 255], I: [0, 1, 255] });
    const [, level, width] = view.windows[0]!;
    const parts = new Map<string, [number, number]>();
    const note = (name: string, come: number, all: number) => {
      parts.set(name, [come, all]);
      told(...[...parts.values()].reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]));
    };
    const load = async (name: string, more: object) =>
      NVImage.loadFromUrl({ url: await take(`${base}/${name}.nii.gz`, (come, all) => note(name, come, all)) as unknown as string, name: `${name}.nii.gz`, ...more });
    const [stack, probability, mask] = await Promise.all([
      load("stack", { colormap: "gray", cal_min: level - width / 2, cal_max: level + width / 2, opacity: 1 }),
      load("probability", { colormap: "whitered", cal_min: 127, cal_max: 255, opacity: OPACITY }), load("mask", {}),
    ]);
    nv.setDrawColormap(PEN as unknown as string);
    nv.updateGLVolume = () => {};  // one upload for both volumes: without a GPU each takes a second or more
    nv.addVolume(stack);
    Reflect.deleteProperty(nv, "updateGLVolume");
    nv.addVolume(probability);
    nv.loadDrawing(mask);
    nv.setDrawingEnabled(false);
    nv.onLocationChange = (location) => made.located(location as { vox: number[] });
    nv.onDrawingChanged = (action) => { if (action === "draw") made.drawn(); };
    made.setOverlay(true);
    made.observer.observe(canvas);
    return made;
  }

  private get columns(): number { return this.view.shape[2]; }
  private get rows(): number { return this.view.shape[1]; }

  // NiiVue counts columns from the patient's left and rows from the back: the other way round.
  private located({ vox }: { vox: number[] }): void {
    const clip = (value: number, count: number) => Math.max(0, Math.min(count - 1, value));
    const column = clip(this.columns - 1 - vox[0]!, this.columns), row = clip(this.rows - 1 - vox[1]!, this.rows);
    this.at = this.spot(clip(vox[2]!, this.view.shape[0]), row, column);
    this.onSpot(this.at);
  }

  spot(slice: number, row: number, column: number): Spot {
    const img = this.nv.volumes[0]!.img as Int16Array;
    return { slice, row, column, hu: img[(slice * this.rows + row) * this.columns + column]! };
  }

  get here(): Spot { return this.at; }

  move(slice: number, row: number, column: number): void {
    this.at = this.spot(slice, row, column);
    this.nv.scene.crosshairPos = this.nv.vox2frac([this.columns - 1 - column, this.rows - 1 - row, slice]);
    this.nv.drawScene();
    this.onSpot(this.at);
  }

  show(slice: number): void { this.move(slice, this.at.row || this.rows >> 1, this.at.column || this.columns >> 1); }

  setWindow(level: number, width: number): void {
    const volume = this.nv.volumes[0]!;
    if (volume.cal_min === level - width / 2 && volume.cal_max === level + width / 2) return;
    volume.cal_min = level - width / 2; volume.cal_max = level + width / 2;
    this.nv.refreshLayers(volume, 0);  // this layer alone: `updateGLVolume` would upload the overlay too
    this.nv.drawScene();
  }

  point(x: number, y: number): void {
    const at = this.mm(x, y);
    if (!at || this.drawing) return;  // the brush stays where the keys moved it
    const frac = this.nv.mm2frac(at as unknown as vec3);
    frac[2] = this.nv.scene.crosshairPos[2]!;
    this.nv.scene.crosshairPos = frac;
    this.located({ vox: [...this.nv.frac2vox(frac)] });
  }

  get box(): [number, number, number, number] {
    const { leftTopWidthHeight: [left, top, wide, high], leftTopMM, fovMM } = this.nv.screenSlices[0]!, dpr = this.nv.uiData.dpr ?? 1;
    const [[x1, y1], [x2, y2]] = [[0, 1, 0], [1, 0, 0]].map((frac) => {
      const mm = this.nv.frac2mm(frac as unknown as vec3);
      return [(left! + (mm[0]! - leftTopMM[0]!) / fovMM[0]! * wide!) / dpr, (top! + (1 - (mm[1]! - leftTopMM[1]!) / fovMM[1]!) * high!) / dpr];
    }) as [[number, number], [number, number]];
    return [Math.min(x1, x2), Math.min(y1, y2), Math.abs(x2 - x1), Math.abs(y2 - y1)];
  }

  private mm(x: number, y: number): number[] | null {
    const dpr = this.nv.uiData.dpr ?? 1, at = this.nv.canvasPos2frac([x * dpr, y * dpr]);
    return at[0]! < 0 ? null : [...this.nv.frac2mm(at)];
  }

  zoom(factor: number, x: number, y: number): void {
    const pan = this.nv.scene.pan2Dxyzmm, before = pan[3]!, now = Math.max(1, Math.min(LARGEST, before * factor));
    const at = this.mm(x, y) ?? [...this.nv.frac2mm(this.nv.scene.crosshairPos)];
    for (const axis of [0, 1, 2]) pan[axis] = now === 1 ? 0 : pan[axis]! + (before - now) * at[axis]!;
    pan[3] = now;
    this.look();
  }

  pan(fromX: number, fromY: number, x: number, y: number): void {
    const from = this.mm(fromX, fromY), to = this.mm(x, y), pan = this.nv.scene.pan2Dxyzmm;
    if (!from || !to || pan[3] === 1) return;
    for (const axis of [0, 1, 2]) pan[axis] = pan[axis]! + pan[3]! * (to[axis]! - from[axis]!);
    this.nv.drawScene();
  }

  private look(): void {
    this.nv.overlayAlphaShader = this.overlay && !this.drawing ? 1 : 0;
    this.nv.drawRimOpacity = this.overlay || this.drawing ? 0.9 : 0;
    this.nv.setDrawOpacity(this.drawing ? 0.35 : this.overlay ? 0.004 : 0);  // at 0 there would be no rim either
    this.nv.opts.crosshairWidth = this.drawing ? 1 / this.nv.scene.pan2Dxyzmm[3]! : 0;
    this.nv.drawScene();
  }

  setOverlay(on: boolean): void { this.overlay = on; this.look(); }

  // The brush.

  setDrawing(on: boolean): void {
    this.drawing = on;
    this.nv.setDrawingEnabled(on);
    this.look();
  }

  setPen(erase: boolean, size: number): void {
    this.nv.setPenValue(erase ? 0 : 1, false);
    this.nv.opts.penSize = size;
  }

  /** One dab where the crosshair stands, for the keyboard. */
  dab(): void {
    const { slice, row, column } = this.at;
    const nv = this.nv as unknown as { drawPenAxCorSag: number };
    nv.drawPenAxCorSag = 0;
    this.nv.drawPt(this.columns - 1 - column, this.rows - 1 - row, slice, this.nv.opts.penValue);
    nv.drawPenAxCorSag = -1;
    this.nv.refreshDrawing(false);
    this.nv.drawAddUndoBitmap();
    this.nv.drawScene();
    this.drawn();
  }

  private drawn(): void { this.steps = Math.min(KEPT - 1, this.steps + 1); this.onDrawn(); }

  /** Take the last stroke back; false where none is left to take back. */
  undo(): boolean {
    if (!this.steps) return false;
    this.steps--;
    this.nv.drawUndo();
    this.nv.drawScene();
    this.onDrawn();
    return true;
  }

  async begin(url: string): Promise<void> {
    const { NVImage } = await import("./niivue");
    this.nv.loadDrawing(await NVImage.loadFromUrl({ url: await take(url, () => {}) as unknown as string, name: "mask.nii.gz" }));
    this.steps = 0;
  }

  /** The drawing as a gzipped NIfTI, in the axes of the server's stack. */
  async save(): Promise<Blob> {
    const bytes = await this.nv.saveImage({ isSaveDrawing: true, filename: "", volumeByIndex: 0 });
    if (!(bytes instanceof Uint8Array)) throw new Error("no drawing");
    const packed = new Blob([bytes as BlobPart]).stream().pipeThrough(new CompressionStream("gzip"));
    return await new Response(packed).blob();
  }

  close(): void { this.observer.disconnect(); this.nv.cleanup(); }
}

/** Pictures, for browsers without WebGL2: all but the brush. */
export class PictureStack implements Stack {
  readonly canDraw = false;
  onSpot: (spot: Spot) => void = () => {};
  private slice = 0;
  private window: [number, number];
  private overlay = true;
  private cache = new Map<string, HTMLImageElement>();
  private scale = 1;
  private left = 0;
  private top = 0;
  private soon = 0;
  private again = 0;
  private drawn = -1;  // the slice whose picture has come
  private note = h("p", { className: "opening", role: "status" });

  constructor(private picture: HTMLImageElement, private base: string, private view: View) {
    const [, level, width] = view.windows[0]!;
    this.window = [level, width];
  }

  private url(slice: number): string {
    return `${this.base}/slices/${slice + 1}.png?level=${this.window[0]}&width=${this.window[1]}&overlay=${this.overlay ? 1 : 0}`;
  }

  /** Instead of a picture, words; browsers would show the last slice's until this one's has come. */
  private tell(words: string): void {
    if (!this.note.isConnected) this.picture.after(this.note);
    this.note.textContent = words;
    this.picture.style.visibility = words ? "hidden" : "";
  }

  private draw(): void {
    clearTimeout(this.again);
    this.picture.onload = () => { this.drawn = this.slice; this.tell(""); };
    this.picture.onerror = () => { this.tell("This slice did not come; it is asked for again."); this.again = window.setTimeout(() => this.draw(), 3000); };
    this.picture.src = this.url(this.slice);
    if (this.drawn !== this.slice && !this.picture.complete) this.tell("Loading the slice…");
    this.picture.alt = this.view.lines[this.slice] ?? "";
    for (const next of [this.slice + 1, this.slice - 1]) {  // the neighbours, so that scrolling does not wait
      if (next < 0 || next >= this.view.shape[0] || this.cache.has(this.url(next))) continue;
      if (this.cache.size > 60) this.cache.clear();
      this.cache.set(this.url(next), h("img", { src: this.url(next) }));
    }
  }

  show(slice: number): void {
    this.slice = slice;
    this.draw();
    this.onSpot({ slice, row: -1, column: -1, hu: NaN });
  }

  setWindow(level: number, width: number): void {
    this.window = [level, width];
    clearTimeout(this.soon);
    this.soon = window.setTimeout(() => this.draw(), 60);  // not one picture for each step of a drag
  }

  zoom(factor: number, x: number, y: number): void {
    const before = this.scale;
    this.scale = Math.max(1, Math.min(LARGEST, before * factor));
    const grown = this.scale / before;
    this.place(x - (x - this.left) * grown, y - (y - this.top) * grown);
  }

  pan(fromX: number, fromY: number, x: number, y: number): void { this.place(this.left + x - fromX, this.top + y - fromY); }

  private place(left: number, top: number): void {
    [this.left, this.top] = this.scale === 1 ? [0, 0] : [left, top];
    this.picture.style.transform = `translate(${this.left}px, ${this.top}px) scale(${this.scale})`;
  }

  point(): void {}  // a picture holds no HU

  get box(): [number, number, number, number] {
    const [row_mm, column_mm] = this.view.pixel_mm, high_mm = this.view.shape[1] * row_mm, wide_mm = this.view.shape[2] * column_mm;
    const { clientWidth, clientHeight } = this.picture, grown = this.scale * Math.min(clientWidth / wide_mm, clientHeight / high_mm);
    return [this.left + (this.scale * clientWidth - wide_mm * grown) / 2, this.top + (this.scale * clientHeight - high_mm * grown) / 2, wide_mm * grown, high_mm * grown];
  }

  setOverlay(on: boolean): void { this.overlay = on; this.draw(); }
  close(): void { clearTimeout(this.soon); clearTimeout(this.again); this.cache.clear(); }
}
