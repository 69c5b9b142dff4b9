import t from "tap";
import { loadConfig } from "../../src/config/load.ts";
import { parseListen } from "../../src/config/listen.ts";

t.test("addresses to listen on", (t) => {
  t.equal(parseListen(""), undefined, "off");
  t.same(parseListen("127.0.0.1:90"), { host: "127.0.0.1", port: 90 });
  t.same(parseListen("[::1]:90"), { host: "::1", port: 90 });
  t.same(parseListen(":90"), { host: "0.0.0.0", port: 90 });
  for (const text of ["localhost", "127.0.0.1", "a:b", "127.0.0.1:", "127.0.0.1:-1"])
    t.throws(() => loadConfig({ flags: { "router.listen": text } }), text);
  t.end();
});
