// Elements, and what every screen says the same way.

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** Make an element; `on…` properties are listeners, `class` and `aria-…` attributes, the rest DOM properties. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value as EventListener);
    else if (name in made && !name.startsWith("aria-") && name !== "list" && name !== "role") (made as unknown as Props)[name] = value;
    else made.setAttribute(name === "className" ? "class" : name, String(value));
  }
  made.append(...children.filter((one): one is Node | string => !!one || one === ""));
  return made;
}

/** Asked before `what` is lost: 'what you painted', 'your reading'. */
export function mayDiscard(what: string): boolean { return !what || confirm(`Discard ${what}? It is not saved.`); }

/** '1 slice', '28 slices'. */
export function count(number: number, what: string): string {
  return `${number.toLocaleString("en-GB")} ${what}${number === 1 ? "" : "s"}`;
}

/** A moment in the reader's own time zone: '29 Nov, 14:03'; of another year with it. */
export function moment(seconds: number | null): string {
  if (!seconds) return "";
  const at = new Date(seconds * 1000);
  const year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return at.toLocaleString("en-GB", { day: "numeric", month: "short", year, hour: "2-digit", minute: "2-digit" });
}

/** '35 s', '12 min', '3 h 20 min', '4 days'. */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds)), min = Math.floor(s / 60), hours = Math.floor(min / 60);
  if (s < 60) return `${s} s`;
  if (min < 60) return `${min} min`;
  if (hours < 48) return min % 60 ? `${hours} h ${min % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

/** Three digits at most, and two decimals, as the report has them: '0.32', '4.06', '45.3', '151'. */
export function millilitres(volume: number): string {
  if (volume > 0 && volume < 0.01) return "<0.01";
  const rounded = Number(volume.toPrecision(3));
  return rounded.toFixed(rounded < 10 ? 2 : rounded < 100 ? 1 : 0);
}

/** Two decimals; what is neither is called neither 0 nor 1. */
export function chance(p: number): string {
  return p > 0 && p < 0.01 ? "<0.01" : p < 1 && p > 0.99 ? ">0.99" : p.toFixed(2);
}

/** '20251104' -> '2025-11-04'; anything else as it is. */
export function day(date: string): string {
  return /^\d{8}$/.test(date) ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : date;
}

/** 'FAMILY^GIVEN' -> 'FAMILY, GIVEN'. */
export function person(name: string): string {
  return name.split("=")[0]!.split("^").filter(Boolean).join(", ");
}

/** A table of rows, with its own scroll where it is wider than the screen. */
export function table(caption: string, head: string[], rows: Child[][]): HTMLElement {
  if (!rows.length) return h("p", {}, h("strong", {}, `${caption}: `), "none");
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, ...head.map((one) => h("th", { scope: "col" }, one)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((one) => h("td", {}, one)))))));
}
