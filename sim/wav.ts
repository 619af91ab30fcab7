/** WAV: the RIFF header for signed 16-bit little-endian mono samples. */

export const SAMPLE_RATE_HZ = 24_000;
export const BYTES_PER_SAMPLE = 2;
export const BYTES_PER_SECOND: number = SAMPLE_RATE_HZ * BYTES_PER_SAMPLE;
const HEADER_BYTES = 44;
/** The length in the header of a stream whose length is not known yet. */
const UNKNOWN_LENGTH = 0xffffffff;

/** The header for `dataBytes` of samples, or for a stream of unknown length (null). */
export function wavHeader(dataBytes: number | null): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write("RIFF", 0, "latin1");
  header.writeUInt32LE(dataBytes === null ? UNKNOWN_LENGTH : dataBytes + HEADER_BYTES - 8, 4);
  header.write("WAVEfmt ", 8, "latin1");
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(SAMPLE_RATE_HZ, 24);
  header.writeUInt32LE(BYTES_PER_SECOND, 28);
  header.writeUInt16LE(BYTES_PER_SAMPLE, 32);
  header.writeUInt16LE(8 * BYTES_PER_SAMPLE, 34);
  header.write("data", 36, "latin1");
  header.writeUInt32LE(dataBytes ?? UNKNOWN_LENGTH, 40);
  return header;
}

export function wavOf(samples: Buffer): Buffer {
  return Buffer.concat([wavHeader(samples.length), samples]);
}
