/**
 * A voice: turns sounds into samples. A pulse train models the vocal cords, three resonators in series the mouth, and a
 * noise band the consonants. Deterministic for a speech and a speaker's name.
 */
import { hash, randomFrom } from "./art/noise.ts";
import type { Speech } from "./speech.ts";
import { SAMPLE_RATE_HZ } from "./wav.ts";

/** Formants and pitch are updated this often; finer steps are inaudible. */
const STEP_SAMPLES = 48;
/** A formant glides to its value over this share of a sound. */
const GLIDE = 0.4;
const BANDWIDTH_HZ = [70, 100, 150] as const;
/** Two resonances that hardly move during speech; without them a voice sounds muffled. */
const FIXED_HZ = [3450, 4350] as const;
const FIXED_BANDWIDTH_HZ = 260;
const LOUDNESS = 9_000;
const GAIN_SMOOTHING = 0.012;
const OPEN_PHASE = 0.62;
const HISS_INPUT = 0.16;
const HISS_GAIN = 0.55;

interface Speaker {
  readonly pitchHz: number;
  readonly size: number;
  readonly breath: number;
}

/** The speaker depends only on the name; names that suggest a woman or a man get such a voice. */
function speakerOf(name: string): Speaker {
  const random = randomFrom(hash(`voice ${name}`));
  const woman = /女|female|woman|girl/i.test(name);
  const man = !woman && /男|\bmale|\bman|boy/i.test(name);
  const share = woman ? 0.6 + 0.4 * random() : man ? 0.25 * random() : random();
  return {
    pitchHz: 96 + 130 * share,
    size: 0.93 + 0.2 * share + 0.05 * random(),
    breath: 0.015 + 0.03 * random(),
  };
}

/** A two-pole resonator with unit gain at zero frequency. */
class Resonator {
  #a = 1;
  #b = 0;
  #c = 0;
  #y1 = 0;
  #y2 = 0;

  tune(hz: number, bandwidthHz: number): void {
    const r = Math.exp((-Math.PI * bandwidthHz) / SAMPLE_RATE_HZ);
    this.#c = -r * r;
    this.#b = 2 * r * Math.cos((2 * Math.PI * Math.min(hz, SAMPLE_RATE_HZ * 0.45)) / SAMPLE_RATE_HZ);
    this.#a = 1 - this.#b - this.#c;
  }

  pass(x: number): number {
    const y = this.#a * x + this.#b * this.#y1 + this.#c * this.#y2;
    this.#y2 = this.#y1;
    this.#y1 = y;
    return y;
  }

  /** The same poles with a gain of about one at their own frequency, for shaping noise. */
  band(x: number, width: number): number {
    const y = width * x + this.#b * this.#y1 + this.#c * this.#y2;
    const out = y - this.#y2;
    this.#y2 = this.#y1;
    this.#y1 = y;
    return out;
  }
}

/** The airflow through the vocal cords at a phase of their cycle, 0 to 1. */
function airflow(phase: number): number {
  if (phase >= OPEN_PHASE) return 0;
  const p = phase / OPEN_PHASE;
  return p < 0.66 ? 0.5 - 0.5 * Math.cos((Math.PI * p) / 0.66) : Math.cos((Math.PI * (p - 0.66)) / 0.68);
}

/** Returns signed 16-bit mono samples at 24 kHz. */
export function speak(speech: Speech, name: string): Int16Array {
  const speaker = speakerOf(name);
  const random = randomFrom(hash(name) ^ speech.samples);
  const out = new Int16Array(speech.samples);
  const mouth = [new Resonator(), new Resonator(), new Resonator()] as const;
  const teeth = new Resonator();
  const fixed = FIXED_HZ.map((hz) => {
    const resonator = new Resonator();
    resonator.tune(hz * speaker.size, FIXED_BANDWIDTH_HZ);
    return resonator;
  });
  const at = [500, 1500, 2500];
  let n = 0;
  let phase = 0;
  let flow = 0;
  let voiced = 0;
  let hiss = 0;
  for (const sound of speech.sounds) {
    const start = [...at];
    for (let i = 0; i < sound.samples; i++) {
      const t = i / sound.samples;
      if (i % STEP_SAMPLES === 0) {
        const k = Math.min(1, t / GLIDE);
        for (const [f, resonator] of mouth.entries()) {
          const [old = 0, wanted = 0] = [start[f], sound.formants[f]];
          at[f] = old + (wanted - old) * k;
          resonator.tune(at[f] * speaker.size, BANDWIDTH_HZ[f] ?? 0);
        }
        teeth.tune(sound.hissHz, sound.hissHz * 0.3);
      }
      voiced += (sound.voiced - voiced) * GAIN_SMOOTHING;
      hiss += (sound.hiss - hiss) * GAIN_SMOOTHING * 2;
      const tremble = 1 + 0.012 * Math.sin((2 * Math.PI * 5.3 * n) / SAMPLE_RATE_HZ);
      phase += (speaker.pitchHz * tremble * (sound.from + (sound.to - sound.from) * t)) / SAMPLE_RATE_HZ;
      if (phase >= 1) phase -= 1;
      const air = airflow(phase);
      const noise = random() * 2 - 1;
      let tone = (air - flow) * 9 + noise * speaker.breath * air;
      flow = air;
      for (const resonator of mouth) tone = resonator.pass(tone);
      for (const resonator of fixed) tone = resonator.pass(tone);
      const sample = tone * voiced + teeth.band(noise, HISS_INPUT) * hiss * HISS_GAIN;
      out[n++] = Math.round(32_000 * Math.tanh((sample * LOUDNESS) / 32_000));
    }
  }
  return out;
}
