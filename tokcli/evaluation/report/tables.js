"use strict";
// Tables sort by any column: a heading becomes a button, and the third press brings the first order back.
(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0], first = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const valueOf = (row, column) => {
      const cell = row.cells[column];
      if (cell.dataset.value === undefined) return cell.textContent.trim().toLowerCase();
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    const compare = (a, b, sign) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is unknown stays below
      return sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    };
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const initial = head.dataset.first || (column ? "descending" : "ascending");
        const other = initial === "descending" ? "ascending" : "descending";
        const next = { [initial]: other, [other]: "" }[head.getAttribute("aria-sort")] ?? initial;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const rows = next ? [...first].sort((a, b) => compare(valueOf(a, column), valueOf(b, column), sign)) : first;
        body.append(...rows);
      });
    });
  }
})();
