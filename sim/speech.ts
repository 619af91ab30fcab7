/**
 * Speech: what a text sounds like, as a list of sounds with lengths. Pure, and cheap enough to
 * ask for the length alone; `voice.ts` turns the list into samples.
 *
 * Latin letters become English-like sounds, digits their English names, every other letter a
 * syllable of its own with one of four tones, as in Chinese.
 */
import { CLOSURE, digitToPhones, letterToSyllable, lettersToPhones } from "./phones.ts";
import type { Formants, Phone, Tone } from "./phones.ts";
import { SAMPLE_RATE_HZ } from "./wav.ts";

export interface Sound {
  readonly samples: number;
  readonly formants: Formants;
  /** 0 to 1: how loud the voice is, and how loud the hiss around `hissHz`. */
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
/** From this pause on a new sentence begins, and with it the pitch. */
const SENTENCE_PAUSE_MS = 230;
/** Even an empty text is a breath long, so that no sound file is empty. */
const SHORTEST_MS = 120;
/** The voice falls by this much with each word, and rises at a question's end. */
const FIRST_PITCH = 1.06;
const DECLINE_PER_WORD = 0.0035;
const LOWEST_PITCH = 0.84;
const RISING_SOUNDS = 5;
const RISE_PER_SOUND = 0.09;
const LEVEL: Tone = [1, 1];

/** Lists the sounds of a text; `speed` above 1 shortens them all. */
export function planSpeech(text: string, speed: number): Speech {
  const sounds: Sound[] = [];
  let pitch = FIRST_PITCH;
  for (const word of text.toLowerCase().match(/[a-z']+|\d|\p{L}|\s+|[^\s]/gu) ?? []) {
    const pause = PAUSES_MS.find(([pattern]) => pattern.test(word))?.[1];
    if (pause !== undefined) {
      if (/[?？]/.test(word)) riseAtEnd(sounds);
      if (pause >= SENTENCE_PAUSE_MS) pitch = FIRST_PITCH;
      sounds.push(soundOf({ ...CLOSURE, ms: pause }, speed, pitch, pitch));
    } else {
      sounds.push(...soundsOf(word, speed, pitch));
      pitch = Math.max(LOWEST_PITCH, pitch - DECLINE_PER_WORD);
    }
  }
  sounds.push(soundOf({ ...CLOSURE, ms: SHORTEST_MS }, speed, 1, 1));
  return { sounds, samples: sounds.reduce((sum, sound) => sum + sound.samples, 0) };
}

/** The sounds of one word, digit or letter; of anything else, none. */
function soundsOf(word: string, speed: number, pitch: number): Sound[] {
  if (/^[a-z']/.test(word)) return sung(lettersToPhones(word), LEVEL, speed, pitch);
  if (/^\d/.test(word)) return sung(digitToPhones(Number(word)), LEVEL, speed, pitch);
  if (!/^\p{L}/u.test(word)) return [];
  const { phones, tone } = letterToSyllable(word);
  return sung(phones, tone, speed, pitch);
}

/** Lays a tone over phones. */
function sung(phones: readonly Phone[], [start, end]: Tone, speed: number, pitch: number): Sound[] {
  const at = (i: number): number => pitch * (start + ((end - start) * i) / phones.length);
  return phones.map((phone, i) => soundOf(phone, speed, at(i), at(i + 1)));
}

function soundOf(phone: Phone, speed: number, from: number, to: number): Sound {
  const samples = Math.max(1, Math.round((phone.ms * SAMPLE_RATE_HZ) / 1000 / speed));
  const { formants, voiced, hiss = 0, hissHz = 1000 } = phone;
  return { samples, formants, voiced, hiss, hissHz, from, to };
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
