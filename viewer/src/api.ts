// The server's answers. Errors are RFC 9457 problems, and become sentences.

export interface Me { name: string; role: "reader" | "admin"; password: boolean }
export interface Door { first_run: boolean; passwords: boolean; oidc: boolean; me: Me | null }
export interface Patient { name: string; patient_id: string; birth_date: string; sex: string; accession: string }
export interface Row {
  id: string; version: number; state: string; waiting: string; cause: string; moved: string; group: string; unread: boolean; read_by: string[];
  score: number | null; verdict: string | null; headline: string; volume_ml: number | null; first_seen: number;
  study_at: string; description: string; sender_ae: string; instances: number; error: string; patient: Patient;
}
export interface Worklist { order: string; now: number; oldest_unread_s: number | null; counts: [string, number][]; studies: Row[] }
export interface Event { version: number; at: number; state: string; reason: string }
export interface Reading { version: number; at: number; user: string; says: string; words: string }
export interface Correction { number: number; version: number; at: number; user: string; voxels: number; sha256: string }
export interface Delivery { target: string; state: string; error: string; objects: number; confirmed: number }
export interface Study extends Row {
  has_view: boolean; files: string[]; events: Event[]; readings: Reading[]; corrections: Correction[]; deliveries: Delivery[];
}
export interface Lesion {
  lesion: number; volume_ml: number; mean_hu: number | null; first_slice: number; last_slice: number; longest_axial_diameter_mm: number;
  side: string | null; perpendicular_diameter_mm: number; height_mm: number;
  mean_probability: number; highest_probability: number; first: number[]; last: number[];
}
export interface View {
  shape: [number, number, number]; pixel_mm: [number, number]; letters: Record<string, string>; series?: string[]; geometry: string[]; places: string[];
  windows: [string, number, number][]; lines: string[]; notes: string[]; warnings: string[]; lesions: Lesion[]; threshold: number;
  verdict: string | null; headline?: string; probability?: number | null; slice_probability?: number[] | null; reasons?: string[];
  types?: [string, number][]; volume_ml?: number | null; interval?: string; interval_is?: string; weights?: string; mask_sha256: string;
}

export class Problem extends Error {
  constructor(readonly status: number, title: string, readonly detail: string, readonly remedy: string) { super(title); }
  get sentence(): string { return [this.message, this.detail, this.remedy && `What to do: ${this.remedy}`].filter(Boolean).join(". ").replace(/\.\. /g, ". "); }
}

let onLoggedOut = (): void => {};
/** Say what to do when the session has ended. */
export function whenLoggedOut(act: () => void): void { onLoggedOut = act; }

function lost(): never {
  throw new Problem(0, "The server cannot be reached", "", "check the network; nothing that you saved is lost");
}

/** Ask the server; throws a Problem. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin", ...init }).catch(lost);
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({})) as { title?: string; detail?: string; remedy?: string };
  const problem = new Problem(answer.status, said.title ?? `The server answered ${answer.status}`, said.detail ?? "", said.remedy ?? "");
  if (answer.status === 401 && path !== "/api/login") onLoggedOut();
  throw problem;
}

/** A file, whole; `told` hears how many of its bytes have come, and how many it has. */
export async function take(path: string, told: (come: number, all: number) => void): Promise<ArrayBuffer> {
  const answer = await ask(path), all = Number(answer.headers.get("content-length")), parts: BlobPart[] = [];
  const reader = answer.body!.getReader();
  for (let come = 0; ;) {
    const { done, value } = await reader.read().catch(lost);
    if (done) return await new Blob(parts).arrayBuffer();
    parts.push(value);
    told(come += value.length, all);
  }
}

/** `quiet`: the page asks by itself, which does not keep a session alive. */
export async function get<T>(path: string, quiet = false): Promise<T> {
  return await (await ask(path, quiet ? { headers: { "Bleedmap-Quiet": "1" } } : {})).json() as T;
}

export async function send<T>(method: string, path: string, body: unknown = {}): Promise<T> {
  const answer = await ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

/** Call `act` whenever something has changed on the server, and each minute; returns what ends it. */
export function follow(act: () => void): () => void {
  let soon = 0, live: EventSource;
  const open = () => {
    live = new EventSource("/api/live");
    live.onmessage = live.onerror = () => { clearTimeout(soon); soon = window.setTimeout(act, 200); };
  };
  open();
  const clock = setInterval(() => { act(); if (live.readyState === EventSource.CLOSED) open(); }, 60_000);
  return () => { live.close(); clearInterval(clock); clearTimeout(soon); };
}
