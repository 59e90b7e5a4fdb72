// The level of a recording without its pauses, and the gain that brings it to the level at which the codec codes best.
// docs/format.md, "Gain", describes it.

const LEVEL = -16; // dBFS
const MAX_GAIN_DB = 60;
const STEP_SECONDS = 0.1; // a block is four of them, and begins with each
const ABSOLUTE_GATE = -70; // dBFS
const RELATIVE_GATE = -10; // dB below the mean of what is not silence
const BIN = 0.1; // dB: blocks are counted by their level, so that memory does not grow
const N_BINS = 2000;

/** Of a mono recording that comes in pieces, whatever their lengths. */
export class LoudnessMeter {
  private readonly step: number; // samples
  private sum = 0; // of squares, in the step that is not full yet
  private filled = 0; // samples of it
  private powers: number[] = []; // of the last three steps
  private steps = 0;
  private readonly counts = new Float64Array(N_BINS);
  private readonly sums = new Float64Array(N_BINS);

  constructor(sampleRate: number) {
    this.step = Math.max(1, roundHalfEven(STEP_SECONDS * sampleRate));
  }

  push(samples: Float32Array): void {
    for (const sample of samples) {
      this.sum += sample * sample;
      if (++this.filled === this.step) {
        this.powers.push(this.sum / this.step);
        this.steps++;
        if (this.powers.length === 4) {
          this.count(this.powers.reduce((a, b) => a + b) / 4, this.counts, this.sums);
          this.powers.shift();
        }
        this.sum = this.filled = 0;
      }
    }
  }

  /** dBFS, a full-scale sine being -3; minus infinity for silence. Less than 0.4 s counts as 0.4 s. */
  get loudness(): number {
    let { counts, sums } = this;
    if (this.steps < 4) {
      [counts, sums] = [new Float64Array(N_BINS), new Float64Array(N_BINS)];
      const power = this.powers.reduce((a, b) => a + b, 0) + this.sum / this.step;
      this.count(power / 4, counts, sums);
    }
    const total = meanFrom(counts, sums, 0);
    if (Number.isNaN(total)) return -Infinity;
    const threshold = level(total) + RELATIVE_GATE;
    return level(meanFrom(counts, sums, Math.max(0, Math.floor((threshold - ABSOLUTE_GATE) / BIN))));
  }

  /** dB, in hundredths; 0 for silence. */
  get gainDb(): number {
    const { loudness } = this;
    if (loudness === -Infinity) return 0;
    return Math.round(100 * Math.max(-MAX_GAIN_DB, Math.min(MAX_GAIN_DB, LEVEL - loudness))) / 100;
  }

  private count(power: number, counts: Float64Array, sums: Float64Array): void {
    const loudness = level(Math.max(power, 1e-20));
    if (loudness <= ABSOLUTE_GATE) return;
    const bin = Math.min(Math.trunc((loudness - ABSOLUTE_GATE) / BIN), N_BINS - 1);
    counts[bin]++;
    sums[bin] += power;
  }
}

function level(power: number): number {
  return 10 * Math.log10(power);
}

/** Mean power of the blocks in bins from `first` on; NaN where there are none. */
function meanFrom(counts: Float64Array, sums: Float64Array, first: number): number {
  let [n, sum] = [0, 0];
  for (let bin = first; bin < N_BINS; bin++) {
    n += counts[bin];
    sum += sums[bin];
  }
  return sum / n;
}

function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 ? below + 1 : below;
}
