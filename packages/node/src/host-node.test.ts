import { describeNodeConformance, openTestNode, throughText } from "../testing/index.ts";

describeNodeConformance("of this host, through text", openTestNode, throughText);
