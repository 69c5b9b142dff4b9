import t from "tap";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { randomUUID } from "node:crypto";
import { issueAuthority, issueServing, type KeyedCertificate } from "../../../src/certs/issue.ts";
import {
  bundleOf,
  planCertificates,
  authorityData,
  readSecrets,
  RETIRE_AFTER_MS,
  servingData,
  SETTLE_MS,
  type CertificateState,
} from "../../../src/certs/plan.ts";

const DAY = 86_400_000;
const START = Date.parse("2026-01-01T00:00:00Z");
const NAMES = ["tandem-webhook.tandem-system.svc", "127.0.0.1"];
const at = (now: number): { now: number; id: () => string } => ({ now, id: randomUUID });

let authority: KeyedCertificate;
let other: KeyedCertificate;
let serving: KeyedCertificate;
t.before(async () => {
  authority = await issueAuthority(at(START));
  other = await issueAuthority(at(START + 300 * DAY));
  serving = await issueServing(at(START), authority, NAMES);
});

const decide = (state: Partial<CertificateState>, now: number, published: string[] = [], names = NAMES): object =>
  planCertificates({ state: { since: 0, ...state }, now, names, published });

t.test("a table of states", async (t) => {
  const fresh = { authority, serving };
  const foreign = await issueServing(at(START), other, NAMES);
  const late = START + 250 * DAY;
  const lateLeaf = await issueServing(at(late), authority, NAMES);
  const grown = { authority, serving: lateLeaf };
  const next = await issueAuthority(at(late));
  const both = bundleOf({ ...grown, next, since: late });
  const trust = bundleOf({ authority, since: 0 });
  const promoted = await issueServing(at(late), next, NAMES);
  const table: [string, object, object][] = [
    ["nothing", decide({}, START), { do: "begin", why: "there is none" }],
    ["all is well", decide(fresh, START), { do: "keep" }],
    ["a clock an hour behind", decide(fresh, START - 3_590_000), { do: "keep" }],
    ["both from the future", decide(fresh, START - DAY), { do: "introduce", why: "the authority is from the future" }],
    [
      "a leaf from the future",
      decide({ authority, serving: lateLeaf }, late - DAY),
      { do: "renew", why: "from the future" },
    ],
    [
      "the authority is lost, but still trusted",
      decide({ serving }, START, [trust]),
      { do: "introduce", previous: authority.certificate.trim() },
    ],
    [
      "the authority is lost, what is trusted has expired",
      decide({ serving }, START + 366 * DAY, [trust]),
      { do: "begin" },
    ],
    ["nothing but a foreign bundle", decide({}, START, [serving.certificate, "garbage"]), { do: "begin" }],
    [
      "lost, the next one known",
      decide({ serving, next, since: late }, late + SETTLE_MS, [both]),
      { do: "promote", previous: authority.certificate.trim() },
    ],
    [
      "the clock went back during a rotation",
      decide({ ...grown, next, since: late + DAY }, late + SETTLE_MS, [both]),
      { do: "wait" },
    ],
    ["19 days", decide(fresh, START + 19 * DAY), { do: "keep" }],
    ["two thirds of the leaf's life", decide(fresh, START + 20 * DAY), { do: "renew" }],
    ["leaf expired", decide(fresh, START + 31 * DAY), { do: "renew", why: "expired" }],
    ["authority expired", decide(fresh, START + 366 * DAY), { do: "begin", why: "expired" }],
    ["another name is wanted", decide(fresh, START, [], ["x.svc"]), { do: "renew", why: "lacks the names x.svc" }],
    ["a leaf of another authority", decide({ authority, serving: foreign }, START), { do: "renew" }],
    ["keys swapped", decide({ authority, serving: { ...serving, key: other.key } }, START), { do: "renew" }],
    [
      "garbage",
      decide({ authority: { certificate: "x", key: "y" }, serving }, START),
      { do: "begin", why: "unreadable" },
    ],
    ["two thirds of the authority's life", decide(grown, late), { do: "introduce" }],
    ["next just made", decide({ ...grown, next, since: late }, late + 1, [both]), { do: "keep" }],
    [
      "next unknown to a webhook",
      decide({ ...grown, next, since: late }, late + SETTLE_MS, [both, ""]),
      { do: "wait" },
    ],
    ["next known to all", decide({ ...grown, next, since: late }, late + SETTLE_MS, [both, both]), { do: "promote" }],
    [
      "previous still served",
      decide({ authority: next, serving: promoted, previous: authority.certificate, since: late }, late + 60_000),
      { do: "keep" },
    ],
    [
      "previous done",
      decide(
        { authority: next, serving: promoted, previous: authority.certificate, since: late },
        late + RETIRE_AFTER_MS,
      ),
      { do: "retire" },
    ],
  ];
  for (const [name, found, wanted] of table) t.match(found, wanted, name);
});

t.test("a bundle holds certificates alone", (t) => {
  const nonsense = { certificate: "x", key: "y" };
  t.equal(
    bundleOf({
      authority,
      next: nonsense,
      previous: "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----",
      since: 0,
    }),
    authority.certificate,
  );
  t.equal(bundleOf({ authority, previous: authority.certificate, since: 0 }), authority.certificate, "each once");
  t.end();
});

const secret = (data: object): KubeObject => ({ apiVersion: "v1", kind: "Secret", metadata: {}, data });

t.test("the Secrets hold the whole state, and read back what they hold", (t) => {
  const state: CertificateState = { authority, serving, next: other, previous: serving.certificate, since: 42 };
  const data = servingData(state);
  t.same(readSecrets({ serving: secret(data), authority: secret(authorityData(state)) }), state);
  const bundle = Buffer.from(data["ca-bundle.crt"] ?? "", "base64").toString();
  t.equal(bundle.match(/BEGIN CERTIFICATE/g)?.length, 3);
  t.end();
});

t.test("what webhooks may read holds the key of their certificate, and of nothing that signs", (t) => {
  const data = servingData({ authority, serving, next: other, previous: serving.certificate, since: 42 });
  const keys = Object.values(data)
    .map((value) => Buffer.from(value, "base64").toString())
    .filter((text) => text.includes("PRIVATE KEY"));
  t.same(keys, [serving.key]);
  t.end();
});

t.test("Secrets of somebody else's shape are no state", (t) => {
  t.same(readSecrets({ serving: undefined, authority: undefined }), { since: 0 });
  const odd = secret({ "tls.crt": 7, "rotation-since": "YWJj" });
  t.same(readSecrets({ serving: odd, authority: odd }), { since: 0 });
  t.same(readSecrets({ serving: secret([]), authority: secret({ "ca.crt": null }) }), { since: 0 });
  t.end();
});
