/** Phones: the sounds of letters, digits and syllables. Pure tables. */
import { hash } from "./art/noise.ts";

export type Formants = readonly [number, number, number];

export interface Phone {
  readonly ms: number;
  readonly formants: Formants;
  readonly voiced: number;
  readonly hiss?: number;
  readonly hissHz?: number;
}

function vowel(ms: number, ...formants: Formants): Phone {
  return { ms, formants, voiced: 1 };
}
function hum(ms: number, voiced: number, ...formants: Formants): Phone {
  return { ms, formants, voiced };
}
function breath(ms: number, hiss: number, hissHz: number, voiced = 0): Phone {
  return { ms, formants: [320, 1500, 2500], voiced, hiss, hissHz };
}

const AH = vowel(95, 730, 1090, 2440);
const EH = vowel(80, 530, 1840, 2480);
const IH = vowel(70, 390, 1990, 2550);
const EE = vowel(105, 280, 2250, 2950);
const OH = vowel(100, 500, 880, 2410);
const OO = vowel(100, 310, 870, 2240);
const UH = vowel(70, 620, 1200, 2390);
const ER = vowel(95, 490, 1350, 1720);
export const CLOSURE: Phone = { ms: 38, formants: [250, 1200, 2400], voiced: 0 };
const MURMUR: Phone = { ms: 34, formants: [200, 1100, 2300], voiced: 0.22 };

/** Longer spellings come first, because the table is tried in order. */
const SPELLINGS: readonly (readonly [string, readonly Phone[]])[] = [
  ["tion", [breath(85, 0.5, 3000), UH, hum(65, 0.45, 260, 1500, 2500)]],
  ["ough", [AH, breath(60, 0.2, 4600)]],
  ["igh", [AH, EE]],
  ["ch", [CLOSURE, breath(75, 0.5, 3000)]],
  ["sh", [breath(95, 0.5, 2900)]],
  ["th", [breath(65, 0.16, 5200, 0.15)]],
  ["ph", [breath(75, 0.2, 4600)]],
  ["wh", [hum(60, 0.5, 290, 700, 2200)]],
  ["ck", [CLOSURE, breath(25, 0.5, 1900)]],
  ["ng", [hum(75, 0.45, 260, 1900, 2700)]],
  ["qu", [CLOSURE, breath(22, 0.45, 1700), hum(50, 0.5, 290, 700, 2200)]],
  ["ee", [EE]],
  ["ea", [EE]],
  ["oo", [OO]],
  ["ou", [AH, OO]],
  ["ow", [AH, OO]],
  ["oa", [OH]],
  ["ai", [EH, IH]],
  ["ay", [EH, EE]],
  ["oi", [OH, IH]],
  ["oy", [OH, EE]],
  ["au", [AH]],
  ["er", [ER]],
  ["ir", [ER]],
  ["ur", [ER]],
  ["ar", [AH, ER]],
  ["or", [OH, ER]],
  ["a", [vowel(90, 660, 1700, 2410)]],
  ["e", [EH]],
  ["i", [IH]],
  ["o", [OH]],
  ["u", [UH]],
  ["y", [EE]],
  ["b", [MURMUR, breath(14, 0.3, 700, 0.4)]],
  ["c", [CLOSURE, breath(25, 0.45, 1900)]],
  ["d", [MURMUR, breath(15, 0.35, 3800, 0.35)]],
  ["f", [breath(75, 0.2, 4600)]],
  ["g", [MURMUR, breath(18, 0.35, 1800, 0.35)]],
  ["h", [breath(55, 0.16, 1500)]],
  ["j", [MURMUR, breath(60, 0.4, 3000, 0.25)]],
  ["k", [CLOSURE, breath(28, 0.5, 1900)]],
  ["l", [hum(62, 0.6, 360, 1200, 2700)]],
  ["m", [hum(68, 0.45, 250, 1000, 2200)]],
  ["n", [hum(62, 0.45, 260, 1500, 2500)]],
  ["p", [CLOSURE, breath(24, 0.4, 900)]],
  ["q", [CLOSURE, breath(24, 0.45, 1700)]],
  ["r", [hum(62, 0.65, 420, 1150, 1650)]],
  ["s", [breath(85, 0.5, 6200)]],
  ["t", [CLOSURE, breath(24, 0.5, 4400)]],
  ["v", [breath(60, 0.14, 4300, 0.4)]],
  ["w", [hum(60, 0.55, 290, 700, 2200)]],
  ["x", [CLOSURE, breath(70, 0.45, 5600)]],
  ["z", [breath(70, 0.3, 5900, 0.35)]],
];

const DIGITS = ["zeeroh", "wun", "too", "three", "for", "fiv", "siks", "seven", "ayt", "nine"];
const ONSETS: readonly (readonly Phone[])[] = [
  "b",
  "p",
  "m",
  "f",
  "d",
  "t",
  "n",
  "l",
  "g",
  "k",
  "h",
  "j",
  "ch",
  "sh",
  "z",
  "s",
  "r",
  "w",
  "y",
].map((name) => spelled(name));
const RIMES: readonly (readonly Phone[])[] = [
  [AH],
  [OH],
  [EE],
  [OO],
  [EH],
  [AH, EE],
  [AH, OO],
  [EH, IH],
  [AH, hum(60, 0.4, 260, 1500, 2500)],
  [EE, hum(60, 0.4, 260, 1900, 2700)],
];
export type Tone = readonly [number, number];
const TONES: readonly Tone[] = [
  [1.22, 1.22],
  [0.92, 1.28],
  [0.85, 0.8],
  [1.32, 0.78],
];
const SYLLABLE_STRETCH = 1.2;

function spelled(name: string): readonly Phone[] {
  return SPELLINGS.find(([spelling]) => spelling === name)?.[1] ?? [UH];
}

export function lettersToPhones(word: string): Phone[] {
  const letters = word.replaceAll("'", "").replace(/([^aeiou])e$/, "$1");
  const phones: Phone[] = [];
  for (let at = 0; at < letters.length;) {
    const found = SPELLINGS.find(([spelling]) => letters.startsWith(spelling, at));
    if (found) phones.push(...found[1]);
    at += found ? found[0].length : 1;
  }
  return phones;
}

export interface Syllable {
  readonly phones: readonly Phone[];
  /** Pitch at its start and end, as a factor. */
  readonly tone: Tone;
}

export function digitToPhones(digit: number): Phone[] {
  return lettersToPhones(DIGITS[digit] ?? "");
}

/** Maps a letter of any other script to one syllable with a tone, always the same one. */
export function letterToSyllable(letter: string): Syllable {
  const h = hash(letter);
  const onset = ONSETS[h % ONSETS.length] ?? [];
  const rime = RIMES[(h >>> 8) % RIMES.length] ?? [];
  const phones = [...onset, ...rime].map((phone) => ({
    ...phone,
    ms: phone.ms * SYLLABLE_STRETCH,
  }));
  return { phones, tone: TONES[(h >>> 16) % TONES.length] ?? [1, 1] };
}
