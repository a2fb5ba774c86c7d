// The browser's camera: shown here, and two pictures a second sent to the server while a commentary runs.

const EVERY_MS = 100; // the picture here; one for each half second is sent
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
    if (!stage.running) return;
    if (this.since !== stage.liveSince) [this.since, this.slot] = [stage.liveSince, -1];
    const seconds = stage.seconds();
    const slot = Math.floor(2 * seconds + 0.5); // the half second that the server takes a picture for
    if (slot <= this.slot) return;
    this.slot = slot;
    this.connection.sendPicture(jpeg(canvas), seconds);
  }

  close() {
    clearInterval(this.timer);
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
  }
}

/** The canvas as JPEG, at once: toBlob waits until the page is idle, which takes seconds in a tab that nobody looks at. */
function jpeg(canvas) {
  const text = atob(canvas.toDataURL("image/jpeg", 0.85).split(",")[1]);
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}
