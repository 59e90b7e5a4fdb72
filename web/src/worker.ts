// The codec, apart from the page so that it stays alive.

import * as ort from "onnxruntime-web/wasm";

import { BitstreamError } from "./bitstream.ts";
import { Codec, type Encoded, type ModelFiles } from "./codec.ts";
import type { Kind, Provider, Reply, Request, Work, Source } from "./messages.ts";
import { PageError, type Recording, recordingOf } from "./recording.ts";
import { Spectrogram } from "./spectrogram.ts";
import { readWav, wavOf } from "./wav.ts";

class Stopped extends Error {}

const MODEL = ["codec.json", "encoder.onnx", "decoder.onnx", "weights.bin"];

let codec: Codec;
let files: ModelFiles;
let stopping = false;

const work: { [K in Kind]: (argument: Work[K]["argument"]) => Promise<Work[K]["result"]> } = {
  async load({ base, provider }) {
    const received = new Map<string, number>();
    const count = (name: string) => (bytes: number) => {
      received.set(name, bytes);
      reply({ kind: "progress", done: [...received.values()].reduce((a, b) => a + b) });
    };
    const [runtime, description, encoder, decoder, weights] = await Promise.all([
      fetched(new URL("runtime.wasm", self.location.href), count("runtime")),
      ...MODEL.map((name) => fetched(new URL(`model/${name}`, base), count(name))),
    ]);
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = 1; // more need headers that static pages do not have
    ort.env.wasm.wasmBinary = runtime.buffer as ArrayBuffer;
    files = { description: JSON.parse(new TextDecoder().decode(description)), encoder, decoder, weights };
    codec = await loaded(provider);
    if (provider === "wasm") files.encoder = files.decoder = files.weights = new Uint8Array(); // they are not needed again
    return { codebooks: codec.description.codebook_sizes.length, name: codec.description.name };
  },

  async encode(source) {
    const recording = await recordingFrom(source);
    const { sample_rate: rate } = codec.description;
    const spectrogram = new Spectrogram((recording.length * rate) / recording.sampleRate, rate);
    const encoded = await codec.encode(recording, progress, (samples) => spectrogram.push(samples));
    const seconds = recording.length / recording.sampleRate;
    return { encoded, seconds, notes: recording.notes, picture: spectrogram.finish() };
  },

  async decode(file: Encoded) {
    const { sampleRate, originalRate } = file.header;
    const spectrogram = new Spectrogram((Number(file.originalSamples) * sampleRate) / originalRate, sampleRate);
    const pieces = await codec.decode(file, progress, (samples) => spectrogram.push(samples));
    return { wav: wavOf(pieces, originalRate), picture: spectrogram.finish() };
  },

  async compare(source) {
    const processor = await loaded("wasm");
    const recording = await recordingFrom(source);
    const [own, right] = [await codec.encode(recording, progress), await processor.encode(recording, progress)];
    let [equal, all] = [0, 0];
    right.codes.forEach((book, i) => {
      all += book.length;
      equal += book.filter((code, frame) => code === own.codes[i][frame]).length;
    });
    return equal / all;
  },
};

function loaded(provider: Provider): Promise<Codec> {
  return Codec.load(ort, files, [provider]);
}

async function recordingFrom(source: Source): Promise<Recording> {
  if ("samples" in source) return recordingOf(source.samples, source.sampleRate, source.notes);
  const recording = await readWav(source.file);
  if (!recording) throw new PageError("This wav file has samples of an unknown kind.");
  return recording;
}

/** The bytes of a file; `count` is told how many there are, as they come. */
async function fetched(url: URL, count: (bytes: number) => void): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch {
    throw new PageError("The model cannot be loaded: there is no connection, and it is not kept yet. Try again later.");
  }
  if (!response.ok || !response.body) throw new PageError(`The page is incomplete: ${url.pathname} is missing.`);
  const reader = response.body.getReader();
  const pieces: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    pieces.push(value);
    size += value.length;
    count(size);
  }
  return new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
}

async function progress(done: number): Promise<void> {
  reply({ kind: "progress", done });
  await new Promise((resolve) => setTimeout(resolve)); // for a message to stop
  if (stopping) throw new Stopped();
}

function reply(message: Reply): void {
  self.postMessage(message);
}

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  if (data.kind === "stop") {
    stopping = true;
    return;
  }
  stopping = false;
  try {
    const value = await (work[data.kind] as (argument: unknown) => Promise<unknown>)(data.argument);
    reply({ kind: "result", value });
  } catch (error) {
    if (error instanceof Stopped) reply({ kind: "stopped" });
    else {
      const expected = error instanceof PageError || error instanceof BitstreamError;
      reply({ kind: "error", message: error instanceof Error ? error.message : String(error), expected });
    }
  }
};
