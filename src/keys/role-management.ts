/** Roles of one managed HSM, as its own administrators manage them (azure-keyvault-keys-api §6.3): nothing beyond its own scope. */

import { invalidField, KmsError } from '../errors.ts';
import type { KeyStore, PolicyChange } from '../store/store.ts';
import type { Call, Gate } from './access.ts';
import type { Assignment, CustomRole, Holder, Permission } from './key.ts';

export interface RoleManagementOptions {
  readonly gate: Gate;
  readonly store: Pick<KeyStore, 'customRoles' | 'allAssignments' | 'changePolicy' | 'effectiveEverywhere' | 'findKeyByName' | 'findKey'>;
  readonly now: () => number;
}

export interface Definition {
  readonly name: string;
  readonly description: string;
  readonly permissions: readonly Permission[];
}

export interface NewAssignment extends Holder {
  /** What an assignment stores. */
  readonly role: string;
  /** Null for every key. */
  readonly keyName: string | null;
}

/** With the name of its key, where it is for one. */
export type Assigned = Assignment & { readonly keyName: string | null };

export class RoleManagement {
  readonly #options: RoleManagementOptions;

  constructor(options: RoleManagementOptions) {
    this.#options = options;
  }

  /** Its own custom roles, and those of every vault. */
  definitions(call: Call): Promise<readonly CustomRole[]> {
    return this.#options.gate.readVault(call, 'role.definitions', 'role/definition/get', async () => {
      assertManaged(call);
      return { value: await this.#visible(call) };
    });
  }

  /** @param read what the caller wants; looked at when it may @throws KmsError `conflict` for the name or id of another role */
  define(call: Call, id: string, read: () => Definition): Promise<CustomRole> {
    return this.#change(call, 'role.define', 'role/definition/update', async () => {
      const { name, description, permissions } = read();
      const roles = await this.#options.store.customRoles();
      const before = roles.find((role) => role.id === id);
      if (before !== undefined && before.vaultId !== call.vault.id) throw new KmsError('conflict', 'this role is not of this managed HSM');
      const taken = roles.some((role) => role.id !== id && role.name.toLowerCase() === name.toLowerCase() && (role.vaultId ?? call.vault.id) === call.vault.id);
      if (taken) throw new KmsError('conflict', 'there is a role of this name');
      const role = { id, name, description, permissions, vaultId: call.vault.id, createdMs: before?.createdMs ?? this.#options.now() };
      return { value: { ...role, revision: 0 }, change: { define: [role] }, detail: { role: id, name, permissions: permissions.join(' ') } };
    });
  }

  /** @throws KmsError `not-found`; `conflict` while somebody has it */
  forget(call: Call, id: string): Promise<CustomRole> {
    return this.#change(call, 'role.forget', 'role/definition/delete', async () => {
      const role = (await this.#options.store.customRoles()).find((own) => own.id === id && own.vaultId === call.vault.id);
      if (role === undefined) throw new KmsError('not-found', 'no such role definition');
      return { value: role, change: { forget: [id] }, detail: { role: id, name: role.name } };
    });
  }

  /** Of this managed HSM alone: those of every vault are the installation's. */
  assignments(call: Call): Promise<readonly Assigned[]> {
    return this.#options.gate.readVault(call, 'role.assignments', 'role/assignment/get', async () => {
      assertManaged(call);
      return { value: await this.#own(call) };
    });
  }

  /**
   * @param read what the caller wants, of the custom roles that there are; looked at when it may
   * @throws KmsError `conflict` for an id that is taken, and where the holder has the role there; `invalid-field` for the key
   */
  assign(call: Call, id: string, read: (custom: readonly CustomRole[]) => NewAssignment): Promise<Assigned> {
    return this.#change(call, 'role.assign', 'role/assignment/create', async () => {
      const { method, issuer, subject, role, keyName } = read(await this.#visible(call));
      const keyId = keyName === null ? null : await this.#keyIn(call, keyName);
      const made = { id, method, issuer, subject, role, permissions: null, vaultId: call.vault.id, keyId, createdMs: this.#options.now() };
      const same = (await this.#options.store.allAssignments()).some((of) => of.id === id || isSame(of, made));
      if (same) throw new KmsError('conflict', 'the role assignment exists already');
      return { value: { ...made, revision: 0, keyName }, change: { assign: [made] }, detail: { assignment: id, method, issuer, subject, role } };
    });
  }

  /** @throws KmsError `not-found` */
  withdraw(call: Call, id: string): Promise<Assigned> {
    return this.#change(call, 'role.remove', 'role/assignment/delete', async () => {
      const found = (await this.#own(call)).find((of) => of.id === id);
      if (found === undefined) throw new KmsError('not-found', 'no such role assignment');
      const { method, issuer, subject, role } = found;
      return { value: found, change: { withdraw: [id] }, detail: { assignment: id, method, issuer, subject, role } };
    });
  }

  async #visible({ vault }: Call): Promise<readonly CustomRole[]> {
    return (await this.#options.store.customRoles()).filter(({ vaultId }) => vaultId === null || vaultId === vault.id);
  }

  async #own({ vault }: Call): Promise<readonly Assigned[]> {
    const { store } = this.#options;
    const own = (await store.allAssignments()).filter(({ vaultId }) => vaultId === vault.id);
    return Promise.all(own.map(async (of) => {
      const key = of.keyId === null ? undefined : await store.findKey(vault.id, of.keyId);
      return { ...of, keyName: of.keyId === null ? null : (key?.name ?? of.keyId) };
    }));
  }

  async #keyIn({ vault }: Call, name: string): Promise<string> {
    const key = await this.#options.store.findKeyByName(vault.id, name.toLowerCase());
    if (key === undefined) throw invalidField('scope', 'there is no such key');
    return key.id;
  }

  #change<T>(call: Call, event: string, permission: Permission, plan: () => Promise<Planned<T>>): Promise<T> {
    const { gate, store } = this.#options;
    return gate.manageVault(call, event, permission, async () => {
      assertManaged(call);
      const { value, change, detail } = await plan();
      await store.changePolicy(change, call.requestId);
      gate.changed();
      await store.effectiveEverywhere();
      return { value, facts: { detail } };
    });
  }
}

/** @throws KmsError `unknown-route`: a vault of the other flavour has no roles of its own */
function assertManaged({ vault }: Call): void {
  if (vault.flavour !== 'managed-hsm') throw new KmsError('unknown-route', 'a vault of this flavour does not manage its roles itself');
}

interface Planned<T> {
  readonly value: T;
  readonly change: PolicyChange;
  readonly detail: Readonly<Record<string, string>>;
}

function isSame(left: Omit<Assignment, 'revision'>, right: Omit<Assignment, 'revision'>): boolean {
  return (['method', 'issuer', 'subject', 'role', 'vaultId', 'keyId'] as const).every((member) => left[member] === right[member]);
}
