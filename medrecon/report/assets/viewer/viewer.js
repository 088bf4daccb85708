/* The scrubber of a report: controls and words about the model, panes that draw it. */
const section = document.getElementById("viewer");
const body = document.getElementById("viewer-body");
const facts = JSON.parse(document.getElementById("viewer-facts").textContent);
const field = (name) => body.querySelector(`[name="${name}"]`);
const VAGUE = 1; /* width of an interval of kept contrast from which on nothing can be said */
const part = (id) => document.getElementById(id);

const fixed = (value, digits) => (Number(Number(value).toFixed(digits)) + 0).toFixed(digits).replace("-", "−");
const amount = (value, digits = facts.digits) =>
  facts.units ? `${fixed(value, digits)}\u00a0${facts.units}` : fixed(value, digits);

const model = new Model(facts, () => requestAnimationFrame(show));
model.section = section;
model.clicked = () => tellFinding();
const plane = () => body.querySelector('[name="plane"]:checked').value;
const others = () => Object.keys(PLANES).filter((name) => name !== plane());
const panes = [
  new Pane(part("pane-0"), plane, "both", model),
  new Pane(part("pane-1"), plane, "error", model),
  new Pane(part("pane-2"), () => others()[0], "both", model),
  new Pane(part("pane-3"), () => others()[1], "both", model),
];
const drawn = () => (field("three").checked ? panes : panes.slice(0, 2));

function show() {
  if (!model.volumes.source) return;
  for (const pane of drawn()) {
    pane.draw();
    const { at, zoom, pan } = model.state;
    Object.assign(pane.canvas.dataset, {
      at: model.place(at).map((v) => v.toFixed(2)).join(" "), zoom: zoom.toFixed(3), pan: pan.map((v) => v.toFixed(1)).join(" "),
    });
  }
  tell();
}

function tell() {
  const { state, layer, volumes } = model;
  const { source, result, map } = volumes;
  const { across } = PLANES[plane()];
  const signed = state.map === "signed error";
  section.dataset.layer = layer?.name ?? "source";
  field("depth").value = state.layer + 1;
  field("depth").setAttribute("aria-valuetext", layer ? layer.caption : "the source itself");
  body.querySelectorAll("button[data-layer]").forEach((tick) => {
    tick.setAttribute("aria-pressed", String(Number(tick.dataset.layer) === state.layer));
  });
  part("told").textContent = layer ? layer.told : "The source itself: nothing is lost.";
  part("pane-0-h").textContent = state.flipped || !layer ? "source" : `source | ${layer.name}`;
  part("pane-1-h").textContent = signed
    ? `error${layer ? ` of ${layer.name}` : ""}: amber too high, blue too low, up to ${amount(state.limit, state.limit < 10 ? 1 : 0)}`
    : `${state.map}${map ? "" : ": none for this layer"}`;
  part("pane-2-h").textContent = others()[0];
  part("pane-3-h").textContent = others()[1];
  field("slice").max = facts.shape[across] - 1;
  field("slice").value = state.at[across];
  field("slice").setAttribute("aria-valuetext", `slice ${state.at[across] + 1} of ${facts.shape[across]}`);
  part("slice-now").textContent = `${state.at[across] + 1} of ${facts.shape[across]}`;
  field("wipe").value = Math.round(100 * state.wipe);
  field("crosshair").checked = state.crosshair;
  const [low, high] = state.window;
  const preset = facts.windows.findIndex(({ range }) => range[0] === low && range[1] === high);
  field("window").value = preset < 0 ? "" : String(preset);
  part("window-now").textContent = `${fixed(low, facts.digits)} to ${fixed(high, facts.digits)}`;
  part("limit-now").textContent = `${signed ? "±" : ""}${amount(state.limit, state.limit < 10 ? 1 : 0)}`;
  const values = [source, result].map((volume) => volume.value(state.at));
  const put = (id, text) => { part(`read-${id}`).querySelector("dd").textContent = text; };
  const [right, front, head] = model.place(state.at);
  const side = (value, plus, minus) => `${value < 0 ? minus : plus}\u00a0${fixed(Math.abs(value), 1)}`;
  put("at", `${side(right, "R", "L")}  ${side(front, "A", "P")}  ${side(head, "S", "I")}`);
  const { off } = nearestHeld(facts.parts, state.at);
  const away = Math.hypot(...off.map((v, a) => v * facts.spacing[a]));
  part("read-held").hidden = !away;
  put("held", `of the nearest voxel in this page, ${fixed(away, 1)} mm away`);
  put("source", amount(values[0]));
  put("reconstruction", amount(values[1]));
  put("error", amount(values[1] - values[0]));
  part("read-overlay").hidden = !map;
  if (map) {
    part("read-overlay").querySelector("dt").textContent = state.map;
    put("overlay", amount(map.value(state.at), 2));
  }
}

