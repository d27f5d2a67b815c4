export { faultPoint, InjectedFault, step } from "./fault.ts";
