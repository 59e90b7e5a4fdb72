// From one sample rate to another, with the low-pass of soxr's highest quality: the codes of what Python resamples are
// then those of what is resampled here.

import { joined } from "./recording.ts";

// A windowed sinc, in samples of the lower of both rates. The three numbers are those with which it equals the impulse
// response of soxr's VHQ, measured at 24 to 48 kHz, to -300 dB.
const CUTOFF = 0.95566416; // of half the lower rate
const HALF_LENGTH = 133; // samples
const KAISER_BETA = 18.433496;
const MOST_PHASES = 2048; // kept; between them filters are interpolated

/** Resamples a recording that comes in pieces; T samples give ⌈T · to / from⌉. */
export class Resampler {
  private readonly up: number;
  private readonly down: number;
  private readonly filter: PolyphaseFilter;
  private buffer: Float32Array; // samples from `first` on
  private first: number; // may be negative: silence before the recording
  private taken = 0; // samples
  private given = 0;

  constructor(from: number, to: number) {
    const divisor = greatestCommonDivisor(from, to);
    this.up = to / divisor;
    this.down = from / divisor;
    this.filter = new PolyphaseFilter(this.up, this.down);
    this.first = -this.filter.half;
    this.buffer = new Float32Array(this.filter.half);
  }

  /** The samples that are known after the next piece. */
  push(piece: Float32Array): Float32Array {
    this.taken += piece.length;
    this.buffer = joined([this.buffer, piece]);
    const end = this.first + this.buffer.length;
    // the last output whose filter ends before `end`: floor(k · down / up) + half < end
    return this.run(Math.max(this.given, Math.ceil(((end - this.filter.half) * this.up) / this.down)));
  }

  /** The samples that were waiting for what follows. */
  finish(): Float32Array {
    this.buffer = joined([this.buffer, new Float32Array(this.filter.half + 1)]);
    return this.run(Math.ceil((this.taken * this.up) / this.down));
  }

  private run(until: number): Float32Array {
    const output = new Float32Array(until - this.given);
    for (let k = 0; k < output.length; k++) {
      const position = (this.given + k) * this.down;
      const before = Math.floor(position / this.up);
      output[k] = this.filter.at(this.buffer, before - this.first, (position - before * this.up) / this.up);
    }
    this.given = until;
    const next = Math.floor((until * this.down) / this.up) - this.filter.half;
    if (next > this.first) {
      this.buffer = this.buffer.slice(next - this.first);
      this.first = next;
    }
    return output;
  }
}

/** A whole recording at another rate. */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples;
  const resampler = new Resampler(from, to);
  const start = resampler.push(samples);
  return joined([start, resampler.finish()]);
}

class PolyphaseFilter {
  readonly half: number; // whole samples of the input on each side
  private readonly scale: number; // samples of the lower rate in one of the input
  private readonly width: number; // the same as `half`, not rounded
  private readonly phases: number;
  private readonly exact: boolean; // every phase is kept
  private readonly kept = new Map<number, Float64Array>();

  constructor(up: number, down: number) {
    const most = Math.max(up, down);
    const length = HALF_LENGTH + (most % 2 ? -0.5 : 0.5) / most; // soxr's: a whole number of its finest steps
    this.scale = Math.min(1, up / down);
    this.width = length / this.scale;
    this.half = Math.ceil(this.width);
    this.exact = up <= MOST_PHASES;
    this.phases = this.exact ? up : MOST_PHASES;
  }

  /** The value `fraction` of a sample behind `samples[index]`. */
  at(samples: Float32Array, index: number, fraction: number): number {
    const phase = fraction * this.phases;
    if (this.exact) return product(this.taps(Math.round(phase)), samples, index - this.half + 1);
    const below = Math.floor(phase);
    const [a, b] = [below, below + 1].map((each) => product(this.taps(each), samples, index - this.half + 1));
    return a + (b - a) * (phase - below);
  }

  /** Of samples -half + 1 to half, for a value `phase / phases` behind sample 0. */
  private taps(phase: number): Float64Array {
    let taps = this.kept.get(phase);
    if (!taps) {
      const place = phase / this.phases + this.half - 1;
      taps = Float64Array.from({ length: 2 * this.half }, (_, i) => this.response(place - i));
      this.kept.set(phase, taps);
    }
    return taps;
  }

  private response(t: number): number {
    const edge = 1 - (t / this.width) ** 2;
    if (edge <= 0) return 0;
    const cutoff = CUTOFF * this.scale;
    const x = Math.PI * cutoff * t;
    const sinc = x === 0 ? 1 : Math.sin(x) / x;
    return (cutoff * sinc * bessel(KAISER_BETA * Math.sqrt(edge))) / bessel(KAISER_BETA);
  }
}

function product(taps: Float64Array, samples: Float32Array, start: number): number {
  let sum = 0;
  for (let i = 0; i < taps.length; i++) sum += taps[i] * samples[start + i];
  return sum;
}

/** The modified Bessel function of the first kind, of order 0, by its power series. */
function bessel(x: number): number {
  let [sum, term] = [1, 1];
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