/* The sentence about what was clicked; a newer click ends it. */
async function tellFinding() {
  const at = [...model.state.at];
  const radius = Number(field("radius").value);
  const stale = () => at.some((v, a) => v !== model.state.at[a]) || radius !== Number(field("radius").value);
  part("here").textContent = "Measuring …";
  const found = await findingAt(model, at, radius, stale);
  if (stale()) return;
  if (!found || Math.abs(found.contrast) < model.facts.source.coding[1]) {
    part("here").textContent = "Here nothing stands out from its surroundings.";
    return;
  }
  const percent = (share) => fixed(100 * share, 0);
  const shares = facts.layers.map(({ name }, n) => {
    const [share, low, high] = found.kept[n];
    if (high - low > VAGUE) return `${name} cannot be told`;
    const sure = high - low < 0.005 ? "" : ` (${percent(low)} to ${percent(high)})`;
    return `${name} ${percent(share)}\u00a0%${sure}`;
  });
  const sign = found.contrast > 0 ? "above" : "below";
  const place = model.place(at).map((v) => v.toFixed(1)).join(",");
  const held = found.exact ? "" : " From the voxels that this page holds, not from all.";
  part("here").textContent =
    `Here: ${amount(Math.abs(found.contrast))} ${sign} its surroundings. Kept, with 95\u00a0% intervals: ` +
    `${shares.join(", ")}.${held} All voxels, edge and size: medrecon atlas … --at=${place} --radius ${radius}`;
  section.dataset.finding = JSON.stringify(found);
}

function resized() {
  const { clientWidth, clientHeight } = panes[0].canvas;
  if (clientWidth && clientHeight) show();
}

/* The picture of one layer beside its error, with a line of words: what is exported. */
function frame(width, height, words) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 2 * width, height: height + 26 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const half = document.createElement("canvas");
  Object.assign(half, { width, height });
  panes.slice(0, 2).forEach((pane, n) => {
    pane.cache.clear();
    pane.paint(half.getContext("2d"), width, height);
    context.drawImage(half, n * width, 0);
  });
  context.fillStyle = "#111111";
  context.fillRect(0, height, 2 * width, 26);
  context.fillStyle = "#eeeeee";
  context.font = "15px sans-serif";
  context.textBaseline = "middle";
  context.fillText(words, 8, height + 13);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

async function exportGif() {
  const button = part("export");
  const before = { layer: model.state.layer, wipe: model.state.wipe, flipped: model.state.flipped, map: model.state.map };
  const { clientWidth, clientHeight } = panes[0].canvas;
  const width = 420;
  const height = Math.round((width * clientHeight) / clientWidth);
  button.disabled = true;
  part("export-state").textContent = "Making the picture …";
  const frames = [];
  Object.assign(model.state, { wipe: 0, flipped: false, map: "signed error", limit: facts.limits["signed error"] });
  for (let layer = -1; layer < facts.layers.length; layer++) {
    await model.choose(layer);
    const words = layer < 0 ? "source" : facts.layers[layer].caption;
    frames.push({ image: frame(width, height, `${words}    For research, not for diagnosis`), hundredths: layer < 0 ? 150 : 110 });
  }
  Object.assign(model.state, before);
  for (const pane of panes) pane.cache.clear();
  await model.choose(before.layer);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(animatedGif(frames, facts.colours.error));
  link.download = "layers.gif";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  part("export-state").textContent = `layers.gif: ${frames.length} pictures`;
  button.disabled = false;
  section.dataset.exported = String(frames.length);
}

function connect() {
  for (const pane of panes) listen(pane, model);
  body.addEventListener("input", ({ target }) => {
    const value = Number(target.value);
    if (target.name === "depth") model.choose(value - 1);
    else if (target.name === "slice") model.step(PLANES[plane()].across, value - model.state.at[PLANES[plane()].across]);
    else if (target.name === "wipe") model.wipe(value / 100);
    else if (target.name === "limit") model.setLimit(facts.limits[model.state.map] * 2 ** (value / 5));
  });
  body.addEventListener("change", ({ target }) => {
    if (target.name === "plane") show();
    else if (target.name === "window" && target.value) model.setWindow(...facts.windows[Number(target.value)].range);
    else if (target.name === "radius") tellFinding();
    else if (target.name === "map") { field("limit").value = 0; model.chooseMap(target.value); }
    else if (target.name === "crosshair" || target.name === "outline") model.toggle(target.name);
    else if (target.name === "three") {
      part("others").hidden = !target.checked;
      show();
    }
  });
  body.addEventListener("click", ({ target }) => {
    const tick = target.closest("button[data-layer]");
    if (tick) model.choose(Number(tick.dataset.layer));
    else if (target.id === "full") model.fullScreen();
    else if (target.id === "reset") model.reset();
    else if (target.id === "export") exportGif();
  });
  new ResizeObserver(resized).observe(panes[0].canvas);
}

async function start() {
  section.dataset.state = "starting";
  const began = performance.now();
  try {
    body.hidden = false;
    connect();
    await model.refresh();
    section.dataset.seconds = ((performance.now() - began) / 1000).toFixed(2);
    section.dataset.state = "ready";
    part("viewer-state").hidden = true;
    part("poster").classList.add("paper");
    for (const { reconstruction } of facts.layers) await model.store.get(reconstruction);
    section.dataset.state = "all";
  } catch (error) {
    section.dataset.state = "failed";
    body.hidden = true;
    part("viewer-state").hidden = false;
    part("viewer-state").textContent = `The viewer could not start (${error.message}). The slices below show the same.`;
  }
}

start();
