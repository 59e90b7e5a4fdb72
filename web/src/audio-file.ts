// Files that are not plain wav: the browser decodes them, at their own rate, so that it does not resample.

import { PageError } from "./recording.ts";
import type { Source } from "./messages.ts";
import { readWav } from "./wav.ts";

const FALLBACK_RATE = 48_000; // Hz

/** What the worker encodes. */
export async function sourceOf(file: Blob): Promise<Source> {
  if (file.size === 0) throw new PageError("This file is empty.");
  if (await readWav(file)) return { file };
  const bytes = await file.arrayBuffer();
  const rate = rateOf(new Uint8Array(bytes));
  const context = new OfflineAudioContext(1, 1, rate ?? FALLBACK_RATE);
  let audio: AudioBuffer;
  try {
    audio = await context.decodeAudioData(bytes);
  } catch {
    throw new PageError("This browser cannot read this file as audio. A wav file always works.");
  }
  const notes = rate
    ? []
    : [`The file's own sample rate is unknown here: it is encoded at ${FALLBACK_RATE} Hz, with other codes than at its own.`];
  return { samples: mono(audio), sampleRate: audio.sampleRate, notes };
}

function mono(audio: AudioBuffer): Float32Array {
  const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
  if (channels.length === 1) return channels[0].slice();
  return channels[0].map((_, t) => channels.reduce((sum, channel) => Math.fround(sum + channel[t]), 0) / channels.length);
}

const MPEG_RATES = [44_100, 48_000, 32_000];
const ADTS_RATES = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/** Hz that a compressed file decodes to; undefined where that is not seen. */
export function rateOf(bytes: Uint8Array): number | undefined {
  const start = tagLength(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, bytes.length - start);
  const at = (text: string, offset = 0) => [...text].every((c, i) => bytes[start + offset + i] === c.charCodeAt(0));
  if (at("fLaC")) return view.byteLength > 20 ? view.getUint32(18) >>> 12 : undefined;
  if (at("OggS")) return ofOgg(bytes.subarray(start, start + 512));
  if (at("ftyp", 4)) return ofMp4(bytes.subarray(start));
  if (view.byteLength > 4 && view.getUint32(0) === 0x1a45dfa3) return ofMatroska(bytes.subarray(start));
  if (at("RIFF") && view.byteLength > 28) return inBounds(view.getUint32(24, true));
  return view.byteLength > 4 ? ofMpeg(view.getUint32(0)) : undefined;
}

/** Bytes of an ID3 tag before the audio. */
function tagLength(bytes: Uint8Array): number {
  if (String.fromCharCode(...bytes.subarray(0, 3)) !== "ID3" || bytes.length < 10) return 0;
  const size = bytes.subarray(6, 10).reduce((sum, byte) => sum * 128 + (byte & 127), 0);
  return size + 10 <= bytes.length ? size + 10 : 0;
}

function ofOgg(page: Uint8Array): number | undefined {
  if (find(page, "OpusHead") >= 0) return 48_000; // what Opus decodes to, whatever was encoded
  const vorbis = find(page, "\x01vorbis");
  if (vorbis >= 0) return inBounds(new DataView(page.buffer, page.byteOffset).getUint32(vorbis + 12, true));
  const flac = find(page, "fLaC");
  return flac >= 0 ? rateOf(page.subarray(flac)) : undefined;
}

function ofMp4(bytes: Uint8Array): number | undefined {
  const table = find(bytes, "stsd"); // its first entry: size, kind, …
  if (table < 0 || table + 48 > bytes.length) return undefined;
  if (find(bytes.subarray(table + 16, table + 20), "Opus") === 0) return 48_000;
  return inBounds(new DataView(bytes.buffer, bytes.byteOffset).getUint16(table + 44));
}

function ofMatroska(bytes: Uint8Array): number | undefined {
  const start = bytes.subarray(0, 4096);
  if (find(start, "A_OPUS") >= 0) return 48_000;
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  for (let i = find(start, "A_"); i >= 0 && i + 10 < start.length; i++) {
    if (start[i] === 0xb5 && start[i + 1] === 0x84) return inBounds(view.getFloat32(i + 2)); // SamplingFrequency
    if (start[i] === 0xb5 && start[i + 1] === 0x88) return inBounds(view.getFloat64(i + 2));
  }
  return undefined;
}

function ofMpeg(word: number): number | undefined {
  if (word >>> 20 === 0xfff && ((word >>> 17) & 3) === 0) return ADTS_RATES[(word >>> 10) & 15]; // AAC
  if (word >>> 21 !== 0x7ff) return undefined;
  const [version, index] = [(word >>> 19) & 3, (word >>> 10) & 3];
  if (version === 1 || index === 3) return undefined;
  return MPEG_RATES[index] / (version === 3 ? 1 : version === 2 ? 2 : 4);
}

function inBounds(rate: number): number | undefined {
  return rate >= 3_000 && rate <= 384_000 ? rate : undefined; // what browsers decode to
}

function find(bytes: Uint8Array, text: string): number {
  const codes = [...text].map((c) => c.charCodeAt(0));
  for (let i = bytes.indexOf(codes[0]); i >= 0; i = bytes.indexOf(codes[0], i + 1)) {
    if (codes.every((code, j) => bytes[i + j] === code)) return i;
  }
  return -1;
}
