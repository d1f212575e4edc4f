// What a hand does on the slices: the wheel or a finger changes the slice, the right button the window, Ctrl with the wheel or two fingers the size;
// while one measures, the left button or a finger draws a line.

export interface Gestures {
  step(by: number): void;
  /** Larger by this factor; the place under x and y, pixels of the stage, stays where it is. */
  zoom(factor: number, x: number, y: number): void;
  pan(fromX: number, fromY: number, x: number, y: number): void;
  /** Pixels that the pointer moved, to the right and down. */
  adjust(across: number, down: number): void;
  point(x: number, y: number): void;
  painting(): boolean;
  measuring(): boolean;
  begin(x: number, y: number): void;
  draw(x: number, y: number): void;
  /** The line is done, or was not meant. */
  end(meant: boolean): void;
}

const TURN = 40, FINGER = 14;  // pixels a slice, of the wheel and of a finger

export function listen(stage: HTMLElement, act: Gestures): void {
  const on = <K extends keyof HTMLElementEventMap>(kind: K, then: (event: HTMLElementEventMap[K]) => void) =>
    stage.addEventListener(kind, then as EventListener, { capture: true, passive: false });  // before NiiVue
  const place = (one: { clientX: number; clientY: number }): [number, number] => {
    const box = stage.getBoundingClientRect();
    return [one.clientX - box.left, one.clientY - box.top];
  };
  const stop = (event: Event) => { event.preventDefault(); event.stopPropagation(); };
  let turned = 0;
  const turn = (by: number, most: number) => {
    turned += by;
    if (Math.abs(turned) >= most) { act.step(-Math.sign(turned)); turned = 0; }
  };
  on("wheel", (event) => {
    stop(event);
    if (event.ctrlKey) act.zoom(Math.exp(-event.deltaY / 400), ...place(event)); else turn(event.deltaY, TURN);
  });

  on("contextmenu", stop);
  on("dblclick", stop);
  on("mousedown", (event) => { if (event.button || act.measuring()) stop(event); });
  let dragged = -1, last: [number, number] = [0, 0];  // the button that is down; of a finger 0
  on("pointerdown", (event) => {
    if (dragged === 0) act.end(false);
    dragged = event.isPrimary && (event.button || act.measuring()) ? event.button : -1;
    if (dragged < 0) return;
    last = place(event);
    stage.setPointerCapture(event.pointerId);
    if (dragged === 0) act.begin(...last);
  });
  on("pointermove", (event) => {
    const [x, y] = place(event);
    if (dragged < 0) { if (!event.buttons) act.point(x, y); return; }
    if (dragged === 0) act.draw(x, y); else if (dragged === 2) act.adjust(x - last[0], y - last[1]); else act.pan(...last, x, y);
    last = [x, y];
  });
  for (const end of ["pointerup", "pointercancel"] as const) on(end, () => {
    if (dragged === 0) act.end(end === "pointerup");
    dragged = -1;
  });

  // Fingers. With the brush on, one finger paints, which NiiVue does; while one measures, it draws the line, as above.
  let apart = 0;
  const middle = ([one, two]: [number, number][]): [number, number] => [(one![0] + two![0]) / 2, (one![1] + two![1]) / 2];
  on("touchstart", (event) => {
    const fingers = [...event.targetTouches].map(place);
    turned = 0;
    if (act.measuring()) stop(event);
    if (fingers.length > 1) { stop(event); apart = Math.hypot(fingers[0]![0] - fingers[1]![0], fingers[0]![1] - fingers[1]![1]); last = middle(fingers); }
    else last = fingers[0]!;
  });
  on("touchmove", (event) => {
    const fingers = [...event.targetTouches].map(place);
    if (fingers.length === 1 && act.painting()) return;
    stop(event);
    if (fingers.length === 1 && act.measuring()) return;
    if (fingers.length === 1) { turn(fingers[0]![1] - last[1], FINGER); last = fingers[0]!; return; }
    const now = Math.hypot(fingers[0]![0] - fingers[1]![0], fingers[0]![1] - fingers[1]![1]), at = middle(fingers);
    act.zoom(now / (apart || now), ...at);
    act.pan(...last, ...at);
    apart = now; last = at;
  });
}
