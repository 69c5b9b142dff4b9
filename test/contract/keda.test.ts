/** KEDA's external scaler, called as KEDA calls it: by grpc-js, with the messages of its proto. */
import { connect } from "node:net";
import * as grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import t, { type Test } from "tap";
import type { Log } from "../../src/ports.ts";
import { startKedaServer, type KedaServer } from "../../src/autoscaler/keda/server.ts";

/** Service and messages of KEDA's `externalscaler.proto`, by their field numbers. */
const PROTO = `syntax = "proto3"; package externalscaler;
service ExternalScaler {
  rpc IsActive(ScaledObjectRef) returns (IsActiveResponse);
  rpc StreamIsActive(ScaledObjectRef) returns (stream IsActiveResponse);
  rpc GetMetricSpec(ScaledObjectRef) returns (GetMetricSpecResponse);
  rpc GetMetrics(GetMetricsRequest) returns (GetMetricsResponse);
  rpc StreamMetricSpec(ScaledObjectRef) returns (stream GetMetricSpecResponse);
}
message ScaledObjectRef { string name = 1; string namespace = 2; map<string, string> scalerMetadata = 3; }
message IsActiveResponse { bool result = 1; }
message GetMetricSpecResponse { repeated MetricSpec metricSpecs = 1; }
message MetricSpec { string metricName = 1; int64 targetSize = 2 [deprecated=true]; double targetSizeFloat = 3; }
message GetMetricsRequest { ScaledObjectRef scaledObjectRef = 1; string metricName = 2; }
message GetMetricsResponse { repeated MetricValue metricValues = 1; }
message MetricValue { string metricName = 1; int64 metricValue = 2 [deprecated=true]; double metricValueFloat = 3; }`;

const { root } = protobuf.parse(PROTO, { keepCase: true });
const SERVICE = root.lookupService("externalscaler.ExternalScaler");

function definition(): grpc.ServiceDefinition {
  const codec = (name: string) => {
    const type = root.lookupType(`externalscaler.${name}`);
    return {
      encode: (value: object): Buffer => Buffer.from(type.encode(type.create(value)).finish()),
      decode: (bytes: Buffer): object => type.toObject(type.decode(bytes), { longs: Number, defaults: true }),
    };
  };
  return Object.fromEntries(
    SERVICE.methodsArray.map(({ name, requestType, responseType, responseStream = false }) => {
      const [request, response] = [codec(requestType), codec(responseType)];
      const method: grpc.MethodDefinition<object, object> = {
        path: `/externalscaler.ExternalScaler/${name}`,
        requestStream: false,
        responseStream,
        requestSerialize: request.encode,
        requestDeserialize: request.decode,
        responseSerialize: response.encode,
        responseDeserialize: response.decode,
      };
      return [name, method];
    }),
  );
}

const ignore = (): void => undefined;
const SILENT: Log = { debug: ignore, info: ignore, warn: ignore, error: ignore, with: () => SILENT };

type Reply = { readonly reply: unknown } | { readonly code: number; readonly details: string };

class World {
  readonly desired = new Map<string, number>();
  readonly active = new Set<string>();
  readonly counted: string[] = [];
  readonly #listeners = new Set<() => void>();
  server!: KedaServer;
  client!: grpc.Client;

  get listeners(): number {
    return this.#listeners.size;
  }

  change(): void {
    for (const listener of this.#listeners) listener();
  }

  async start(test: Test): Promise<this> {
    this.server = await startKedaServer(
      { host: "127.0.0.1", port: 0 },
      {
        desired: (namespace, name) => this.desired.get(`${namespace}/${name}`),
        isActive: (namespace, name) => this.active.has(`${namespace}/${name}`),
        onChange: (listener) => {
          this.#listeners.add(listener);
          return () => this.#listeners.delete(listener);
        },
      },
      {
        log: SILENT,
        metrics: {
          count: (name, labels) => void this.counted.push(`${name} ${JSON.stringify(labels)}`),
          gauge: () => undefined,
          observe: () => undefined,
        },
      },
    );
    const Client = grpc.makeClientConstructor(definition(), "ExternalScaler");
    this.client = new Client(this.server.address, grpc.credentials.createInsecure());
    test.teardown(async () => {
      this.client.close();
      await this.server.stop();
    });
    return this;
  }

  ask(method: string, request: object): Promise<Reply> {
    const { path, requestSerialize, responseDeserialize } = definition()[method] as grpc.MethodDefinition<
      object,
      object
    >;
    return new Promise((resolve) => {
      const options = { deadline: Date.now() + 5000 };
      this.client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, (error, reply) => {
        resolve(error === null ? { reply } : { code: error.code, details: error.details });
      });
    });
  }

  stream(
    method: string,
    request: object,
  ): { call: grpc.ClientReadableStream<object>; said: unknown[]; ended: Promise<number> } {
    const { path, requestSerialize, responseDeserialize } = definition()[method] as grpc.MethodDefinition<
      object,
      object
    >;
    const call = this.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    const said: unknown[] = [];
    call.on("data", (one: { result: boolean }) => said.push(one.result));
    call.on("error", () => undefined);
    const ended = new Promise<number>((resolve) => call.once("status", ({ code }) => resolve(code)));
    return { call, said, ended };
  }
}

