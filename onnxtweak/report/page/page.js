// What the page can do: sort and search classes, and move along strengths. Without it everything is there, and still.
"use strict";

const FOLDED = 40; // rows of a table that are seen at once
const numbers = (text) => (text ? text.split(" ").map(Number) : []);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const signed = (points) => (points < 0 ? "" : "+") + points.toFixed(1);
const kind = (points) => (points > 0.05 ? "gain" : points < -0.05 ? "loss" : "same");

function valueOf(cell) {
  const text = cell.textContent.trim().replace(/,/g, "");
  return text && !Number.isNaN(parseFloat(text)) ? parseFloat(text) : null;
}

// A table whose columns sort when their heads are pressed, and whose rows can be searched.
function workable(table) {
  const rows = Array.from(table.tBodies[0].rows);
  const box = table.closest("section").querySelector("input[type=search]");
  const told = table.closest("section").querySelector(".found");
  const place = () => {
    const query = box ? box.value.trim().toLowerCase() : "";
    let seen = 0;
    for (const row of table.tBodies[0].rows) {
      const found = row.cells[0].textContent.toLowerCase().includes(query);
      row.hidden = !found;
      row.classList.toggle("more", found && !query && seen >= FOLDED);
      seen += found;
    }
    if (told) told.textContent = query ? `${seen.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
  };
  Array.from(table.tHead.rows[0].cells).forEach((head, k) => {
    if (!head.textContent || head.dataset.still !== undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row) => [valueOf(row.cells[k]), row.cells[k].textContent, row]);
      const words = k === 0 && keyed.some(([value]) => value === null);
      keyed.sort(([a, said, one], [b, other, two]) => {
        if (words) return said.localeCompare(other, "en", { numeric: true }) * (down ? -1 : 1);
        if (a === null || b === null) return (a === null) - (b === null);
        return (down ? b - a : a - b) || Number(one.dataset.c) - Number(two.dataset.c);
      });
      table.tBodies[0].append(...keyed.map((entry) => entry[2]));
      place();
    });
  });
  if (box) {
    box.closest(".search").hidden = false;
    box.addEventListener("input", place);
  }
}

// Sliders along strength and target bias: chart, readings and classes follow.
function slide(panel) {
  const strengths = numbers(panel.dataset.strengths), biases = numbers(panel.dataset.biases);
  const support = numbers(panel.dataset.support), targets = numbers(panel.dataset.targets);
  const right = panel.dataset.right.split("|").map(numbers);
  const base = right[strengths.indexOf(0) * biases.length + biases.indexOf(0)];
  const section = panel.closest("section"), here = section.querySelector("tr.here");
  const [strong, bias] = panel.querySelectorAll("input"), outputs = panel.querySelectorAll("output");
  const classes = document.querySelector("table.classes"), note = document.querySelector(".elsewhere");
  const rows = classes ? Array.from(classes.tBodies[0].rows) : [];
  const kept = rows.map((row) => [2, 4, 5].map((k) => row.cells[k].innerHTML));
  const nameOf = (c) => rows.find((row) => row.dataset.c === String(c))?.cells[0].textContent ?? `class ${c}`;
  const dots = section.querySelectorAll("circle.every"), ring = dots[0].cloneNode();
  ring.setAttribute("class", "now");
  ring.setAttribute("r", "8");
  ring.removeAttribute("style");
  dots[0].parentNode.append(ring);

  const readings = (counts) => {
    const change = counts.map((count, c) => (support[c] ? ((count - base[c]) / support[c]) * 100 : 0));
    const payer = change.indexOf(Math.min(...change)), own = sum(targets.map((c) => support[c]));
    return [
      ((100 * sum(counts)) / Math.max(sum(support), 1)).toFixed(1),
      own ? ((100 * sum(targets.map((c) => counts[c]))) / own).toFixed(1) : "-",
      change[payer] < 0 ? `${nameOf(payer)} (${signed(change[payer])})` : "none",
      String(change.filter((points) => points < 0).length),
    ];
  };
  const drawRow = (row, counts, least) => {
    const c = Number(row.dataset.c), was = base[c] / support[c], now = counts[c] / support[c];
    const points = (now - was) * 100, at = (share) => 4 + (Math.max(0, share - least) / (1 - least)) * 192;
    const said = document.createElement("span");
    said.className = `${kind(points)}-said`;
    said.textContent = signed(points);
    row.cells[4].textContent = (now * 100).toFixed(1);
    row.cells[5].replaceChildren(said);
    const [, dot] = row.cells[2].querySelectorAll("circle"), line = row.cells[2].querySelector(".change");
    const colour = points > 0 ? "gain" : points < 0 ? "loss" : "same";
    dot.setAttribute("cx", at(now).toFixed(1));
    dot.setAttribute("class", `dot ${colour}`);
    line.setAttribute("d", `M${at(was).toFixed(1)} 8H${at(now).toFixed(1)}`);
    line.setAttribute("class", `change ${colour}`);
    row.cells[2].querySelector(".whisker")?.remove();
  };
  const show = () => {
    const s = Number(strong.value), b = bias ? Number(bias.value) : 0, k = s * biases.length + b;
    const delivered = strengths[s] === 1 && biases[b] === 0;
    const where = `strength ${strengths[s]}` + (bias ? `, target bias ${biases[b] < 0 ? "" : "+"}${biases[b]}` : "");
    outputs[0].textContent = strengths[s];
    if (bias) outputs[1].textContent = (biases[b] < 0 ? "" : "+") + biases[b];
    for (const name of ["cx", "cy"]) ring.setAttribute(name, dots[k].getAttribute(name));
    here.hidden = false;
    here.querySelector(".where").textContent = where;
    readings(right[k]).forEach((text, column) => { here.cells[column + 1].textContent = text; });
    rows.forEach((row, n) => {
      [2, 4, 5].forEach((column, m) => { row.cells[column].innerHTML = kept[n][m]; });
      if (!delivered && support[Number(row.dataset.c)]) drawRow(row, right[k], Number(classes.dataset.least));
    });
    if (note) {
      note.hidden = delivered;
      note.textContent = `Shown at ${where}: not what was delivered.`;
    }
  };
  for (const input of panel.querySelectorAll("input")) input.addEventListener("input", show);
  panel.querySelector("button").addEventListener("click", () => {
    strong.value = String(strengths.indexOf(1));
    if (bias) bias.value = String(biases.indexOf(0));
    show();
  });
  panel.hidden = false;
  show();
}

document.querySelectorAll("table.workable").forEach(workable);
document.querySelectorAll("#strengths").forEach(slide);
