/** Over two servers and three nodes with PostgreSQL. */
process.env.CAISSON_TEST_DEPLOYMENT = "cluster";
await import("../official-javascript.test.ts");
