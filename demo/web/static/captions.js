// What stands over the picture: the latest words, as subtitles of live television roll.

const KEPT_S = 5; // a word stays so long after its second
const LETTERS = 88; // two lines

export class Captions {
  constructor(element) {
    this.element = element;
    this.steps = [];
    this.text = "";
  }

  clear() {
    this.steps = [];
    this.show(0);
  }

  /** Take a step; what was said for its seconds before is replaced. */
  add(step) {
    this.steps = this.steps.filter((old) => old.end_s <= step.start_s || old.start_s >= step.end_s);
    if (step.text) this.steps.push(step);
    this.steps = this.steps.slice(-4000);
  }

  /** Show what belongs to this second of the video. */
  show(seconds) {
    const text = rolled(this.steps.filter((step) => step.start_s <= seconds + 0.3 && step.end_s > seconds - KEPT_S));
    if (text === this.text) return;
    this.text = text;
    this.element.textContent = text;
    this.element.hidden = !text;
  }
}

/** The last words of these steps that fit, from the beginning of a sentence where there is one. */
function rolled(steps) {
  const text = [...steps].sort((a, b) => a.start_s - b.start_s).map((step) => step.text).join(" ");
  if (text.length <= LETTERS) return text;
  const fits = text.slice(-LETTERS);
  const sentence = fits.search(/[.!?] \S/);
  if (sentence >= 0 && sentence < LETTERS / 2) return fits.slice(sentence + 2);
  return `… ${fits.slice(fits.indexOf(" ") + 1)}`;
}
