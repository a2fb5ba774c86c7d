// The WebSocket to the server (demo/web/socket.py): records come in, in order and without gaps; requests go out.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

export class Connection {
  /** onRecord(record), onPicture(blob), onState("open" | "lost" | "ended"). */
  constructor(onRecord, onPicture, onState) {
    Object.assign(this, { onRecord, onPicture, onState });
    this.viewer = null; // this tab's id; a reloaded or copied tab is another viewer
    this.seq = 0;
    this.missed = 0; // records that should have come, and did not
    this.wait = FIRST_WAIT_MS;
    this.over = false;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/live/socket`);
    this.socket.binaryType = "blob";
    this.socket.onopen = () => this.send({ type: "hello", viewer: this.viewer, after: this.seq });
    this.socket.onmessage = (message) => this.take(message.data);
    this.socket.onclose = () => this.lost();
  }

  take(data) {
    if (data instanceof Blob) {
      this.onPicture(data);
      return;
    }
    const record = JSON.parse(data);
    if (record.type === "welcome") {
      this.wait = FIRST_WAIT_MS;
      if (!record.resumed) this.seq = 0;
      this.viewer = record.viewer;
      this.onState("open");
    }
    if (record.type === "end") this.over = true;
    if (record.seq) {
      this.missed += record.seq - this.seq - 1;
      this.seq = record.seq;
    }
    this.onRecord(record);
  }

  lost() {
    this.onState(this.over ? "ended" : "lost");
    if (this.over) return;
    setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
  }

  send(request) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(request));
  }

  sendPicture(bytes, seconds) {
    if (this.socket.readyState !== WebSocket.OPEN || this.socket.bufferedAmount > 1_000_000) return; // a slow line
    this.send({ type: "frame", time_s: seconds });
    this.socket.send(bytes);
  }
}
