export { formatPeriod, MAX_EVERY_MS, parseDuration, parsePeriod } from "./duration.ts";
export { CaissonError, ERRORS, type ErrorCode, isRefusal, UnknownOutcomeError } from "./errors.ts";
export {
  classOfId,
  type DiskClass,
  type IdPrefix,
  newId,
  parseId,
  randomCharacters,
} from "./ids.ts";
export { MINIMUM_INODES, maximumInodes } from "./inodes.ts";
export { LABEL_LIMITS, type Labels, requireLabels } from "./labels.ts";
export { RESERVED_PATHS, reservedPathOf } from "./reserved-paths.ts";
export { formatSize, parseSize } from "./size.ts";
export { isSlug, requireSlug } from "./slug.ts";
export { isStopReason, STOP_REASONS, type StopReason } from "./stop-reason.ts";
