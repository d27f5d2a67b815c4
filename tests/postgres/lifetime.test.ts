import { usePostgres } from "../support/test-database.ts";

await usePostgres();
await import("../lifetime.test.ts");
