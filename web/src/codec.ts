// The codec's two halves in ONNX Runtime, and what is done around them: level, rate, windows, length.

import type * as Ort from "onnxruntime-web";

import { type Codes, type Header, BLOCK_FRAMES, BitstreamError, shownName } from "./bitstream.ts";
import { LoudnessMeter } from "./loudness.ts";
import { gathered, PageError, type Recording } from "./recording.ts";
import { Resampler } from "./resample.ts";
import { asInt16 } from "./wav.ts";
import { type Context, windows } from "./windows.ts";

type Runtime = Pick<typeof Ort, "InferenceSession" | "Tensor">;

/** `codec.json`, which the export writes beside the networks. */
export interface Description {
  name: string;
  fingerprint: string; // hexadecimal
  sample_rate: number; // Hz
  hop_length: number; // samples of a frame
  codebook_sizes: number[];
  encoder_context: Context;
  decoder_context: Context;
}

/** The files of a model, as `python -m esdcodec.onnx_export` writes them. */
export interface ModelFiles {
  description: Description;
  encoder: Uint8Array;
  decoder: Uint8Array;
  weights: Uint8Array;
}

/** Is told the share of the work that is done, 0 to 1; throws to stop it. */
export type Progress = (done: number) => Promise<void>;

/** Gets the audio at the codec's rate as it passes. */
export type Listener = (samples: Float32Array) => void;

const WINDOW_SECONDS = 8; // of audio that go through the network at once, besides their context
const PIECE = 2 ** 15; // samples that are resampled between two looks at whether to stop

export interface Encoded {
  header: Header; // with all codebooks
  codes: Codes;
  originalSamples: bigint;
}

export class Codec {
  private constructor(
    private readonly runtime: Runtime,
    readonly description: Description,
    private readonly encoder: Ort.InferenceSession,
    private readonly decoder: Ort.InferenceSession,
  ) {}

  /** Both networks with their weights; `providers` as ONNX Runtime names them. */
  static async load(runtime: Runtime, files: ModelFiles, providers: string[]): Promise<Codec> {
    const options = {
      executionProviders: providers,
      externalData: [{ path: "weights.bin", data: files.weights }],
      enableMemPattern: false, // lengths differ
    };
    const encoder = await runtime.InferenceSession.create(files.encoder, options);
    const decoder = await runtime.InferenceSession.create(files.decoder, options);
    return new Codec(runtime, files.description, encoder, decoder);
  }

  get frameRate(): number {
    return this.description.sample_rate / this.description.hop_length;
  }

  /** Codes of all codebooks of a recording, which is read twice: its level first. */
  async encode(recording: Recording, progress: Progress, listener: Listener = () => {}): Promise<Encoded> {
    const { sample_rate: rate, hop_length: hop, codebook_sizes: sizes } = this.description;
    const meter = new LoudnessMeter(recording.sampleRate);
    for await (const piece of recording.pieces()) {
      meter.push(piece);
      await progress(0);
    }
    const gainDb = meter.gainDb;
    const header = this.header(recording.sampleRate, gainDb);
    const frames = Math.ceil(Math.ceil((recording.length * rate) / recording.sampleRate) / hop);
    const codes = sizes.map(() => new Uint32Array(frames));
    const audio = new Frames(resampled(recording, rate, listener), hop, 10 ** (gainDb / 20));
    for (const { start, stop, from, to } of windows(frames, this.description.encoder_context, this.windowFrames)) {
      await progress(start / frames);
      const input = new this.runtime.Tensor("float32", await audio.read(from, to), [1, 1, (to - from) * hop]);
      const output = (await this.encoder.run({ audio: input })).codes;
      const values = output.data as BigInt64Array;
      for (const [book, target] of codes.entries()) {
        const first = book * (to - from) - from;
        for (let frame = start; frame < stop; frame++) target[frame] = Number(values[first + frame]);
      }
      input.dispose();
      output.dispose();
    }
    await progress(1);
    return { header, codes, originalSamples: BigInt(recording.length) };
  }

  /** Audio of codes, as 16-bit samples at the recording's own rate and of its length. */
  async decode(file: Encoded, progress: Progress, listener: Listener = () => {}): Promise<Int16Array[]> {
    const { header, codes } = file;
    this.check(file);
    const frames = codes[0].length;
    const loudness = 10 ** (header.gain / 2000);
    const resampler =
      header.originalRate === header.sampleRate ? undefined : new Resampler(header.sampleRate, header.originalRate);
    const output: Int16Array[] = [];
    let missing = Number(file.originalSamples);
    const give = (samples: Float32Array) => {
      const part = samples.subarray(0, missing);
      missing -= part.length;
      output.push(asInt16(part));
    };
    for (const window of windows(frames, this.description.decoder_context, this.windowFrames)) {
      await progress(window.start / frames);
      const samples = await this.synthesise(codes, window.from, window.to);
      const wanted = samples
        .subarray((window.start - window.from) * header.hopLength, (window.stop - window.from) * header.hopLength)
        .map((sample) => sample / loudness);
      listener(wanted);
      give(resampler ? resampler.push(wanted) : wanted);
    }
    if (resampler) give(resampler.finish());
    await progress(1);
    return output;
  }

