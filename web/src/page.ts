// The page: what its buttons do, and what it shows.

import { type Header, readEsd, writeEsd } from "./bitstream.ts";
import { sourceOf } from "./audio-file.ts";
import { CodecWorker, Stopped } from "./client.ts";
import type { Encoded } from "./codec.ts";
import { keepFiles } from "./offline.ts";
import { MOST_SECONDS, Recorder } from "./recorder.ts";
import { draw, type Picture } from "./spectrogram.ts";

const FIRST_CHOICE = 3; // codebooks
const WIDEST_AGREEMENT = 0.999; // of codes, with which the graphics card is trusted

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const [record, stop, books, gpu] = [element("record"), element("stop"), element<HTMLInputElement>("books"), element<HTMLInputElement>("gpu")];
const file = element<HTMLInputElement>("file");

let worker = new CodecWorker("wasm");
let shown: { encoded: Encoded; name: string; seconds: number; originalBytes?: number } | undefined;
let recorder: Recorder | undefined;
let running: Promise<void> = Promise.resolve();
let wanted = FIRST_CHOICE; // codebooks
let newest = 0; // piece of work; older ones are given up
let kept: Promise<boolean>;

// ---- one piece of work at a time ------------------------------------------------------------------------------------

/** Give up what is being done, then do `work`; its errors are shown. */
function run(work: () => Promise<void>): void {
  const own = ++newest;
  worker.stop();
  say("status", "");
  running = running.then(async () => {
    if (own !== newest) return;
    say("error", "");
    try {
      await work();
    } catch (error) {
      say("status", error instanceof Stopped ? "Stopped." : "");
      if (!(error instanceof Stopped)) say("error", error instanceof Error ? error.message : String(error));
    }
    element("work").hidden = true;
  });
}

function say(where: "status" | "error", text: string): void {
  element(where).textContent = text;
}

/** Show a bar; gives the function that moves it, from 0 to 1. */
function working(what: string, known = true): (done: number) => void {
  say("status", what);
  const bar = element<HTMLProgressElement>("progress");
  bar.setAttribute("aria-label", what);
  element("work").hidden = false;
  stop.hidden = !known;
  bar.removeAttribute("value");
  return (done) => (bar.value = done);
}

async function ready(): Promise<void> {
  const offline = await kept;
  const bar = working("Loading the model…", false);
  const about = await worker.load((megabytes) => {
    bar(0);
    element("progress").removeAttribute("value");
    say("status", `Loading the model: ${Math.floor(megabytes)} MB`);
  });
  books.max = String(about.codebooks);
  element("about").textContent =
    `Model: ${about.name}. ` + (offline ? "The page now works without a connection." : "The page needs a connection when it is loaded again.");
}

// ---- audio in, codes out --------------------------------------------------------------------------------------------

async function encode(blob: Blob, name: string): Promise<void> {
  await ready();
  const source = await sourceOf(blob);
  const { encoded, seconds, notes, picture } = await worker.ask("encode", source, working("Encoding…"));
  if (encoded.codes[0].length === 0) throw new Error("The recording has no samples.");
  shown = { encoded, name: stem(name), seconds, originalBytes: blob.size };
  show("original", blob, name, picture, `${number(blob.size)} bytes`);
  offer(encoded.header, wanted);
  await decode(notes);
}

async function open(blob: Blob, name: string): Promise<void> {
  const encoded = readEsd(new Uint8Array(await blob.arrayBuffer()));
  await ready();
  shown = { encoded, name: stem(name), seconds: Number(encoded.originalSamples) / encoded.header.originalRate };
  element("original").hidden = true;
  offer(encoded.header, encoded.header.bits.length);
  await decode([]);
}

/** Decode what is shown, with as many codebooks as are chosen. */
async function decode(notes: string[]): Promise<void> {
  const { encoded, name } = shown!;
  const n = Number(books.value);
  showSize();
  if (!worker.isLoaded) await ready(); // it failed before
  const { wav, picture } = await worker.ask("decode", firstBooks(encoded, n), working("Decoding…"));
  show("decoded", wav, `${name}-${n}.wav`, picture, `from ${n} codebook${n > 1 ? "s" : ""}`);
  say("status", ["Done.", ...notes].join(" "));
}

function firstBooks({ header, codes, originalSamples }: Encoded, n: number): Encoded {
  return { header: { ...header, bits: header.bits.slice(0, n) }, codes: codes.slice(0, n), originalSamples };
}

// ---- what is shown --------------------------------------------------------------------------------------------------

function offer(header: Header, n: number): void {
  books.max = String(header.bits.length);
  books.value = String(Math.min(n, header.bits.length));
  element("coded").hidden = false;
}

