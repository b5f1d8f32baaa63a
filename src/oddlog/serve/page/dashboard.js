// What the page does beyond reading: it follows the alerts, sends what a person says of one without
// leaving the place, and listens to the keyboard. Without it the page works all the same. New
// content is the server's own page, asked for again: nothing of a log is made into HTML here.
"use strict";
(() => {
  const $ = (query, from = document) => from.querySelector(query);
  const $$ = (query, from = document) => [...from.querySelectorAll(query)];
  const rows = () => $$(".alerts > li");
  const summaryOf = (row) => row && $("summary", row);
  const current = () => document.activeElement?.closest(".alerts > li");

  function tellBars() {
    for (const figure of $$("figure")) {
      const output = $("output", figure);
      const tell = (event) => {
        const bar = event.target.closest("g");
        output.textContent = bar ? $("title", bar).textContent : "";
      };
      for (const name of ["pointerover", "click"]) figure.addEventListener(name, tell);
      figure.addEventListener("pointerleave", () => { output.textContent = ""; });
    }
  }

  function show(state) {
    const live = $("#live");
    live.className = state;
    live.textContent = { on: "live", off: "connection lost; trying again" }[state] || "";
  }

  let state = "";
  async function refresh() {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) { location.reload(); return; }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const open = new Set($$(".alerts > li:has([open])").map((row) => row.id));
    const known = new Set(rows().map((row) => row.id));
    const focused = current()?.id;
    const typing = document.activeElement?.matches("input, select");
    for (const id of ["head", "alerts", "charts", "templates"]) {
      if (typing && id === "alerts") continue;
      const part = fresh.getElementById(id);
      if (part) document.getElementById(id).replaceWith(document.adoptNode(part));
    }
    document.title = fresh.title;
    for (const row of rows()) {
      if (open.has(row.id)) $("details", row).open = true;
      if (known.size && !known.has(row.id)) row.classList.add("fresh");
    }
    if (focused) summaryOf(document.getElementById(focused))?.focus();
    tellBars();
    show(state);
  }

  let waiting = null;
  const refreshSoon = () => {
    waiting ??= setTimeout(() => { waiting = null; refresh().catch(() => show(state = "off")); }, 300);
  };

  function follow() {
    const events = new EventSource(`/v1/alerts/stream?after=${document.body.dataset.revision}`);
    events.addEventListener("open", () => show(state = "on"));
    events.addEventListener("alert", refreshSoon);
    events.addEventListener("error", () => show(state = "off"));
    setInterval(() => { if (!document.hidden) refreshSoon(); }, 30000);
  }

  async function say(form, button) {
    const fields = new URLSearchParams(new FormData(form));
    fields.set("verdict", button.value);
    const row = form.closest("li");
    const next = row.nextElementSibling || row.previousElementSibling;
    const answer = await fetch(form.action, { method: "POST", body: fields, redirect: "manual" });
    if (answer.type !== "opaqueredirect" && !answer.ok) { location.reload(); return; }
    summaryOf(next)?.focus();
    await refresh();
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches(".say") || !event.submitter) return;
    event.preventDefault();
    say(event.target, event.submitter).catch(() => show(state = "off"));
  });

  function step(by) {
    const all = rows();
    const at = all.indexOf(current());
    summaryOf(all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)])?.focus();
  }

  const VERDICTS = { r: "real", f: "false_alarm", s: "snooze" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") $("input[type=search]").focus();
    else if (VERDICTS[event.key]) $(`button[value=${VERDICTS[event.key]}]`, current() || document.createElement("p"))?.click();
    else return;
    event.preventDefault();
  });

  tellBars();
  follow();
})();
