// The `.esd` file, written from docs/format.md: header, blocks with checksums, end.

export const VERSION = 2;
export const BLOCK_FRAMES = 32;
const MAGIC = [0x45, 0x53, 0x44, 0x43]; // ESDC
const MAX_NAME = 255; // bytes
const BLOCK_OVERHEAD = 5; // bytes of a block besides its codes: number of frames, checksum
const END_BYTES = 13;

/** A file is no whole `.esd` file; the message is a sentence that says what is wrong, and where. */
export class BitstreamError extends Error {}

export interface Header {
  model: string;
  fingerprint: Uint8Array; // 8 bytes
  sampleRate: number; // Hz, of what is decoded
  hopLength: number; // samples of a frame
  originalRate: number; // Hz, of the recording
  bits: number[]; // of a code of each codebook in use
  blockFrames: number;
  gain: number; // hundredths of a dB by which the recording was amplified before it was encoded
}

/** Codes of a recording: one array of L codes for each codebook, the semantic one first. */
export type Codes = Uint32Array[];

export interface EsdFile {
  header: Header;
  codes: Codes;
  originalSamples: bigint; // of the recording at its original rate
}

/** Frames of a recording of `originalSamples` at its own rate. */
export function numFrames(header: Header, originalSamples: bigint): bigint {
  const samples = ceilDivide(originalSamples * BigInt(header.sampleRate), BigInt(header.originalRate));
  return ceilDivide(samples, BigInt(header.hopLength));
}

function ceilDivide(a: bigint, b: bigint): bigint {
  return (a + b - 1n) / b;
}

function blockBytes(header: Header, frames: number): number {
  return Math.ceil((frames * frameBits(header)) / 8) + BLOCK_OVERHEAD;
}

function frameBits(header: Header): number {
  return header.bits.reduce((sum, bits) => sum + bits, 0);
}

function check(header: Header): void {
  const bounds: [string, number, number, number][] = [
    ["sample rate", header.sampleRate, 1_000, 1_000_000],
    ["rate of the recording", header.originalRate, 1_000, 1_000_000],
    ["hop length", header.hopLength, 1, 65_535],
    ["number of codebooks", header.bits.length, 1, 32],
    ["number of frames of a block", header.blockFrames, 1, 255],
    ["gain in hundredths of a dB", header.gain, -6_000, 6_000],
    ["number of bytes of the fingerprint", header.fingerprint.length, 8, 8],
  ];
  for (const bits of header.bits) bounds.push(["number of bits of a code", bits, 1, 24]);
  for (const [what, value, low, high] of bounds) {
    if (!(Number.isInteger(value) && value >= low && value <= high)) {
      throw new BitstreamError(`The ${what} in an .esd file is ${low} to ${high}, not ${value}.`);
    }
  }
}

// ---- writing --------------------------------------------------------------------------------------------------------

/** The bytes of a whole file. */
export function writeEsd({ header, codes, originalSamples }: EsdFile): Uint8Array {
  check(header);
  const frames = codes[0]?.length ?? 0;
  if (codes.length !== header.bits.length || codes.some((book) => book.length !== frames)) {
    throw new BitstreamError(`There are ${codes.length} codebooks of codes, and ${header.bits.length} in the header.`);
  }
  if (numFrames(header, originalSamples) !== BigInt(frames)) {
    throw new BitstreamError(`${originalSamples} samples at ${header.originalRate} Hz are not ${frames} frames.`);
  }
  const start = headerBytes(header);
  const full = Math.floor(frames / header.blockFrames);
  const rest = frames % header.blockFrames;
  const body = full * blockBytes(header, header.blockFrames) + (rest ? blockBytes(header, rest) : 0);
  const file = new Uint8Array(start.length + body + END_BYTES);
  file.set(start);
  let offset = start.length;
  for (let index = 0; index * header.blockFrames < frames; index++) {
    const first = index * header.blockFrames;
    const count = Math.min(header.blockFrames, frames - first);
    const block = file.subarray(offset, offset + blockBytes(header, count));
    block[0] = count;
    pack(block.subarray(1, -4), codes, header.bits, first, count);
    putChecksum(block, index);
    offset += block.length;
  }
  const end = file.subarray(offset);
  new DataView(end.buffer, end.byteOffset).setBigUint64(1, originalSamples);
  putChecksum(end, 0);
  return file;
}

function headerBytes(header: Header): Uint8Array {
  const name = new Uint8Array(MAX_NAME);
  const { written } = new TextEncoder().encodeInto(header.model, name); // cuts between characters
  const bytes = new Uint8Array(28 + written + header.bits.length + 4);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint8(4, VERSION);
  view.setUint32(5, header.sampleRate);
  view.setUint16(9, header.hopLength);
  view.setUint32(11, header.originalRate);
  bytes.set(header.fingerprint, 15);
  view.setUint8(23, header.blockFrames);
  view.setUint8(24, written);
  view.setUint8(25, header.bits.length);
  view.setInt16(26, header.gain);
  bytes.set(name.subarray(0, written), 28);
  bytes.set(header.bits, 28 + written);
  putChecksum(bytes, 0);
  return bytes;
}

