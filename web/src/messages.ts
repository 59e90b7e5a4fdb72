// What the page and its worker say to each other.

import type { Encoded } from "./codec.ts";
import type { Picture } from "./spectrogram.ts";

export type Provider = "wasm" | "webgpu";

/** A wav file, which the worker reads itself, or samples that the browser decoded. */
export type Source = { file: Blob } | { samples: Float32Array; sampleRate: number; notes: string[] };

/** What the worker does, and what comes of it. */
export interface Work {
  /** A recording with its codes, of all codebooks. */
  encode: { argument: Source; result: { encoded: Encoded; seconds: number; notes: string[]; picture: Picture } };
  /** Codes, of one codebook or more, as a wav file. */
  decode: { argument: Encoded; result: { wav: Blob; picture: Picture } };
  /** The model, from its files below `base`; progress is in bytes. */
  load: { argument: { base: string; provider: Provider }; result: { codebooks: number; name: string } };
  /** The share of equal codes that this worker's provider and the processor make of a recording. */
  compare: { argument: Source; result: number };
}

export type Kind = keyof Work;
export type Request = { [K in Kind]: { kind: K; argument: Work[K]["argument"] } }[Kind] | { kind: "stop" };
export type Reply =
  | { kind: "progress"; done: number }
  | { kind: "result"; value: unknown }
  | { kind: "stopped" }
  | { kind: "error"; message: string; expected: boolean };