  private get windowFrames(): number {
    return Math.max(1, Math.round(WINDOW_SECONDS * this.frameRate));
  }

  private async synthesise(codes: Codes, from: number, to: number): Promise<Float32Array> {
    const values = new BigInt64Array(codes.length * (to - from));
    codes.forEach((book, i) => book.subarray(from, to).forEach((code, j) => (values[i * (to - from) + j] = BigInt(code))));
    const input = new this.runtime.Tensor("int64", values, [1, codes.length, to - from]);
    const output = (await this.decoder.run({ codes: input })).audio;
    const samples = (output.data as Float32Array).slice();
    input.dispose();
    output.dispose();
    return samples;
  }

  private header(originalRate: number, gainDb: number): Header {
    const { name, fingerprint, sample_rate, hop_length, codebook_sizes } = this.description;
    return {
      model: name,
      fingerprint: Uint8Array.from(fingerprint.match(/../g)!.slice(0, 8), (byte) => parseInt(byte, 16)),
      sampleRate: sample_rate,
      hopLength: hop_length,
      originalRate,
      bits: codebook_sizes.map(bitsOf),
      blockFrames: BLOCK_FRAMES,
      gain: Math.round(100 * gainDb),
    };
  }

  /** That codes are of this model, before anything is computed with them. */
  private check({ header, codes }: Encoded): void {
    const own = this.header(header.originalRate, 0);
    if (String(header.fingerprint) !== String(own.fingerprint)) {
      throw new BitstreamError(
        `These codes are of the model “${shownName(header.model)}”, and this page has “${own.model}”: ` +
          "only the model that made them can decode them.",
      );
    }
    const fits = String(header.bits) === String(own.bits.slice(0, header.bits.length));
    if (header.sampleRate !== own.sampleRate || header.hopLength !== own.hopLength || !fits) {
      throw new BitstreamError("The header of this .esd file names the right model with wrong sizes.");
    }
    codes.forEach((book, i) => {
      const size = this.description.codebook_sizes[i];
      if (book.some((code) => code >= size)) throw new BitstreamError(`Codebook ${i + 1} has only ${size} codes.`);
    });
    if (codes[0].length === 0) throw new PageError("This .esd file is of a recording without a sample.");
  }
}

function bitsOf(size: number): number {
  return Math.ceil(Math.log2(size));
}

async function* resampled(recording: Recording, rate: number, listener: Listener): AsyncIterable<Float32Array> {
  const resampler = recording.sampleRate === rate ? undefined : new Resampler(recording.sampleRate, rate);
  for await (const piece of gathered(recording.pieces(), PIECE)) {
    const samples = resampler ? resampler.push(piece) : piece;
    listener(samples);
    yield samples;
  }
  if (resampler) {
    const rest = resampler.finish();
    listener(rest);
    yield rest;
  }
}

/** Frames of audio that comes in pieces, as windows ask for them: each begins no earlier than the one before. */
class Frames {
  private readonly source: AsyncIterator<Float32Array>;
  private buffer: Float32Array = new Float32Array(0);
  private first = 0; // sample of the buffer's beginning
  private ended = false;

  constructor(
    pieces: AsyncIterable<Float32Array>,
    private readonly hop: number,
    private readonly gain: number,
  ) {
    this.source = pieces[Symbol.asyncIterator]();
  }

  /** Samples of frames `from` to below `to`, amplified; behind the end there is silence. */
  async read(from: number, to: number): Promise<Float32Array> {
    const [start, stop] = [from * this.hop, to * this.hop];
    const pieces = [this.buffer.subarray(start - this.first)];
    let end = this.first + this.buffer.length;
    while (end < stop && !this.ended) {
      const { value, done } = await this.source.next();
      if (done) this.ended = true;
      else pieces.push(value);
      end += value?.length ?? 0;
    }
    const held = new Float32Array(Math.max(end, stop) - start);
    let offset = 0;
    for (const piece of pieces) {
      held.set(piece, offset);
      offset += piece.length;
    }
    [this.buffer, this.first] = [held, start];
    const gain = Math.fround(this.gain);
    return held.slice(0, stop - start).map((sample) => sample * gain);
  }
}
