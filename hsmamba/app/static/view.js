// An image with layers over it that can be moved, zoomed, clicked and drawn on; or two images with a line between.

const NEAR = 12; // pixels of the screen within which the line of the swipe is taken hold of
const STILL = 5; // pixels of the screen that a click may move

const ORDER = ["composite", "map", "confidence", "labels", "left", "right"]; // from below, whichever comes first
const AROUND = [[-1.5, 0], [1.5, 0], [0, -1.5], [0, 1.5]]; // so that labels are seen on a map of the same colours

function silhouette(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#000";
  context.fillRect(0, 0, image.width, image.height);
  return canvas;
}

export class View {
  constructor(canvas, { onClick = () => {}, onStroke = () => {}, onHover = () => {}, onSwipe = () => {} } = {}) {
    Object.assign(this, { canvas, onClick, onStroke, onHover, onSwipe });
    this.context = canvas.getContext("2d");
    this.layers = new Map();
    this.marks = [];
    this.points = [];
    this.tool = "look";
    this.radius = 0;
    this.colour = "#fff";
    this.swipe = null;
    this.rows = this.columns = 0;
    this.pointers = new Map();
    this.stroke = null;
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.onHover(null); this.draw(); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.0016), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  setSize(rows, columns) {
    Object.assign(this, { rows, columns, marks: [], points: [] });
    this.layers.clear();
    this.fit();
  }

