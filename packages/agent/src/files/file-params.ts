import { union, type Validator } from "../calls/params.ts";

/** A time from JavaScript, an ISO date. */
const isoDate: Validator<Date> = (value, path, issues) => {
  const date = new Date(typeof value === "string" ? value : Number.NaN);
  if (Number.isNaN(date.getTime())) {
    issues.push({
      expected: "date",
      code: "invalid_type",
      path,
      message: "Invalid input: expected an ISO date or epoch seconds",
    });
  }
  return date;
};

/** A time from Python, in seconds since the epoch (protocol.md 4.2). */
const epochSeconds: Validator<number> = (value, path, issues) => {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  issues.push({ expected: "number", code: "invalid_type", path, message: "Invalid input: expected epoch seconds" });
  return 0;
};

/** A time in one of the two forms that clients send; both are what Deno's `utime` takes. */
export const time: Validator<number | Date> = union(epochSeconds, isoDate);

/** A number of bytes that JavaScript sends as text when the caller used a BigInt (protocol.md 4.3). */
export const byteOffset: Validator<bigint> = (value, path, issues) => {
  if (Number.isSafeInteger(value)) return BigInt(value as number);
  if (typeof value === "string" && /^-?\d{1,19}$/.test(value)) return BigInt(value);
  issues.push({
    expected: "int",
    code: "invalid_type",
    path,
    message: "Invalid input: expected a whole number or its decimal text",
  });
  return 0n;
};
