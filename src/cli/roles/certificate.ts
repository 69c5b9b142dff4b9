/** Where the webhooks' certificate comes from, and whether a client would accept it now: a folder, or the Secret. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { isValidAt, servingFrom } from "../../certs/plan.ts";
import { FRESH_MS, type ClusterAccess } from "./cluster.ts";
import { named, reread } from "./files.ts";
import type { RolePorts } from "./ports.ts";

export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

export interface KeyPairSource {
  /** The pair to serve with now; empty until there is one, and handshakes fail until then. */
  readonly current: () => Partial<KeyPair>;
  /** A client accepts what is served, and a newer one would have been heard of. */
  readonly valid: () => boolean;
  readonly onChange: (listener: (pair: KeyPair) => void) => () => void;
}

export function keyPairSource(ports: RolePorts, access: ClusterAccess): KeyPairSource {
  const { directory } = ports.config.admission.certificates;
  return directory === "" ? secretPair(ports, access) : directoryPair(directory, ports);
}

/** `tls.crt` and `tls.key` of a folder: cert-manager's CSI driver and kubelet swap them. */
function directoryPair(directory: string, ports: RolePorts): KeyPairSource {
  const read = (): KeyPair =>
    named("admission.certificates.directory", directory, () => {
      const [cert = "", key = ""] = ["tls.crt", "tls.key"].map((name) => readFileSync(join(directory, name), "utf8"));
      createSecureContext({ cert, key });
      return { cert, key };
    });
  const { current, onChange } = reread("certificate of the webhooks", read, ports);
  return { current, onChange, valid: () => isValidAt(current().cert, ports.clock.now()) };
}

/** The controller's Secret, through the API: kubelet's copy of a Secret may be two minutes old. */
function secretPair({ clock, log }: RolePorts, access: ClusterAccess): KeyPairSource {
  const { source } = access.certificates();
  const read = (): Partial<KeyPair> => {
    const pair = servingFrom(source.snapshot().items[0], clock.now());
    return pair === undefined ? {} : { cert: pair.certificate, key: pair.key };
  };
  let served: Partial<KeyPair> = read();
  return {
    current: () => served,
    // An authority is retired five minutes after its last leaf: who is deaf for two must not be called any more.
    valid: () => served.cert !== undefined && isValidAt(served.cert, clock.now()) && source.ageMs() <= FRESH_MS,
    onChange: (listener) => {
      const take = (): void => {
        const next = read();
        if (next.cert === undefined || next.cert === served.cert) return;
        served = next;
        listener(next as KeyPair);
        log.info("certificate taken from the Secret");
      };
      const cancel = source.onChange(take);
      // It may have come while the server was being opened.
      take();
      return cancel;
    },
  };
}
