/** What the WebUI's list endpoints return (models, samplers and so on), and its memory report. Pure. */
import type { Sensors } from "./gpu.ts";

export const MODEL = { name: "portico-painter", hash: "5f1a9c03b7" } as const;
export const VERSION = "v1.10.1";

const GIB = 1024 ** 3;
const CARD_BYTES = 24 * GIB;
const RAM_BYTES = 128 * GIB;

export const MODELS = [
  {
    title: `${MODEL.name}.safetensors [${MODEL.hash}]`,
    model_name: MODEL.name,
    hash: MODEL.hash,
    sha256: null,
    filename: `/models/${MODEL.name}.safetensors`,
    config: null,
  },
] as const;

const SAMPLER_NAMES = [
  "DPM++ 2M",
  "DPM++ SDE",
  "DPM++ 2M SDE",
  "DPM++ 2S a",
  "DPM++ 3M SDE",
  "Euler a",
  "Euler",
  "LMS",
  "Heun",
  "DPM2",
  "DPM2 a",
  "DPM fast",
  "DPM adaptive",
  "Restart",
  "DDIM",
  "PLMS",
  "UniPC",
  "LCM",
];
const KARRAS = ["DPM++ 2M Karras", "DPM++ SDE Karras", "DPM++ 2M SDE Karras"];

export const SAMPLERS: readonly {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly options: Readonly<Record<string, string>>;
}[] = [...SAMPLER_NAMES, ...KARRAS].map((name) => ({
  name,
  aliases: [`k_${name.toLowerCase().replaceAll(/\W+/g, "_")}`],
  options: {},
}));

export const LORAS = [
  {
    name: "soft-light",
    alias: "soft-light",
    path: "/models/lora/soft-light.safetensors",
    metadata: {},
  },
] as const;

export const UPSCALERS = [
  { name: "None", model_name: null, model_path: null, model_url: null, scale: 4 },
  { name: "Lanczos", model_name: null, model_path: null, model_url: null, scale: 4 },
  { name: "Nearest", model_name: null, model_path: null, model_url: null, scale: 4 },
] as const;

export function memoryOf({ gpu_memory_ratio }: Sensors, running: number): unknown {
  const used = Math.round(CARD_BYTES * gpu_memory_ratio);
  const ram = Math.round(RAM_BYTES * (0.12 + 0.02 * running));
  const level = { current: used, peak: used };
  return {
    ram: { free: RAM_BYTES - ram, used: ram, total: RAM_BYTES },
    cuda: {
      system: { free: CARD_BYTES - used, used, total: CARD_BYTES },
      active: level,
      allocated: level,
      reserved: level,
      inactive: { current: 0, peak: 0 },
      events: { retries: 0, oom: 0 },
    },
  };
}
