/**
 * KEDA's external scaler over gRPC (h2c), by grpc-js: KEDA asks some times a minute, far from any hot path.
 *
 * Answers come from memory at once. Open streams are bounded; a client that reads slowly gets the newest word and none
 * of those between. `StreamMetricSpec` is left unimplemented: what is asked for never changes.
 */
import {
  logVerbosity,
  Server,
  ServerCredentials,
  setLogVerbosity,
  type handleServerStreamingCall,
  type handleUnaryCall,
} from "@grpc/grpc-js";
import type { MethodDefinition, ServerWritableStream, ServiceDefinition } from "@grpc/grpc-js";
import protobuf from "protobufjs/light.js";
import type { Cancel, Log, Metrics } from "../../ports.ts";
import {
  activity,
  CODE,
  metricSpecs,
  metricValues,
  type Answer,
  type Desired,
  type Refusal,
  type ScaledObjectRef,
} from "./answers.ts";
import { MESSAGES, SERVICE } from "./messages.ts";

export interface KedaSource extends Desired {
  /** Called after each decision, whatever it changed. */
  readonly onChange: (listener: () => void) => Cancel;
}

export interface KedaPorts {
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface KedaServer {
  readonly address: string;
  /** Ends all streams; resolves when the port is free. */
  readonly stop: () => Promise<void>;
}

/** One stream for each ScaledObject and replica of KEDA's operator. */
const MOST_STREAMS = 1000;
const MOST_REQUEST_BYTES = 65_536;

const OPTIONS = {
  "grpc.max_receive_message_length": MOST_REQUEST_BYTES,
  "grpc.max_concurrent_streams": MOST_STREAMS,
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
};

type Message = object;
type ActiveStream = ServerWritableStream<Message, Message>;

const ROOT = protobuf.Root.fromJSON(MESSAGES);

const encode =
  (name: string) =>
  (value: Message): Buffer =>
    Buffer.from(ROOT.lookupType(name).encode(value).finish());

const decode =
  (name: string) =>
  (bytes: Buffer): Message => {
    const type = ROOT.lookupType(name);
    return type.toObject(type.decode(bytes), { defaults: true, longs: Number });
  };

function method(name: string, request: string, response: string, streams = false): MethodDefinition<Message, Message> {
  return {
    path: `${SERVICE}/${name}`,
    requestStream: false,
    responseStream: streams,
    requestSerialize: encode(request),
    requestDeserialize: decode(request),
    responseSerialize: encode(response),
    responseDeserialize: decode(response),
  };
}

const DEFINITION: ServiceDefinition = {
  IsActive: method("IsActive", "ScaledObjectRef", "IsActiveResponse"),
  StreamIsActive: method("StreamIsActive", "ScaledObjectRef", "IsActiveResponse", true),
  GetMetricSpec: method("GetMetricSpec", "ScaledObjectRef", "GetMetricSpecResponse"),
  GetMetrics: method("GetMetrics", "GetMetricsRequest", "GetMetricsResponse"),
};

interface MetricsRequest {
  readonly scaledObjectRef?: ScaledObjectRef | null;
  readonly metricName: string;
}

const NO_REF: ScaledObjectRef = { name: "", namespace: "", scalerMetadata: {} };

/** Starts the server. Throws where the address cannot be bound. */
export async function startKedaServer(
  listen: { readonly host: string; readonly port: number },
  source: KedaSource,
  ports: KedaPorts,
): Promise<KedaServer> {
  // Its lines are not ours in form; what goes wrong is thrown or counted.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server(OPTIONS);
  const streams = new Set<ActiveStream>();
  const tell = counter(ports);
  server.addService(DEFINITION, {
    IsActive: unary("IsActive", tell, (ref) => activity(ref as ScaledObjectRef, source)),
    GetMetricSpec: unary("GetMetricSpec", tell, metricSpecs),
    GetMetrics: unary("GetMetrics", tell, (request) => {
      const { scaledObjectRef, metricName } = request as MetricsRequest;
      return metricValues(scaledObjectRef ?? NO_REF, metricName, source);
    }),
    StreamIsActive: streaming(source, streams, tell),
  });
  const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
  const port = await bind(server, `${host}:${listen.port}`);
  return { address: `${host}:${port}`, stop: () => stop(server, streams) };
}

const bind = (server: Server, address: string): Promise<number> =>
  new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });

/** Streams never end by themselves, and KEDA keeps its connection: waiting for either would never end. */
const stop = (server: Server, streams: ReadonlySet<ActiveStream>): Promise<void> =>
  new Promise((resolve) => {
    for (const stream of streams) stream.end();
    server.tryShutdown(() => resolve());
    // In the next turn, so that the ends are sent.
    setImmediate(() => server.forceShutdown());
  });

type Tell = (method: string, refusal?: Refusal) => void;

/** KEDA hides an error of a trigger behind its fallback: here it is seen. */
const counter =
  ({ log, metrics }: KedaPorts): Tell =>
  (method, refusal) => {
    metrics.count("tandem_autoscaler_keda_calls_total", { method, code: String(refusal?.code ?? CODE.ok) });
    if (refusal !== undefined) log.debug("KEDA was refused", { method, code: refusal.code, reason: refusal.message });
  };

/** As grpc-js takes it. */
const errorOf = ({ code, message }: Refusal): object => ({ code, details: message });

const unary =
  (name: string, tell: Tell, answer: (request: Message) => Answer<Message>): handleUnaryCall<Message, Message> =>
  ({ request }, callback) => {
    const given = answer(request);
    tell(name, "refusal" in given ? given.refusal : undefined);
    if ("reply" in given) callback(null, given.reply);
    else callback(errorOf(given.refusal));
  };

/** Says at once whether there should be any replica, and again whenever that changes. */
const streaming =
  (source: KedaSource, streams: Set<ActiveStream>, tell: Tell): handleServerStreamingCall<Message, Message> =>
  (stream) => {
    const refuse = (refusal: Refusal): void => {
      tell("StreamIsActive", refusal);
      stream.emit("error", errorOf(refusal));
    };
    if (streams.size >= MOST_STREAMS) {
      refuse({ code: CODE.resourceExhausted, message: `${MOST_STREAMS} streams are open already` });
      return;
    }
    streams.add(stream);
    tell("StreamIsActive");
    const cancel = follow(stream, source, refuse);
    const leave = (): void => {
      cancel();
      streams.delete(stream);
    };
    stream.once("cancelled", leave);
    stream.once("close", leave);
    stream.once("error", leave);
    stream.once("finish", leave);
  };

function follow(stream: ActiveStream, source: KedaSource, refuse: (refusal: Refusal) => void): Cancel {
  const ref = stream.request as ScaledObjectRef;
  let said: boolean | undefined;
  const say = (): void => {
    // What is said meanwhile would be old when it is read.
    if (stream.writableNeedDrain || stream.writableEnded || stream.destroyed) return;
    const answer = activity(ref, source);
    if ("refusal" in answer) {
      refuse(answer.refusal);
      return;
    }
    if (answer.reply.result === said) return;
    said = answer.reply.result;
    stream.write(answer.reply);
  };
  stream.on("drain", say);
  // When its end is listened for, which a refusal is.
  queueMicrotask(say);
  return source.onChange(say);
}
