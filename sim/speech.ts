/**
 * Turns a text into a list of sounds with lengths; `voice.ts` turns these into samples. Deterministic.
 *
 * Latin letters become English-like sounds, digits their English names, and every other letter a syllable of its own
 * with one of four tones, as in Chinese.
 */
import { CLOSURE, digitToPhones, letterToSyllable, lettersToPhones } from "./phones.ts";
import type { Formants, Phone, Syllable, Tone } from "./phones.ts";
import { SAMPLE_RATE_HZ } from "./wav.ts";

export interface Sound {
  readonly samples: number;
  readonly formants: Formants;
  /** 0 to 1: the loudness of the voice, and of the hiss around `hissHz`. */
  readonly voiced: number;
  readonly hiss: number;
  readonly hissHz: number;
  /** Pitch at both ends, as a factor of the speaker's own. */
  readonly from: number;
  readonly to: number;
}

export interface Speech {
  readonly sounds: readonly Sound[];
  readonly samples: number;
}

const PAUSES_MS: readonly (readonly [RegExp, number])[] = [
  [/^[.!?。！？]$/, 340],
  [/\n/, 260],
  [/^[;:；：]$/, 230],
  [/^[,，]$/, 190],
  [/^、$/, 150],
  [/^\s+$/, 18],
];
/** A pause at least this long starts a new sentence and resets the pitch. */
const SENTENCE_PAUSE_MS = 230;
/** Even an empty text has this length, so that no sound file is empty. */
const SHORTEST_MS = 120;
/** The pitch falls by this much with each word, and rises at the end of a question. */
const FIRST_PITCH = 1.06;
const DECLINE_PER_WORD = 0.0035;
const LOWEST_PITCH = 0.84;
const RISING_SOUNDS = 5;
const RISE_PER_SOUND = 0.09;
const LEVEL: Tone = [1, 1];

/** Words whose phones are cached: texts repeat words, and computing a length must be cheap. */
const WORDS_KEPT_MAX = 20_000;
const words = new Map<string, Syllable>();

/** Lists the sounds of a text; `speed` above 1 shortens them all. */
export function planSpeech(text: string, speed: number): Speech {
  const sounds: Sound[] = [];
  let pitch = FIRST_PITCH;
  for (const word of wordsOf(text)) {
    const pause = pauseMs(word);
    if (pause !== null) {
      if (/[?？]/.test(word)) riseAtEnd(sounds);
      if (pause >= SENTENCE_PAUSE_MS) pitch = FIRST_PITCH;
      sounds.push(soundOf({ ...CLOSURE, ms: pause }, speed, pitch, pitch));
    } else {
      sounds.push(...sung(syllableOf(word), speed, pitch));
      pitch = Math.max(LOWEST_PITCH, pitch - DECLINE_PER_WORD);
    }
  }
  sounds.push(soundOf({ ...CLOSURE, ms: SHORTEST_MS }, speed, 1, 1));
  return { sounds, samples: sounds.reduce((sum, sound) => sum + sound.samples, 0) };
}

/** The beginning of a speech, up to `samples`. */
export function openingOf(speech: Speech, samples: number): Speech {
  let sum = 0;
  const sounds = speech.sounds.filter((sound) => (sum += sound.samples) <= samples);
  return { sounds, samples: sounds.reduce((total, sound) => total + sound.samples, 0) };
}

/** The length of what `planSpeech` would return, without building the list. */
export function speechSamples(text: string, speed: number): number {
  let samples = samplesOf(SHORTEST_MS, speed);
  for (const word of wordsOf(text)) {
    const pause = pauseMs(word);
    if (pause !== null) samples += samplesOf(pause, speed);
    else for (const { ms } of syllableOf(word).phones) samples += samplesOf(ms, speed);
  }
  return samples;
}

function wordsOf(text: string): readonly string[] {
  return text.toLowerCase().match(/[a-z']+|\d|\p{L}|\s+|[^\s]/gu) ?? [];
}

function pauseMs(word: string): number | null {
  if (/^[\p{L}\d']/u.test(word)) return null;
  return PAUSES_MS.find(([pattern]) => pattern.test(word))?.[1] ?? null;
}

/** The sounds of a word, digit or letter; anything else is silent. */
function syllableOf(word: string): Syllable {
  const kept = words.get(word);
  if (kept) return kept;
  if (words.size >= WORDS_KEPT_MAX) words.clear();
  const made = spell(word);
  words.set(word, made);
  return made;
}

function spell(word: string): Syllable {
  if (/^[a-z']/.test(word)) return { phones: lettersToPhones(word), tone: LEVEL };
  if (/^\d/.test(word)) return { phones: digitToPhones(Number(word)), tone: LEVEL };
  return /^\p{L}/u.test(word) ? letterToSyllable(word) : { phones: [], tone: LEVEL };
}

/** Applies a tone to phones. */
function sung({ phones, tone: [start, end] }: Syllable, speed: number, pitch: number): Sound[] {
  const at = (i: number): number => pitch * (start + ((end - start) * i) / phones.length);
  return phones.map((phone, i) => soundOf(phone, speed, at(i), at(i + 1)));
}

function soundOf(phone: Phone, speed: number, from: number, to: number): Sound {
  const samples = samplesOf(phone.ms, speed);
  const { formants, voiced, hiss = 0, hissHz = 1000 } = phone;
  return { samples, formants, voiced, hiss, hissHz, from, to };
}

function samplesOf(ms: number, speed: number): number {
  return Math.max(1, Math.round((ms * SAMPLE_RATE_HZ) / 1000 / speed));
}

function riseAtEnd(sounds: Sound[]): void {
  const start = Math.max(0, sounds.length - RISING_SOUNDS);
  sounds.splice(
    start,
    RISING_SOUNDS,
    ...sounds.slice(start).map((sound, i) => ({
      ...sound,
      from: sound.from * (1 + RISE_PER_SOUND * i),
      to: sound.to * (1 + RISE_PER_SOUND * (i + 1)),
    })),
  );
}
