// What a hand does on the slices: the wheel or a finger changes the slice, the right button the window, Ctrl with the wheel or two fingers the size.

export interface Gestures {
  step(by: number): void;
  /** Larger by this factor; the place under x and y, pixels of the stage, stays where it is. */
  zoom(factor: number, x: number, y: number): void;
  pan(fromX: number, fromY: number, x: number, y: number): void;
  /** Pixels that the pointer moved, to the right and down. */
  adjust(across: number, down: number): void;
  painting(): boolean;
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
  on("mousedown", (event) => { if (event.button) stop(event); });
  let dragged = 0, last: [number, number] = [0, 0];
  on("pointerdown", (event) => {
    if (event.pointerType === "touch" || !event.button) return;
    dragged = event.button;
    last = place(event);
    stage.setPointerCapture(event.pointerId);
  });
  on("pointermove", (event) => {
    if (!dragged) return;
    const [x, y] = place(event);
    if (dragged === 2) act.adjust(x - last[0], y - last[1]); else act.pan(...last, x, y);
    last = [x, y];
  });
  for (const end of ["pointerup", "pointercancel"] as const) on(end, () => { dragged = 0; });

  // Fingers. With the brush on, one finger paints, which NiiVue does.
  let apart = 0;
  const middle = ([one, two]: [number, number][]): [number, number] => [(one![0] + two![0]) / 2, (one![1] + two![1]) / 2];
  on("touchstart", (event) => {
    const fingers = [...event.targetTouches].map(place);
    turned = 0;
    if (fingers.length > 1) { stop(event); apart = Math.hypot(fingers[0]![0] - fingers[1]![0], fingers[0]![1] - fingers[1]![1]); last = middle(fingers); }
    else last = fingers[0]!;
  });
  on("touchmove", (event) => {
    const fingers = [...event.targetTouches].map(place);
    if (fingers.length === 1 && act.painting()) return;
    stop(event);
    if (fingers.length === 1) { turn(fingers[0]![1] - last[1], FINGER); last = fingers[0]!; return; }
    const now = Math.hypot(fingers[0]![0] - fingers[1]![0], fingers[0]![1] - fingers[1]![1]), at = middle(fingers);
    act.zoom(now / (apart || now), ...at);
    act.pan(...last, ...at);
    apart = now; last = at;
  });
}
