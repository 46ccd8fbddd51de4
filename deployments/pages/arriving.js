// Follows the frames of a night: asks for arriving.json next to the page, and shows its rows as texts.
"use strict";
(() => {
  const section = document.getElementById("arriving");
  if (!section) { return; }
  const body = section.querySelector("tbody"), state = section.querySelector(".state");
  const pause = 3000, plural = (n) => `${n} frame${n === 1 ? "" : "s"}`;
  const names = [...section.querySelectorAll("th")].map((th) => th.textContent);
  let shown = "";

  function cellOf(cell, column) {
    const td = document.createElement("td"), span = document.createElement("span");
    span.textContent = cell.text;
    span.className = ["good", "odd", "bad"].includes(cell.tone) ? cell.tone : "none";
    if (column > 0) { td.dataset.name = names[column]; }
    if (cell.title) { td.title = cell.title; }
    td.append(span);
    return td;
  }

  function show(night) {
    const written = night.written || "";
    state.textContent = `${plural(night.total || 0)} judged, the last at ` +
      `${written.slice(0, 16).replace("T", " ")} UT. This table follows the night.`;
    if (written === shown) { return; }
    shown = written;
    body.replaceChildren(...(night.rows || []).map((row) => {
      const tr = document.createElement("tr");
      tr.append(...row.map(cellOf));
      return tr;
    }));
  }

  async function look() {
    if (document.hidden) { return; }
    try {
      const answer = await fetch("arriving.json", { cache: "no-cache" });
      if (answer.ok) { show(await answer.json()); }
      else { state.textContent = answer.status === 401 ? "Log in again to follow the night." : `No answer (${answer.status}).`; }
    } catch { state.textContent = "The server does not answer; trying again."; }
  }

  look();
  setInterval(look, pause);
})();
