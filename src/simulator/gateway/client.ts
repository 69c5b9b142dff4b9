/** An ext_proc client over HTTP/2: what Envoy does with its processing server, for the demo and for tests. */
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { Deframer, frame } from "../../router/extproc/grpc.ts";
import { decodeReply, type DecodedReply } from "./codec.ts";

const METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const MAX_REPLY_BYTES = 64 * 1024 * 1024;

/** One processing stream; replies come in order. */
export class ProcessStream {
  readonly #stream: ClientHttp2Stream;
  readonly #replies: DecodedReply[] = [];
  #waiting: ((reply: DecodedReply | undefined) => void) | undefined;
  #ended = false;
  /** `grpc-status` of the trailers, once there. */
  status: string | undefined;

  constructor(stream: ClientHttp2Stream) {
    this.#stream = stream;
    const frames = new Deframer(MAX_REPLY_BYTES);
    stream.on("data", (chunk: Buffer) => {
      for (const message of frames.push(chunk)) this.#deliver(decodeReply(message));
    });
    stream.on("response", (headers: Record<string, unknown>) => (this.status = headers["grpc-status"] as string));
    stream.on("trailers", (headers: Record<string, unknown>) => (this.status = headers["grpc-status"] as string));
    stream.on("error", () => undefined);
    stream.once("close", () => this.#end());
    stream.once("trailers", () => this.#end());
  }

  send(message: Buffer): void {
    if (!this.#stream.destroyed && !this.#stream.writableEnded) this.#stream.write(Buffer.concat(frame([message])));
  }

  /** The next reply, or undefined where the server ended the stream. */
  next(): Promise<DecodedReply | undefined> {
    const reply = this.#replies.shift();
    if (reply !== undefined || this.#ended) return Promise.resolve(reply);
    return new Promise((resolve) => (this.#waiting = resolve));
  }

  /** Our side is done. */
  end(): void {
    this.#stream.end();
  }

  /** The client went away. */
  reset(): void {
    this.#stream.close(8);
  }

  #deliver(reply: DecodedReply): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#replies.push(reply);
    else waiting(reply);
  }

  #end(): void {
    this.#ended = true;
    this.#waiting?.(undefined);
    this.#waiting = undefined;
  }
}

export class ProcessClient {
  readonly #session: ClientHttp2Session;

  constructor(address: string) {
    this.#session = connect(`http://${address}`);
    this.#session.on("error", () => undefined);
  }

  /** `metadata`: of gRPC, as a route of Envoy adds it. */
  open(metadata: Readonly<Record<string, string>> = {}): ProcessStream {
    const own = { ":method": "POST", ":path": METHOD, "content-type": "application/grpc", te: "trailers" };
    const headers = { ...own, ...metadata };
    return new ProcessStream(this.#session.request(headers));
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#session.close(() => resolve()));
  }
}
