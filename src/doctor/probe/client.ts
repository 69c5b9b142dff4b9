/** One call of a webhook or of the extender, to see whether anybody answers who is the one expected. */
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { isObject } from "../../kinds/kube.ts";
import type { Reached } from "../facts.ts";

export interface Target {
  readonly url: string;
  /** PEM; empty: the authorities of the system. */
  readonly ca: string;
  /** Name the certificate must carry; empty: the host of the URL. */
  readonly serverName?: string;
  readonly body: unknown;
  /** Milliseconds. */
  readonly timeoutMs: number;
}

/** Answers of both are a few hundred bytes. */
const LONGEST_ANSWER = 65_536;

/** Never throws: a failure is a finding. A status below 500 is an answer, whatever it says of the call. */
export async function callTarget(target: Target): Promise<Reached> {
  try {
    const { status, text } = await post(target);
    return judge(status, decoded(text));
  } catch (error) {
    return { ok: false, message: describe(error as NodeJS.ErrnoException) };
  }
}

/** What an answer says: the extender's own `Error` stands in an answer of 200. */
export function judge(status: number, body: unknown): Reached {
  const error = isObject(body) && typeof body["Error"] === "string" ? body["Error"] : "";
  if (status >= 500) return { ok: false, message: `answers ${status}` };
  return status === 200 && error !== "" ? { ok: false, message: error } : { ok: true, message: `answers ${status}` };
}

const describe = ({ name, code, message }: NodeJS.ErrnoException): string =>
  name === "AbortError" || name === "TimeoutError" ? "no answer in time" : message || code || name;

function decoded(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

async function post({ url, ca, serverName, body, timeoutMs }: Target): Promise<{ status: number; text: string }> {
  const payload = Buffer.from(JSON.stringify(body));
  const start = url.startsWith("http:") ? httpRequest : httpsRequest;
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = start(url, {
      method: "POST",
      headers: { "content-type": "application/json", "content-length": payload.length },
      signal: AbortSignal.timeout(timeoutMs),
      agent: false,
      ...(ca === "" ? {} : { ca }),
      ...(serverName === undefined || serverName === "" ? {} : { servername: serverName }),
    });
    request.once("response", resolve);
    request.once("error", reject);
    request.end(payload);
  });
  return { status: answer.statusCode ?? 0, text: await readSome(answer) };
}

async function readSome(answer: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of answer.setEncoding("utf8") as AsyncIterable<string>) {
    text += chunk;
    if (text.length > LONGEST_ANSWER) break;
  }
  return text;
}
