// What Python's tests ask of the code of the page: `node command.mjs COMMAND FILE…`.

import { openAsBlob, readFileSync, writeFileSync } from "node:fs";

import * as ort from "onnxruntime-web/wasm";

import { readEsd, writeEsd } from "../src/bitstream.ts";
import { Codec } from "../src/codec.ts";
import { LoudnessMeter } from "../src/loudness.ts";
import { joined } from "../src/recording.ts";
import { resample } from "../src/resample.ts";
import { readWav, wavOf } from "../src/wav.ts";

const commands: Record<string, (...names: string[]) => Promise<void> | void> = {
  /** .esd files in hexadecimal; of each what is in it and the bytes that this is written to, or what is wrong. */
  esd(source, target) {
    const answers = JSON.parse(readFileSync(source, "utf8")).map((text: string) => {
      try {
        const file = readEsd(Buffer.from(text, "hex"));
        const { header, codes, originalSamples } = file;
        const plain = { ...header, fingerprint: Buffer.from(header.fingerprint).toString("hex") };
        const written = Buffer.from(writeEsd(file)).toString("hex");
        return { header: plain, codes: codes.map((book) => [...book]), samples: `${originalSamples}`, written };
      } catch (error) {
        return { error: (error as Error).message };
      }
    });
    writeFileSync(target, JSON.stringify(answers));
  },

  /** Raw float32 samples at other rates: [[source, target, from, to], …]. */
  resample(list) {
    for (const [source, target, from, to] of JSON.parse(readFileSync(list, "utf8"))) {
      const samples = new Float32Array(Uint8Array.from(readFileSync(source)).buffer);
      writeFileSync(target, new Uint8Array(resample(samples, from, to).buffer));
    }
  },

  /** Rates, gains and notes of wav files, whose samples go beside them as raw float32. */
  async wav(target, ...sources) {
    const answers = [];
    for (const source of sources) {
      const recording = (await readWav(await openAsBlob(source)))!;
      const meter = new LoudnessMeter(recording.sampleRate);
      const pieces: Float32Array[] = [];
      for await (const piece of recording.pieces()) {
        meter.push(piece);
        pieces.push(piece);
      }
      writeFileSync(`${source}.raw`, new Uint8Array(joined(pieces).buffer));
      answers.push({ rate: recording.sampleRate, gain: meter.gainDb, notes: recording.notes });
    }
    writeFileSync(target, JSON.stringify(answers));
  },

  /** A wav file as .esd, and that as wav. */
  async code(model, source, coded, decoded) {
    const codec = await load(model);
    const file = await codec.encode((await readWav(await openAsBlob(source)))!, go);
    writeFileSync(coded, writeEsd(file));
    const pieces = await codec.decode(file, go);
    writeFileSync(decoded, Buffer.from(await wavOf(pieces, file.header.originalRate).arrayBuffer()));
  },
};

async function go(): Promise<void> {}

async function load(folder: string): Promise<Codec> {
  ort.env.wasm.numThreads = 1;
  const [encoder, decoder, weights] = ["encoder.onnx", "decoder.onnx", "weights.bin"].map(
    (name) => new Uint8Array(readFileSync(`${folder}/${name}`)),
  );
  const description = JSON.parse(readFileSync(`${folder}/codec.json`, "utf8"));
  return Codec.load(ort, { description, encoder, decoder, weights }, ["wasm"]);
}

const [command, ...names] = process.argv.slice(2);
if (command) await commands[command](...names);
