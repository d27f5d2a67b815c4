/** All benchmarks, one after the other; each can be run alone. Figures of the last run are in bench/results. */
await import("./sandboxes.ts");
await import("./warm.ts");
await import("./ends.ts");
await import("./transfers.ts");
await import("./copies.ts");
await import("./snapshot-files.ts");
await import("./storage.ts");
await import("./aged.ts");
await import("./stores.ts");
await import("./many.ts");
await import("./command-line.ts");
await import("./previews.ts");
await import("./link.ts");
await import("./programs.ts");
