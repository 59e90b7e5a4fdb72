// The worker as the page sees it: one piece of work at a time, with progress.

import type { Kind, Provider, Reply, Request, Work } from "./messages.ts";
import { PageError } from "./recording.ts";

/** The work was stopped by whoever uses the page. */
export class Stopped extends Error {}

export class CodecWorker {
  private worker: Worker | undefined;
  private loading: Promise<Work["load"]["result"]> | undefined;

  constructor(private readonly provider: Provider) {}

  /** Load the model, once; `megabytes` is told how much of it there is. */
  load(megabytes: (sum: number) => void): Promise<Work["load"]["result"]> {
    this.loading ??= this.ask("load", { base: document.baseURI, provider: this.provider }, (done) => megabytes(done / 1e6));
    this.loading.catch(() => this.close()); // the next attempt begins anew
    return this.loading;
  }

  ask<K extends Kind>(kind: K, argument: Work[K]["argument"], progress: (done: number) => void): Promise<Work[K]["result"]> {
    const worker = (this.worker ??= this.provider === "wasm" ? wasmWorker() : gpuWorker());
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }: MessageEvent<Reply>) => {
        if (data.kind === "progress") progress(data.done);
        else if (data.kind === "result") resolve(data.value as Work[K]["result"]);
        else if (data.kind === "stopped") reject(new Stopped());
        else reject(this.failure(data.message, data.expected));
      };
      worker.onerror = (event) => reject(this.failure(event.message ?? "the worker did not start", false));
      worker.postMessage({ kind, argument } as Request);
    });
  }

  get isLoaded(): boolean {
    return this.loading !== undefined;
  }

  /** Stop the work at hand as soon as its window is done. */
  stop(): void {
    this.worker?.postMessage({ kind: "stop" } satisfies Request);
  }

  close(): void {
    this.worker?.terminate();
    this.worker = this.loading = undefined;
  }

  private failure(message: string, expected: boolean): Error {
    if (expected) return new PageError(message);
    this.close(); // a runtime that failed may not work again
    if (/memory|allocation|out of bounds|bad_alloc/i.test(message)) {
      return new PageError("The browser has not enough memory for this. Close other pages, or take a shorter recording.");
    }
    return new PageError(`The codec failed in this browser: ${message}`);
  }
}

function wasmWorker(): Worker {
  return new Worker(new URL("worker.js", document.baseURI), { type: "module" });
}

function gpuWorker(): Worker {
  return new Worker(new URL("gpu/worker.js", document.baseURI), { type: "module" });
}
