/* A pane: one plane of the scan on a canvas. All panes share one state, so zoom, pan and place are linked. */

/* Axes are those of the shown box: 0 to the patient's left, 1 to the back, 2 to the head. */
const PLANES = {
  axial: { across: 2, axes: [0, 1], up: false, edges: "RLAP" },
  coronal: { across: 1, axes: [0, 2], up: true, edges: "RLSI" },
  sagittal: { across: 0, axes: [1, 2], up: true, edges: "APSI" },
};

class Pane {
  /* show: "both" (source and reconstruction about the wipe) or "error" (the map that is chosen). */
  constructor(canvas, plane, show, model) {
    Object.assign(this, { canvas, plane, show, model });
    this.cache = new Map();
  }

  get geometry() {
    return PLANES[this.plane()];
  }

  /* Millimetres of the plane, from the box's corner, that lie in the middle; and pixels per millimetre. */
  frame(width, height) {
    const { axes: [u, v] } = this.geometry;
    const { shape, spacing } = this.model.facts;
    const size = [shape[u] * spacing[u], shape[v] * spacing[v]];
    const { zoom, pan } = this.model.state;
    const scale = zoom * Math.min(width / size[0], height / size[1]);
    return { size, scale, middle: [size[0] / 2 + pan[u], size[1] / 2 + pan[v]] };
  }

