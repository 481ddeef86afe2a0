// Keeps the page up to date, and its times. Without it the page shows the same.
"use strict";
(() => {
  const link = document.getElementById("link");
  const span = (s) => {
    s = Math.max(0, Math.floor(s));
    if (s < 60) return s + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
    if (s < 86400) return Math.floor(s / 3600) + " h " + (Math.floor(s / 60) % 60) + " min";
    return Math.floor(s / 86400) + " d " + (Math.floor(s / 3600) % 24) + " h";
  };
  const times = () => {
    for (const t of document.querySelectorAll("#main time")) {
      const ahead = (Date.parse(t.dateTime) - Date.now()) / 1000;
      if (isNaN(ahead)) continue; // a year that no script knows
      const text = t.dataset.until === undefined ? span(-ahead) + " ago" : ahead > 0 ? "in " + span(ahead) : "now";
      if (t.textContent !== text) t.textContent = text;
    }
  };

  // sync makes a look like b and keeps the nodes that are the same, so that the focus, an
  // open confirmation and a ticked box stay. Children with an id are the same by their id.
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
  const sync = (a, b) => {
    if (a.nodeType === Node.TEXT_NODE) {
      if (a.data !== b.data) a.data = b.data;
      return;
    }
    if (a.nodeType !== Node.ELEMENT_NODE) return;
    for (const { name, value } of [...b.attributes]) {
      if (a.getAttribute(name) !== value) a.setAttribute(name, value);
    }
    for (const { name } of [...a.attributes]) {
      if (!b.hasAttribute(name) && !(a.nodeName === "DETAILS" && name === "open")) a.removeAttribute(name);
    }
    if (a.nodeName === "TIME") return; // an update leaves the relative times to this script
    const byId = new Map();
    for (const c of a.children) if (c.id) byId.set(c.id, c);
    let at = a.firstChild;
    for (const want of [...b.childNodes]) {
      let have = want.id ? byId.get(want.id) : at;
      if (have && !same(have, want)) have = undefined;
      if (!have) {
        a.insertBefore(document.importNode(want, true), at);
        continue;
      }
      if (have === at) at = at.nextSibling;
      else a.insertBefore(have, at);
      sync(have, want);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const update = (e) => {
    const next = new DOMParser().parseFromString(JSON.parse(e.data), "text/html").getElementById("main");
    const focused = document.activeElement;
    if (next) sync(document.getElementById("main"), next);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true }); // it has moved
    times();
  };

  // A tab that does not show has no stream: a browser has few connections per site. After an
  // answer that is no stream, such as a proxy's while the program restarts, the browser gives
  // up, and this tries again.
  let stream, again;
  const close = () => {
    clearTimeout(again);
    if (stream) stream.close();
    stream = undefined;
  };
  const open = () => {
    close();
    stream = new EventSource(document.body.dataset.live);
    stream.onopen = () => { link.classList.remove("lost"); link.textContent = "Live"; };
    stream.onerror = (e) => {
      link.classList.add("lost");
      link.textContent = "Not connected: what you see may be old";
      if (e.target.readyState === EventSource.CLOSED && e.target === stream) again = setTimeout(open, 5000);
    };
    stream.addEventListener("page", update);
  };
  document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
  if (!document.hidden) open();
  setInterval(times, 1000);
  times();
})();
