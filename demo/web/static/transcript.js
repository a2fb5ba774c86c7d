// All that was said, in lines that jump to their second; and what one can take home of it.

import { clock, el } from "./elements.js";

const FORMS = { srt: "Subtitles .srt", vtt: "Subtitles .vtt", txt: "Text .txt", json: "Data .json" };
const PAUSE_S = 3; // silence that ends a line
const STEPS_KEPT = 4000;

export class Transcript {
  constructor(place, jump, render) {
    this.jump = jump;
    this.steps = [];
    this.list = el("div.lines", { role: "log", "aria-label": "Transcript", tabindex: 0 });
    this.empty = el("p.hint", {}, "Press play: what is said appears here, and jumps to its second when you press it.");
    this.links = Object.fromEntries(Object.entries(FORMS).map(([form, name]) => [form, el("a.take", { download: true }, name)]));
    this.film = el("button.take", { type: "button", click: render }, "Video with captions");
    this.ready = el("a.take.ready", { download: true, hidden: true }, "Save the video");
    this.home = el("div.home", {}, ...Object.values(this.links), this.film, this.ready);
    place.replaceChildren(el("h3", {}, "Transcript"), this.list, this.home);
    this.clear();
  }

  /** Whose commentary the links fetch. */
  name(viewer, hasFile) {
    this.viewer = viewer;
    this.film.hidden = !hasFile;
    this.enable();
  }

  clear() {
    this.steps = [];
    this.line = null;
    this.list.replaceChildren(this.empty);
    this.film.textContent = "Video with captions";
    this.ready.hidden = true;
    this.enable();
  }

  enable() {
    const there = this.steps.some((step) => step.text);
    for (const [form, link] of Object.entries(this.links)) {
      if (there && this.viewer) link.href = `/live/viewers/${this.viewer}/commentary.${form}`;
      else link.removeAttribute("href");
    }
    this.film.disabled = !there || this.making;
  }

  add(step) {
    const kept = this.steps.filter((old) => old.end_s <= step.start_s || old.start_s >= step.end_s);
    const overlaps = kept.length !== this.steps.length || (kept.length && kept.at(-1).start_s > step.start_s);
    this.steps = [...kept, step];
    if (overlaps || this.steps.length > STEPS_KEPT) this.rebuild();
    else this.append(step);
    this.enable();
  }

  rebuild() {
    this.steps = this.steps.sort((a, b) => a.start_s - b.start_s).slice(-STEPS_KEPT);
    this.line = null;
    this.list.replaceChildren();
    this.steps.forEach((step) => this.append(step));
  }

  append(step) {
    if (!step.text) return;
    this.empty.remove();
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 60;
    const goesOn = this.line && !/[.!?]$/.test(this.last.text) && step.start_s - this.last.end_s < PAUSE_S;
    if (!goesOn) {
      const time = el("button.time", { type: "button", click: () => this.jump(step.start_s) }, clock(step.start_s));
      this.line = el("span");
      this.list.append(el("p.line", {}, time, this.line));
    }
    const words = { type: "button", "data-start": step.start_s, "data-end": step.end_s, click: () => this.jump(step.start_s) };
    this.line.append(el("button.words", { ...words, title: `Go to ${clock(step.start_s)}` }, step.text), " ");
    this.last = step;
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  /** Mark the words of this second. */
  mark(seconds) {
    for (const words of this.list.querySelectorAll(".words")) {
      const now = seconds >= Number(words.dataset.start) && seconds < Number(words.dataset.end) + 1;
      words.classList.toggle("now", now);
    }
  }

  /** How far the video with captions is. */
  progress({ share, url, error }) {
    this.making = share !== undefined && !url;
    this.film.textContent = this.making ? `Drawing captions … ${Math.round(100 * share)} %` : "Video with captions";
    this.ready.hidden = !url;
    if (url) this.ready.href = url;
    if (error) this.film.textContent = error;
    this.enable();
  }
}
