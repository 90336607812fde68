// What pages do better with scripts. Every page works without this file.
"use strict";
document.documentElement.classList.add("script");

// Times in the reader's own zone: 14:02, Yesterday, 3 Nov, 3 Nov 2024.
const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const moment = { day: "numeric", month: "short", year: "numeric", ...clock };
function spoken(then, now) {
  const day = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
  const days = Math.round((day(now) - day(then)) / 86400000);
  if (days === 0) return then.toLocaleTimeString(undefined, clock);
  if (days === 1) return "Yesterday";
  const year = then.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return then.toLocaleDateString(undefined, { day: "numeric", month: "short", year });
}
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const then = new Date(time.dateTime);
    if (Number.isNaN(then.getTime())) continue;
    time.textContent = "full" in time.dataset ? then.toLocaleString(undefined, moment) : spoken(then, new Date());
    time.title = then.toLocaleString(undefined, moment);
  }
}

// Menus close on Escape, on a click elsewhere, and when another one opens.
function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== except) menu.open = false;
  }
}
document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.activeElement && document.activeElement.closest("details.menu[open]");
  closeMenus(null);
  if (menu) menu.querySelector("summary").focus();
});
document.addEventListener("toggle", (event) => {
  if (!event.target.matches("details.menu[open]")) return;
  const field = event.target.querySelector("form.panel input:not([type=hidden])");
  if (field) field.focus();
}, true);

// A button that shows the password.
function reveal(input) {
  const box = document.createElement("div");
  const button = document.createElement("button");
  box.className = "revealed";
  button.type = "button";
  const say = () => {
    const shown = input.type === "text";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", (shown ? "Hide" : "Show") + " the password");
  };
  button.addEventListener("click", () => {
    input.type = input.type === "text" ? "password" : "text";
    say();
  });
  const focused = document.activeElement === input;
  input.replaceWith(box);
  box.append(input, button);
  if (focused) input.focus();
  say();
}

// A page that could not be served for a moment asks again by itself, while it is looked at.
function retry(card) {
  const link = card.querySelector("a.button.primary");
  let left = Number(card.dataset.retry);
  const label = link.textContent;
  const tick = setInterval(() => {
    if (document.hidden) return;
    left -= 1;
    link.textContent = left > 0 ? `${label} (${left})` : "Trying…";
    if (left > 0) return;
    clearInterval(tick);
    location.reload();
  }, 1000);
  link.addEventListener("click", () => clearInterval(tick));
}

// A wait is counted down.
function countDown(span) {
  let left = Number(span.dataset.countdown);
  const tick = setInterval(() => {
    left -= 1;
    const time = left === 1 ? "1 second" : `${left} seconds`;
    span.textContent = left > 0 ? `The next one is heard in ${time}.` : "You can try again now.";
    if (left <= 0) clearInterval(tick);
  }, 1000);
}

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "1";
});
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

document.querySelectorAll("input[data-reveal]").forEach(reveal);
document.querySelectorAll("[data-retry]").forEach(retry);
document.querySelectorAll("[data-countdown]").forEach(countDown);
localTimes(document);
