// Recordings as mono samples, a piece at a time.

/** What cannot be done with a file or a device; the message is a sentence for whoever uses the page. */
export class PageError extends Error {}

export interface Recording {
  sampleRate: number; // Hz
  length: number; // samples
  notes: string[]; // what is missing, or not as good as it could be
  /** The samples, full scale 1.0; may be read more than once. */
  pieces(): AsyncIterable<Float32Array>;
}

const PIECE = 2 ** 18; // samples

/** Samples that are in memory. */
export function recordingOf(samples: Float32Array, sampleRate: number, notes: string[] = []): Recording {
  return {
    sampleRate,
    length: samples.length,
    notes,
    async *pieces() {
      for (let start = 0; start < samples.length; start += PIECE) yield samples.subarray(start, start + PIECE);
    },
  };
}

/** Pieces of any length as pieces of `size`, the last one shorter. */
export async function* gathered(pieces: AsyncIterable<Float32Array>, size: number): AsyncIterable<Float32Array> {
  let waiting = new Float32Array(size);
  let filled = 0;
  for await (const piece of pieces) {
    for (let start = 0; start < piece.length; ) {
      const part = piece.subarray(start, start + size - filled);
      waiting.set(part, filled);
      filled += part.length;
      start += part.length;
      if (filled === size) {
        yield waiting;
        waiting = new Float32Array(size);
        filled = 0;
      }
    }
  }
  if (filled) yield waiting.subarray(0, filled);
}

export function joined(pieces: Float32Array[]): Float32Array {
  const whole = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}
