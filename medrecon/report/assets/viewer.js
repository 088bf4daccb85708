/* The viewer of an atlas: source, reconstruction and error in three NiiVue panes with one crosshair. */
(() => {
  "use strict";
  const facts = JSON.parse(document.getElementById("viewer-facts").textContent);
  const section = document.getElementById("viewer");
  const state = document.getElementById("viewer-state");
  const body = document.getElementById("viewer-body");

  if (!document.createElement("canvas").getContext("webgl2")) {
    section.dataset.state = "absent";
    return;
  }
  state.textContent = "The viewer loads when it comes into view …";

  const { Niivue, NVImage } = window.niivue;
  const field = (name) => body.querySelector(`[name="${name}"]`);
  const chosen = (name) => Number(body.querySelector(`[name="${name}"]:checked`).value);
  const panes = [];
  const images = new Map();
  const AXIAL = 0, CORONAL = 1, SAGITTAL = 2, PAN = 3;

  const fixed = (value, digits) => (Number(Number(value).toFixed(digits)) + 0).toFixed(digits).replace("-", "−");
  const number = (value, digits = facts.digits) =>
    facts.units ? `${fixed(value, digits)} ${facts.units}` : fixed(value, digits);

  async function image(id, name) {
    if (!images.has(id)) {
      const node = document.getElementById(`volume-${id}`);
      const made = await NVImage.loadFromBase64({ base64: node.textContent, name: `${name}.nii.gz` });
      /* setting a colour map sets cal_min and cal_max anew: it comes before them, and once */
      made.colormap = ["source", "reconstruction"].includes(name) ? "gray" : "medrecon-above";
      images.set(id, made);
      node.textContent = "";
    }
    return images.get(id);
  }

  /* Reconstruction minus source, on the source's grid, in the source's units. */
  function difference(after, before) {
    const made = before.clone();
    const step = before.hdr.scl_slope || 1;
    const values = new Float32Array(before.img.length);
    for (let i = 0; i < values.length; i++) values[i] = (after.img[i] - before.img[i]) * step;
    made.img = values;
    Object.assign(made.hdr, { datatypeCode: 16, numBitsPerVoxel: 32, scl_slope: 1, scl_inter: 0 });
    made.colormap = "medrecon-above";
    made.colormapNegative = "medrecon-below";
    return made;
  }

  function show(pane, volumes) {
    const same = volumes.length === pane.volumes.length && volumes.every((v, i) => v === pane.volumes[i]);
    if (same) {
      pane.updateGLVolume();
    } else {
      pane.volumes = volumes.slice(0, -1);
      pane.addVolume(volumes[volumes.length - 1]);
    }
  }

  function limitNow() {
    const kind = field("overlay").value;
    return facts.limits[kind] * 2 ** (field("limit").valueAsNumber / 5);
  }

  async function update(panesToo = [0, 1, 2]) {
    const layer = facts.layers[chosen("layer")];
    const kind = field("overlay").value;
    const [low, high] = facts.windows[Number(field("window").value)];
    const source = await image(0, "source");
    const result = await image(layer.reconstruction, "reconstruction");
    for (const each of [source, result]) Object.assign(each, { cal_min: low, cal_max: high });
    let over = null;
    if (kind === "signed error") {
      const key = `error-${layer.reconstruction}`;
      if (!images.has(key)) images.set(key, difference(result, source));
      over = images.get(key);
    } else if (layer[kind] !== undefined) {
      over = await image(layer[kind], kind);
    }
    const limit = limitNow();
    if (over) {
      /* colormapType 1: see-through below cal_min, more so the smaller the value */
      Object.assign(over, { cal_min: 0.4 * limit, cal_max: limit, colormapType: 1 });
      over.opacity = field("opacity").valueAsNumber / 100;
    }
    const wanted = [[source], [result], over ? [source, over] : [source]];
    for (const index of panesToo) show(panes[index], wanted[index]);
    document.getElementById("limit-now").textContent = number(limit, limit < 10 ? 1 : 0);
    document.getElementById("pane-1-h").textContent = layer.caption;
    document.getElementById("pane-2-h").textContent =
      over ? (kind === "signed error" ? "error: amber above, blue below" : kind)
           : `${kind}: none for this layer`;
    section.dataset.layer = layer.name;
    read(panes[0]);
  }

  function read(pane) {
    const mm = Array.from(pane.frac2mm(pane.scene.crosshairPos, 0, true)).slice(0, 3);
    const values = panes.flatMap((p) => p.volumes.map((v) => v.getValue(...v.mm2vox(mm))));
    const [source, result, , over] = values;
    const put = (id, text) => {
      document.querySelector(`#read-${id} dd`).textContent = text;
    };
    put("at", mm.map((v) => fixed(v, 1)).join("  "));
    put("source", number(source));
    put("reconstruction", number(result));
    put("error", number(result - source));
    const kind = field("overlay").value;
    const map = kind !== "signed error" && over !== undefined;
    const line = document.getElementById("read-overlay");
    line.hidden = !map;
    if (map) {
      line.querySelector("dt").textContent = kind;
      put("overlay", number(over, 2));
    }
  }

  /* All panes have one grid, so one place in it serves all. */
  let moving = false;
  function follow(pane) {
    if (moving) return;
    moving = true;
    for (const other of panes) {
      if (other !== pane && other.volumes.length) {
        other.scene.crosshairPos = Array.from(pane.scene.crosshairPos);
        other.drawScene();
      }
    }
    for (const each of panes) {
      const at = each.frac2mm(each.scene.crosshairPos, 0, true);
      each.canvas.dataset.at = Array.from(at).slice(0, 3).map((v) => v.toFixed(2)).join(" ");
    }
    read(pane);
    moving = false;
  }

  /* Steps to the patient's right, front and head for each key, as the plane is seen. */
  const RIGHT = { [AXIAL]: [-1, 0, 0], [CORONAL]: [-1, 0, 0], [SAGITTAL]: [0, -1, 0], 3: [-1, 0, 0] };
  const UP = { [AXIAL]: [0, 1, 0], [CORONAL]: [0, 0, 1], [SAGITTAL]: [0, 0, 1], 3: [0, 1, 0] };
  const ON = { [AXIAL]: [0, 0, 1], [CORONAL]: [0, 1, 0], [SAGITTAL]: [1, 0, 0], 3: [0, 0, 1] };
  const KEYS = {
    ArrowRight: [RIGHT, 1], ArrowLeft: [RIGHT, -1], ArrowUp: [UP, 1], ArrowDown: [UP, -1],
    PageUp: [ON, 1], PageDown: [ON, -1],
  };

  function zoom(factor) {
    for (const pane of panes) {
      const [x, y, z, scale] = pane.scene.pan2Dxyzmm;
      pane.setPan2Dxyzmm(factor ? [x, y, z, Math.min(12, Math.max(1, scale * factor))] : [0, 0, 0, 1]);
    }
  }

  function pressed(event) {
    const pane = panes.find((p) => p.canvas === event.target);
    if (!pane) return;
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]) {
      const [steps, sign] = KEYS[event.key];
      pane.moveCrosshairInVox(...steps[chosen("plane")].map((s) => s * sign));
    } else if (event.key === "+" || event.key === "=") {
      zoom(1.25);
    } else if (event.key === "-") {
      zoom(0.8);
    } else if (event.key === "0") {
      zoom(0);
    } else if (event.key >= "1" && event.key <= "9") {
      const radio = body.querySelectorAll('[name="layer"]')[Number(event.key) - 1];
      if (!radio) return;
      radio.checked = true;
      update([1, 2]);
    } else {
      return;
    }
    event.preventDefault();
  }

  async function start() {
    const started = performance.now();
    section.dataset.state = "starting";
    try {
      body.hidden = false;
      for (let index = 0; index < 3; index++) {
        const pane = new Niivue({
          backColor: [0, 0, 0, 1],
          crosshairColor: [0.3, 0.9, 0.5, 0.85],
          crosshairGap: 6,
          crosshairWidthUnit: "mm",
          dragAndDropEnabled: false,
          dragMode: PAN,
          isRadiologicalConvention: true,
          sagittalNoseLeft: true,
          scrollRequiresFocus: true,
          loadingText: "",
          logLevel: "error",
          multiplanarShowRender: 0,
          multiplanarPadPixels: 4,
          sliceType: AXIAL,
          show3Dcrosshair: false,
        });
        pane.addColormap("medrecon-above", facts.above);
        pane.addColormap("medrecon-below", facts.below);
        await pane.attachToCanvas(document.getElementById(`pane-${index}`), false);
        pane.onLocationChange = () => follow(pane);
        panes.push(pane);
      }
      for (const pane of panes) pane.broadcastTo(panes.filter((p) => p !== pane), { "2d": true, "3d": true });
      await update();
      /* a line thinner than a pixel is not drawn at all, and a pane is some 300 pixels wide */
      const { dims, pixDims } = (await image(0, "source")).hdr;
      const longest = Math.max(...[1, 2, 3].map((axis) => dims[axis] * pixDims[axis]));
      for (const pane of panes) pane.opts.crosshairWidth = longest / 200;
      panes[0].scene.crosshairPos = panes[0].mm2frac(facts.start);
      panes[0].drawScene();
      follow(panes[0]);

      body.addEventListener("change", (event) => {
        if (event.target.name === "plane") {
          for (const pane of panes) pane.setSliceType(chosen("plane"));
        } else if (event.target.type !== "range") {
          if (event.target.name === "overlay") field("limit").value = 0;
          update({ layer: [1, 2], overlay: [2] }[event.target.name]);
        }
      });
      body.addEventListener("input", (event) => {
        if (event.target.type === "range") update([2]);
      });
      /* NiiVue has keys of its own that would set the panes apart: they never reach it */
      for (const kind of ["keydown", "keyup"]) {
        body.addEventListener(kind, (event) => {
          if (event.target.tagName !== "CANVAS") return;
          if (kind === "keydown") pressed(event);
          else event.stopPropagation();
        }, true);
      }
      section.dataset.seconds = ((performance.now() - started) / 1000).toFixed(2);
      section.dataset.state = "ready";
      state.hidden = true;
    } catch (error) {
      section.dataset.state = "failed";
      body.hidden = true;
      state.hidden = false;
      state.textContent = `The viewer could not start (${error.message}). The slices above show the same.`;
    }
  }

  /* Shaders and volumes take seconds on a slow machine: not before someone looks. */
  const seen = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      seen.disconnect();
      start();
    }
  }, { rootMargin: "400px" });
  section.dataset.state = "waiting";
  seen.observe(section);
})();
