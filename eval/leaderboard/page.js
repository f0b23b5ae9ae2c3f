// Sorting, and which domain and bitrates are shown. Everything is in the tables already: without
// this script the page shows all of it, one below the other.
(() => {
  "use strict";
  const REFERENCES = "references";
  document.documentElement.classList.add("js");

  const figure = (row, place) => {
    const text = row.cells[place].dataset.v;
    return text === undefined ? null : place === 0 ? text : Number(text);
  };

  const arrange = (table, view) => {
    const { place, sign } = table.order;
    const rows = [...table.rowsAsWritten];
    if (place !== null) {
      rows.sort((a, b) => {
        const x = figure(a, place), y = figure(b, place);
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (place === 0 ? x.localeCompare(y, "en", { numeric: true }) : x - y);
      });
    }
    const together = view === "together";
    table.classList.toggle("together", together);
    const bodies = [...table.tBodies];
    const first = bodies[0];
    for (const body of bodies) {
      const band = body.dataset.band;
      const isReference = band === REFERENCES;
      const joined = together && !isReference;
      const mine = rows.filter((row) => joined
        ? body === first && row.dataset.band !== REFERENCES
        : row.dataset.band === band);
      body.append(...mine);
      body.rows[0].hidden = joined;
      body.hidden = !isReference && !together && view !== "apart" && view !== band;
    }
  };

  for (const section of document.querySelectorAll("section.data")) {
    const view = section.querySelector("select.view");
    const domain = section.querySelector("select.domain");
    const tables = [...section.querySelectorAll("table.sortable")];
    for (const table of tables) {
      table.rowsAsWritten = [...table.querySelectorAll("tbody tr[data-band]")];
      table.order = { place: null, sign: 1 };
      for (const button of table.querySelectorAll("thead button")) {
        button.addEventListener("click", () => {
          const heading = button.closest("th");
          const place = heading.cellIndex;
          const now = heading.getAttribute("aria-sort");
          // The better end first; a second click turns it round.
          const up = now === null || now === "none"
            ? heading.dataset.first !== "descending" : now === "descending";
          for (const other of table.querySelectorAll("thead th")) {
            other.setAttribute("aria-sort", "none");
          }
          heading.setAttribute("aria-sort", up ? "ascending" : "descending");
          table.order = { place, sign: up ? 1 : -1 };
          arrange(table, view.value);
        });
      }
    }
    const show = () => {
      for (const panel of section.querySelectorAll("[data-domain]")) {
        panel.hidden = panel.dataset.domain !== domain.value;
      }
      for (const table of tables) arrange(table, view.value);
    };
    view.addEventListener("change", show);
    domain.addEventListener("change", show);
    show();
  }

  // One sound at a time.
  document.addEventListener("play", (event) => {
    for (const audio of document.querySelectorAll("audio")) {
      if (audio !== event.target) audio.pause();
    }
  }, true);

  // A link to something folded away opens it.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
