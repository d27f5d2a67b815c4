/** What use cases answer with: the records of the database, for those who show them. */
export type {
  AuditEvent,
  Disk,
  DiskKind,
  JoinToken,
  NodeRecord,
  Organization,
  SandboxRecord,
  SshKey,
  Token,
} from "@caisson/database";
