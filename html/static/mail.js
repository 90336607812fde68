// What webmail does better with scripts. Every page works without this file.
"use strict";

// Lists: choose all, and buttons that show whether they would do anything.
function chooser(form) {
  const all = form.querySelector("#all");
  const boxes = [...form.querySelectorAll("input[name=place]")];
  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
    form.classList.toggle("chosen", chosen > 0);
    for (const tool of form.querySelectorAll("button.tool")) tool.disabled = chosen === 0;
  };
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    show();
  });
  let last = null;
  form.addEventListener("click", (event) => {
    const at = boxes.indexOf(event.target);
    if (at < 0) return;
    if (event.shiftKey && last !== null) {
      const [from, to] = [Math.min(at, last), Math.max(at, last)];
      for (const box of boxes.slice(from, to + 1)) box.checked = boxes[at].checked;
    }
    last = at;
    show();
  });
  show();
}

// The frame of a message is as high as what is in it: it scrolls with the page.
function fit(frame) {
  const body = () => frame.contentDocument && frame.contentDocument.body;
  const show = () => {
    if (body()) frame.style.height = `${body().scrollHeight + 4}px`;
  };
  const watch = () => {
    show();
    if (body()) new ResizeObserver(show).observe(body());
  };
  frame.addEventListener("load", watch);
  watch();
}

// Composing: Ctrl+Enter sends; leaving a changed page asks; a long upload says that it goes on.
function composer(form) {
  let changed = false;
  form.addEventListener("input", () => { changed = true; });
  addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector("button[value=send]"));
  });
  form.addEventListener("submit", (event) => {
    changed = false;
    const sending = document.createElement("span");
    sending.className = "sending";
    sending.setAttribute("role", "status");
    sending.textContent = event.submitter && event.submitter.value === "send" ? "Sending…" : "Saving…";
    form.querySelector(".send").append(sending);
  });
  addEventListener("pageshow", () => form.querySelectorAll(".sending").forEach((one) => one.remove()));
}

// Gmail's letters: c compose; j, k and Enter walk a list; u back; r, a, f answer; e archive; # delete.
const keys = {
  c: () => follow('a[href="/mail/compose"]'),
  u: () => follow(".tools a.tool"),
  r: () => follow('a[href^="/mail/compose?reply="]'),
  a: () => follow('a[href^="/mail/compose?reply_all="]'),
  f: () => follow('a[href^="/mail/compose?forward="]'),
  e: () => press('.tools button[value="move-archive"]'),
  "#": () => press('.tools button[value="delete"]'),
  j: () => walk(1),
  k: () => walk(-1),
};
function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}
function press(selector) {
  const form = document.querySelector(".letters-form");
  const button = document.querySelector(selector);
  if (button && (!form || form.classList.contains("chosen"))) button.click();
}
function walk(step) {
  const links = [...document.querySelectorAll(".letter > a")];
  if (links.length === 0) return;
  const now = document.activeElement.closest(".letter");
  const at = now ? links.indexOf(now.querySelector(":scope > a")) + step : 0;
  links[Math.max(0, Math.min(links.length - 1, at))].focus();
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

document.querySelectorAll(".letters-form").forEach(chooser);
document.querySelectorAll(".compose").forEach(composer);
document.querySelectorAll("iframe.letter-frame").forEach(fit);
