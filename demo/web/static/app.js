// The page: what the server says goes to the part that shows it (demo/web/viewer.py lists the records).

import { Chat } from "./chat.js";
import { Connection } from "./connection.js";
import { Cost } from "./cost.js";
import { el, places } from "./elements.js";
import { Sources } from "./sources.js";
import { Stage } from "./stage.js";
import { Transcript } from "./transcript.js";
import { Webcam } from "./webcam.js";

const TOAST_MS = 7000;

class Page {
  constructor([head, stage, sources, transcript, chat, cost]) {
    const send = (request) => this.connection.send(request);
    const say = (text) => this.toast(text);
    this.head(head);
    this.stage = new Stage(stage, send);
    this.sources = new Sources(sources, send, say);
    this.transcript = new Transcript(transcript, (seconds) => this.stage.jump(seconds), () => send({ type: "render" }));
    this.chat = new Chat(chat, (question, about) => send({ type: "ask", question, about }));
    this.cost = new Cost(cost);
    this.connection = new Connection((record) => this.take(record), (blob) => this.stage.show(blob), (state) => this.state(state));
    this.webcam = new Webcam(this.stage, this.connection, say);
    this.opened = null;
    this.settings = null;
    this.listen(stage);
  }

  head(place) {
    this.status = el("span.status", { role: "status" }, "connecting …");
    this.model = el("span.model");
    place.replaceChildren(el("h1", {}, "Live commentary"), this.model, this.status);
    this.toasts = el("div.toasts", { role: "alert" });
    document.body.append(this.toasts);
  }

  listen(stage) {
    window.addEventListener("livecc-settings", ({ detail }) => this.configure(detail));
    stage.addEventListener("dragover", (event) => event.preventDefault());
    stage.addEventListener("drop", (event) => {
      event.preventDefault();
      this.sources.upload(event.dataTransfer.files[0]);
    });
    setInterval(() => this.transcript.mark(this.stage.seconds()), 400);
  }

  configure(settings) {
    this.settings = settings;
    this.connection.send({ type: "settings", settings });
  }

  state(state) {
    this.status.textContent = { open: "connected", lost: "connection lost, trying again …", ended: "the server was stopped" }[state];
    this.status.dataset.state = state;
  }

  take(record) {
    const handler = HANDLERS[record.type];
    if (handler) handler(this, record);
  }

  welcome(record) {
    this.stage.monitor = record.js_monitor;
    this.model.textContent = record.model.replaceAll("_", " ");
    this.sources.welcome(record);
    this.transcript.name(this.connection.viewer, Boolean(this.opened?.video));
    if (record.resumed) {
      this.resume();
      return;
    }
    this.chat.giveUp();
    if (this.settings) this.configure(this.settings);
    if (this.opened?.live) return;
    const wanted = record.examples.find((video) => video.id === this.opened?.video?.id) ?? record.examples[0];
    if (wanted) this.connection.send({ type: "open", video: wanted.id });
  }

  /** The line was cut: the server has given our place up. */
  resume() {
    this.sources.mark(this.opened?.video?.id ?? this.opened?.live);
    this.chat.giveUp();
    if (!this.stage.live && !this.stage.video.paused) this.stage.started();
  }

  open(record) {
    this.opened = record;
    this.webcam.close();
    this.stage.open(record);
    this.transcript.clear();
    this.transcript.name(this.connection.viewer, Boolean(record.video));
    this.chat.clear();
    this.cost.clear();
    this.sources.mark(record.video?.id ?? record.live);
    if (record.live === "webcam") this.webcam.open();
  }

  begun(record) {
    if (record.live) {
      this.transcript.clear();
      this.stage.captions.clear();
    }
    this.stage.begun(record);
  }

  step(record) {
    this.stage.add(record);
    this.transcript.add(record);
    this.cost.add(record);
  }

  toast(text) {
    const toast = el("p.toast", { click: () => toast.remove() }, text);
    this.toasts.append(toast);
    setTimeout(() => toast.remove(), TOAST_MS);
  }
}

const HANDLERS = {
  welcome: (page, record) => page.welcome(record),
  opened: (page, record) => page.open(record),
  queued: (page, record) => page.stage.queue(record),
  started: (page, record) => page.begun(record),
  step: (page, record) => page.step(record),
  finished: (page, record) => page.stage.ended(record),
  load: (page, record) => {
    page.cost.load(record);
    page.stage.follow(record);
  },
  late: (page, { message, advice }) => page.stage.warn(message, advice),
  in_time: (page) => page.stage.warn(""),
  rate: (page, { rate, message }) => {
    page.stage.video.playbackRate = rate;
    page.toast(message);
  },
  asked: (page, record) => page.chat.pair(record),
  piece: (page, record) => page.chat.piece(record),
  answer: (page, record) => page.chat.answer(record),
  note: (page, { message }) => page.chat.note(message),
  render: (page, record) => page.transcript.progress(record),
  refused: (page, { message }) => page.toast(message),
  error: (page, { message }) => page.toast(message),
  lost: (page, { n }) => page.toast(`${n} messages were lost on the way.`),
};

const IDS = ["head", "stage", "sources", "transcript", "chat", "cost"].map((name) => `livecc-${name}`);
window.livecc = new Page(await places(...IDS)); // for people with a console, and for tests
