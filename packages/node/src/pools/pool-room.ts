import type { DiskCapacity, PoolCapacity } from "@caisson/storage";

/** Whether a disk of a pool needs room: as much as its headroom should be available beside it. */
export function needsRoom({ disks }: PoolCapacity): boolean {
  return disks.some(diskNeedsRoom);
}

export function diskNeedsRoom({ availableBytes, headroomBytes, problem }: DiskCapacity): boolean {
  return problem === null && availableBytes < headroomBytes;
}

/** The most that one of the disks lacks. */
export function lackingBytes({ disks }: PoolCapacity): number {
  return Math.max(0, ...disks.filter(diskNeedsRoom).map((disk) => disk.headroomBytes - disk.availableBytes));
}
