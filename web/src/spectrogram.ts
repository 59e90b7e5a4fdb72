// A small picture of a recording: time to the right, frequency upwards, level as brightness.

const SIZE = 512; // samples of a transform
const ROWS = SIZE / 2;
const MOST_COLUMNS = 600;
const RANGE = 75; // dB below the loudest that are shown

/** Levels 0 to 255, column by column from the lowest frequency up. */
export interface Picture {
  columns: number;
  rows: number;
  levels: Uint8Array;
  seconds: number;
  highest: number; // Hz, of the top row
}

/** Of audio that comes in pieces, whose length is known. */
export class Spectrogram {
  private readonly columns: number;
  private readonly levels: Float32Array; // dB
  private readonly last = new Float32Array(2 * SIZE); // the newest samples, twice: a window lies in one piece
  private position = 0; // samples that came
  private column = 0;

  constructor(
    private readonly length: number, // samples
    private readonly sampleRate: number,
  ) {
    this.columns = Math.max(1, Math.min(MOST_COLUMNS, Math.ceil(length / (SIZE / 4))));
    this.levels = new Float32Array(this.columns * ROWS);
  }

  push(samples: Float32Array): void {
    for (const sample of samples) {
      const at = this.position++ % SIZE;
      this.last[at] = this.last[at + SIZE] = sample;
      while (this.column < this.columns && this.position >= this.centre(this.column) + SIZE / 2) this.transform();
    }
  }

  finish(): Picture {
    this.push(new Float32Array(SIZE)); // what follows the end is silent
    while (this.column < this.columns) this.transform();
    const loudest = this.levels.reduce((a, b) => Math.max(a, b), -Infinity);
    const levels = Uint8Array.from(this.levels, (level) => Math.max(0, 255 * (1 + (level - loudest) / RANGE)));
    const seconds = this.length / this.sampleRate;
    return { columns: this.columns, rows: ROWS, levels, seconds, highest: this.sampleRate / 2 };
  }

  private centre(column: number): number {
    return Math.floor(((column + 0.5) * this.length) / this.columns);
  }

  private transform(): void {
    const start = this.position % SIZE; // the oldest sample
    const real = new Float64Array(SIZE);
    for (let i = 0; i < SIZE; i++) real[i] = this.last[start + i] * (0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / SIZE));
    const imaginary = new Float64Array(SIZE);
    fourier(real, imaginary);
    for (let row = 0; row < ROWS; row++) {
      this.levels[this.column * ROWS + row] = 10 * Math.log10(real[row] ** 2 + imaginary[row] ** 2 + 1e-9);
    }
    this.column++;
  }
}

/** The Fourier transform in place, of a length that is a power of two. */
export function fourier(real: Float64Array, imaginary: Float64Array): void {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const angle = (-2 * Math.PI * k) / size;
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      for (let a = k; a < n; a += size) {
        const b = a + size / 2;
        const re = real[b] * cosine - imaginary[b] * sine;
        const im = real[b] * sine + imaginary[b] * cosine;
        [real[b], imaginary[b]] = [real[a] - re, imaginary[a] - im];
        [real[a], imaginary[a]] = [real[a] + re, imaginary[a] + im];
      }
    }
  }
}

const COLOURS = [
  [8, 10, 32],
  [66, 26, 110],
  [176, 48, 98],
  [246, 136, 60],
  [255, 240, 190],
];

export function draw({ columns, rows, levels }: Picture, canvas: HTMLCanvasElement): void {
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < rows; row++) {
      const position = (levels[column * rows + row] / 255) * (COLOURS.length - 1);
      const below = Math.min(Math.floor(position), COLOURS.length - 2);
      const pixel = ((rows - 1 - row) * columns + column) * 4;
      for (let channel = 0; channel < 3; channel++) {
        const [a, b] = [COLOURS[below][channel], COLOURS[below + 1][channel]];
        image.data[pixel + channel] = a + (b - a) * (position - below);
      }
      image.data[pixel + 3] = 255;
    }
  }
  canvas.getContext("2d")!.putImageData(image, 0, 0);
}
