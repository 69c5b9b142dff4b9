/** Bodies that are nearly right: refused as the client's fault, or sent where their one model is served. R6 sends a million. */
import t from "tap";
import { plainModel } from "../support/mutants.ts";
import { mutate } from "../support/mutation.ts";

t.test("no mutant is picked for on a model that two readers could read in two ways, and none crashes", async (t) => {
  const { wrong, forwarded, byStatus, crashes } = await mutate(1, 6000);
  t.same(wrong, []);
  t.equal(crashes, 0);
  t.ok(forwarded > 500, "some are still right");
  t.ok((byStatus[400] ?? 0) > 2000);
  t.ok((byStatus[415] ?? 0) > 50);
});

t.test("the oracle knows what is plain", (t) => {
  const table: [string | Buffer, string | undefined][] = [
    ['{"model":"m","messages":[{"model":"n"}]}', "m"],
    ['{"model":"m","mod\\u0065l":"n"}', undefined],
    ['{"a":"\\"model\\":","model":"m"}', "m"],
    ['{"model":"m","model":"m"}', undefined],
    ['{"model":"m"', undefined],
    [Buffer.from([0x7b, 0xff, 0x7d]), undefined],
  ];
  for (const [body, model] of table) t.equal(plainModel(Buffer.from(body as string)), model, body.toString());
  t.end();
});
