import { usePostgres } from "../support/test-database.ts";

/** With CAISSON_FAULTS_FULL=1 every operation and point, as on SQLite; else a smaller sample, since what differs is the database only. */
process.env.CAISSON_FAULTS_OPERATIONS ??= "3";
process.env.CAISSON_FAULTS_SAMPLE ??= "2";
await usePostgres();
await import("../crash.test.ts");
