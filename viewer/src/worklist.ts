// The worklist: nothing is hidden, the order is said in words, counts of every group and the oldest unread age stand on top.

import { ask, follow, get, type Problem, type Row, type Worklist } from "./api";
import { chance, count, day, h, millilitres, moment, person, span } from "./dom";
import type { Screen } from "./main";

const MARKS: Record<string, [string, string]> = {  // a shape beside the colour
  "bleed marked": ["bleed", "◆"], "needs a person": ["person", "▲"], "not yet looked at": ["open", "○"], "no bleed marked": ["none", "–"],
};
let order: "worklist" | "arrival" = "worklist";

export const showWorklist: Screen = async (place) => {
  const top = h("div", { className: "summary" }), body = h("div", { className: "rows" }), said = h("p", { role: "status", className: "note" });
  const stale = h("p", { role: "status", className: "problem" });
  const sort = h("button", { type: "button", onclick: () => turn() });
  const chosen = h("input", { type: "file", id: "files", multiple: true, onchange: () => { void upload([...chosen.files!]); chosen.value = ""; } });
  const drop = h("label", { className: "drop", htmlFor: "files" }, "Add studies: drop a folder, DICOM files or a zip here, or choose files. ", chosen);
  place.replaceChildren(h("h1", {}, "Worklist"), stale, top, h("div", { className: "tools" }, sort, said), body, drop);
  const turn = () => { order = order === "worklist" ? "arrival" : "worklist"; void update(); };
  const update = (quiet = false) => load(quiet).then(() => { stale.textContent = ""; }, (error: Problem) => {
    stale.textContent = `This list is not up to date. ${error.sentence}`;
  });

  async function load(quiet = false): Promise<void> {
    const asked = order, list = await get<Worklist>(`/api/studies?order=${asked}`, quiet);
    if (asked !== order) return;  // the other one is under way
    const held = body.contains(document.activeElement) && document.activeElement!.getAttribute("href");
    top.replaceChildren(h("dl", { className: "counts" },
      ...list.counts.flatMap(([words, count]) => [h("div", {}, h("dt", {}, words), h("dd", {}, String(count)))]),
      h("div", {}, h("dt", {}, "oldest unread"), h("dd", {}, list.oldest_unread_s === null ? "none" : span(list.oldest_unread_s)))),
      h("p", { className: "note" }, list.order));
    sort.textContent = order === "worklist" ? "Sort by arrival (a)" : "Sort by likelihood (a)";
    body.replaceChildren(draw(list));
    if (held) body.querySelector<HTMLElement>(`[href="${CSS.escape(held)}"]`)?.focus();
  }

  async function upload(files: File[]): Promise<void> {
    let kept = 0, refused = "";
    const left = new Map<string, number>();
    const note = (why: string, number: number) => left.set(why, (left.get(why) ?? 0) + number);
    for (const [index, file] of files.entries()) {
      said.textContent = `Sending file ${index + 1} of ${files.length}…`;
      try {
        const kind = file.name.toLowerCase().endsWith(".zip") ? "application/zip" : "application/dicom";
        const answer = await (await ask("/api/uploads", { method: "POST", headers: { "Content-Type": kind }, body: file })).json() as { kept: number; passed_over: Record<string, number> };
        kept += answer.kept;
        for (const [why, number] of Object.entries(answer.passed_over)) note(why, number);
      } catch (error) {
        refused = (error as Problem).sentence;
        if ((error as Problem).status !== 422) { refused = `${count(files.length - index, "file")} not sent. ${refused}`; break; }  // not a fault of this file
        note("unreadable", 1);
      }
    }
    const others = [...left].map(([why, number]) => `${number.toLocaleString("en-GB")} ${why}`).join(", ");
    said.textContent = [kept ? `${count(kept, "slice")} received; the study appears when no more come.` : !refused && "Nothing was received.", others && `Left out: ${others}.`, refused].filter(Boolean).join(" ");
    await update();
  }

  const over = (event: DragEvent) => event.preventDefault();
  const dropped = (event: DragEvent) => {
    event.preventDefault();
    const entries = [...(event.dataTransfer?.items ?? [])].map((one) => one.webkitGetAsEntry()).filter((one) => one !== null);  // before any wait: they are gone then
    void Promise.all(entries.map(findFiles)).then((found) => upload(found.flat())).catch(() => { said.textContent = "What was dropped cannot be read."; });
  };
  const key = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target as HTMLElement).matches("input, textarea, select")) return;
    const links = [...body.querySelectorAll<HTMLElement>("a[data-study]")], now = links.indexOf(document.activeElement as HTMLElement);
    if (event.key === "a") turn();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      links[Math.max(0, Math.min(links.length - 1, now + (event.key === "ArrowDown" ? 1 : -1)))]?.focus();
    }
  };
  document.addEventListener("dragover", over);
  document.addEventListener("drop", dropped);
  document.addEventListener("keydown", key);
  await load();
  const end = follow(() => void update(true));
  return () => {
    end();
    document.removeEventListener("dragover", over); document.removeEventListener("drop", dropped); document.removeEventListener("keydown", key);
  };
};

