/** Assembles src/router/kv/chain.wat into the module that the program carries: no file is looked up at run time. */
import { readFileSync, writeFileSync } from "node:fs";
import { assembled } from "../test/support/wat.ts";

const source = new URL("../src/router/kv/chain.wat", import.meta.url);
writeFileSync(new URL("chain.wasm.ts", source), await assembled(readFileSync(source, "utf8")));
