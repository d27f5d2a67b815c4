import type { ImageId, StorageDriver } from "../src/driver.ts";
import { patternOf } from "./device-io.ts";

/** A method of a driver and its arguments, as data: the process that a crash test kills reads it. */
export type DriverCall = readonly [
  "createImage" | "sealImage" | "growImage" | "deleteImage" | "createSealed",
  ...args: readonly unknown[],
];

/** What `createSealed` fills an image with, in place of its function. */
export interface Filling {
  readonly sizeBytes: number;
  readonly seed: string;
  readonly offset: number;
  readonly length: number;
}

/** Makes the call. */
export async function callDriver(driver: StorageDriver, [method, ...args]: DriverCall): Promise<void> {
  if (method !== "createSealed") {
    await (driver[method] as (...args: readonly unknown[]) => Promise<void>)(...args);
    return;
  }
  const [id, { sizeBytes, seed, offset, length }] = args as [ImageId, Filling];
  await driver.createSealed(id, async (image) => {
    await image.setSize(sizeBytes);
    await image.write(offset, patternOf(seed, length));
  });
}