const ref = (scalerMetadata: object = { tandemWorkload: "decode" }): object => ({
  name: "object",
  namespace: "n",
  scalerMetadata,
});
const until = async (condition: () => boolean): Promise<void> => {
  for (const end = Date.now() + 5000; !condition() && Date.now() < end;)
    await new Promise((resolve) => setTimeout(resolve, 2));
  if (!condition()) throw new Error("it did not come about");
};

t.test("one metric with target one a replica, whose value is the number of replicas", async (t) => {
  const world = await new World().start(t);
  world.desired.set("n/decode", 7).set("n/object", 2).set("n/idle", 0);
  t.same(await world.ask("GetMetricSpec", ref()), {
    reply: { metricSpecs: [{ metricName: "desired-replicas", targetSize: 1, targetSizeFloat: 1 }] },
  });
  const value = async (scalerMetadata?: object, metricName = "desired-replicas"): Promise<Reply> =>
    world.ask("GetMetrics", { scaledObjectRef: ref(scalerMetadata), metricName });
  const told = (metricValue: number, metricName = "desired-replicas"): Reply => ({
    reply: { metricValues: [{ metricName, metricValue, metricValueFloat: metricValue }] },
  });
  t.same(await value(), told(7));
  t.same(await value({ tandemWorkload: "idle" }), told(0));
  t.same(await value({ tandemGroup: "g" }), told(2), "the ScaledObject's own name where none is given");
  t.same(await value(undefined, "s0-desired-replicas"), told(7, "s0-desired-replicas"), "as older versions ask");
  t.match(await value(undefined, "queue"), {
    code: grpc.status.INVALID_ARGUMENT,
    details: /"queue" is unknown; ask for desired-replicas/,
  });
});

t.test("what is not known is refused with words, and never zero", async (t) => {
  const world = await new World().start(t);
  const request = { scaledObjectRef: ref(), metricName: "desired-replicas" };
  const refusal = { code: grpc.status.NOT_FOUND, details: /no number is known for workload decode of namespace n: / };
  t.match(await world.ask("GetMetrics", request), refusal);
  t.match(await world.ask("IsActive", ref()), refusal);
  t.match(await world.ask("GetMetrics", { metricName: "desired-replicas" }), { code: grpc.status.NOT_FOUND });
  t.equal(await world.stream("StreamIsActive", ref()).ended, grpc.status.NOT_FOUND);
  t.equal(world.listeners, 0);
  t.equal(await world.stream("StreamMetricSpec", ref()).ended, grpc.status.UNIMPLEMENTED);
  t.ok(world.counted.includes('tandem_autoscaler_keda_calls_total {"method":"IsActive","code":"5"}'));
  const large = await world.ask("IsActive", ref({ tandemWorkload: "x".repeat(70_000) }));
  t.match(large, { code: grpc.status.RESOURCE_EXHAUSTED });
});

t.test("activity is pushed at once, and only when it changes", async (t) => {
  const world = await new World().start(t);
  world.desired.set("n/decode", 0);
  t.same(await world.ask("IsActive", ref()), { reply: { result: false } });
  const { said, call } = world.stream("StreamIsActive", ref());
  await until(() => said.length === 1);
  world.change();
  world.active.add("n/decode");
  const since = performance.now();
  world.change();
  world.change();
  await until(() => said.length === 2);
  t.ok(performance.now() - since < 1000, "at once");
  world.active.delete("n/decode");
  world.change();
  await until(() => said.length === 3);
  t.same(said, [false, true, false]);
  call.cancel();
  await until(() => world.listeners === 0);
});

t.test("a workload that is scaled no more ends its stream; so does the end of the server", async (t) => {
  const world = await new World().start(t);
  world.desired.set("n/decode", 1).set("n/other", 1);
  const gone = world.stream("StreamIsActive", ref());
  const stays = world.stream("StreamIsActive", ref({ tandemWorkload: "other" }));
  await until(() => gone.said.length + stays.said.length === 2);
  world.desired.delete("n/decode");
  world.change();
  t.equal(await gone.ended, grpc.status.NOT_FOUND);
  await until(() => world.listeners === 1);
  await world.server.stop();
  await stays.ended;
  await until(() => world.listeners === 0);
  const [, port] = world.server.address.split(":");
  const refused = await new Promise((resolve) => connect(Number(port), "127.0.0.1").once("error", resolve));
  t.match(refused, { code: "ECONNREFUSED" });
});

t.test("an address in use is an error, and bytes that are no message end the call alone", async (t) => {
  const world = await new World().start(t);
  const port = Number(world.server.address.split(":")[1]);
  const none = { desired: () => undefined, isActive: () => false, onChange: () => () => undefined };
  const ports = {
    log: SILENT,
    metrics: { count: () => undefined, gauge: () => undefined, observe: () => undefined },
  };
  await t.rejects(startKedaServer({ host: "127.0.0.1", port }, none, ports));
  const path = "/externalscaler.ExternalScaler/IsActive";
  const raw = (bytes: Buffer): Buffer => bytes;
  const code = await new Promise((resolve) =>
    world.client.makeUnaryRequest(path, raw, raw, Buffer.from([0x0a, 0xff]), (error) => resolve(error?.code)),
  );
  t.equal(code, grpc.status.INTERNAL);
  t.match(await world.ask("GetMetricSpec", ref()), { reply: {} });
});
