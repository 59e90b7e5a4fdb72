// Long signals in windows that overlap by what the network looks at, so that the values are those of one pass.

/** Frames before and after a frame that its value depends on. */
export interface Context {
  left: number;
  right: number;
}

/** Frames `start` to below `stop` are computed from frames `from` to below `to`. */
export interface Window {
  start: number;
  stop: number;
  from: number;
  to: number;
}

/** Windows that give `frames` frames, at most `most` each. What has no context is the beginning or the end. */
export function* windows(frames: number, context: Context, most: number): Generator<Window> {
  for (let start = 0; start < frames; start += most) {
    const stop = Math.min(start + most, frames);
    yield { start, stop, from: Math.max(0, start - context.left), to: Math.min(frames, stop + context.right) };
  }
}
