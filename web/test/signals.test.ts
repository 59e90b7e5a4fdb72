import assert from "node:assert/strict";
import { test } from "node:test";

import { rateOf } from "../src/audio-file.ts";
import { type Description, Codec } from "../src/codec.ts";
import { LoudnessMeter } from "../src/loudness.ts";
import { joined, recordingOf } from "../src/recording.ts";
import { Resampler, resample } from "../src/resample.ts";
import { fourier, Spectrogram } from "../src/spectrogram.ts";
import { asInt16, readWav, wavOf } from "../src/wav.ts";
import { windows } from "../src/windows.ts";

function noise(length: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length }, () => (state = (state * 48271) % 2147483647) / 2147483647 - 0.5);
}

function sine(length: number, frequency: number, rate: number): Float32Array {
  return Float32Array.from({ length }, (_, t) => Math.sin((2 * Math.PI * frequency * t) / rate));
}

for (const [from, to] of [[16000, 24000], [44100, 24000], [24000, 7919]]) {
  test(`pieces at ${from} Hz are resampled to the values of the whole at ${to} Hz`, () => {
    const samples = noise(3000);
    const whole = resample(samples, from, to);
    assert.equal(whole.length, Math.ceil((samples.length * to) / from));
    const resampler = new Resampler(from, to);
    const pieces = [0, 1, 700, 701, 2999].map((start, i, all) => resampler.push(samples.subarray(start, all[i + 1])));
    assert.deepEqual(joined([...pieces, resampler.finish()]), whole);
  });
}

test("a tone keeps its level and phase where many filters are interpolated", () => {
  const [from, to] = [7919, 24000];
  const resampled = resample(sine(4000, 1000, from), from, to);
  const right = sine(resampled.length, 1000, to);
  for (let t = 2000; t < resampled.length - 2000; t++) assert.ok(Math.abs(resampled[t] - right[t]) < 1e-5);
});

test("windows give each frame once, with its whole context", () => {
  for (const frames of [1, 10, 11, 35]) {
    const all = [...windows(frames, { left: 3, right: 2 }, 10)];
    assert.deepEqual(all.flatMap(({ start, stop }) => Array.from({ length: stop - start }, (_, i) => start + i)), [...Array(frames).keys()]);
    for (const { start, stop, from, to } of all) {
      assert.equal(from, Math.max(0, start - 3));
      assert.equal(to, Math.min(frames, stop + 2));
    }
  }
});

/** Networks whose frame is the sum of all that is in its context. */
function summing(context: number) {
  const sums = (values: ArrayLike<number>, per: number) =>
    Array.from({ length: values.length / per }, (_, frame) => {
      let sum = 0;
      for (let i = Math.max(0, (frame - context) * per); i < Math.min(values.length, (frame + context + 1) * per); i++) sum += Math.round(100 * values[i]);
      return Math.abs(sum) % 1024;
    });
  class Tensor {
    constructor(readonly type: string, readonly data: Float32Array | BigInt64Array, readonly dims: number[]) {}
    dispose() {}
  }
  const encoder = { run: async ({ audio }: { audio: Tensor }) => ({ codes: new Tensor("", BigInt64Array.from(sums(audio.data as Float32Array, 960), BigInt), []) }) };
  const decoder = {
    run: async ({ codes }: { codes: Tensor }) => {
      const frames = sums(Array.from(codes.data as BigInt64Array, Number), 1);
      return { audio: new Tensor("", Float32Array.from(frames.flatMap((value) => Array(960).fill(value / 1024))), []) };
    },
  };
  return { Tensor, InferenceSession: { create: async (bytes: Uint8Array) => (bytes.length ? decoder : encoder) } };
}

async function codecOf(context: number): Promise<Codec> {
  const description: Description = {
    name: "m", fingerprint: "0011223344556677", sample_rate: 24000, hop_length: 960, codebook_sizes: [1024],
    encoder_context: { left: context, right: context }, decoder_context: { left: context, right: context },
  };
  const files = { description, encoder: new Uint8Array(0), decoder: new Uint8Array(1), weights: new Uint8Array() };
  return Codec.load(summing(context) as never, files, ["wasm"]);
}

test("codes and audio of a long recording are those of one window, and as long as it", async () => {
  const [context, rate] = [4, 24000];
  const codec = await codecOf(context);
  const samples = noise(20 * rate + 5);
  const steps: number[] = [];
  const { header, codes, originalSamples } = await codec.encode(recordingOf(samples, rate), async (done) => void steps.push(done));
  assert.ok(steps.length > 3 && steps.at(-1) === 1 && steps.every((step, i) => i === 0 || step >= steps[i - 1]));
  const gain = Math.fround(10 ** (header.gain / 2000));
  const padded = new Float32Array(codes[0].length * 960);
  padded.set(samples.map((sample) => sample * gain));
  const whole = summing(context);
  const [encoder, decoder] = await Promise.all([0, 1].map((n) => whole.InferenceSession.create(new Uint8Array(n))));
  const right = (await (encoder as any).run({ audio: { data: padded } })).codes.data;
  assert.deepEqual([...codes[0]], Array.from(right as BigInt64Array, Number));
  const output = await codec.decode({ header, codes, originalSamples }, async () => {});
  const audio = (await (decoder as any).run({ codes: { data: right } })).audio.data as Float32Array;
  const expected = asInt16(audio.map((sample) => sample / 10 ** (header.gain / 2000)).slice(0, samples.length));
  assert.deepEqual(output.flatMap((piece) => [...piece]), [...expected]);
});

