// What to watch: examples, an upload, the webcam, an address.

import { clock, el } from "./elements.js";

const VIDEO_FILES = "video/*,.mkv,.ts";

export class Sources {
  /** send(request) opens something; say(text) is for people. */
  constructor(place, send, say) {
    Object.assign(this, { send, say });
    this.list = el("div.tiles-row");
    this.bar = el("div.bar", { hidden: true }, el("i"));
    place.replaceChildren(el("h3", {}, "Watch"), this.list, this.bar);
  }

  welcome({ examples, urls, max_upload_mb, max_minutes }) {
    this.most = { megabytes: max_upload_mb, minutes: max_minutes };
    const tiles = examples.map((video) => this.example(video));
    this.file = el("input", { type: "file", accept: VIDEO_FILES, hidden: true, change: () => this.upload(this.file.files[0]) });
    const upload = el("button.source.upload", { type: "button", click: () => this.file.click() }, el("b", {}, "+"), "Upload a video");
    const webcam = el("button.source.webcam", { type: "button", click: () => this.send({ type: "open", webcam: true }) }, el("b", {}, "◉"), "Webcam");
    this.list.replaceChildren(...tiles, upload, this.file, webcam);
    if (urls) this.list.append(this.address());
  }

  example(video) {
    const picture = el("img", { src: video.poster, alt: "", loading: "lazy" });
    const open = () => this.send({ type: "open", video: video.id });
    const name = `${video.name.replace(/\.\w+$/, "").replaceAll("_", " ")} · ${clock(video.duration_s)}`;
    return el("button.source", { type: "button", "data-video": video.id, click: open }, picture, el("span", {}, name));
  }

  address() {
    const input = el("input", { type: "url", placeholder: "rtsp:// or http:// address", "aria-label": "Address", maxlength: 2000 });
    const open = (event) => {
      event.preventDefault();
      if (input.value.trim()) this.send({ type: "open", url: input.value.trim() });
    };
    return el("form.source.address", { submit: open }, input, el("button", { type: "submit" }, "Open"));
  }

  mark(id) {
    for (const tile of this.list.querySelectorAll(".source")) tile.classList.toggle("chosen", tile.dataset.video === id);
    this.list.querySelector(".webcam")?.classList.toggle("chosen", id === "webcam");
  }

  upload(file) {
    if (!file) return;
    this.file.value = "";
    if (file.size > this.most.megabytes * 2 ** 20) {
      this.say(`${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB; at most ${this.most.megabytes} MB can be uploaded.`);
      return;
    }
    const request = new XMLHttpRequest();
    request.open("POST", `/live/uploads?name=${encodeURIComponent(file.name.slice(-200))}`);
    request.upload.onprogress = (event) => this.progress(event.loaded / event.total);
    request.onload = () => this.uploaded(request);
    request.onerror = () => this.failed("The upload broke off; try again.");
    this.progress(0);
    request.send(file);
  }

  uploaded(request) {
    this.progress(null);
    let answer = {};
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      // a proxy's own words: the status says enough
    }
    if (request.status === 201) this.send({ type: "open", video: answer.id });
    else this.failed(answer.message || `The upload was refused (${request.status}).`);
  }

  failed(text) {
    this.progress(null);
    this.say(text);
  }

  progress(share) {
    this.bar.hidden = share === null;
    this.bar.firstElementChild.style.width = `${100 * (share ?? 0)}%`;
  }
}
