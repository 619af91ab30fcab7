import { describe, expect, it } from "vitest";
import { openingOf, planSpeech, speechSamples } from "../../sim/speech.ts";
import { speak } from "../../sim/voice.ts";
import { SAMPLE_RATE_HZ, wavHeader, wavOf } from "../../sim/wav.ts";

function seconds(text: string, speed = 1): number {
  return planSpeech(text, speed).samples / SAMPLE_RATE_HZ;
}

/** Root mean square of the samples between two fractions of the length. */
function loudness(samples: Int16Array, from: number, to: number): number {
  const part = samples.subarray(Math.floor(from * samples.length), Math.floor(to * samples.length));
  return Math.sqrt(part.reduce((sum, value) => sum + value * value, 0) / part.length);
}

describe("speech", () => {
  const english = "The ferry leaves at nine and comes back before dark, so bring a warm coat and something to read.";
  const chinese = "渡船九点出发，天黑之前回来，请带上暖和的外套和一本书。";

  it("takes about as long as a person would", () => {
    expect(english.length / seconds(english)).toBeGreaterThan(11);
    expect(english.length / seconds(english)).toBeLessThan(19);
    expect(chinese.length / seconds(chinese)).toBeGreaterThan(3);
    expect(chinese.length / seconds(chinese)).toBeLessThan(5.5);
  });

  it("gets longer with the text and shorter with the speed", () => {
    expect(seconds(english + english)).toBeGreaterThan(seconds(english) * 1.9);
    expect(seconds(english, 2)).toBeCloseTo(seconds(english) / 2, 1);
    expect(seconds("")).toBeGreaterThan(0.05);
  });

  it("has exactly the length that speechSamples() computes without synthesis", () => {
    for (const text of [english, chinese, "", "3.14?! (ok)\n\n--- don't 你 7", "\u0301 ~ 'é"]) {
      for (const speed of [0.25, 1, 1.7, 4]) {
        const { sounds, samples } = planSpeech(text, speed);
        expect(speechSamples(text, speed)).toBe(samples);
        expect(speak({ sounds, samples }, "anna")).toHaveLength(samples);
      }
    }
  });

  it("is the same for the same text and voice, and differs between voices", () => {
    const plan = planSpeech(english, 1);
    expect(speak(plan, "anna")).toEqual(speak(plan, "anna"));
    expect(speak(plan, "anna")).not.toEqual(speak(plan, "bert"));
  });

  it("is loud enough, never clipped, and silent at a full stop", () => {
    const samples = speak(planSpeech("one two three. four five six", 1), "anna");
    expect(loudness(samples, 0.05, 0.4)).toBeGreaterThan(1_000);
    expect(samples.every((value) => Math.abs(value) < 32_767)).toBe(true);
    const windows = Array.from({ length: 40 }, (_, i) => loudness(samples, i / 40, (i + 1) / 40));
    expect(Math.min(...windows.slice(2, 36))).toBeLessThan(120);
  });
});

describe("the opening of a speech", () => {
  it("is as much of the speech as fits, or all of it", () => {
    const plan = planSpeech("one two three four five", 1);
    const opening = openingOf(plan, 10_000);
    expect(opening.samples).toBeLessThanOrEqual(10_000);
    expect(opening.samples).toBeGreaterThan(6_000);
    expect(opening.sounds).toEqual(plan.sounds.slice(0, opening.sounds.length));
    expect(openingOf(plan, plan.samples)).toEqual(plan);
  });
});

describe("a WAV", () => {
  it("has its correct length in the header if it is complete", () => {
    const data = Buffer.alloc(1_000);
    const wav = wavOf(data);
    expect(wav.length).toBe(1_044);
    expect(wav.toString("latin1", 0, 4) + wav.toString("latin1", 8, 16)).toBe("RIFFWAVEfmt ");
    expect([wav.readUInt32LE(4), wav.readUInt32LE(40)]).toEqual([1_036, 1_000]);
    expect([wav.readUInt16LE(20), wav.readUInt16LE(22), wav.readUInt32LE(24), wav.readUInt32LE(28)]).toEqual([
      1, 1, 24_000, 48_000,
    ]);
    expect([wav.readUInt16LE(32), wav.readUInt16LE(34)]).toEqual([2, 16]);
  });

  it("has an unknown length in the header if it is a stream", () => {
    expect([wavHeader(null).readUInt32LE(4), wavHeader(null).readUInt32LE(40)]).toEqual([0xffffffff, 0xffffffff]);
  });
});