  /* Canvas pixel -> voxel of the box (fractional, first two numbers along the plane's axes). */
  voxel(x, y, width, height) {
    const { axes: [u, v], up } = this.geometry;
    const { spacing } = this.model.facts;
    const { scale, middle } = this.frame(width, height);
    const at = [...this.model.state.at];
    at[u] = (middle[0] + (x - width / 2) / scale) / spacing[u] - 0.5;
    at[v] = (middle[1] + ((up ? -1 : 1) * (y - height / 2)) / scale) / spacing[v] - 0.5;
    return at;
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    const width = Math.max(1, Math.round(clientWidth * ratio));
    const height = Math.max(1, Math.round(clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
    }
  }

  draw() {
    this.resize();
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    this.paint(context, width, height);
    this.marks(context, width, height);
  }

  /* The picture alone, on any canvas: also what is exported. */
  paint(context, width, height) {
    const { model } = this;
    const { source, result, map } = model.volumes;
    const wipe = Math.round(model.state.flipped ? width : model.state.wipe * width);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (!source) return;
    if (this.show === "error") {
      this.layer(context, width, height, "map", [0, width], (n, index) => this.mapSlice(n, index, source, result, map));
      return;
    }
    const gray = (volume) => (n, index) => {
      const slice = volume.slice(n, this.geometry, index);
      return slice && painted(slice, model.tables.gray);
    };
    this.layer(context, width, height, "source", [0, wipe], gray(source));
    this.layer(context, width, height, "result", [wipe, width], gray(result));
  }

  mapSlice(n, index, source, result, map) {
    const { tables } = this.model;
    if (map) {
      const slice = map.slice(n, this.geometry, index);
      return slice && painted(slice, tables.map);
    }
    const [after, before] = [result, source].map((volume) => volume.slice(n, this.geometry, index));
    return after && painted(apart(after, before), tables.error);
  }

  /* Draw all parts that the slice meets between two columns of the canvas. */
  layer(context, width, height, name, [left, right], make) {
    if (right <= left) return;
    const { across, axes: [u, v], up } = this.geometry;
    const { facts, state, version } = this.model;
    const { scale, middle, size } = this.frame(width, height);
    const index = Math.round(state.at[across]);
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    context.translate(width / 2, height / 2);
    context.scale(scale, up ? -scale : scale);
    context.translate(-middle[0], -middle[1]);
    context.beginPath();
    context.rect(0, 0, size[0], size[1]);
    context.clip();
    facts.parts.forEach((part, n) => {
      const key = `${name} ${n}`;
      const stamp = `${version[name]} ${index} ${across}`;
      if (this.cache.get(key)?.stamp !== stamp) this.cache.set(key, { stamp, canvas: make(n, index) });
      const { canvas } = this.cache.get(key);
      if (!canvas) return;
      const [du, dv] = [u, v].map((axis) => facts.spacing[axis] * part.step[axis]);
      const [x, y] = [u, v].map((axis) => facts.spacing[axis] * (part.origin[axis] - Math.floor(part.step[axis] / 2)));
      context.imageSmoothingEnabled = Math.min(du, dv) * scale < 6;
      context.drawImage(canvas, x, y, canvas.width * du, canvas.height * dv);
    });
    context.restore();
  }

  /* What lies over the picture: wipe, crosshair, outline of the mask, letters. */
  marks(context, width, height) {
    const { model } = this;
    const { state, facts } = model;
    const { axes: [u, v], up, edges, across } = this.geometry;
    const { scale, middle } = this.frame(width, height);
    const ratio = width / (this.canvas.clientWidth || width);
    const x = width / 2 + ((state.at[u] + 0.5) * facts.spacing[u] - middle[0]) * scale;
    const y = height / 2 + (up ? -1 : 1) * ((state.at[v] + 0.5) * facts.spacing[v] - middle[1]) * scale;
    if (model.volumes.mask && state.outline) {
      this.outline(context, width, height, model.volumes.mask, across, ratio);
    }
    if (state.crosshair) {
      context.strokeStyle = "rgba(90, 220, 130, 0.85)";
      context.lineWidth = ratio;
      const gap = 9 * ratio;
      context.beginPath();
      for (const [a, b, c, d] of [
        [0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height],
      ]) {
        context.moveTo(a, b);
        context.lineTo(c, d);
      }
      context.stroke();
    }
    if (this.show === "both" && !state.flipped && state.layer >= 0) {
      const at = state.wipe * width;
      context.fillStyle = "rgba(255, 255, 255, 0.9)";
      context.fillRect(at - 0.75 * ratio, 0, 1.5 * ratio, height);
      context.beginPath();
      context.arc(at, height / 2, 11 * ratio, 0, 7);
      context.fill();
      context.fillStyle = "#111";
      context.font = `${14 * ratio}px sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText("↔", at, height / 2 + ratio);
    }
    this.letters(context, width, height, edges, ratio);
  }

  letters(context, width, height, [left, right, top, bottom], ratio) {
    context.font = `600 ${12 * ratio}px sans-serif`;
    context.fillStyle = "#f0f3f6";
    context.shadowColor = "#000";
    context.shadowBlur = 4 * ratio;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText(left, 6 * ratio, height / 2);
    context.textAlign = "right";
    context.fillText(right, width - 6 * ratio, height / 2);
    context.textAlign = "center";
    context.fillText(top, width / 2, 11 * ratio);
    context.fillText(bottom, width / 2, height - 10 * ratio);
    context.shadowBlur = 0;
  }

  /* The edge of the mask's voxels in this slice, on the finest part that holds it. */
  outline(context, width, height, mask, across, ratio) {
    const { axes: [u, v], up } = this.geometry;
    const { facts, state } = this.model;
    const { scale, middle } = this.frame(width, height);
    const index = Math.round(state.at[across]);
    for (let n = facts.parts.length - 1; n >= 0; n--) {
      const slice = mask.slice(n, this.geometry, index);
      if (!slice) continue;
      const part = facts.parts[n];
      const place = (i, axis) => facts.spacing[axis] * (part.origin[axis] - Math.floor(part.step[axis] / 2) + i * part.step[axis]);
      const to = (i, j) => [
        width / 2 + (place(i, u) - middle[0]) * scale,
        height / 2 + (up ? -1 : 1) * (place(j, v) - middle[1]) * scale,
      ];
      const inside = (i, j) =>
        i >= 0 && j >= 0 && i < slice.columns && j < slice.rows && slice.values[i + j * slice.columns] > 0;
      context.strokeStyle = "#ffd54a";
      context.lineWidth = 1.5 * ratio;
      context.beginPath();
      for (let j = 0; j <= slice.rows; j++) {
        for (let i = 0; i <= slice.columns; i++) {
          if (inside(i, j) !== inside(i - 1, j)) {
            context.moveTo(...to(i, j));
            context.lineTo(...to(i, j + 1));
          }
          if (inside(i, j) !== inside(i, j - 1)) {
            context.moveTo(...to(i, j));
            context.lineTo(...to(i + 1, j));
          }
        }
      }
      context.stroke();
      return;
    }
  }
}
