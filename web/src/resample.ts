// From one sample rate to another, with the low-pass of soxr's highest quality: the codes of what Python resamples are
// then those of what is resampled here.

import { joined } from "./recording.ts";

// A windowed sinc; lengths are in samples of the lower of both rates. The numbers are those with which it has the impulse
// response of soxr's VHQ, as measured: to -190 dB where one rate is a small multiple of a fraction of the other. In other
// ratios soxr takes several steps, whose response falls a little (0.1 % at the edge) within the band; the filter is then
// summed with copies of itself, half samples apart, that fall alike.
interface Design {
  halfLength: number;
  beta: number; // of the Kaiser window
  copies: number[]; // weights of the first, second, … on each side
}

const CUTOFF = 0.95566416; // of half the lower rate
const SMALL_RATIO = { halfLength: 133, beta: 18.433496, copies: [] };
const UPWARDS = { halfLength: 138.277, beta: 19.119, copies: [0.0485077, -0.0308959, 0.0139533, -0.0040723, 0.0005918] };
const DOWNWARDS = { halfLength: 138.277, beta: 19.119, copies: [0.0434645, -0.0278519, 0.0127057, -0.0037608, 0.0005564] };
const LARGEST_SMALL = 4; // number in a ratio
const MOST_PHASES = 512; // kept; between them filters are interpolated

function designFor(up: number, down: number): Design {
  const most = Math.max(up, down);
  if (most > LARGEST_SMALL) return up > down ? UPWARDS : DOWNWARDS;
  // soxr's is a whole number of its finest steps long
  return { ...SMALL_RATIO, halfLength: SMALL_RATIO.halfLength + (most % 2 ? -0.5 : 0.5) / most };
}

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
    const length = (this.taken * this.up) / this.down;
    const samples = this.run(Math.ceil(length));
    // of which less than half is there, soxr gives none
    if (Math.floor(length + 0.5) < Math.ceil(length)) samples[samples.length - 1] = 0;
    return samples;
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
  private readonly design: Design;
  private readonly middle: number; // of the window
  private readonly scale: number; // samples of the lower rate in one of the input
  private readonly phases: number;
  private readonly exact: boolean; // every phase is kept
  private readonly kept = new Map<number, Float64Array>();

  constructor(up: number, down: number) {
    this.design = designFor(up, down);
    this.middle = bessel(this.design.beta);
    this.scale = Math.min(1, up / down);
    this.half = Math.ceil((this.design.halfLength + this.design.copies.length / 2) / this.scale);
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
    const { copies } = this.design;
    let sum = sinc(t * this.scale, this.design) * (1 - 2 * copies.reduce((a, b) => a + b, 0));
    copies.forEach((weight, i) => {
      for (const shift of [-(i + 1) / 2, (i + 1) / 2]) sum += weight * sinc(t * this.scale + shift, this.design);
    });
    return (sum * this.scale) / this.middle;
  }
}

/** The windowed sinc, `t` samples of the lower rate from its middle, but for a factor. */
function sinc(t: number, { halfLength, beta }: Design): number {
  const edge = 1 - (t / halfLength) ** 2;
  if (edge <= 0) return 0;
  const x = Math.PI * CUTOFF * t;
  return CUTOFF * (x === 0 ? 1 : Math.sin(x) / x) * bessel(beta * Math.sqrt(edge));
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