  set(name, image, opacity = 1) {
    const before = this.layers.get(name);
    const shade = name !== "labels" || !image ? null : before?.image === image ? before.shade : silhouette(image);
    this.layers.set(name, { image, opacity, shade });
    this.canvas.dataset.layers = [...this.layers.keys()].join(" ");
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    const fitted = this.fitted !== false;
    Object.assign(this.canvas, { width: Math.round(clientWidth * ratio), height: Math.round(clientHeight * ratio) });
    if (fitted) this.fit();
    else this.draw();
  }

  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!this.rows || !clientWidth) return;
    this.scale = Math.min(clientWidth / this.columns, clientHeight / this.rows);
    this.left = (clientWidth - this.columns * this.scale) / 2;
    this.top = (clientHeight - this.rows * this.scale) / 2;
    this.fitted = true;
    this.draw();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const least = Math.min(this.canvas.clientWidth / this.columns, this.canvas.clientHeight / this.rows) / 2;
    const scale = Math.min(64, Math.max(least, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.draw();
  }

  pan(x, y) {
    this.left += x;
    this.top += y;
    this.fitted = false;
    this.draw();
  }

  at(event) { // row and column under the pointer
    return [(event.offsetY - this.top) / this.scale, (event.offsetX - this.left) / this.scale];
  }

  inside([row, column]) {
    return row >= 0 && column >= 0 && row < this.rows && column < this.columns;
  }

  down(event) {
    if (!this.rows) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    this.began = { x: event.offsetX, y: event.offsetY, moved: false };
    if (this.pointers.size > 1) this.stroke = null; // two fingers move the image
    else if (this.swipe !== null && Math.abs(event.offsetX - this.line()) < NEAR) this.holds = true;
    else if (this.tool !== "look" && event.button === 0 && !event.shiftKey && this.inside(this.at(event))) this.stroke = [this.at(event)];
    this.draw();
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    this.hover = this.at(event);
    this.onHover(this.inside(this.hover) ? this.hover.map(Math.floor) : null);
    if (before) {
      const after = { x: event.offsetX, y: event.offsetY };
      if (Math.hypot(after.x - this.began.x, after.y - this.began.y) > STILL) this.began.moved = true;
      if (this.pointers.size === 2) this.pinch(event.pointerId, after);
      else if (this.holds) this.setSwipe(after.x / this.canvas.clientWidth, true);
      else if (this.stroke) this.stroke.push(this.at(event));
      else if (this.began.moved) this.pan(after.x - before.x, after.y - before.y);
      this.pointers.set(event.pointerId, after);
    }
    this.draw();
  }

  pinch(id, after) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, value]) => value);
    const before = this.pointers.get(id);
    const grown = Math.hypot(after.x - other.x, after.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
    this.pan((after.x - before.x) / 2, (after.y - before.y) / 2);
    this.zoom(grown, (after.x + other.x) / 2, (after.y + other.y) / 2);
  }

  up(event, dropped = false) {
    const several = this.pointers.size > 1;
    if (!this.pointers.delete(event.pointerId)) return;
    const { stroke, holds } = this;
    this.stroke = null;
    this.holds = false;
    if (!dropped && stroke) this.onStroke(stroke);
    else if (!dropped && !several && !holds && !this.began.moved && this.inside(this.at(event))) this.onClick(this.at(event).map(Math.floor));
    this.draw();
  }

  key(event) {
    const step = 40;
    const keys = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in keys) this.pan(...keys[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  line() {
    return this.swipe * this.canvas.clientWidth;
  }

  setSwipe(share, told = false) {
    this.swipe = Math.min(1, Math.max(0, share));
    if (told) this.onSwipe(this.swipe);
    this.draw();
  }

  draw() {
    if (!this.waits) this.waits = requestAnimationFrame(() => { this.waits = 0; this.paint(); });
  }

  paint() {
    const { context, canvas } = this;
    const ratio = canvas.width / Math.max(1, canvas.clientWidth);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.rows) return;
    const width = this.columns * this.scale, height = this.rows * this.scale;
    context.imageSmoothingEnabled = this.scale < 1;
    for (const name of ORDER) {
      const { image, opacity, shade } = this.layers.get(name) || {};
      if (!image || !opacity) continue;
      context.save();
      context.globalAlpha = opacity;
      if (this.swipe !== null) {
        context.beginPath();
        if (name === "left") context.rect(0, 0, this.line(), canvas.clientHeight);
        else context.rect(this.line(), 0, canvas.clientWidth, canvas.clientHeight);
        context.clip();
      }
      if (shade) for (const [x, y] of AROUND) context.drawImage(shade, this.left + x, this.top + y, width, height);
      context.drawImage(image, this.left, this.top, width, height);
      context.restore();
    }
    if (this.swipe !== null) this.paintLine();
    this.paintBrush();
    for (const mark of this.points) this.paintCell(mark.row, mark.column, mark.colour);
    this.marks.forEach((mark, number) => this.paintMark(mark, number + 1));
  }

  paintLine() {
    const { context, canvas } = this;
    context.fillStyle = "#fff";
    context.fillRect(this.line() - 1, 0, 2, canvas.clientHeight);
    context.beginPath();
    context.arc(this.line(), canvas.clientHeight / 2, 13, 0, 7);
    context.fill();
    context.fillStyle = "#17252b";
    context.font = "15px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText("⇔", this.line(), canvas.clientHeight / 2 + 1);
  }

  paintBrush() {
    const { context } = this;
    if (this.tool === "look") return;
    const size = (2 * this.radius + 1) * this.scale;
    context.fillStyle = context.strokeStyle = this.tool === "erase" ? "#fff" : this.colour;
    context.globalAlpha = 0.75;
    for (const [row, column] of this.stroke || []) {
      context.fillRect(this.left + (Math.floor(column) - this.radius) * this.scale, this.top + (Math.floor(row) - this.radius) * this.scale, size, size);
    }
    context.globalAlpha = 1;
    if (this.hover && this.inside(this.hover)) {
      const [row, column] = this.hover.map(Math.floor);
      context.lineWidth = 2;
      context.strokeRect(this.left + (column - this.radius) * this.scale, this.top + (row - this.radius) * this.scale, size, size);
    }
  }

  paintCell(row, column, colour) {
    const { context } = this;
    const size = Math.max(7, this.scale);
    const x = this.left + (column + 0.5) * this.scale - size / 2, y = this.top + (row + 0.5) * this.scale - size / 2;
    context.lineWidth = 4;
    context.strokeStyle = "#000a";
    context.strokeRect(x, y, size, size);
    context.lineWidth = 2;
    context.strokeStyle = colour;
    context.strokeRect(x, y, size, size);
  }

  paintMark([row, column], number) {
    const { context } = this;
    const x = this.left + (column + 0.5) * this.scale, y = this.top + (row + 0.5) * this.scale;
    context.beginPath();
    context.arc(x, y, 11, 0, 7);
    context.lineWidth = 5;
    context.strokeStyle = "#000b";
    context.stroke();
    context.lineWidth = 2.5;
    context.strokeStyle = "#fff";
    context.stroke();
    context.font = "bold 12px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "#000b";
    context.strokeText(number, x + 17, y - 11);
    context.fillStyle = "#fff";
    context.fillText(number, x + 17, y - 11);
  }
}