function draw(list: Worklist): HTMLElement {
  if (!list.studies.length) return h("p", {}, "No study has come yet.");
  const head = ["Finding", "Patient", "Study", "Arrived", "State", "Read"];
  return h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Studies" }, h("table", {}, h("caption", { className: "hidden" }, "Studies"),
    h("thead", {}, h("tr", {}, ...head.map((one) => h("th", { scope: "col" }, one)))),
    h("tbody", {}, ...list.studies.map((row) => line(row, list.now)))));
}

function line(row: Row, now: number): HTMLElement {
  const [kind, shape] = MARKS[row.group] ?? ["none", ""];
  const figures = [row.score !== null && `probability ${chance(row.score)}`, row.volume_ml ? `${millilitres(row.volume_ml)} mL` : ""];
  const { patient } = row;
  return h("tr", { className: `${kind}${row.unread ? " unread" : ""}` },
    h("td", {}, h("a", { href: `#/study/${row.id}`, "data-study": row.id }, h("span", { className: "mark", "aria-hidden": "true" }, shape), row.verdict ?? row.group),
      dotted(figures)),
    h("td", {}, person(patient.name) || "no name", dotted([patient.patient_id, patient.sex, day(patient.birth_date)])),
    h("td", {}, row.description || "CT", dotted([row.study_at.slice(0, 16).replace("T", " "), count(row.instances, "slice"), row.sender_ae && `from ${row.sender_ae}`])),
    h("td", {}, moment(row.first_seen), h("small", {}, `${span(now - row.first_seen)} ago`)),
    h("td", {}, row.state + (row.version > 1 ? `, version ${row.version}` : ""), h("small", {}, row.error || row.waiting || ""), row.moved && h("small", { className: "moved" }, row.moved)),
    h("td", {}, row.read_by.length ? `by ${row.read_by.join(", ")}` : "unread", h("small", {}, h("a", { href: `#/history/${row.id}` }, "history"))));
}

function dotted(parts: (string | false)[]): HTMLElement {
  return h("small", {}, ...parts.filter(Boolean).flatMap((one, index) => [index ? " · " : "", h("span", {}, one)]));
}

/** The files of what was dropped: of a folder all that are in it, hidden ones apart. */
async function findFiles(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) return [await new Promise<File>((take, fail) => (entry as FileSystemFileEntry).file(take, fail))];
  const reader = (entry as FileSystemDirectoryEntry).createReader(), found: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((take, fail) => reader.readEntries(take, fail));  // a hundred at a time
    if (!some.length) break;
    found.push(...some.filter((one) => !one.name.startsWith(".")));
  }
  return (await Promise.all(found.map(findFiles))).flat();
}

/** The next unread study in the worklist's order, other than this one. */
export async function findNext(id: string): Promise<string | null> {
  const list = await get<Worklist>("/api/studies?order=worklist");
  return list.studies.find((one) => one.unread && one.id !== id)?.id ?? null;
}

