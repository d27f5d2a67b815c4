import { describeOciRuntime } from "../testing/describe-oci-runtime.ts";

describeOciRuntime(import.meta.filename, { runtimePath: "crun", isWarm: true });
