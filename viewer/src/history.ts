// A study's history: every state with its time and reason, what readers said and drew, and what each target holds.

import { get, send, type Problem, type Study } from "./api";
import { h, moment, person, table } from "./dom";
import type { Screen } from "./main";

export const showHistory: Screen = async (place, me, id = "") => {
  const said = h("p", { role: "status", className: "note" });
  async function load(): Promise<void> {
    const study = await get<Study>(`/api/studies/${id}`);
    const act = (path: string, words: string) => h("button", { type: "button", onclick: () => {
      send("POST", `/api/studies/${id}/${path}`).then(() => load()).then(() => { said.textContent = `${words}: asked for.`; })
        .catch((error: Problem) => { said.textContent = error.sentence; });
    } }, words);
    place.replaceChildren(
      h("h1", {}, `History of ${person(study.patient.name) || "the study"}`),
      h("p", {}, h("a", { href: `#/study/${id}` }, "Open the study"), ` · state: ${study.state}${study.waiting ? `, ${study.waiting}` : ""}`),
      study.error ? h("p", { className: "problem" }, study.error) : "",
      me.role === "admin" ? h("div", { className: "tools" }, act("again", "Segment once more"), act("deliver", "Send once more")) : "", said,
      table("States", ["When", "Version", "State", "Reason"], study.events.map((one) => [moment(one.at), String(one.version), one.state, one.reason])),
      table("Targets", ["Target", "State", "Confirmed", "Last answer"],
        study.deliveries.map((one) => [one.target, one.state, `${one.confirmed} of ${one.objects}`, one.error])),
      table("Readings", ["When", "Version", "Reader", "Says", "Words"],
        study.readings.map((one) => [moment(one.at), String(one.version), one.user, one.says, one.words])),
      table("Corrections", ["Number", "When", "Version", "Reader", "Voxels marked"],
        study.corrections.map((one) => [String(one.number), moment(one.at), String(one.version), one.user, one.voxels.toLocaleString("en-GB")])));
  }
  await load();
  return () => {};
};
