// wav files: read at their own rate, without decoding more than a piece at a time; and written.

import { PageError, type Recording } from "./recording.ts";

const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
const PIECE = 2 ** 18; // samples

interface Format {
  tag: number;
  channels: number;
  sampleRate: number;
  frameBytes: number; // of one sample of all channels
  bits: number;
}

/** The rate and samples of a wav file; undefined: it is none, or has samples that are left to the browser's decoder. */
export async function readWav(file: Blob): Promise<Recording | undefined> {
  const start = await viewOf(file, 0, 12);
  if (start.byteLength < 12 || !["RIFF", "RF64"].includes(word(start, 0)) || word(start, 8) !== "WAVE") return undefined;
  let format: Format | undefined;
  let offset = 12;
  while (offset + 8 <= file.size) {
    const chunk = await viewOf(file, offset, 8);
    const [name, size] = [word(chunk, 0), chunk.getUint32(4, true)];
    if (name === "fmt ") format = readFormat(await viewOf(file, offset + 8, Math.min(size, 40)));
    if (name === "data") return format && samplesOf(file, format, offset + 8, size);
    offset += 8 + size + (size % 2);
  }
  throw new PageError("This wav file has no samples.");
}

function readFormat(view: DataView): Format | undefined {
  if (view.byteLength < 16) throw new PageError("This wav file is damaged: it does not say what its samples are.");
  const stated = view.getUint16(0, true);
  const tag = stated === EXTENSIBLE && view.byteLength >= 26 ? view.getUint16(24, true) : stated;
  const [channels, sampleRate] = [view.getUint16(2, true), view.getUint32(4, true)];
  const [frameBytes, bits] = [view.getUint16(12, true), view.getUint16(14, true)];
  const known = tag === PCM ? [8, 16, 24, 32].includes(bits) : tag === FLOAT && [32, 64].includes(bits);
  if (!known) return undefined;
  if (channels < 1 || frameBytes !== (channels * bits) / 8 || sampleRate < 1) {
    throw new PageError("This wav file is damaged: its header contradicts itself.");
  }
  return { tag, channels, sampleRate, frameBytes, bits };
}

function samplesOf(file: Blob, format: Format, start: number, stated: number): Recording {
  const there = file.size - start;
  const unknown = stated === 0xffffffff || stated === 0; // written into a pipe, or longer than 4 GB
  const length = Math.floor((unknown ? there : Math.min(stated, there)) / format.frameBytes);
  const notes = !unknown && there < stated ? ["The file is shorter than its header says: it was cut."] : [];
  if (length === 0) throw new PageError("This wav file has no samples.");
  return {
    sampleRate: format.sampleRate,
    length,
    notes,
    async *pieces() {
      for (let first = 0; first < length; first += PIECE) {
        const count = Math.min(PIECE, length - first);
        yield mono(await viewOf(file, start + first * format.frameBytes, count * format.frameBytes), format, count);
      }
    },
  };
}

/** The mean of the channels, full scale 1.0. */
function mono(view: DataView, { tag, channels, frameBytes, bits }: Format, count: number): Float32Array {
  const read = tag === FLOAT ? (bits === 32 ? float32 : float64) : integers[bits];
  const samples = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++) {
      sum = Math.fround(sum + Math.fround(read(view, i * frameBytes + (channel * bits) / 8)));
    }
    samples[i] = sum / channels;
    if (!Number.isFinite(samples[i])) throw new PageError("The file contains NaN or infinite samples.");
  }
  return samples;
}

type Read = (view: DataView, offset: number) => number;

const float32: Read = (view, offset) => view.getFloat32(offset, true);
const float64: Read = (view, offset) => view.getFloat64(offset, true);
const integers: Record<number, Read> = {
  8: (view, offset) => (view.getUint8(offset) - 128) / 2 ** 7,
  16: (view, offset) => view.getInt16(offset, true) / 2 ** 15,
  24: (view, offset) => (view.getUint16(offset, true) + view.getInt8(offset + 2) * 2 ** 16) / 2 ** 23,
  32: (view, offset) => view.getInt32(offset, true) / 2 ** 31,
};

async function viewOf(file: Blob, start: number, size: number): Promise<DataView> {
  return new DataView(await file.slice(start, start + size).arrayBuffer());
}

function word(view: DataView, offset: number): string {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(offset + i)));
}

/** A wav file of 16-bit samples, mono. */
export function wavOf(pieces: Int16Array[], sampleRate: number): Blob {
  const bytes = 2 * pieces.reduce((sum, piece) => sum + piece.length, 0);
  const header = new DataView(new ArrayBuffer(44));
  const put = (offset: number, text: string) => [...text].forEach((c, i) => header.setUint8(offset + i, c.charCodeAt(0)));
  put(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  put(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, PCM, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  put(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...(pieces as BlobPart[])], { type: "audio/wav" });
}

/** Samples with full scale 1.0 as 16-bit ones; what is louder is clipped. */
export function asInt16(samples: Float32Array): Int16Array {
  return Int16Array.from(samples, (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32767));
}
