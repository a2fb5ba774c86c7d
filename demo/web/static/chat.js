// Questions in mid-stream, answered while the commentary goes on, and a conversation about the whole video.

import { clock, el } from "./elements.js";

const SUGGESTED = ["What is the score?", "Who has the ball?", "What just happened?"];
const KEPT = 200;

export class Chat {
  constructor(place, ask) {
    this.ask = ask;
    this.about = "moment";
    this.bubbles = new Map();
    this.list = el("div.bubbles", { role: "log", "aria-label": "Chat" });
    this.input = el("input", { type: "text", maxlength: 500, placeholder: "Ask while it plays …", "aria-label": "Question" });
    const form = el("form", { submit: (event) => this.submit(event) }, this.input, el("button", { type: "submit" }, "Ask"));
    const chips = SUGGESTED.map((text) => el("button.chip", { type: "button", click: () => this.ask(text, this.about) }, text));
    this.choices = ["moment", "whole"].map((about) => this.choice(about));
    place.replaceChildren(
      el("div.title", {}, el("h3", {}, "Ask"), el("div.about", { role: "group", "aria-label": "About" }, ...this.choices)),
      this.list, el("div.chips", {}, ...chips), form,
    );
    this.choose("moment");
  }

  choice(about) {
    const name = about === "moment" ? "So far" : "Whole video";
    return el("button", { type: "button", "data-about": about, click: () => this.choose(about) }, name);
  }

  choose(about) {
    this.about = about;
    for (const choice of this.choices) choice.setAttribute("aria-pressed", choice.dataset.about === about);
    this.input.placeholder = about === "moment" ? "Ask while it plays …" : "Ask about the whole video …";
  }

  submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (!text) return;
    this.ask(text, this.about);
    this.input.value = "";
  }

  clear() {
    this.bubbles.clear();
    this.list.replaceChildren();
  }

  /** The bubble pair of a question; made by whatever record of it comes first. */
  pair({ id, question, asked_s, about }) {
    if (!this.bubbles.has(id)) {
      const when = asked_s !== undefined ? `at ${clock(asked_s)}` : about === "whole" ? "whole video" : "";
      const answer = el("p.answer.waiting", {}, "…");
      const meta = el("span.meta", {}, when);
      this.list.append(el("div.pair", {}, el("p.question", {}, question, " ", meta), answer));
      this.bubbles.set(id, { answer, text: "" });
      while (this.list.childElementCount > KEPT) this.list.firstElementChild.remove();
    }
    this.list.scrollTop = this.list.scrollHeight;
    return this.bubbles.get(id);
  }

  piece(record) {
    const pair = this.pair(record);
    pair.text += record.text;
    pair.answer.textContent = pair.text;
    this.list.scrollTop = this.list.scrollHeight;
  }

  answer(record) {
    const pair = this.pair(record);
    pair.answer.classList.remove("waiting");
    pair.answer.textContent = record.text || "(no answer)";
    this.list.scrollTop = this.list.scrollHeight;
  }

  note(text) {
    this.list.append(el("p.note", {}, text));
    while (this.list.childElementCount > KEPT) this.list.firstElementChild.remove();
    this.list.scrollTop = this.list.scrollHeight;
  }

  /** Questions that will not be answered: a page that came back to nothing. */
  giveUp() {
    for (const answer of this.list.querySelectorAll(".waiting")) {
      answer.classList.remove("waiting");
      answer.textContent = "(not answered)";
    }
  }
}