test("codes of another model, and codes that it does not have, are refused", async () => {
  const codec = await codecOf(1);
  const { header, codes, originalSamples } = await codec.encode(recordingOf(noise(2000), 24000), async () => {});
  const foreign = { ...header, model: "other", fingerprint: new Uint8Array(8) };
  await assert.rejects(codec.decode({ header: foreign, codes, originalSamples }, async () => {}), /“other”/);
  const wrong = { ...header, bits: [11] };
  await assert.rejects(codec.decode({ header: wrong, codes, originalSamples }, async () => {}), /wrong sizes/);
});

test("a sine at full scale is at -3 dBFS, and pauses and silence do not count", () => {
  const meter = new LoudnessMeter(16000);
  meter.push(sine(16000, 440, 16000));
  assert.ok(Math.abs(meter.loudness + 3.01) < 0.01);
  const before = meter.gainDb;
  meter.push(new Float32Array(48000));
  assert.ok(Math.abs(meter.gainDb - before) < 1);
  assert.equal(new LoudnessMeter(16000).gainDb, 0);
});

test("wav files come back", async () => {
  const samples = asInt16(noise(1000));
  const recording = (await readWav(wavOf([samples.subarray(0, 3), samples.subarray(3)], 22050)))!;
  assert.deepEqual([recording.sampleRate, recording.length], [22050, 1000]);
  const pieces = [];
  for await (const piece of recording.pieces()) pieces.push(piece);
  assert.deepEqual(joined(pieces), Float32Array.from(samples, (sample) => sample / 32768));
});

test("a wav file that was cut gives what there is, and says so", async () => {
  const whole = wavOf([asInt16(noise(1000))], 22050);
  const recording = (await readWav(whole.slice(0, 44 + 1001)))!;
  assert.equal(recording.length, 500);
  assert.match(recording.notes[0], /cut/);
  await assert.rejects(readWav(whole.slice(0, 44)), /no samples/);
});

test("compressed files say their rate", () => {
  const bytes = (...parts: (string | number[])[]) =>
    Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : part)));
  assert.equal(rateOf(bytes("fLaC", Array(14).fill(0), [0x03, 0xe8, 0x00, 0xf0])), 16000);
  assert.equal(rateOf(bytes("OggS", Array(24).fill(0), "OpusHead", Array(11).fill(0))), 48000);
  assert.equal(rateOf(bytes("OggS", Array(24).fill(0), "\x01vorbis", [0, 0, 0, 0, 1, 0x44, 0xac, 0, 0])), 44100);
  assert.equal(rateOf(bytes("ID3", [4, 0, 0, 0, 0, 0, 2, 9, 9], [0xff, 0xf3, 0x44, 0, 0])), 24000);
  assert.equal(rateOf(bytes("ID3", [4, 0, 0, 0, 0, 0, 2, 9, 9], [0xff, 0xf3, 0x48, 0, 0])), 16000);
  assert.equal(rateOf(bytes([0xff, 0xfb, 0x90, 0, 0])), 44100);
  assert.equal(rateOf(bytes([0xff, 0xf3, 0x84, 0, 0])), 24000);
  assert.equal(rateOf(bytes("no audio at all")), undefined);
});

test("a spectrogram shows a tone at its frequency, however it comes", () => {
  const samples = sine(24000, 3000, 24000);
  const pictures = [[24000], [7, 5000, 18993]].map((sizes) => {
    const spectrogram = new Spectrogram(24000, 24000);
    let start = 0;
    for (const size of sizes) spectrogram.push(samples.subarray(start, (start += size)));
    return spectrogram.finish();
  });
  assert.deepEqual(pictures[0], pictures[1]);
  const [{ columns, rows, levels }] = pictures;
  const middle = levels.subarray(Math.floor(columns / 2) * rows, Math.floor(columns / 2 + 1) * rows);
  assert.equal(middle.indexOf(255) * (24000 / 512), 3000);
});

test("the transform is that of its definition", () => {
  const [real, imaginary] = [Float64Array.from(noise(16)), new Float64Array(16)];
  const right = Array.from({ length: 16 }, (_, k) => real.reduce((sum, x, t) => sum + x * Math.cos((2 * Math.PI * k * t) / 16), 0));
  fourier(real, imaginary);
  right.forEach((value, k) => assert.ok(Math.abs(value - real[k]) < 1e-9));
});
