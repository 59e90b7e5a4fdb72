// In the audio thread: passes on what the microphone gives, as mono.

class Microphone extends AudioWorkletProcessor {
  process([channels]: Float32Array[][]): boolean {
    if (channels.length) {
      this.port.postMessage(channels[0].map((_, t) => channels.reduce((sum, c) => sum + c[t], 0) / channels.length));
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);

// what the audio thread has, and no library of TypeScript's describes
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: typeof AudioWorkletProcessor): void;
