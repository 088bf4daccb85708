/* What is looked at: one state, changed by named steps; whoever draws is told after each. */

class Model {
  constructor(facts, changed) {
    const { start, windows, layers } = facts;
    Object.assign(this, { facts, changed });
    this.store = new Store(facts);
    this.volumes = {};
    this.tables = {};
    this.version = { source: 0, result: 0, map: 0 };
    this.state = {
      at: [...start], layer: layers.length - 1, window: [...windows[0].range], zoom: 1, pan: [0, 0, 0], wipe: 0.5,
      flipped: false, crosshair: false, outline: true, map: "signed error", limit: facts.limits["signed error"],
    };
    this.lastScroll = 0;
    window.addEventListener("scroll", () => { this.lastScroll = performance.now(); }, { passive: true });
  }

  get layer() {
    return this.facts.layers[this.state.layer] ?? null; /* null: the source itself */
  }

  scrolling() {
    return performance.now() - this.lastScroll < 150;
  }

  /* Fetch what the state needs, colour it anew and tell. */
  async refresh() {
    const { facts, layer, state, store } = this;
    const wanted = { layer: state.layer, map: state.map };
    const source = await store.get(facts.source);
    const result = layer ? await store.get(layer.reconstruction) : source;
    const entry = layer?.[state.map];
    const map = entry ? await store.get(entry) : null;
    const mask = facts.mask ? await store.get(facts.mask) : null;
    if (wanted.layer !== state.layer || wanted.map !== state.map) return; /* a later choice is on its way */
    this.volumes = { source, result, map, mask };
    this.version.result++;
    this.colour();
  }

  colour() {
    const { facts, state } = this;
    const { source, map } = this.volumes;
    if (!source) return;
    this.tables = {
      gray: grays(...state.window, source),
      error: ramped(facts.colours.error, -state.limit, state.limit, source.step),
      map: map && ramped(facts.colours.map, 0, state.limit, map.step),
    };
    for (const name of Object.keys(this.version)) this.version[name]++;
    this.changed();
  }

  choose(layer) {
    this.state.layer = Math.max(-1, Math.min(this.facts.layers.length - 1, layer));
    return this.refresh();
  }

  chooseMap(name) {
    this.state.map = name;
    this.state.limit = this.facts.limits[name];
    return this.refresh();
  }

  setLimit(limit) {
    this.state.limit = limit;
    this.colour();
  }

  setWindow(low, high) {
    const least = 2 * this.facts.source.coding[1];
    this.state.window = [low, Math.max(low + least, high)];
    this.colour();
  }

  nextWindow() {
    const { windows } = this.facts;
    const now = windows.findIndex(({ range }) => range.every((v, i) => v === this.state.window[i]));
    this.setWindow(...windows[(now + 1) % windows.length].range);
  }

  /* As in DICOM viewers: to the right is wider, down is brighter. */
  dragWindow([low, high], dx, dy) {
    const width = (high - low) * 2 ** (dx / 200);
    const level = (low + high) / 2 - ((high - low) * dy) / 300;
    this.setWindow(level - width / 2, level + width / 2);
  }

  moveTo(at) {
    const { shape } = this.facts;
    this.state.at = at.map((v, a) => Math.max(0, Math.min(shape[a] - 1, Math.round(v))));
    this.changed();
  }

  /* Some voxels along an axis; whether anything moved. */
  step(axis, count) {
    const before = this.state.at[axis];
    const at = [...this.state.at];
    at[axis] += count;
    this.moveTo(at);
    return this.state.at[axis] !== before;
  }

  wipe(share) {
    this.state.flipped = false;
    this.state.wipe = Math.max(0, Math.min(1, share));
    this.changed();
  }

  flip() {
    this.state.flipped = !this.state.flipped;
    this.changed();
  }

  toggle(name) {
    this.state[name] = !this.state[name];
    this.changed();
  }

  pan(u, du, v, dv) {
    this.state.pan[u] += du;
    this.state.pan[v] += dv;
    this.changed();
  }

  /* About a pixel of a pane, or about the middle. */
  zoom(factor, pane = null, at = null) {
    const zoom = Math.max(1, Math.min(40, this.state.zoom * factor));
    if (pane && at) {
      const { clientWidth: width, clientHeight: height } = pane.canvas;
      const { axes: [u, v], up } = pane.geometry;
      const { scale } = pane.frame(width, height);
      const grown = 1 / scale - this.state.zoom / (zoom * scale);
      this.state.pan[u] += (at[0] - width / 2) * grown;
      this.state.pan[v] += (up ? -1 : 1) * (at[1] - height / 2) * grown;
    }
    this.state.zoom = zoom;
    if (zoom === 1) this.state.pan = [0, 0, 0];
    this.changed();
  }

  reset() {
    Object.assign(this.state, {
      at: [...this.facts.start], zoom: 1, pan: [0, 0, 0], wipe: 0.5, flipped: false, window: [...this.facts.windows[0].range],
    });
    this.colour();
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.section?.requestFullscreen?.().catch(() => {});
  }

  /* mm to the patient's right, front and head of a voxel. */
  place([i, j, k]) {
    return this.facts.affine.slice(0, 3).map((row) => row[0] * i + row[1] * j + row[2] * k + row[3]);
  }
}
