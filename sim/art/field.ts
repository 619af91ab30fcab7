/**
 * A field: a smooth function sampled every few pixels and interpolated row by row. Noise is the most expensive part of
 * a scene; coarse sampling costs a sixteenth.
 */
export interface Field {
  readonly width: number;
  readonly step: number;
  readonly cols: number;
  readonly rows: number;
  readonly samples: Float32Array;
}

/** The smallest sampling step in pixels, so that the cost of small pictures shrinks with their size. */
const STEP_LEAST = 2.5;

/** Samples `f` (in pixels) over an area; `step` scales with the size, so that large areas stay cheap. */
export function fieldOf(width: number, height: number, step: number, f: (x: number, y: number) => number): Field {
  const pace = Math.max(STEP_LEAST, step);
  const cols = Math.ceil(width / pace) + 2;
  const rows = Math.ceil(height / pace) + 2;
  const samples = new Float32Array(cols * rows);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) samples[r * cols + c] = f(c * pace, r * pace);
  }
  return { width, step: pace, cols, rows, samples };
}

/** Writes the interpolated row `y` into `out` (one value per pixel). */
export function readRow(field: Field, y: number, out: Float32Array): void {
  const { width, step, cols, rows, samples } = field;
  const at = Math.min(rows - 1.001, Math.max(0, y / step));
  const r = Math.floor(at);
  const fy = at - r;
  const upper = r * cols;
  const lower = upper + cols;
  for (let x = 0; x < width; x++) {
    const ax = x / step;
    const c = Math.floor(ax);
    const fx = ax - c;
    const left = samples[upper + c]! + (samples[lower + c]! - samples[upper + c]!) * fy;
    const right = samples[upper + c + 1]! + (samples[lower + c + 1]! - samples[upper + c + 1]!) * fy;
    out[x] = left + (right - left) * fx;
  }
}
