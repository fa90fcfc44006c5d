/** The services behind the gate and the doors in front of it, put together. */

import type { ClientIdentity } from './api/client-identity.ts';
import type { DoorDocument } from './api/documentation.ts';
import type { Door } from './api/door.ts';
import { keyVaultDocument } from './api/keyvault/document.ts';
import { keyVaultDoor } from './api/keyvault/door.ts';
import { okmsDocument } from './api/okms/document.ts';
import { okmsDoor } from './api/okms/door.ts';
import { type DoorDescription, openApiDocument } from './api/openapi.ts';
import { type Config, endpointOf } from './config.ts';
import type { CryptoEngine } from './crypto/engine.ts';
import { packageVersion } from './package.ts';
import type { Gate } from './keys/access.ts';
import { Alterations } from './keys/alteration.ts';
import { Cryptography } from './keys/cryptography.ts';
import { FailureBudget } from './keys/failure-budget.ts';
import type { Invocations } from './keys/invocations.ts';
import type { Installation } from './keys/key.ts';
import { KeyLifecycle } from './keys/lifecycle.ts';
import { NamedKeys } from './keys/named-keys.ts';
import { RoleManagement } from './keys/role-management.ts';
import { KeyOperations } from './keys/operations.ts';
import type { PageTokens } from './keys/page-token.ts';
import { TransportKeys } from './keys/transport.ts';
import type { KeyStore } from './store/store.ts';

export interface ServiceOptions {
  readonly gate: Gate;
  readonly engine: CryptoEngine;
  readonly store: KeyStore;
  readonly invocations: Invocations;
  readonly bootId: string;
  readonly now: () => number;
  /** Told when a change restricted what a key may do. */
  readonly onRestriction: () => void;
  /** Told when a principal has spent what failures with a key he may cause. */
  readonly onBudgetSpent: ConstructorParameters<typeof FailureBudget>[1];
}

export interface Services {
  readonly lifecycle: KeyLifecycle;
  readonly named: NamedKeys;
  readonly alterations: Alterations;
  readonly operations: KeyOperations;
  readonly cryptography: Cryptography;
  readonly transport: TransportKeys;
  readonly roles: RoleManagement;
}

export function createServices(options: ServiceOptions): Services {
  const { gate, engine, store, invocations, now, onRestriction, onBudgetSpent } = options;
  const alterations = new Alterations(options);
  const budget = new FailureBudget(store, onBudgetSpent);
  return {
    alterations,
    lifecycle: new KeyLifecycle({ gate, store, alterations, now, onRestriction }),
    named: new NamedKeys({ gate, store, alterations, now, onRestriction }),
    operations: new KeyOperations(gate, engine, invocations),
    cryptography: new Cryptography({ gate, engine, invocations, budget }),
    transport: new TransportKeys(gate, engine, budget),
    roles: new RoleManagement({ gate, store, now }),
  };
}

export interface DoorOptions {
  readonly config: Config;
  readonly installation: Installation;
  readonly gate: Gate;
  readonly identity: ClientIdentity;
  readonly pages: PageTokens;
  readonly hsmPlatform: string;
}

export interface Doors {
  readonly doors: readonly [Door, ...Door[]];
  readonly documents: readonly DoorDocument[];
}

export function createDoors(services: Services, { config, installation, gate, identity, pages, hsmPlatform }: DoorOptions): Doors {
  const endpoint = endpointOf(config);
  const okms = okmsDoor({ gate, identity, services: { ...services, pages } });
  const keyVault = keyVaultDoor({
    gate,
    identity,
    services: { ...services, pages, hsmPlatform, installationId: installation.id },
    authority: `${endpoint}/${installation.id}`,
    resource: endpoint,
    region: config.server.region,
    // The real one has four numbers.
    serviceVersion: `${packageVersion()}.0`,
  });
  return { doors: [okms, keyVault], documents: [documentOf(okmsDocument, okms), documentOf(keyVaultDocument, keyVault)] };
}

function documentOf(door: DoorDescription, { routes }: Door): DoorDocument {
  return { door, document: openApiDocument(door, routes, packageVersion()) };
}
