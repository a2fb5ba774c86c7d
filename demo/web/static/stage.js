// The picture and its player. With a monitoring page the player leads, and reports what it does; else the server's clock
// leads, and the player follows it.

import { Captions } from "./captions.js";
import { clock, el } from "./elements.js";

const REPORT_MS = 250;
const DRIFT_S = 0.75; // from the server's clock, beyond which the player is moved
const SEEK_MS = 180; // a slider that is dragged moves many times

export class Stage {
  constructor(place, send) {
    this.send = send;
    this.monitor = false;
    this.live = null;
    this.held = false; // waits in line: the player stands until there is room
    this.reported = 0;
    this.delays = []; // seconds of captions behind the player, for the chart and for tests
    this.build(place);
    this.captions = new Captions(this.overlay);
    this.listen();
    setInterval(() => this.captions.show(this.seconds()), 100);
  }

  build(place) {
    this.video = el("video", { controls: true, playsinline: true, preload: "auto", controlslist: "nofullscreen nodownload" });
    this.video.disableRemotePlayback = true;
    this.picture = el("canvas.picture", { hidden: true, width: 640, height: 360 });
    this.overlay = el("div.captions", { hidden: true, "aria-live": "off" });
    this.banner = el("div.banner", { hidden: true, role: "status" });
    this.badge = el("span.badge", { hidden: true });
    this.whole = el("button.whole", { type: "button", title: "Full screen, with captions", click: () => this.fill() });
    this.begin = el("button.begin", { type: "button", hidden: true, click: () => this.toggleLive() }, "Start");
    this.frame = el("div.frame", {}, this.video, this.picture, this.overlay, this.badge, this.banner, this.whole, this.begin);
    this.late = el("div.late", { hidden: true, role: "alert" });
    place.replaceChildren(this.frame, this.late);
  }

  listen() {
    const video = this.video;
    const monitored = (name, tell) => video.addEventListener(name, () => this.monitor && tell());
    video.addEventListener("play", () => (this.held ? video.pause() : this.monitor || this.started()));
    monitored("playing", () => this.started()); // also after a seek or a wait, of which a leading server must not hear
    video.addEventListener("pause", () => this.report("pause"));
    monitored("waiting", () => video.seeking || this.report("pause"));
    monitored("timeupdate", () => this.reportTime());
    video.addEventListener("seeking", () => (this.moved = true)); // until the commentary has begun anew there
    video.addEventListener("seeked", () => this.seeked());
    video.addEventListener("ratechange", () => this.report("rate"));
    video.addEventListener("ended", () => this.report("ended"));
    video.addEventListener("error", () => this.unplayable());
  }

  /** Show another video, or a live source. */
  open({ video, live, name }) {
    this.live = live;
    this.held = false;
    this.running = false;
    this.name = video ? video.name : name;
    this.delays = [];
    this.captions.clear();
    this.say("");
    this.warn("");
    this.video.hidden = Boolean(live);
    this.picture.hidden = !live;
    this.begin.hidden = !live;
    this.setRunning(false);
    this.video.pause();
    this.ignored = null;
    if (video) {
      this.video.poster = video.poster;
      this.video.src = video.url;
    } else {
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  // from the player

  started() {
    if (!this.held) this.send({ type: "play", time_s: this.video.currentTime, rate: this.video.playbackRate });
  }

  report(kind) {
    if (this.live || !this.video.currentSrc || (this.held && kind === "pause")) return;
    this.send({ type: kind, time_s: this.video.currentTime, rate: this.video.playbackRate });
  }

  reportTime() {
    const now = performance.now();
    if (this.video.seeking || this.video.paused || now - this.reported < REPORT_MS) return;
    this.reported = now;
    this.report("time");
  }

  seeked() {
    const target = this.video.currentTime;
    if (this.ignored !== null && Math.abs(target - this.ignored) < 0.3) {
      this.ignored = null;
      this.moved = false;
      return;
    }
    clearTimeout(this.seeking);
    this.seeking = setTimeout(() => this.report("seek"), SEEK_MS);
  }

  unplayable() {
    if (this.live || !this.video.getAttribute("src")) return;
    this.say(`This browser cannot play ${this.name}. Convert it to MP4 (H.264), and upload it again.`);
  }

  // from the server

  /** The viewer waits in line. */
  queue({ place, n_waiting, n_running }) {
    const first = place === 1 ? "next" : `number ${place} of ${n_waiting}`;
    const others = n_running === 1 ? "one person watches" : `${n_running} people watch`;
    this.say(`You are ${first} in line: ${others} now. It begins by itself when there is room.`);
    this.held = true;
    this.video.pause();
  }

  /** A commentary has begun. */
  begun(record) {
    this.say("");
    this.warn("");
    this.setRunning(true);
    this.moved = false;
    this.liveSince = performance.now();
    if (this.held) {
      this.held = false;
      if (!this.live) this.video.play().catch(() => this.say("There is room now: press play."));
    }
    if (record.live || record.why === "play") return;
    this.flash(record.why === "seek" ? `Starts anew at ${clock(record.start_s)}` : `As you wish, from ${clock(record.start_s)} on`);
  }

  ended({ reason, n_words }) {
    this.setRunning(false);
    if (reason === "failed") return;
    if (reason === "end of source") this.flash(`The end. ${n_words} words were said.`, 6000);
  }

  setRunning(running) {
    this.running = running;
    this.begin.textContent = running ? "Stop" : "Start";
  }

  /** Follow the server's clock. */
  follow({ clock_s, playing }) {
    const video = this.video;
    if (this.monitor || clock_s === null || clock_s === undefined || this.live || video.seeking) return;
    if (!playing || video.paused || Math.abs(video.currentTime - clock_s) < DRIFT_S || clock_s > video.duration) return;
    this.ignored = clock_s;
    video.currentTime = clock_s;
  }

  add(step) {
    const delay = Math.max(0, this.seconds() - step.end_s);
    step.delay_s = delay / (this.live ? 1 : this.video.playbackRate);
    if (!this.moved && (this.live || !this.video.paused || this.video.ended)) this.delays.push(step.delay_s);
    this.delays = this.delays.slice(-4000);
    this.captions.add(step);
    this.captions.show(this.seconds());
  }

  /** The second of the video, or since the live commentary began. */
  seconds() {
    if (!this.live) return this.video.currentTime || 0;
    return this.running ? (performance.now() - this.liveSince) / 1000 : 0;
  }

  jump(seconds) {
    if (this.live) return;
    this.video.currentTime = seconds;
    this.video.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  async show(blob) {
    const bitmap = await createImageBitmap(blob);
    if (this.picture.width !== bitmap.width || this.picture.height !== bitmap.height) {
      [this.picture.width, this.picture.height] = [bitmap.width, bitmap.height];
    }
    this.picture.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }

  toggleLive() {
    this.send({ type: this.running ? "pause" : "play", time_s: 0, rate: 1 });
  }

  fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.frame.requestFullscreen?.();
  }

  // words

  say(text) {
    this.banner.textContent = text;
    this.banner.hidden = !text;
  }

  flash(text, milliseconds = 2500) {
    this.badge.textContent = text;
    this.badge.hidden = false;
    clearTimeout(this.flashing);
    this.flashing = setTimeout(() => (this.badge.hidden = true), milliseconds);
  }

  warn(message, advice = []) {
    this.late.hidden = !message;
    this.late.replaceChildren(el("strong", {}, message));
    if (advice.length) this.late.append(" You can: ", advice.join("; "), ".");
  }
}
