// <spool-waveform>: peaks (audiowaveform JSON) on a canvas, with the place that is playing. Click or arrow keys seek.

import { duration } from "./format.js";

class Waveform extends HTMLElement {
  #canvas = document.createElement("canvas");
  #size = new ResizeObserver(() => this.#draw());
  #peaks = null;
  #player = null;

  connectedCallback() {
    this.append(this.#canvas);
    Object.assign(this, { tabIndex: 0, role: "slider", ariaLabel: "Place in the recording", ariaValueMin: "0" });
    this.onclick = (event) => this.#seek((event.offsetX / this.clientWidth) * this.#seconds);
    this.onkeydown = (event) => {
      const step = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
      if (step) this.#seek((this.#player?.currentTime ?? 0) + step);
    };
    this.#size.observe(this);
  }

  /** `{data: [min, max, …], length, samples_per_pixel, sample_rate}` */
  set peaks(peaks) {
    this.#peaks = peaks;
    this.#draw();
  }

  /** The audio or video element that plays the same recording. */
  set player(player) {
    this.#player = player;
    if (player) player.ontimeupdate = () => this.#draw();
  }

  get #seconds() {
    return (this.#peaks.length * this.#peaks.samples_per_pixel) / this.#peaks.sample_rate;
  }

  #seek(seconds) {
    if (this.#player) this.#player.currentTime = Math.min(this.#seconds, Math.max(0, seconds));
    this.#draw();
  }

  /** Bars of two pixels, as tall as the loudest allows, so that a quiet recording shows its shape too. */
  #draw() {
    if (!this.#peaks?.length || !this.clientWidth) return;
    const [width, height] = [this.clientWidth, this.clientHeight].map((size) => Math.round(size * devicePixelRatio));
    const pen = Object.assign(this.#canvas, { width, height }).getContext("2d");
    const { data, length } = this.#peaks;
    const loudest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    const played = (this.#player?.currentTime ?? 0) / this.#seconds;
    const { accentColor, color } = getComputedStyle(this);
    const [line, step] = [2 * devicePixelRatio, 3 * devicePixelRatio];
    for (let x = 0; x < width; x += step) {
      const from = 2 * Math.floor((x / width) * length);
      const shown = data.slice(from, Math.max(from + 2, 2 * Math.floor(((x + step) / width) * length)));
      const [low, high] = [Math.min(0, ...shown), Math.max(0, ...shown)].map((value) => (value / loudest) * 0.48 * height);
      pen.fillStyle = x / width < played ? accentColor : color;
      pen.fillRect(x, height / 2 - Math.max(high, line / 2), line, Math.max(line, high - low));
    }
    const place = `${duration(1000 * played * this.#seconds)} of ${duration(1000 * this.#seconds)}`;
    Object.assign(this, { ariaValueMax: `${this.#seconds}`, ariaValueNow: `${played * this.#seconds}`, ariaValueText: place });
  }
}

customElements.define("spool-waveform", Waveform);
