// What the commentary costs: a chart of the latest steps, and the numbers of now.

import { el } from "./elements.js";

const STEPS = 60;
const HEIGHT = 90;

export class Cost {
  constructor(place) {
    this.steps = [];
    this.canvas = el("canvas", { height: HEIGHT, "aria-label": "Seconds from the pictures to the words, step by step" });
    this.numbers = Object.fromEntries(
      ["Thinking", "Behind", "Tokens", "Memory", "Busy"].map((name) => [name, el("strong", {}, "–")]),
    );
    const titles = {
      Thinking: "from the last picture of a step to its last word", Behind: "how late captions come after their second",
      Tokens: "pieces of words said each second", Memory: "what the model remembers of this video",
      Busy: "share of the time that the model works, for everybody",
    };
    const tiles = Object.entries(this.numbers).map(([name, number]) => el("div.tile", { title: titles[name] }, number, el("span", {}, name)));
    const legend = el("p.legend", {}, el("i.latency"), " thinking ", el("i.delay"), " behind the video, in seconds");
    place.replaceChildren(el("h3", {}, "What it costs"), el("div.tiles", {}, ...tiles), this.canvas, legend);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  clear() {
    this.steps = [];
    for (const number of Object.values(this.numbers)) number.textContent = "–";
    this.draw();
  }

  add(step) {
    this.steps = [...this.steps, step].slice(-STEPS);
    const seconds = this.steps.slice(-5).reduce((sum, s) => sum + s.end_s - s.start_s, 0);
    const tokens = this.steps.slice(-5).reduce((sum, s) => sum + s.n_tokens, 0);
    this.numbers.Thinking.textContent = duration(step.latency_s);
    this.numbers.Behind.textContent = duration(step.delay_s ?? step.lag_s);
    this.numbers.Tokens.textContent = `${(tokens / Math.max(1, seconds)).toFixed(1)}/s`;
    this.draw();
  }

  load({ load, cache_bytes, n_context }) {
    this.numbers.Busy.textContent = `${Math.round(100 * load)} %`;
    this.numbers.Memory.textContent = `${(cache_bytes / 2 ** 20).toFixed(cache_bytes < 2 ** 24 ? 1 : 0)} MB`;
    this.numbers.Memory.title = `${n_context} tokens`;
  }

  draw() {
    const scale = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (!width) return;
    this.canvas.width = width * scale;
    this.canvas.height = HEIGHT * scale;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const most = Math.max(0.5, ...this.steps.map((step) => Math.max(step.latency_s, step.delay_s ?? 0)));
    const style = getComputedStyle(this.canvas);
    const y = (seconds) => HEIGHT - 4 - (HEIGHT - 18) * (seconds / most);
    this.drawAxis(context, width, most, y, style);
    const step = (width - 30) / STEPS;
    context.fillStyle = style.getPropertyValue("--latency");
    this.steps.forEach((s, i) => context.fillRect(28 + i * step, y(s.latency_s), Math.max(1, step - 1), HEIGHT - 4 - y(s.latency_s)));
    context.strokeStyle = style.getPropertyValue("--delay");
    context.lineWidth = 1.5;
    context.beginPath();
    this.steps.forEach((s, i) => context.lineTo(28 + (i + 0.5) * step, y(s.delay_s ?? 0)));
    context.stroke();
  }

  drawAxis(context, width, most, y, style) {
    context.fillStyle = context.strokeStyle = style.color;
    context.globalAlpha = 0.5;
    context.font = "10px ui-sans-serif, system-ui, sans-serif";
    context.lineWidth = 0.5;
    for (const seconds of [0, most / 2, most]) {
      context.beginPath();
      context.moveTo(28, y(seconds));
      context.lineTo(width, y(seconds));
      context.stroke();
      context.fillText(most < 2 ? seconds.toFixed(2) : seconds.toFixed(1), 2, y(seconds) + (seconds ? 3 : 0));
    }
    context.globalAlpha = 1;
  }
}

function duration(seconds) {
  return seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`;
}
