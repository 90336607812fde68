// Uploads with progress, and files dropped on the page. Without this file the form does the same.
"use strict";
(() => {
  const menu = document.getElementById("upload");
  if (!menu || !document.getElementById("listing")) return;
  const input = document.getElementById("upload-files");
  const waiting = [];
  let running = null;
  let tray = null;

  const listing = () => document.getElementById("listing");
  const element = (tag, properties) => Object.assign(document.createElement(tag), properties);

  function size(bytes) {
    const units = ["bytes", "KB", "MB", "GB", "TB"];
    let unit = 0;
    while (bytes >= 999.5 && unit + 1 < units.length) { bytes /= 1000; unit += 1; }
    return `${unit === 0 || bytes >= 9.95 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
  }

  function left(seconds) {
    if (!Number.isFinite(seconds)) return "";
    if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s left`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min left`;
    return `${(seconds / 3600).toFixed(1)} h left`;
  }

  function openTray() {
    if (tray) return;
    tray = element("section", { className: "tray" });
    tray.setAttribute("aria-label", "Uploads");
    const head = element("header", {});
    const title = element("h2", { textContent: "Uploads" });
    title.setAttribute("aria-live", "polite");
    const close = element("button", { type: "button", textContent: "✕" });
    close.setAttribute("aria-label", "Close the list of uploads");
    close.addEventListener("click", () => {
      if (running || waiting.length) return;
      tray.remove();
      tray = null;
    });
    head.append(title, close);
    tray.append(head, element("ul", {}));
    document.body.append(tray);
  }

  function say(text) {
    if (tray) tray.querySelector("h2").textContent = text;
  }

  class Upload {
    constructor(file, url) {
      this.file = file;
      this.url = url;
      this.row = element("li", {});
      this.bar = element("progress", { max: Math.max(1, file.size), value: 0 });
      this.bar.setAttribute("aria-label", `Progress of ${file.name}`);
      this.state = element("span", { className: "state", textContent: "Waiting" });
      this.button = element("button", { type: "button", textContent: "Cancel" });
      this.button.addEventListener("click", () => this.press());
      this.row.append(element("span", { textContent: file.name, title: file.name }), this.button, this.bar, this.state);
      tray.querySelector("ul").append(this.row);
    }

    press() {
      if (this.button.textContent === "Retry") return this.again();
      if (this.request) return this.request.abort();
      waiting.splice(waiting.indexOf(this), 1);
      this.end("failed", "Cancelled", "Retry");
    }

    again() {
      this.row.className = "";
      this.button.textContent = "Cancel";
      this.state.textContent = "Waiting";
      waiting.push(this);
      refresh().then(next);
    }

    end(kind, text, button) {
      this.request = null;
      this.row.className = kind;
      this.state.textContent = text;
      this.button.textContent = button || "";
      this.button.hidden = !button;
      this.button.setAttribute("aria-label", `${button} ${this.file.name}`);
      if (kind === "done") this.bar.remove();
    }

    start() {
      const { left } = listing().dataset;
      if (left !== undefined && this.file.size > Number(left)) {
        return this.failed(`There is room for ${size(Number(left))} only. Delete something, then retry.`);
      }
      const form = new FormData();
      form.append("file", this.file, this.file.name);
      const request = this.request = new XMLHttpRequest();
      const began = performance.now();
      request.open("POST", this.url);
      request.setRequestHeader("X-CSRF-Token", listing().dataset.csrf);
      request.setRequestHeader("Accept", "application/json");
      request.upload.addEventListener("progress", (event) => this.progress(event, began));
      request.addEventListener("load", () => this.answered(request));
      request.addEventListener("error", () => this.failed("The connection broke. Nothing was stored of this file."));
      request.addEventListener("abort", () => this.failed("Cancelled. Nothing was stored of this file."));
      request.send(form);
    }

    progress(event, began) {
      const speed = event.loaded / ((performance.now() - began) / 1000);
      this.bar.max = event.total;
      this.bar.value = event.loaded;
      const percent = Math.floor((100 * event.loaded) / event.total);
      this.state.textContent = event.loaded < event.total
        ? `${percent} % · ${size(speed)}/s · ${left((event.total - event.loaded) / speed)}`
        : "Saving…";
    }

    answered(request) {
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* a page, not JSON: the status says enough */ }
      if (request.status === 200 && told.uploaded && told.uploaded.length) {
        const name = told.uploaded[0];
        this.end("done", name === this.file.name ? "Saved" : `Saved as “${name}”`, "");
        finish();
      } else {
        this.failed(told.fault || `Not uploaded (${request.status}). Nothing was stored of this file.`);
      }
    }

    failed(why) {
      this.end("failed", why, "Retry");
      finish();
    }
  }

  function finish() {
    running = null;
    if (waiting.length) return void setTimeout(next);
    const failed = tray.querySelectorAll("li.failed").length;
    say(failed ? `${failed} not uploaded` : "All uploaded");
    refresh();
  }

  function next() {
    if (running || !waiting.length) return;
    running = waiting.shift();
    say(waiting.length ? `Uploading, ${waiting.length} waiting` : "Uploading");
    running.start();
  }

  async function refresh() {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of ["#listing", ".used"]) {
        const fresh = page.querySelector(part);
        const old = document.querySelector(part);
        if (fresh && old) old.replaceWith(document.adoptNode(fresh));
      }
      localTimes(listing());
    } catch { /* the list is refreshed with the next page */ }
  }

  function add(files) {
    if (!files.length) return;
    openTray();
    const url = listing().dataset.upload;
    for (const file of files) waiting.push(new Upload(file, url));
    next();
  }

  menu.querySelector("summary").addEventListener("click", (event) => {
    event.preventDefault();
    input.click();
  });
  input.addEventListener("change", () => {
    add([...input.files]);
    input.value = "";
  });

  let veil = null;
  const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  const lift = () => { if (veil) veil.remove(); veil = null; };
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    if (veil) return;
    veil = element("div", { className: "drop", textContent: `Drop to upload to “${document.querySelector("h1").textContent}”` });
    document.body.append(veil);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) lift(); });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    lift();
    const whole = [...event.dataTransfer.items].filter((item) => {
      const entry = item.webkitGetAsEntry && item.webkitGetAsEntry();
      return item.kind === "file" && !(entry && entry.isDirectory);
    });
    add(whole.map((item) => item.getAsFile()).filter(Boolean));
  });
  addEventListener("beforeunload", (event) => {
    if (running || waiting.length) event.preventDefault();
  });
})();
