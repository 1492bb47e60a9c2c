// Makes the pages livelier. They work without it.

const now = () => Date.now();

// Moments in the reader's zone; the exact one stays in the title.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
// The days of charts are those of UTC, whatever the reader's are.
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", timeZone: "UTC" });
const span = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

function relative(moment) {
  const seconds = Math.round((moment - now()) / 1000);
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= length) {
      return span.format(Math.trunc(seconds / length), unit);
    }
  }
  return span.format(seconds, "second");
}

function tellTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.getAttribute("datetime"));
    if (Number.isNaN(moment.getTime())) continue;
    const recent = Math.abs(moment - now()) < 24 * 3600 * 1000;
    element.textContent = recent ? relative(moment) : exact.format(moment);
    element.title = `${exact.format(moment)} (${element.getAttribute("datetime")})`;
  }
  for (const element of root.querySelectorAll("[data-hour], [data-day]")) {
    const moment = new Date(element.dataset.hour ?? element.dataset.day);
    if (Number.isNaN(moment.getTime())) continue;
    element.textContent = (element.dataset.hour ? hour : day).format(moment);
  }
}

// Buttons that copy what stands before them.
function offerCopies(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

// What a button only shows is shown in place, so that nothing that was typed in is lost.
async function showInPlace(form, button) {
  const into = document.getElementById(button.dataset.inPlace);
  const body = new URLSearchParams(new FormData(form, button));
  button.disabled = true;
  document.getElementById("faults")?.remove();
  try {
    // By the attribute: `form.action` is a button of that name, where there is one.
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body });
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    const told = found.getElementById(into.id);
    if (!told) throw new Error("not a page with it");
    const faults = found.getElementById("faults");
    into.replaceChildren(...(faults ? [faults] : []), ...told.childNodes);
    tellTimes(into);
    offerCopies(into);
  } catch {
    into.textContent = "Nothing was sent. Load the page again.";
  } finally {
    button.disabled = false;
    into.scrollIntoView({ block: "nearest" });
  }
}

// A form that is under way is not sent again by a second click.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.submitter?.dataset.inPlace && document.getElementById(event.submitter.dataset.inPlace)) {
    event.preventDefault();
    showInPlace(form, event.submitter);
    return;
  }
  if (form.getAttribute("method") !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// The parts of the page that change while it is looked at.
function isInUse(region) {
  const chosen = getSelection();
  const hasChoice = chosen !== null && !chosen.isCollapsed && region.contains(chosen.anchorNode);
  return region.contains(document.activeElement) || hasChoice;
}

function show(region, html) {
  const opened = new Set([...region.querySelectorAll("details[open][id]")].map((one) => one.id));
  region.innerHTML = html;
  for (const one of region.querySelectorAll("details[id]")) one.open = opened.has(one.id);
  tellTimes(region);
  offerCopies(region);
}

function follow(address) {
  const badge = document.querySelector("[data-live-state]");
  const say = (text) => { if (badge) { badge.textContent = text; badge.hidden = false; } };
  const regions = [...document.querySelectorAll("[data-live-part]")];
  const waiting = new Map();
  // Whoever is in the middle of something keeps the ground under the feet.
  const settle = () => {
    for (const [region, html] of waiting) {
      if (isInUse(region)) continue;
      waiting.delete(region);
      show(region, html);
    }
  };
  let source = null;
  const begin = () => {
    if (source || document.hidden) return;
    source = new EventSource(address);
    source.addEventListener("open", () => say("Live"));
    source.addEventListener("error", () => say("Not live"));
    source.addEventListener("part", (event) => {
      const parts = JSON.parse(event.data);
      for (const region of regions) {
        const html = parts[region.dataset.livePart];
        if (html !== undefined) waiting.set(region, html);
      }
      settle();
    });
  };
  // A page that nobody sees takes no connection: browsers have few for one server.
  const end = () => {
    source?.close();
    source = null;
    say("Not live");
  };
  document.addEventListener("focusout", () => setTimeout(settle));
  document.addEventListener("selectionchange", () => setTimeout(settle));
  document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
  window.addEventListener("pagehide", end);
  window.addEventListener("pageshow", begin);
  begin();
}

// What goes on is asked for again until it is over, more seldom with time; nothing else of the page
// moves.
async function askAgain(region, pause = 2000) {
  await new Promise((resolve) => setTimeout(resolve, pause));
  if (!region.isConnected) return;
  if (!document.hidden && !isInUse(region)) {
    try {
      const answer = await fetch(location.pathname);
      const found = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = found.getElementById(region.id);
      if (next) {
        show(region, next.innerHTML);
        if (!("askAgain" in next.dataset)) return;
      }
    } catch {
      // Asked again below.
    }
  }
  askAgain(region, Math.min(pause * 1.2, 15000));
}

tellTimes(document);
offerCopies(document);
setInterval(() => tellTimes(document), 30000);
for (const region of document.querySelectorAll("[data-live]")) follow(region.dataset.live);
for (const region of document.querySelectorAll("[data-ask-again]")) askAgain(region);
