/** Writes the reference pages that come from tables in the sources. */
import { writeFileSync } from "node:fs";
import { enginesReference } from "../src/admission/reference.ts";
import { loadConfig } from "../src/config/load.ts";
import { configReference } from "../src/config/reference.ts";
import { HINTS } from "../src/kinds/hints.ts";
import { REASONS } from "../src/kinds/verdict.ts";
import { METRICS } from "../src/kinds/metric-names.ts";
import { labelsReference } from "../src/workload/reference.ts";
import { apisReference } from "../src/router/request/reference.ts";
import { reasonsReference, metricsReference } from "../src/kinds/reference.ts";

const page = (name: string, text: string, folder = "reference/"): void =>
  writeFileSync(new URL(`../docs/${folder}${name}.md`, import.meta.url), text);

page("configuration", configReference());
page("reasons", reasonsReference(REASONS, HINTS));
page("metrics", metricsReference(METRICS));
page("labels", labelsReference());
page("apis", apisReference());
page("engines", enginesReference(loadConfig().admission), "");
