import { toErrorObject } from "../../calls/errors.ts";
import { STATUS } from "./packets.ts";

/** Why a request was not done, in the words of SFTP. */
export function failureStatus(error: unknown): { readonly code: number; readonly message: string } {
  const { code, message } = toErrorObject(error);
  return { code: statusOf(code), message };
}

function statusOf(errno: string | null | undefined): number {
  if (errno === "ENOENT" || errno === "ENOTDIR") return STATUS.noSuchFile;
  if (errno === "EACCES" || errno === "EPERM") return STATUS.permissionDenied;
  return STATUS.failure;
}
