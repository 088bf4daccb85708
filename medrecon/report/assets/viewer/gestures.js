/* Mouse, touch, wheel and keys of a pane. All of them only call the model. */

const NEAR = 14; /* CSS pixels from the wipe's line that take hold of it */
const STILL = 4; /* CSS pixels that a click may move */
const NOTCH = 40; /* of the wheel for one slice */

function listen(pane, model) {
  const { canvas } = pane;
  const fingers = new Map();
  let hold = null;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const point = ([x, y]) => {
    model.state.crosshair = true;
    model.moveTo(pane.voxel(x, y, canvas.clientWidth, canvas.clientHeight));
    model.clicked();
  };
  const shift = (dx, dy) => {
    const { axes: [u, v], up } = pane.geometry;
    const { scale } = pane.frame(canvas.clientWidth, canvas.clientHeight);
    model.pan(u, -dx / scale, v, ((up ? 1 : -1) * dy) / scale);
  };
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    const at = place(event);
    const wiping = pane.show === "both" && Math.abs(at[0] - model.state.wipe * canvas.clientWidth) < NEAR;
    let kind = "window";
    if (event.button !== 0 || event.shiftKey) kind = "pan";
    else if (wiping && !model.state.flipped) kind = "wipe";
    else if (event.pointerType === "touch") kind = pane.show === "both" ? "wipe" : "pan";
    hold = { kind, from: at, last: at, moved: false, window: [...model.state.window] };
    if (fingers.size === 2) hold = { kind: "pinch", spread: spread(), moved: true, last: at };
  });

  canvas.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (!hold) {
      const near = pane.show === "both" && Math.abs(at[0] - model.state.wipe * canvas.clientWidth) < NEAR;
      canvas.style.cursor = near && !model.state.flipped ? "ew-resize" : "crosshair";
      return;
    }
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, at);
    if (hold.kind === "pinch") {
      const now = spread();
      model.zoom(now / hold.spread);
      hold.spread = now;
      return;
    }
    hold.moved ||= Math.hypot(at[0] - hold.from[0], at[1] - hold.from[1]) > STILL;
    if (!hold.moved) return;
    const [dx, dy] = [at[0] - hold.last[0], at[1] - hold.last[1]];
    hold.last = at;
    if (hold.kind === "wipe") model.wipe(at[0] / canvas.clientWidth);
    else if (hold.kind === "pan") shift(dx, dy);
    else model.dragWindow(hold.window, at[0] - hold.from[0], at[1] - hold.from[1]);
  });

  const release = (event) => {
    if (hold && !hold.moved && event.type === "pointerup" && event.button === 0) point(hold.from);
    fingers.delete(event.pointerId);
    if (fingers.size === 0) hold = null;
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => model.fullScreen());

  let turned = 0;
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      model.zoom(2 ** (-event.deltaY / 250), pane, place(event));
      return;
    }
    if (model.scrolling()) return; /* the page is on its way past the pane */
    const size = event.deltaMode === 0 ? event.deltaY : event.deltaY * NOTCH;
    turned = Math.sign(size) === Math.sign(turned) ? turned + size : size;
    const steps = Math.trunc(turned / NOTCH);
    turned -= steps * NOTCH;
    /* at either end of the scan the page moves on */
    if (!steps || model.step(pane.geometry.across, -steps)) event.preventDefault();
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => pressed(event, pane, model));
}

function pressed(event, pane, model) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { across, axes: [u, v], up } = pane.geometry;
  const places = {
    ArrowLeft: [u, -1], ArrowRight: [u, 1], ArrowUp: [v, up ? 1 : -1], ArrowDown: [v, up ? -1 : 1],
  };
  const keys = {
    ArrowLeft: () => model.choose(model.state.layer - 1),
    ArrowRight: () => model.choose(model.state.layer + 1),
    ArrowUp: () => model.step(across, 1),
    ArrowDown: () => model.step(across, -1),
    PageUp: () => model.step(across, 10),
    PageDown: () => model.step(across, -10),
    "[": () => model.wipe(model.state.wipe - 0.05),
    "]": () => model.wipe(model.state.wipe + 0.05),
    "+": () => model.zoom(1.25),
    "=": () => model.zoom(1.25),
    "-": () => model.zoom(0.8),
    0: () => model.reset(),
    " ": () => model.flip(),
    c: () => model.toggle("crosshair"),
    f: () => model.fullScreen(),
    w: () => model.nextWindow(),
  };
  if (event.shiftKey && places[event.key]) {
    model.step(...places[event.key]);
  } else if (event.key >= "1" && event.key <= "9") {
    model.choose(Number(event.key) - 1);
  } else if (keys[event.key]) {
    keys[event.key]();
  } else {
    return;
  }
  event.preventDefault();
}