/** Codes of `count` frames, the highest bit of each first, into zeroed bytes. */
function pack(target: Uint8Array, codes: Codes, bits: number[], first: number, count: number): void {
  let position = 0; // of the next bit
  for (let frame = first; frame < first + count; frame++) {
    for (let book = 0; book < bits.length; book++) {
      const code = codes[book][frame];
      if (code >= 2 ** bits[book]) {
        throw new BitstreamError(`Codebook ${book} has codes below ${2 ** bits[book]}, and frame ${frame} has ${code}.`);
      }
      for (let bit = bits[book] - 1; bit >= 0; bit--, position++) {
        target[position >> 3] |= ((code >>> bit) & 1) << (7 - (position & 7));
      }
    }
  }
}

// ---- reading --------------------------------------------------------------------------------------------------------

/**
 * All that is in a file.
 *
 * Throws BitstreamError where it is damaged; nothing is allocated before its size is known to be right.
 */
export function readEsd(file: Uint8Array): EsdFile {
  const { header, size } = readHeader(file);
  const originalSamples = readEnd(file, header, size);
  const frames = Number(numFrames(header, originalSamples));
  const codes = header.bits.map(() => new Uint32Array(frames));
  let offset = size;
  for (let index = 0; index * header.blockFrames < frames; index++) {
    const first = index * header.blockFrames;
    const count = Math.min(header.blockFrames, frames - first);
    const block = file.subarray(offset, offset + blockBytes(header, count));
    if (block[0] !== count || !checksumIsRight(block, index)) {
      const seconds = [first, first + count].map((frame) => ((frame * header.hopLength) / header.sampleRate).toFixed(2));
      throw new BitstreamError(
        `Block ${index} (${seconds[0]} to ${seconds[1]} s) is damaged: its checksum is wrong. ` +
          "The command `esdcodec decode --recover` decodes the rest.",
      );
    }
    unpack(block.subarray(1, -4), codes, header.bits, first, count);
    offset += block.length;
  }
  return { header, codes, originalSamples };
}

function readHeader(file: Uint8Array): { header: Header; size: number } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 5 || MAGIC.some((byte, i) => file[i] !== byte)) {
    throw new BitstreamError("This is no .esd file: it does not begin with ESDC.");
  }
  const version = file[4];
  if (version < 1 || version > VERSION) {
    throw new BitstreamError(`This .esd file is of version ${version}, and 1 to ${VERSION} are known here.`);
  }
  const fixed = version > 1 ? 28 : 26; // bytes before the name; version 1 has no gain
  const size = file.length < fixed ? fixed : fixed + file[24] + file[25] + 4;
  if (file.length < size) throw new BitstreamError("The file ends within its header.");
  if (!checksumIsRight(file.subarray(0, size), 0)) {
    throw new BitstreamError("The header of this .esd file is damaged: its checksum is wrong.");
  }
  const header: Header = {
    model: new TextDecoder("utf-8", { ignoreBOM: true }).decode(file.subarray(fixed, fixed + file[24])),
    fingerprint: Uint8Array.from(file.subarray(15, 23)),
    sampleRate: view.getUint32(5),
    hopLength: view.getUint16(9),
    originalRate: view.getUint32(11),
    bits: [...file.subarray(fixed + file[24], size - 4)],
    blockFrames: file[23],
    gain: version > 1 ? view.getInt16(26) : 0,
  };
  check(header);
  return { header, size };
}

/** The recording's length, if the size of the file is that of its frames. */
function readEnd(file: Uint8Array, header: Header, start: number): bigint {
  const end = file.subarray(Math.max(start, file.length - END_BYTES));
  if (end.length < END_BYTES || end[0] !== 0 || !checksumIsRight(end, 0)) {
    throw new BitstreamError("The end of this .esd file is missing or damaged: it was cut, or more follows.");
  }
  const samples = new DataView(end.buffer, end.byteOffset).getBigUint64(1);
  const frames = numFrames(header, samples);
  const perBlock = BigInt(header.blockFrames);
  const rest = Number(frames % perBlock);
  const full = (frames / perBlock) * BigInt(blockBytes(header, header.blockFrames));
  if (BigInt(file.length - start - END_BYTES) !== full + BigInt(rest ? blockBytes(header, rest) : 0)) {
    throw new BitstreamError(`The end of this .esd file says ${frames} frames, but its size is not theirs.`);
  }
  return samples;
}

function unpack(source: Uint8Array, codes: Codes, bits: number[], first: number, count: number): void {
  let held = 0; // bits that were read and not used, in the low end of `value`
  let value = 0;
  let offset = 0;
  for (let frame = first; frame < first + count; frame++) {
    for (let book = 0; book < bits.length; book++) {
      for (; held < bits[book]; held += 8) value = (value << 8) | source[offset++];
      held -= bits[book];
      codes[book][frame] = value >>> held;
      value &= (1 << held) - 1;
    }
  }
}

// ---- checksums ------------------------------------------------------------------------------------------------------

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1; // 0x04C11DB7 reflected
  return value;
});

/** CRC-32, continued from `start`. */
export function crc32(bytes: Uint8Array, start = 0): number {
  let value = ~start;
  for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 255];
  return ~value >>> 0;
}

function putChecksum(bytes: Uint8Array, start: number): void {
  const at = bytes.length - 4;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, crc32(bytes.subarray(0, at), start));
}

function checksumIsRight(bytes: Uint8Array, start: number): boolean {
  const at = bytes.length - 4;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at) === crc32(bytes.subarray(0, at), start);
}

/** A model's name as it may be shown: without control characters, which a damaged or forged file may have. */
export function shownName(name: string): string {
  return name.replace(/\p{C}/gu, "�");
}
