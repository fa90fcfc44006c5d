/**
 * What a module shows without a login: slots, tokens, mechanisms. Through graphene-pk11, which is good at exactly
 * this; key operations never go through it. Blocks: for commands, not for a server process.
 */

import graphene from 'graphene-pk11';
import { initializeArguments } from './initialize.ts';
import type { Profile } from './profile.ts';

export interface TokenInventory {
  readonly label: string;
  readonly serial: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly firmware: string;
  /** Names as PKCS#11 writes them, sorted. */
  readonly mechanisms: readonly string[];
}

export interface ModuleInventory {
  readonly library: string;
  readonly version: string;
  readonly tokens: readonly TokenInventory[];
  /** Slots that could not be read. */
  readonly unreadable: number;
}

/** @throws whatever the module throws when it cannot be loaded or initialised */
export function takeInventory(profile: Profile): ModuleInventory {
  Object.assign(process.env, profile.environment);
  const module = graphene.Module.load(profile.module);
  module.initialize(initializeArguments(profile));
  try {
    const slots = module.getSlots(true);
    const tokens: TokenInventory[] = [];
    let unreadable = 0;
    for (let index = 0; index < slots.length; index += 1) {
      const token = describe(slots.items(index));
      if (token === undefined) unreadable += 1;
      else if (token !== 'uninitialised') tokens.push(token);
    }
    const { major, minor } = module.libraryVersion;
    return { library: module.libraryDescription.trim(), version: `${major}.${minor}`, tokens, unreadable };
  } finally {
    module.finalize();
  }
}

function describe(slot: graphene.Slot): TokenInventory | 'uninitialised' | undefined {
  try {
    const token = slot.getToken();
    if ((token.flags & graphene.TokenFlag.TOKEN_INITIALIZED) === 0) return 'uninitialised';
    const { major, minor } = token.firmwareVersion;
    const mechanisms = slot.getMechanisms();
    const names = Array.from({ length: mechanisms.length }, (_, index) => mechanisms.items(index).name);
    return {
      label: token.label.trim(),
      serial: token.serialNumber.trim(),
      manufacturer: token.manufacturerID.trim(),
      model: token.model.trim(),
      firmware: `${major}.${minor}`,
      mechanisms: names.sort(),
    };
  } catch {
    // A slot with a damaged token must not hide the others.
    return undefined;
  }
}
