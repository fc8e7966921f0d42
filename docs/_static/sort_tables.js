// A click on a heading of a table sorts its rows by that column; a second click turns the order round.
(function () {
    "use strict";

    // The first number of a cell: "97.66 ± 0.27" is 97.66, "1.05 M" is 1050000, "1,375.7 M" is 1375700000.
    function numberOf(text) {
        const found = text.replace(/,(?=\d{3})/g, "").replace("−", "-").match(/^[^\w+-]*([+-]?\d+(?:\.\d+)?)(?:\s([KMG])\b)?/);
        return found ? parseFloat(found[1]) * ({ K: 1e3, M: 1e6, G: 1e9 }[found[2]] || 1) : NaN;
    }

    function compare(first, second) {
        const [a, b] = [numberOf(first), numberOf(second)];
        if (isNaN(a) || isNaN(b)) {
            return isNaN(a) && isNaN(b) ? first.localeCompare(second) : isNaN(a) ? 1 : -1;
        }
        return a - b;
    }

    function sort(table, column, heading) {
        const body = table.tBodies[0];
        const textOf = (row) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
        const down = heading.getAttribute("aria-sort") === "ascending";
        const rows = Array.from(body.rows);
        const empty = (row) => ["", "-"].includes(textOf(row));
        rows.sort((a, b) => empty(a) - empty(b) || (down ? -1 : 1) * compare(textOf(a), textOf(b)));
        table.querySelectorAll("th[aria-sort]").forEach((cell) => cell.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...rows);
    }

    document.addEventListener("DOMContentLoaded", () => {
        document.querySelectorAll("article table.docutils").forEach((table) => {
            if (!table.tHead || !table.tBodies.length || table.tBodies[0].rows.length < 3) {
                return;
            }
            Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
                heading.classList.add("sortable");
                heading.tabIndex = 0;
                heading.title = "Sort";
                heading.addEventListener("click", () => sort(table, column, heading));
                heading.addEventListener("keydown", (event) => {
                    if (event.key === "Enter") {
                        sort(table, column, heading);
                    }
                });
            });
        });
    });
})();
