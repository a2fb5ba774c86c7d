// The browser's camera: shown here, and two pictures a second sent to the server while a commentary runs.

const EVERY_MS = 250; // the server takes the first for each half second
const LONGEST_SIDE = 640;

export class Webcam {
  constructor(stage, connection, say) {
    Object.assign(this, { stage, connection, say });
    this.camera = document.createElement("video");
    this.camera.muted = this.camera.playsInline = true;
  }

  async open() {
    this.close();
    if (!navigator.mediaDevices) {
      this.say("This browser gives its camera only to pages on https:// or on this machine itself.");
      return;
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: LONGEST_SIDE } }, audio: false });
    } catch (error) {
      this.say(`The camera cannot be used (${error.name === "NotAllowedError" ? "it was not allowed" : error.message}).`);
      return;
    }
    this.camera.srcObject = this.stream;
    await this.camera.play();
    this.timer = setInterval(() => this.show(), EVERY_MS);
  }

  show() {
    const { camera, stage } = this;
    const shrink = Math.min(1, LONGEST_SIDE / Math.max(camera.videoWidth, camera.videoHeight, 1));
    const canvas = stage.picture;
    [canvas.width, canvas.height] = [Math.round(camera.videoWidth * shrink) || 640, Math.round(camera.videoHeight * shrink) || 360];
    canvas.getContext("2d").drawImage(camera, 0, 0, canvas.width, canvas.height);
    if (!stage.running || this.busy) return;
    this.busy = true;
    const seconds = stage.seconds();
    canvas.toBlob((blob) => {
      this.busy = false;
      if (blob && stage.running) this.connection.sendPicture(blob, seconds);
    }, "image/jpeg", 0.85);
  }

  close() {
    clearInterval(this.timer);
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
  }
}
