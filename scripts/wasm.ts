/** Assembles the .wat files into the modules that the program carries: no file is looked up at run time. */
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { assembled } from "../test/support/wat.ts";

for (const stem of ["router/kv/chain", "router/request/strings"]) {
  const source = new URL(`../src/${stem}.wat`, import.meta.url);
  writeFileSync(
    new URL(`${basename(stem)}.wasm.ts`, source),
    await assembled(basename(stem), readFileSync(source, "utf8")),
  );
}
