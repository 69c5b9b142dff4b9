import t from "tap";
import { compilePattern } from "../../../src/topology/pattern.ts";

const matches = (pattern: string, text: string): boolean => {
  const compiled = compilePattern(pattern);
  if (!compiled.ok) throw new Error(compiled.error);
  return compiled.matches(text);
};

t.test("patterns match as in RE2", (t) => {
  const rows: [pattern: string, text: string, expected: boolean][] = [
    ["", "anything", true],
    ["node", "a-node-1", true],
    ["^node-[0-9]+$", "node-12", true],
    ["^node-[0-9]+$", "node-12a", false],
    ["^(a|b)c?$", "b", true],
    ["^(?:gpu|cpu)-\\d{2,3}$", "gpu-1", false],
    ["^(?:gpu|cpu)-\\d{2,3}$", "gpu-123", true],
    ["^x{2}$", "xx", true],
    ["^x{2,}$", "x", false],
    ["(?i)NODE", "node", true],
    ["(?i:N)ODE", "nODE", true],
    ["(?i:N)ODE", "node", false],
    ["(?P<rack>r\\d)", "r1", true],
    ["[[:alpha:]]+-[^[:digit:]]$", "ab-c", true],
    ["[[:alpha:]]+-[^[:digit:]]$", "ab-1", false],
    ["[a-]z", "-z", true],
    ["\\Qa.b\\E", "a.b", true],
    ["\\Qa.b\\E", "axb", false],
    ["\\x61\\.b", "a.b", true],
    ["\\bnode\\b", "my-node-1", true],
    ["\\bnode\\b", "mynode1", false],
    ["\\Anode\\z", "node", true],
    ["a|^b$|", "zzz", true],
    ["a{0}", "", true],
    ["^a{,2}$", "a{,2}", true],
  ];
  for (const [pattern, text, expected] of rows) t.equal(matches(pattern, text), expected, `${pattern} on ${text}`);
  t.end();
});

t.test("what RE2 refuses is refused, with the place", (t) => {
  const rows: [pattern: string, error: RegExp][] = [
    ["(?=a)", /look-around/],
    ["(?<!a)b", /look-around/],
    ["(a)\\1", /escape \\1/],
    ["(a", /missing \)/],
    ["a)", /unexpected \)/],
    ["[a", /unexpected end/],
    ["[z-a]", /bad range/],
    ["*a", /nothing to repeat at character/],
    ["a**", /repetition of a repetition/],
    ["a{1001}", /bad repetition count/],
    ["((a{99}){99}){99}", /too large/],
    ["(".repeat(200), /nested too deeply/],
    ["a".repeat(2000), /longer than/],
    ["\\pL", /escape \\p/],
  ];
  for (const [pattern, error] of rows) {
    const compiled = compilePattern(pattern);
    t.equal(compiled.ok, false, pattern);
    if (!compiled.ok) t.match(compiled.error, error, pattern);
  }
  t.end();
});

t.test("a pattern that stops a backtracking engine does not stop this one", (t) => {
  t.equal(matches("^(a+)+$", `${"a".repeat(250)}b`), false);
  t.equal(matches("(x*)*(x*)*(x*)*y", "x".repeat(250)), false);
  t.end();
});
