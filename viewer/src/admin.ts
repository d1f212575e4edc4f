// Administration: processes and disk, queue, targets and peers, users, audit.

import { get, send, type Problem } from "./api";
import { h, moment, span, table } from "./dom";
import type { Screen } from "./main";

interface User { id: string; name: string; role: string; oidc: boolean; disabled: boolean; senders: string; last_seen: number | null }
interface Disk { free_gb: number; kept_free_gb: number; used: [string, number][] }
interface Job { id: number; study: string; version: number; step: string; target: string; state: string; due: number; attempt: number; error: string }
interface Queue { now: number; jobs: Job[]; counts: [string, string, number][]; processes: { id: string; kind: string; started_at: number; age_s: number; alive: boolean }[];
  passed_over: { sender_ae: string; reason: string; count: number; last_at: number }[] }
interface Peers { ae_title: string; listen: string; peers: { ae_title: string; address: string; may: string[] }[];
  targets: { name: string; kind: string; where: string; send: string[]; when: string; held: number; open: number; error: string }[] }
interface Audit { whole: boolean; broken_at: number | null; total: number;
  rows: { id: number; at: number; actor: string; address: string; action: string; outcome: string; study: string; detail: string }[] }

export const showAdmin: Screen = async (place) => {
  const said = h("p", { role: "status", className: "note" });
  const parts = h("div", {});
  place.replaceChildren(h("h1", {}, "Administration"), said, parts);
  const attempt = (work: Promise<unknown>, words: string) => void work.then(load).then(() => { said.textContent = words; })
    .catch((error: Problem) => { said.textContent = error.sentence; });

  async function load(): Promise<void> {
    const [queue, disk, peers, users, audit] = await Promise.all([get<Queue>("/api/admin/queue"), get<Disk>("/api/admin/disk"), get<Peers>("/api/admin/peers"),
      get<{ users: User[] }>("/api/admin/users"), get<Audit>("/api/admin/audit")]);
    const study = (id: string) => id ? h("a", { href: `#/history/${id}` }, id.slice(0, 8)) : "";
    parts.replaceChildren(
      h("h2", {}, "Processes and queue"),
      table("Processes", ["Kind", "Started", "Last heard", "State"],
        queue.processes.map((one) => [one.kind, moment(one.started_at), `${span(one.age_s)} ago`, one.alive ? "alive" : "silent"])),
      table("Jobs, by step", ["Step", "State", "Number"], queue.counts.map(([step, state, count]) => [step, state, String(count)])),
      table("Jobs that wait or have failed", ["Study", "Step", "Target", "State", "Tried", "Next", "Reason"],
        queue.jobs.map((one) => [study(one.study), one.step, one.target, one.state, String(one.attempt), one.due > queue.now ? `in ${span(one.due - queue.now)}` : "now", one.error])),
      table("Accepted and not processed", ["Sender", "Reason", "Number", "Last"],
        queue.passed_over.map((one) => [one.sender_ae, one.reason, String(one.count), moment(one.last_at)])),
      h("h2", {}, "Disk"),
      h("p", {}, `${disk.free_gb.toFixed(1)} GB free; below ${disk.kept_free_gb} GB nothing more is received.`),
      table("Used", ["Folder", "GB"], disk.used.map(([name, gb]) => [name, gb.toFixed(2)])),
      h("h2", {}, "Peers and targets"),
      h("p", {}, `Our AE title is ${peers.ae_title}, at ${peers.listen}. Peers and targets are set in the configuration file.`),
      table("Peers", ["AE title", "Address", "May"], peers.peers.map((one) => [one.ae_title, one.address || "any", one.may.join(", ")])),
      table("Targets", ["Name", "Kind", "Where", "Gets", "When", "Confirmed", "Open", "Last error"],
        peers.targets.map((one) => [one.name, one.kind, one.where, one.send.join(", "), one.when, String(one.held), String(one.open), one.error])),
      h("h2", {}, "Users"), ...showUsers(users.users, attempt),
      h("h2", {}, "Audit"),
      h("p", { className: audit.whole ? "" : "problem" }, audit.whole ? `${audit.total.toLocaleString("en-GB")} ${audit.total === 1 ? "entry" : "entries"}; the chain of hashes is whole.`
        : `The chain of hashes is broken at entry ${audit.broken_at}: entries were changed or removed.`),
      table("Newest entries", ["Number", "When", "Who", "From", "What", "Outcome", "Study", "Detail"],
        audit.rows.map((one) => [String(one.id), moment(one.at), one.actor, one.address, one.action, one.outcome, study(one.study), one.detail === "{}" ? "" : one.detail])));
  }
  await load();
  return () => {};
};

function showUsers(users: User[], attempt: (work: Promise<unknown>, words: string) => void): HTMLElement[] {
  const name = h("input", { id: "user-name", required: true, autocomplete: "off" });
  const password = h("input", { id: "user-password", type: "password", required: true, minLength: 12, autocomplete: "new-password" });
  const role = h("select", { id: "user-role" }, h("option", {}, "reader"), h("option", {}, "admin"));
  const senders = h("input", { id: "user-senders", autocomplete: "off", placeholder: "all" });
  const add = (event: SubmitEvent) => {
    event.preventDefault();
    attempt(send("POST", "/api/admin/users", { name: name.value, password: password.value, role: role.value, senders: senders.value }), `${name.value} was added.`);
  };
  const change = (user: User, what: Record<string, unknown>, words: string) => h("button", { type: "button", "aria-label": `${words} ${user.name}`,
    onclick: () => attempt(send("PUT", `/api/admin/users/${user.id}`, what), `${user.name}: done.`) }, words);
  return [
    table("All users", ["Name", "Role", "Sees", "Logs in by", "Last seen", "", ""], users.map((one) => [one.name, one.role, one.senders || "all", one.oidc ? "OpenID Connect" : "password",
      one.disabled ? "disabled" : moment(one.last_seen), change(one, { disabled: !one.disabled }, one.disabled ? "Enable" : "Disable"),
      one.oidc ? "" : change(one, { role: one.role === "admin" ? "reader" : "admin" }, one.role === "admin" ? "Make a reader" : "Make an admin")])),
    h("form", { className: "inline", onsubmit: add }, h("label", { htmlFor: "user-name" }, "Name"), name, h("label", { htmlFor: "user-password" }, "Password"), password,
      h("label", { htmlFor: "user-role" }, "Role"), role, h("label", { htmlFor: "user-senders" }, "Sees studies from (AE titles)"), senders, h("button", { type: "submit" }, "Add")),
  ];
}
