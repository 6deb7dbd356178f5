"use strict";
// Tables as CSV, figures as SVG, all numbers as JSON, and structures that turn and play.
// Nothing here asks anything of a network, and the page is whole without it.

const FRAME_MS = 120;
const LONGEST_START_MS = 60_000;
const ELEMENT_COLORS = [
  [null, "#909090"],
  ["H", "#f4f4f4"],
  ["N", "#3050f8"],
  ["O", "#d0281e"],
  ["S", "#c8a415"],
];

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function addSaveButton(place, label, what, action) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "save";
  button.textContent = label;
  button.setAttribute("aria-label", `Save as ${label}: ${what}`);
  button.addEventListener("click", action);
  place.prepend(button);
}

function tableAsCsv(table) {
  const quoted = (cell) => `"${cell.textContent.replaceAll('"', '""')}"`;
  return [...table.rows].map((row) => [...row.cells].map(quoted).join(",")).join("\r\n") + "\r\n";
}

// All panels of a figure, where they stand on the page, in one picture.
function figureAsSvg(panels) {
  const from = panels.getBoundingClientRect();
  const places = [...panels.querySelectorAll(":scope > svg")].map((svg) => {
    const { left, top, width, height } = svg.getBoundingClientRect();
    const copy = svg.cloneNode(true);
    const [x, y] = [left - from.left + panels.scrollLeft, top - from.top + panels.scrollTop];
    const at = { x, y, width, height };
    for (const [name, value] of Object.entries(at)) copy.setAttribute(name, value.toFixed(1));
    return { copy, right: x + width, bottom: y + height };
  });
  const whole = document.createElementNS(panels.querySelector("svg").namespaceURI, "svg");
  whole.setAttribute("width", Math.max(...places.map((place) => place.right)).toFixed(1));
  whole.setAttribute("height", Math.max(...places.map((place) => place.bottom)).toFixed(1));
  whole.append(...places.map((place) => place.copy));
  return new XMLSerializer().serializeToString(whole);
}

async function unpacked(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// A scene in MolViewSpec (molstar.org/mol-view-spec): atoms within a ribbon, or beads on a line.
function sceneOf(movie) {
  const paint = ([element, color]) => ({
    kind: "color",
    params: { color, selector: element === null ? "all" : { type_symbol: element } },
  });
  const drawn = (type, ...colors) => ({
    kind: "representation",
    params: { type },
    children: colors.map(paint),
  });
  const component = {
    kind: "component",
    params: { selector: "all" },
    children: movie.atoms
      ? [drawn("cartoon", [null, "#0072b2"]), drawn("ball_and_stick", ...ELEMENT_COLORS)]
      : [drawn("ball_and_stick", [null, "#0072b2"])],
  };
  const structure = { kind: "structure", params: { type: "model" }, children: [component] };
  const parse = { kind: "parse", params: { format: "pdb" }, children: [structure] };
  const url = "data:text/plain;base64," + btoa(movie.pdb);
  const download = { kind: "download", params: { url }, children: [parse] };
  const metadata = { version: "1", timestamp: new Date().toISOString(), title: movie.name };
  return JSON.stringify({ metadata, root: { kind: "root", children: [download] } });
}

// What an anywidget module expects of its host.
class Model {
  constructor(values) {
    this.values = values;
    this.listeners = {};
  }
  get(name) {
    return this.values[name];
  }
  set(name, value) {
    this.values[name] = value;
    for (const listener of this.listeners[`change:${name}`] ?? []) listener();
  }
  on(event, listener) {
    (this.listeners[event] ??= []).push(listener);
  }
}

async function openViewer(stage, scene) {
  const style = document.createElement("style");
  style.textContent = await unpacked("viewer-style");
  document.head.append(style);
  const script = new Blob([await unpacked("viewer-script")], { type: "text/javascript" });
  const { default: widget } = await import(URL.createObjectURL(script));
  const model = new Model({
    width: "100%",
    height: "100%",
    viewer_options: {
      layoutIsExpanded: false,
      layoutShowControls: false,
      viewportShowExpand: true,
      viewportShowSelectionMode: false,
      extensions: ["mvs"], // others ask servers for data as soon as they start
    },
    mvs_load_options: { replaceExisting: true, sanityChecks: false },
    msvj_data: scene,
  });
  widget.render({ model, el: stage });
  for (let waited = 0; stage.querySelector("canvas") === null; waited += 100) {
    if (stage.querySelector(".msp-no-webgl") !== null) throw new Error("there is no WebGL here");
    if (waited > LONGEST_START_MS) throw new Error("it took too long");
    await new Promise((go) => setTimeout(go, 100));
  }
  return model;
}

// The viewer steps from frame to frame by a button of its own, which ends where it began.
function addPlayButton(stage) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "play";
  let timer = null;
  const show = () => (button.textContent = timer === null ? "Play" : "Pause");
  const step = () => stage.querySelector('.msp-traj-controls button[title="Next Model"]')?.click();
  button.addEventListener("click", () => {
    if (timer === null) {
      timer = setInterval(step, FRAME_MS);
    } else {
      clearInterval(timer);
      timer = null;
    }
    show();
  });
  show();
  stage.after(button);
}

async function fillViewer(viewer) {
  const stage = viewer.querySelector(".stage");
  const buttons = [...viewer.querySelectorAll("li button")];
  const movies = JSON.parse(await unpacked("movies"));
  const mark = (number) =>
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === number)));
  mark(0);
  const model = await openViewer(stage, sceneOf(movies[0]));
  buttons.forEach((button, number) => {
    button.disabled = false;
    button.addEventListener("click", () => {
      mark(number);
      model.set("msvj_data", sceneOf(movies[number]));
    });
  });
  addPlayButton(stage);
}

for (const table of document.querySelectorAll("table")) {
  const what = table.caption.textContent;
  const name = what.replaceAll(/[^A-Za-z0-9]+/g, "-").slice(0, 60);
  const saveIt = () => save(`${name}.csv`, "text/csv", tableAsCsv(table));
  addSaveButton(table.parentElement, "CSV", what, saveIt);
}
for (const figure of document.querySelectorAll("figure")) {
  const panels = figure.querySelector(".panels");
  const what = figure.querySelector("figcaption").textContent;
  const saveIt = () => save(`${figure.dataset.name}.svg`, "image/svg+xml", figureAsSvg(panels));
  addSaveButton(figure, "SVG", what, saveIt);
}
if (document.getElementById("numbers") !== null) {
  const saveIt = async () => save("metrics.json", "application/json", await unpacked("numbers"));
  addSaveButton(document.querySelector(".summary"), "JSON", "all numbers", saveIt);
}
const viewer = document.querySelector(".viewer");
if (viewer !== null && document.getElementById("viewer-script") !== null) {
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    fillViewer(viewer).catch((error) => {
      viewer.querySelector(".stage").textContent = `The viewer did not start: ${error.message}`;
      console.error(error);
    });
  });
  seen.observe(viewer);
}