function showSize(): void {
  const { encoded, name, seconds, originalBytes } = shown!;
  const n = Number(books.value);
  const bytes = writeEsd(firstBooks(encoded, n));
  element("chosen").textContent = `${n} of ${books.max}`;
  books.setAttribute("aria-valuetext", `${n} of ${books.max} codebooks`);
  const original = originalBytes ? ` The recording has ${number(originalBytes)} bytes.` : "";
  element("size").textContent =
    `${number(bytes.length)} bytes for ${seconds.toFixed(1)} s: ${number((8 * bytes.length) / seconds)} bit/s, headers and checksums included.${original}`;
  link(element("esd"), new Blob([bytes as BlobPart]), `${name}.esd`);
}

function show(id: "original" | "decoded", blob: Blob, name: string, picture: Picture, about: string): void {
  const figure = element(id);
  figure.hidden = false;
  element("heard").hidden = false;
  figure.querySelector("span")!.textContent = about;
  element("axes").textContent = `Time runs to the right, frequency from 0 to ${picture.highest / 1000} kHz upwards.`;
  const canvas = figure.querySelector("canvas")!;
  draw(picture, canvas);
  const kind = id === "original" ? "original" : "decoded audio";
  canvas.setAttribute("aria-label", `Spectrogram of the ${kind}: ${picture.seconds.toFixed(1)} s, 0 to ${picture.highest / 1000} kHz`);
  figure.querySelector("audio")!.src = link(figure.querySelector("a")!, blob, name);
}

/** Let a link save `blob`; gives its address. */
function link(anchor: HTMLAnchorElement, blob: Blob, name: string): string {
  if (anchor.href) URL.revokeObjectURL(anchor.href);
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  return anchor.href;
}

function stem(name: string): string {
  return name.replace(/\.[^.]*$/, "") || name;
}

function number(value: number): string {
  return Math.round(value).toLocaleString("en");
}

// ---- buttons --------------------------------------------------------------------------------------------------------

function take(blob: Blob, name: string): void {
  run(() => (/\.esd$/i.test(name) ? open(blob, name) : encode(blob, name)));
}

async function toggleRecording(): Promise<void> {
  const current = recorder;
  if (current) {
    recorder = undefined;
    record.textContent = "Record";
    record.classList.remove("on");
    return encode(await current.finish(), "recording.wav");
  }
  let told = -1;
  recorder = await Recorder.start((seconds) => {
    if (Math.floor(seconds) === told) return;
    told = Math.floor(seconds);
    record.textContent = `Stop recording (${told} s)`;
    if (seconds >= MOST_SECONDS && recorder) run(toggleRecording);
  });
  record.textContent = "Stop recording";
  record.classList.add("on");
  say("status", "Recording. Press the button again to stop.");
}

/** Compute on the graphics card if its codes are those of the processor. */
async function chooseProvider(): Promise<void> {
  if (!gpu.checked) {
    worker.close();
    worker = new CodecWorker("wasm");
    return ready();
  }
  const [processor, card] = [worker, new CodecWorker("webgpu")];
  try {
    worker = card;
    await ready();
    const response = await fetch("sample.flac");
    const agreement = await card.ask("compare", await sourceOf(await response.blob()), working("Comparing the graphics card with the processor…"));
    if (agreement < WIDEST_AGREEMENT) {
      throw new Error(`It gives ${((1 - agreement) * 100).toFixed(1)} % other codes than the processor.`);
    }
    processor.close();
    say("status", "The graphics card gives the codes of the processor, and is used from now on.");
  } catch (error) {
    gpu.checked = false;
    card.close();
    worker = processor;
    if (error instanceof Stopped) throw error;
    throw new Error(`The graphics card is not used. ${error instanceof Error ? error.message : error}`);
  }
}

function setUp(): void {
  record.onclick = () => run(toggleRecording);
  element("open").onclick = () => file.click();
  file.onchange = () => {
    const [chosen] = file.files ?? [];
    if (chosen) take(chosen, chosen.name);
    file.value = ""; // the same file may be chosen again
  };
  element("sample").onclick = () =>
    run(async () => encode(await (await fetch("sample.flac")).blob(), "sample.flac"));
  stop.onclick = () => worker.stop();
  books.oninput = showSize;
  books.onchange = () => {
    wanted = Number(books.value);
    run(() => decode([]));
  };
  gpu.onchange = () => run(chooseProvider);
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  };
  document.ondragleave = () => document.body.classList.remove("dropping");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [dropped] = event.dataTransfer?.files ?? [];
    if (dropped) take(dropped, dropped.name);
  };
}

async function offerGpu(): Promise<void> {
  type Gpu = { requestAdapter(): Promise<unknown> };
  const adapter = await (navigator as Navigator & { gpu?: Gpu }).gpu?.requestAdapter().catch(() => null);
  element("gpu-choice").hidden = !adapter;
}

setUp();
kept = keepFiles();
run(async () => {
  await ready();
  say("status", "Ready.");
});
void offerGpu();
