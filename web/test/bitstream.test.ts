import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { BitstreamError, type EsdFile, numFrames, readEsd, shownName, writeEsd } from "../src/bitstream.ts";

const DOCUMENT = readFileSync(process.env.FORMAT ?? "../docs/format.md", "utf8");
const EXAMPLE = Buffer.from(/```hex\n([^`]*)```/.exec(DOCUMENT)![1].replace(/\s/g, ""), "hex");

function fileOf(frames: number, bits: number[]): EsdFile {
  const codes = bits.map((b, book) => Uint32Array.from({ length: frames }, (_, i) => (i * 7919 + book * 104729) % 2 ** b));
  const fingerprint = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
  const header = { model: "m", fingerprint, sampleRate: 24000, hopLength: 960, originalRate: 24000, bits, blockFrames: 32, gain: -325 };
  return { header, codes, originalSamples: BigInt(frames * 960) };
}

test("the example of the document is read, and written again byte by byte", () => {
  const file = readEsd(EXAMPLE);
  assert.equal(file.header.model, "25hz_nano");
  assert.equal(file.header.gain, -325);
  assert.deepEqual(file.codes.map((book) => [...book]), [[5000, 16383], [0, 1], [1023, 512]]);
  assert.equal(file.originalSamples, 1000n);
  assert.deepEqual(Buffer.from(writeEsd(file)), EXAMPLE);
});

for (const frames of [0, 1, 31, 32, 33, 100]) {
  test(`${frames} frames come back`, () => {
    const file = fileOf(frames, [1, 24, 14, 10]);
    assert.deepEqual(readEsd(writeEsd(file)), file);
  });
}

test("every byte that is changed, and every cut, is noticed", () => {
  const bytes = writeEsd(fileOf(40, [14, 10]));
  for (let i = 0; i < bytes.length; i++) {
    const damaged = bytes.slice();
    damaged[i] ^= 1;
    assert.throws(() => readEsd(damaged), BitstreamError, `byte ${i}`);
    assert.throws(() => readEsd(bytes.slice(0, i)), BitstreamError, `cut at ${i}`);
  }
});

test("a block that is damaged is named with its time", () => {
  const bytes = writeEsd(fileOf(40, [14, 10]));
  bytes[bytes.length - 20] ^= 1;
  assert.throws(() => readEsd(bytes), /Block 1 \(1\.28 to 1\.60 s\) is damaged/);
});

test("what no file can hold is refused", () => {
  const file = fileOf(2, [10]);
  assert.throws(() => writeEsd({ ...file, header: { ...file.header, gain: 6001 } }), /gain/);
  assert.throws(() => writeEsd({ ...file, originalSamples: 1n }), /frames/);
  assert.throws(() => writeEsd({ ...file, codes: [Uint32Array.of(0, 1024)] }), /below 1024/);
});

test("frames are counted exactly, however long a recording is", () => {
  const { header } = fileOf(0, [10]);
  assert.equal(numFrames({ ...header, originalRate: 7 * 4001 }, 2n ** 63n), 8233095330501996n);
});

test("a name is shown without control characters", () => {
  assert.equal(shownName("a\u001b[2Jb"), "a�[2Jb");
});
