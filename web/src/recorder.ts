// A recording from the microphone, without the browser's own coding, as a wav file.

import { PageError } from "./recording.ts";
import { asInt16, wavOf } from "./wav.ts";

export const MOST_SECONDS = 600;

export class Recorder {
  private readonly pieces: Int16Array[] = [];

  private constructor(
    private readonly context: AudioContext,
    private readonly stream: MediaStream,
  ) {}

  /** Ask for the microphone and begin; `seconds` is told how long it has run. */
  static async start(seconds: (sum: number) => void): Promise<Recorder> {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new PageError("Browsers record on https pages and on this machine's own pages alone. Open a file instead.");
    }
    let stream: MediaStream;
    try {
      const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new PageError(sentenceOf(error));
    }
    const { sampleRate } = stream.getAudioTracks()[0].getSettings(); // where the browser says it
    const context = new AudioContext({ sampleRate }); // of the microphone, so that nothing is resampled
    const recorder = new Recorder(context, stream);
    await context.resume();
    await context.audioWorklet.addModule(new URL("microphone.js", document.baseURI).href);
    const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
    let samples = 0;
    node.port.onmessage = ({ data }: MessageEvent<Float32Array>) => {
      recorder.pieces.push(asInt16(data));
      samples += data.length;
      seconds(samples / context.sampleRate);
    };
    context.createMediaStreamSource(stream).connect(node);
    return recorder;
  }

  async finish(): Promise<Blob> {
    this.stream.getTracks().forEach((track) => track.stop());
    const rate = this.context.sampleRate;
    await this.context.close();
    if (this.pieces.length === 0) throw new PageError("The microphone gave nothing. Try again, or choose another one.");
    return wavOf(this.pieces, rate);
  }
}

function sentenceOf(error: unknown): string {
  const name = error instanceof Error ? error.name : "";
  if (name === "NotAllowedError") return "This page may not use the microphone. Allow it in the browser's settings, or open a file.";
  if (name === "NotFoundError") return "There is no microphone. Connect one, or open a file.";
  if (name === "NotReadableError") return "The microphone is in use by another program. Close that, or open a file.";
  return `The microphone cannot be used (${name || error}). Open a file instead.`;
}
