// Distances in the plane of a slice, drawn over it in mm. NiiVue's own lines need WebGL2 and a mouse, and an end that leaves the enlarged view changes their length.

const SVG = "http://www.w3.org/2000/svg";
const LEAST = 4, LETTERS = 15;  // pixels: a shorter line was a click; height of the words

interface Line { slice: number; ends: [number, number, number, number]; shape: SVGGElement }

export class Ruler {
  readonly sheet = document.createElementNS(SVG, "svg");
  on = false;
  private lines: Line[] = [];
  private mm_a_pixel = 1;
  private cross = document.createElementNS(SVG, "g");
  private at: [number, number] | null = null;  // the keyboard's cross, in mm of the sheet
  private held = false;  // whether the newest line goes on to the cross

  constructor([row_mm, column_mm]: [number, number], [, rows, columns]: [number, number, number]) {
    this.sheet.setAttribute("class", "ruler");
    this.sheet.setAttribute("viewBox", `0 0 ${columns * column_mm} ${rows * row_mm}`);
  }

  /** Lay the sheet over the slice: left, top, width and height in pixels of the stage. */
  fit([left, top, width, height]: number[]): void {
    Object.assign(this.sheet.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    this.mm_a_pixel = this.sheet.viewBox.baseVal.width / width!;
    this.sheet.setAttribute("font-size", String(LETTERS * this.mm_a_pixel));
  }

  begin(slice: number, x: number, y: number): void {
    this.held = false;
    const shape = document.createElementNS(SVG, "g");
    shape.innerHTML = '<line class="under"/><line/><text/>';
    this.sheet.append(shape);
    const at = this.mm(x, y);
    this.lines.push({ slice, ends: [...at, ...at], shape });
  }

  /** Draw the newest line to this place of the stage. */
  draw(x: number, y: number): void {
    const { ends, shape } = this.lines.at(-1)!, [under, over, words] = shape.children as unknown as SVGElement[];
    [ends[2], ends[3]] = this.mm(x, y);
    for (const line of [under!, over!]) ["x1", "y1", "x2", "y2"].forEach((name, index) => line.setAttribute(name, String(ends[index])));
    words!.textContent = `${this.length(ends).toFixed(1)} mm`;
    const wide = x + 90 > this.sheet.parentElement!.clientWidth;  // the words stay on the stage
    words!.setAttribute("text-anchor", wide ? "end" : "start");
    words!.setAttribute("x", String(ends[2] + (wide ? -8 : 8) * this.mm_a_pixel));
    words!.setAttribute("y", String(ends[3] + (y < 30 ? 20 : -8) * this.mm_a_pixel));
  }

  /** The newest line is done, or, as a second finger came, not meant. */
  end(meant: boolean): void {
    const { ends, shape } = this.lines.at(-1)!;
    if (!meant || this.length(ends) < LEAST * this.mm_a_pixel) { shape.remove(); this.lines.pop(); }
  }

  /** Move the keyboard's cross by mm, to the right and down; it begins in the middle of the slice. */
  move(across: number, down: number): void {
    const { width, height } = this.sheet.viewBox.baseVal;
    this.at = this.at ? [Math.max(0, Math.min(width, this.at[0] + across)), Math.max(0, Math.min(height, this.at[1] + down))] : [width / 2, height / 2];
    this.cross.innerHTML = '<line class="under" x1="-3" x2="3"/><line class="under" y1="-3" y2="3"/><line x1="-3" x2="3"/><line y1="-3" y2="3"/>';
    this.cross.setAttribute("class", "cross");
    this.cross.setAttribute("transform", `translate(${this.at[0]} ${this.at[1]})`);
    this.sheet.append(this.cross);
    if (this.held) this.draw(...this.pixels(this.at));
  }

  /** Begin a line at the keyboard's cross, or end the one that was begun there. */
  mark(slice: number): void {
    if (!this.at) this.move(0, 0);
    if (this.held) { this.held = false; return this.end(true); }
    this.begin(slice, ...this.pixels(this.at!));
    this.held = true;
  }

  show(slice: number): void {
    if (this.held && this.lines.at(-1)!.slice !== slice) { this.held = false; this.end(false); }  // it was not finished
    for (const one of this.lines) one.shape.style.display = one.slice === slice ? "" : "none";
  }
  clear(): void { this.lines = []; this.at = null; this.held = false; this.sheet.replaceChildren(); }

  private mm(x: number, y: number): [number, number] {
    return [(x - parseFloat(this.sheet.style.left)) * this.mm_a_pixel, (y - parseFloat(this.sheet.style.top)) * this.mm_a_pixel];
  }
  private pixels([x, y]: [number, number]): [number, number] {
    return [parseFloat(this.sheet.style.left) + x / this.mm_a_pixel, parseFloat(this.sheet.style.top) + y / this.mm_a_pixel];
  }
  private length([x1, y1, x2, y2]: Line["ends"]): number { return Math.hypot(x2 - x1, y2 - y1); }
}
