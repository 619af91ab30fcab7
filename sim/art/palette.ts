/** The palettes, and the words of a prompt that select them. Pure. */
import { pick } from "./noise.ts";
import type { Random } from "./noise.ts";
import type { Rgb } from "./canvas.ts";

export interface Palette {
  /** From the zenith to the horizon. */
  readonly sky: readonly [Rgb, Rgb, Rgb, Rgb];
  /** The disc of the sun or moon, and the light it spreads. */
  readonly light: Rgb;
  readonly glow: Rgb;
  /** The land, from far to near. */
  readonly far: Rgb;
  readonly near: Rgb;
  readonly accents: readonly [Rgb, ...Rgb[]];
  readonly night: boolean;
}

interface Entry {
  /** A mood (time of day, weather, fire) takes precedence over a place: "sea at night" is dark. */
  readonly mood: boolean;
  readonly words: RegExp;
  readonly palette: Palette;
}

function rgb(hex: string): Rgb {
  const n = Number.parseInt(hex, 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

/** sky sky sky sky light glow far near accent... */
function palette(colours: string, night = false): Palette {
  const [a, b, c, d, light, glow, far, near, first, ...rest] = colours.split(" ").map(rgb);
  if (!a || !b || !c || !d || !light || !glow || !far || !near || !first)
    throw new Error("a palette needs nine colours");
  return { sky: [a, b, c, d], light, glow, far, near, accents: [first, ...rest], night };
}

const ENTRIES: readonly [Entry, ...Entry[]] = [
  {
    mood: true,
    words: /neon|cyber|synthwave|club|arcade|赛博|霓虹/i,
    palette: palette("0b0628 2c0f5e 86217f ff6f91 ffe3f6 ff4fa3 6b2a86 0a0620 22e6ff ff3d9a ffd23f 8affc1", true),
  },
  {
    mood: true,
    words: /night|midnight|moon|star|space|galaxy|nebula|dark|夜|月|星|宇宙/i,
    palette: palette("060b24 10214d 27467c 5c7fa6 f4f3e4 9fb9ff 35567f 050914 ffd98a 8fd3ff ff9ecb c3f0ff", true),
  },
  {
    mood: true,
    words: /fire|flame|lava|volcano|ember|dragon|hell|火|岩浆|龙/i,
    palette: palette("1b0a12 571518 bf3f1e ffab4a ffe9b3 ff6a1f 8c2f22 120608 ffd166 ff7b2e ef3e23 fff1c9", true),
  },
  {
    mood: true,
    words: /sunset|dusk|evening|romantic|warm|orange|日落|黄昏|晚霞/i,
    palette: palette("2a235f 7a3577 e4606a ffbd6b fff0c4 ff8a5c 94527f 1a1230 ffd166 ef476f 8ecae6 fff3e0"),
  },
  {
    mood: true,
    words: /dawn|sunrise|morning|pastel|soft|日出|清晨|黎明/i,
    palette: palette("4a639a 9a8fb9 f3a995 ffe2b8 fff6de ffbf8a b193b4 2b2546 f25f5c ffe066 70c1b3 fbeff0"),
  },
  {
    mood: true,
    words: /snow|winter|ice|arctic|frost|cold|christmas|雪|冬|冰/i,
    palette: palette("6f93bf a9c4df d8e6f0 fdf1e8 ffffff fff0dc a7bdd8 263a58 e63946 f1faee a8dadc 457b9d"),
  },
  {
    mood: true,
    words: /autumn|fall|harvest|maple|amber|秋|枫/i,
    palette: palette("7695a8 c8bd9f f4cd86 ffe9bf fff7df ffc46b bd8455 3a1c14 d1495b edae49 f79256 fbd1a2"),
  },
  {
    mood: false,
    words: /desert|dune|sand|sahara|canyon|camel|mars|沙漠|沙/i,
    palette: palette("3274a8 8cbcc9 f2d3a4 fde4c2 fff9e6 ffcf8a dda271 6e2c2b e76f51 f4a261 2a9d8f fefae0"),
  },
  {
    mood: false,
    words: /forest|tree|wood|jungle|garden|green|fog|mist|森林|树|竹|绿/i,
    palette: palette("51837a 9cc3a3 d8e6bb fbf3d2 fffbe0 fff0b0 8fb59a 0f2b26 e9c46a f4a261 e76f51 f1faee"),
  },
  {
    mood: false,
    words: /rose|love|pink|flower|blossom|bouquet|spring|花|春/i,
    palette: palette("5b3b63 b56d86 f0a99f fde3d0 fff4e4 ffb69c b98a9c 2c1a35 e4572e f3a712 76b39d f7d6d0"),
  },
  {
    mood: false,
    words: /sea|ocean|beach|wave|coast|island|water|boat|ship|blue|海|浪|船|湖|水/i,
    palette: palette("1d5f96 56a3cb abd9e0 fbead0 fffbe8 ffe3ad 7fb4c4 0d3145 ff6b6b ffe66d 4ecdc4 f7fff7"),
  },
  {
    mood: false,
    words: /mountain|alps|valley|lake|summer|day|sky|hill|山|谷|夏|天空/i,
    palette: palette("2f76bd 72b4e3 bfdff0 f5f1e0 fffdf0 fff2cc 93b4ca 17403a ef8354 f9dc5c 9bc53d f7f7ff"),
  },
  {
    mood: false,
    words: /vintage|retro|gold|luxury|coffee|jazz|art deco|复古|金/i,
    palette: palette("14342f 2f6a5c a9ad76 f4dfae fff6d6 ffd98a 5f8a72 0c211f d9a441 bf5b3d f2e3bc 8c3f2b"),
  },
];

/** The first mood that the prompt names, else its first place, else a random palette. */
export function paletteFor(prompt: string, random: Random): Palette {
  const chance = pick(random, ENTRIES).palette;
  const named = ENTRIES.map((entry) => ({ ...entry, at: prompt.search(entry.words) })).filter((entry) => entry.at >= 0);
  named.sort((a, b) => Number(b.mood) - Number(a.mood) || a.at - b.at);
  return named[0]?.palette ?? chance;
}
