/** The route table of the Key Vault door (azure-keyvault-keys-api §0.3). Words that are reserved stand before versions. */

import type { Route } from '../door.ts';
import { keyRoutes, type KeyServices } from './key-routes.ts';
import { laterRoutes } from './later-routes.ts';
import { operationRoutes, type OperationServices } from './operation-routes.ts';
import { roleRoutes, type RoleServices } from './role-routes.ts';

export type KeyVaultServices = KeyServices & OperationServices & RoleServices;

export function keyVaultRoutes(services: KeyVaultServices): readonly Route[] {
  return [...roleRoutes(services), ...laterRoutes(services.named), ...keyRoutes(services), ...operationRoutes(services)];
}
