// What the page does beyond reading: filter, sort, pick a bin, read out a bar. Texts are only ever
// set as text; the page's policy forbids making HTML of them.
"use strict";
(() => {
  const $ = (query, from = document) => from.querySelector(query);
  const $$ = (query, from = document) => [...from.querySelectorAll(query)];

  for (const figure of $$("figure")) {
    const output = $("output", figure);
    const tell = (event) => {
      const bar = event.target.closest("g, a");
      output.textContent = bar ? $("title", bar).textContent : "";
    };
    for (const name of ["pointerover", "focusin", "click"]) figure.addEventListener(name, tell);
    figure.addEventListener("pointerleave", () => { output.textContent = ""; });
  }

  // One stop of the tab key for a chart; arrows go from bar to bar.
  for (const plot of $$(".plot")) {
    const links = $$("a", plot);
    links.forEach((link, i) => link.setAttribute("tabindex", i ? "-1" : "0"));
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = step && links[links.indexOf(document.activeElement) + step];
      if (!next) return;
      links.forEach((link) => link.setAttribute("tabindex", link === next ? "0" : "-1"));
      next.focus();
      event.preventDefault();
    });
  }

  const list = $(".rows");
  if (!list) return;
  const rows = $$(":scope > li", list);
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const tools = $(".tools");
  const input = $("input", tools);
  const picked = $("button.bin", tools);
  const told = $(".told", tools);
  const toggle = $("button.open", tools);
  let bin = null;

  const shown = () => rows.filter((row) => !row.hidden);
  const nameToggle = () => {
    const open = shown().some((row) => row.firstElementChild.open);
    toggle.textContent = open ? "Close all" : "Open all shown";
  };
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const inBin = bin === null || row.dataset.bin === bin;
      row.hidden = !(inBin && words.every((word) => textOf(row).includes(word)));
    }
    const n = shown().length;
    told.textContent = n === rows.length ? "" : `${n.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
    for (const link of $$(".plot a")) link.classList.toggle("picked", link.dataset.bin === bin);
    nameToggle();
  };
  const pick = (number, text) => {
    bin = number;
    picked.hidden = bin === null;
    picked.textContent = `${text} ×`;
    picked.setAttribute("aria-label", `Show all times again, not only ${text}`);
    apply();
  };

  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 120);
  });
  $("select", tools).addEventListener("change", (event) => {
    const key = event.target.value === "time" ? "order" : "rank";
    list.append(...rows.sort((a, b) => a.dataset[key] - b.dataset[key]));
  });
  picked.addEventListener("click", () => pick(null, ""));
  toggle.addEventListener("click", () => {
    const open = !shown().some((row) => row.firstElementChild.open);
    for (const row of shown()) row.firstElementChild.open = open;
  });
  list.addEventListener("toggle", nameToggle, true);
  for (const link of $$(".plot a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const same = bin === link.dataset.bin;
      pick(same ? null : link.dataset.bin, same ? "" : $("title", link).textContent.split(": ")[0]);
      if (!same) $("#odd").scrollIntoView({ block: "nearest" });
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      input.focus();
    } else if (event.key === "Escape" && (input.value || bin !== null)) {
      input.value = "";
      pick(null, "");
    }
  });
  tools.hidden = false;
  nameToggle();
})();
